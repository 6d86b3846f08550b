// Radial bases and cutoff, twin of fastdesc/numerics/radial.py, where the formulas are numbered.
#pragma once
#include "common.cuh"

namespace fd {

enum Basis { GAUSSIAN, BESSEL };

constexpr int MAX_BASIS = 32;
// Basis functions written out, so that loads of coefficients share addresses; wide scalars leave fewer registers.
template <typename S> constexpr int UNROLLED = 16 / sizeof(S);
#define FD_RECIPROCALS                                                                                              \
    0, 1, 1. / 2, 1. / 3, 1. / 4, 1. / 5, 1. / 6, 1. / 7, 1. / 8, 1. / 9, 1. / 10, 1. / 11, 1. / 12, 1. / 13,        \
        1. / 14, 1. / 15, 1. / 16, 1. / 17, 1. / 18, 1. / 19, 1. / 20, 1. / 21, 1. / 22, 1. / 23, 1. / 24, 1. / 25,  \
        1. / 26, 1. / 27, 1. / 28, 1. / 29, 1. / 30, 1. / 31, 1. / 32, 1. / 33
__constant__ float reciprocals_float[MAX_BASIS + 2] = {FD_RECIPROCALS};
__constant__ double reciprocals_double[MAX_BASIS + 2] = {FD_RECIPROCALS};
#undef FD_RECIPROCALS
template <typename T> __device__ __forceinline__ T reciprocal(int k) {
    if constexpr (sizeof(T) == 4) return reciprocals_float[k];
    else return reciprocals_double[k];
}

// With bare functions e_b and their companions e'_b, as `visit` of RadialBasis::each sees them,
//     sum_b beta_b f_c g_b / sqrt(N)   = value sum_b beta_b e_b,
//     its derivative with respect to d = slope_bare sum_b beta_b e_b + slope_companion sum_b beta_b e'_b:
// what all b share is applied once a pair, after the sum.
template <typename S> struct RadialFactors { S value, slope_bare, slope_companion; };

template <typename T> struct RadialBasis {
    int kind, n_basis;
    T cutoff, per_cutoff, scale, r_min, spacing, width;

    __device__ __forceinline__ RadialBasis(int basis, int n, T r_c, T r_min_) {
        constexpr T pi = T(3.14159265358979323846), root_2 = T(1.41421356237309504880);
        kind = basis;
        n_basis = n;
        cutoff = r_c;
        per_cutoff = T(1) / r_c;
        r_min = r_min_;
        spacing = (r_c - r_min) / T(n);
        width = T(n) * T(n) * per_cutoff * per_cutoff;
        const T height = kind == BESSEL ? root_2 * pi * per_cutoff * square_root(per_cutoff)
                                        : square_root(square_root(width * (T(2) / pi)));
        scale = height * inverse_square_root(T(n));
    }

    // Call visit(b, e_b, e'_b) for all b; `per_d` is 1/d.
    template <typename S, typename Visit>
    __device__ __forceinline__ RadialFactors<S> each(S d, S per_d, Visit visit) const {
        constexpr T pi = T(3.14159265358979323846);
        S s, c;
        sine_cosine_pi(d * per_cutoff, s, c);
        const S fc = (c + T(1)) * (T(0.5) * scale);
        const S dfc = s * (T(-0.5) * pi * per_cutoff * scale);
        if (kind == BESSEL) {
            each_bessel(s, c, visit);
            const S per_angle = per_d * (cutoff * (T(1) / pi));
            return {fc * per_angle, (dfc - fc * per_d) * per_angle, fc * per_d};
        }
        each_gaussian(d, visit);
        return {fc, dfc, fc * (T(-2) * width)};
    }

    // With x = pi d / r_c: e_b = h_{b+1} - h_{b+2}, e'_b = k_{b+1} - k_{b+2}, where h_k = (-1)^{k+1} sin(k x) / k and
    // k_k = (-1)^{k+1} cos(k x). Sines and cosines of multiples by recurrence, so that one pair costs one sine; the
    // alternating sign is the angle x + pi.
    template <typename S, typename Visit> __device__ __forceinline__ void each_bessel(S s, S c, Visit visit) const {
        const S turn = c * T(-2);
        S s0 = S(0), s1 = s, c0 = S(-1), c1 = c, h1 = s;
#pragma unroll UNROLLED<S>
        for (int b = 0; b < n_basis; ++b) {
            const S s2 = turn * s1 - s0, c2 = turn * c1 - c0, h2 = s2 * reciprocal<T>(b + 2);
            visit(b, h1 - h2, c1 - c2);
            s0 = s1, s1 = s2, c0 = c1, c1 = c2, h1 = h2;
        }
    }

    template <typename S, typename Visit> __device__ __forceinline__ void each_gaussian(S d, Visit visit) const {
#pragma unroll UNROLLED<S>
        for (int b = 0; b < n_basis; ++b) {
            const S x = d - (r_min + T(b) * spacing);
            const S e = exponential(x * x * -width);
            visit(b, e, x * e);
        }
    }
};

}  // namespace fd
