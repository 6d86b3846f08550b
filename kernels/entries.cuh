// Tuples of scalars that lie in registers: vectors and symmetric tensors by their unique entries.
#pragma once
#include "common.cuh"

namespace fd {

template <typename S, int N> struct Entries {
    S e[N];
    __device__ __forceinline__ S& operator[](int k) { return e[k]; }
    __device__ __forceinline__ const S& operator[](int k) const { return e[k]; }
};
template <typename S> using Vector = Entries<S, 3>;
template <typename S> using Matrix = Entries<S, 6>;
template <typename S> using Tensor = Entries<S, 10>;

template <typename S, int N> __device__ __forceinline__ Entries<S, N> zeros() {
    Entries<S, N> a;
#pragma unroll
    for (int k = 0; k < N; ++k) a[k] = S(0);
    return a;
}

template <typename S, int N> __device__ __forceinline__ S dot(const Entries<S, N>& a, const Entries<S, N>& b) {
    S sum = a[0] * b[0];
#pragma unroll
    for (int k = 1; k < N; ++k) sum += a[k] * b[k];
    return sum;
}

// a += w b
template <typename S, typename W, int N>
__device__ __forceinline__ void add_to(Entries<S, N>& a, W w, const Entries<S, N>& b) {
#pragma unroll
    for (int k = 0; k < N; ++k) a[k] += w * b[k];
}

}  // namespace fd
