// Activation functions of networks. Formulas (1) to (4) are in fastdesc/networks/activations.py, whose names these are: h and s
// are value and gate of z, and the slope h' follows from both. NaN stays NaN.
#pragma once
#include "common.cuh"

namespace fd {

__device__ __forceinline__ float hyperbolic_tangent(float x) { return tanhf(x); }
__device__ __forceinline__ double hyperbolic_tangent(double x) { return tanh(x); }
__device__ __forceinline__ float logarithm_of_one_more(float x) { return log1pf(x); }
__device__ __forceinline__ double logarithm_of_one_more(double x) { return log1p(x); }

template <typename T> __device__ __forceinline__ T at_least_zero(T z) { return z < T(0) ? T(0) : z; }
template <typename T> __device__ __forceinline__ T at_most_zero(T z) { return z > T(0) ? T(0) : z; }

struct Silu {
    template <typename T> static __device__ __forceinline__ void value(T z, T& h, T& s) {
        s = T(1) / (T(1) + exponential(-z));
        h = z * s;
    }
    template <typename T> static __device__ __forceinline__ T slope(T h, T s) { return s + h * (T(1) - s); }
};

struct Tanh {
    template <typename T> static __device__ __forceinline__ void value(T z, T& h, T& s) {
        h = hyperbolic_tangent(z);
        s = T(1) - h * h;
    }
    template <typename T> static __device__ __forceinline__ T slope(T, T s) { return s; }
};

struct Celu {
    template <typename T> static __device__ __forceinline__ void value(T z, T& h, T& s) {
        s = exponential(at_most_zero(z));
        h = at_least_zero(z) + (s - T(1));
    }
    template <typename T> static __device__ __forceinline__ T slope(T, T s) { return s; }
};

struct Softplus {
    template <typename T> static __device__ __forceinline__ void value(T z, T& h, T& s) {
        const T e = exponential(z < T(0) ? z : -z);  // no overflow on either side
        const T r = T(1) / (T(1) + e);
        h = at_least_zero(z) - logarithm_of_one_more(r + r - T(1));
        s = z < T(0) ? e * r : r;
    }
    template <typename T> static __device__ __forceinline__ T slope(T, T s) { return s; }
};

// Activations with a trained number beta, formula (5) of fastdesc/networks/residual.py: phi and its slope.
struct TrainedSilu {
    template <typename T> static __device__ __forceinline__ void value(T z, T beta, T& phi, T& slope) {
        const T u = beta * z, s = T(1) / (T(1) + exponential(-u));
        phi = u * s;
        slope = beta * (s * (T(1) + u * (T(1) - s)));
    }
};

struct TrainedIsru {
    template <typename T> static __device__ __forceinline__ void value(T z, T beta, T& phi, T& slope) {
        const T u = beta * z, s = T(1) / square_root(T(1) + u * u);
        phi = z * s;
        slope = s * s * s;
    }
};

}  // namespace fd
