// Cubic pieces of splines, twin of fastdesc/numerics/splines.py: piece k ends at knot k, from which t counts, S = sum_q c_q t^q.
// A table holds the four coefficients of a piece side by side: one wide load an evaluation, whatever the knots.
#pragma once
#include "common.cuh"

namespace fd {

template <typename T> struct alignas(16) Four { T c[4]; };

// Equally spaced knots, entry `number` of a table of first knot, 1/dx, dx, number of knots.
template <typename T> struct Knots {
    T first, per_dx, dx;
    int last;

    __device__ __forceinline__ Knots(const T* table, long long number) {
        const Four<T> v = reinterpret_cast<const Four<T>*>(table)[number];
        first = v.c[0], per_dx = v.c[1], dx = v.c[2], last = (int)v.c[3];
    }
};

// Where a distance or a cosine x lies: t is its distance from the knot where the piece ends.
template <typename S> struct Place {
    int piece;
    S t;

    __device__ __forceinline__ Place() : piece(0), t(real<S>(0)) {}
    __device__ __forceinline__ Place(S x, const Knots<real<S>>& knots) {
        const S scaled = (x - knots.first) * knots.per_dx;
        const real<S> v = value(scaled);
        const int k = (int)v;  // towards zero
        piece = min(max(v < real<S>(k) ? k : k + 1, 0), knots.last);
        t = (scaled - real<S>(piece)) * knots.dx;
    }
};

// Piece `number` of a table: 32 bits of it, for tables of 2^31 pieces are none that fit into a memory.
template <typename S> struct Cubic {
    S c[4];

    __device__ __forceinline__ Cubic(const real<S>* table, int number, long long plane) {
        const Four<real<S>> v = reinterpret_cast<const Four<real<S>>*>(table)[number];
        if constexpr (planes<S> == 2) {
            const Four<real<S>> t = reinterpret_cast<const Four<real<S>>*>(table + plane)[number];
#pragma unroll
            for (int q = 0; q < 4; ++q) c[q] = S(v.c[q], t.c[q]);
        } else {
#pragma unroll
            for (int q = 0; q < 4; ++q) c[q] = v.c[q];
        }
    }

    __device__ __forceinline__ S value(S t) const { return ((c[3] * t + c[2]) * t + c[1]) * t + c[0]; }
    __device__ __forceinline__ S slope(S t) const {
        return (c[3] * real<S>(3) * t + c[2] * real<S>(2)) * t + c[1];
    }
};

// t^q for q = 0 .. 3.
template <typename S> __device__ __forceinline__ S power(S t, int q) {
    const S square = t * t;
    return q == 0 ? S(1) : q == 1 ? t : q == 2 ? square : square * t;
}

// Number of the pair of elements in the order 00, 01, .., 0n, 11, ..
__device__ __forceinline__ int element_pair(int a, int b, int n) {
    const int low = min(a, b), high = max(a, b);
    return low * n - low * (low - 1) / 2 + high - low;
}

}  // namespace fd
