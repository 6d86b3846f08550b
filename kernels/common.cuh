// What every kernel shares: dual numbers, loads and stores of plain and dual arrays, sums within a warp.
//
// Kernels are templates over the scalar S: float, double, Dual<float> or Dual<double>. A dual array is two plain
// arrays of real<S>, values then tangents, `plane` elements apart; load and store hide the difference, so that one
// text serves plain and dual arrays.
//
// This file compiles under NVRTC and, with tests/cuda_emulator, under g++: no CUDA header is included. Shared memory
// is declared through FD_SHARED and FD_DYNAMIC_SHARED; the emulator's versions poison it.
#pragma once

#ifndef FD_EMULATED
#define FD_SHARED(T, name, dims) __shared__ T name dims
#define FD_DYNAMIC_SHARED(T, name)                                      \
    extern __shared__ __align__(16) unsigned char fd_dynamic_shared[]; \
    T* name = reinterpret_cast<T*>(fd_dynamic_shared)
#endif

namespace fd {

template <typename T>
struct alignas(2 * sizeof(T)) Dual {
    T v, t;  // value, tangent

    Dual() = default;
    __device__ __forceinline__ Dual(T value, T tangent = T(0)) : v(value), t(tangent) {}

    __device__ __forceinline__ friend Dual operator+(Dual a, Dual b) { return {a.v + b.v, a.t + b.t}; }
    __device__ __forceinline__ friend Dual operator+(Dual a, T b) { return {a.v + b, a.t}; }
    __device__ __forceinline__ friend Dual operator+(T a, Dual b) { return {a + b.v, b.t}; }
    __device__ __forceinline__ friend Dual operator-(Dual a) { return {-a.v, -a.t}; }
    __device__ __forceinline__ friend Dual operator-(Dual a, Dual b) { return {a.v - b.v, a.t - b.t}; }
    __device__ __forceinline__ friend Dual operator-(Dual a, T b) { return {a.v - b, a.t}; }
    __device__ __forceinline__ friend Dual operator-(T a, Dual b) { return {a - b.v, -b.t}; }
    __device__ __forceinline__ friend Dual operator*(Dual a, Dual b) { return {a.v * b.v, a.v * b.t + a.t * b.v}; }
    __device__ __forceinline__ friend Dual operator*(Dual a, T b) { return {a.v * b, a.t * b}; }
    __device__ __forceinline__ friend Dual operator*(T a, Dual b) { return {a * b.v, a * b.t}; }
    __device__ __forceinline__ friend Dual operator/(Dual a, Dual b) {
        const T inverse = T(1) / b.v, value = a.v * inverse;
        return {value, (a.t - value * b.t) * inverse};
    }
    __device__ __forceinline__ friend Dual operator/(Dual a, T b) { return a * (T(1) / b); }
    __device__ __forceinline__ friend Dual operator/(T a, Dual b) {
        const T inverse = T(1) / b.v, value = a * inverse;
        return {value, -value * b.t * inverse};
    }
    __device__ __forceinline__ Dual& operator+=(Dual b) { return *this = *this + b; }
    __device__ __forceinline__ Dual& operator-=(Dual b) { return *this = *this - b; }
    __device__ __forceinline__ Dual& operator*=(Dual b) { return *this = *this * b; }
    __device__ __forceinline__ Dual& operator/=(Dual b) { return *this = *this / b; }
};

// real<S>: the type of value and tangent; planes<S>: how many plain arrays make an array of S.
template <typename S> struct Scalar { using type = S; static constexpr int planes = 1; };
template <typename T> struct Scalar<Dual<T>> { using type = T; static constexpr int planes = 2; };
template <typename S> using real = typename Scalar<S>::type;
template <typename S> constexpr int planes = Scalar<S>::planes;

// value(x): what comparisons look at.
__device__ __forceinline__ float value(float x) { return x; }
__device__ __forceinline__ double value(double x) { return x; }
template <typename T> __device__ __forceinline__ T value(Dual<T> x) { return x.v; }

// ------------------------------------------------------------------------------------------------ functions

__device__ __forceinline__ float square_root(float x) { return sqrtf(x); }
__device__ __forceinline__ double square_root(double x) { return sqrt(x); }
template <typename T> __device__ __forceinline__ Dual<T> square_root(Dual<T> x) {
    const T root = square_root(x.v);
    return {root, x.t / (root + root)};
}

__device__ __forceinline__ float inverse_square_root(float x) { return rsqrtf(x); }
__device__ __forceinline__ double inverse_square_root(double x) { return rsqrt(x); }
template <typename T> __device__ __forceinline__ Dual<T> inverse_square_root(Dual<T> x) {
    const T y = inverse_square_root(x.v);
    return {y, T(-0.5) * y * y * y * x.t};
}

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }
template <typename T> __device__ __forceinline__ Dual<T> exponential(Dual<T> x) {
    const T y = exponential(x.v);
    return {y, y * x.t};
}

__device__ __forceinline__ float logarithm(float x) { return logf(x); }
__device__ __forceinline__ double logarithm(double x) { return log(x); }
template <typename T> __device__ __forceinline__ Dual<T> logarithm(Dual<T> x) {
    return {logarithm(x.v), x.t / x.v};
}

// Sine and cosine of pi x: no reduction of large arguments, no rounded pi.
__device__ __forceinline__ void sine_cosine_pi(float x, float& s, float& c) { sincospif(x, &s, &c); }
__device__ __forceinline__ void sine_cosine_pi(double x, double& s, double& c) { sincospi(x, &s, &c); }
template <typename T> __device__ __forceinline__ void sine_cosine_pi(Dual<T> x, Dual<T>& s, Dual<T>& c) {
    sine_cosine_pi(x.v, s.v, c.v);
    const T turn = T(3.14159265358979323846) * x.t;
    s.t = c.v * turn;
    c.t = -s.v * turn;
}

// ----------------------------------------------------------------------------------------- arrays in memory

template <typename S> __device__ __forceinline__ S load(const real<S>* array, long long index, long long plane) {
    if constexpr (planes<S> == 2) return S(array[index], array[plane + index]);
    else return array[index];
}

template <typename S> __device__ __forceinline__ void store(real<S>* array, long long index, long long plane, S x) {
    if constexpr (planes<S> == 2) {
        array[index] = x.v;
        array[plane + index] = x.t;
    } else {
        array[index] = x;
    }
}

// ----------------------------------------------------------------------------------------------------- warps

constexpr unsigned WHOLE_WARP = 0xffffffffu;

template <typename S> __device__ __forceinline__ S shuffle_xor(S x, int mask) {
    if constexpr (planes<S> == 2)
        return S(__shfl_xor_sync(WHOLE_WARP, x.v, mask), __shfl_xor_sync(WHOLE_WARP, x.t, mask));
    else return __shfl_xor_sync(WHOLE_WARP, x, mask);
}

// Sum over the lanes whose numbers differ in the bits step, 2 step, .. below end; the same result on all of them.
template <typename S> __device__ __forceinline__ S sum_lanes(S x, int step, int end) {
#pragma unroll
    for (int mask = step; mask < end; mask *= 2) x += shuffle_xor(x, mask);
    return x;
}

}  // namespace fd
