// Densities of one atom and their products with `hyper`. Formulas and groups of monomials as in
// fastdesc/descriptors/embedded_density/contraction.py.
#pragma once
#include "common.cuh"

namespace fd {

constexpr int FEATURES = 4;  // features whose coefficients in `hyper` lie together

// Monomials of equal weight in groups of three, but for the first and the last; as in the twin.
__constant__ int group_moments[8][3] = {{0, 0, 0},    {1, 2, 3},    {4, 7, 9},    {5, 6, 8},
                                        {10, 16, 19}, {11, 12, 13}, {15, 17, 18}, {14, 14, 14}};
__constant__ int group_degree[8] = {0, 1, 2, 2, 3, 3, 3, 3};
__constant__ int group_weight[8] = {1, 1, 1, 2, 1, 3, 3, 6};
__device__ __forceinline__ int groups_of(int l_max) { return l_max == 0 ? 1 : l_max == 1 ? 2 : l_max == 2 ? 4 : 8; }
__device__ __forceinline__ int size_of(int group) { return group == 0 || group == 7 ? 1 : 3; }

// Densities of one atom, a lane its own.
template <typename S> struct Densities {
    real<S>* memory;
    long long stride, plane;
    int n_moments;

    __device__ __forceinline__ S get(int k, int c) const { return load<S>(memory, (k * n_moments + c) * stride, plane); }
    __device__ __forceinline__ void set(int k, int c, S x) const {
        store(memory, (k * n_moments + c) * stride, plane, x);
    }
};

// The coefficients of four features, which lie together and are read at once.
template <typename T> struct alignas(16) Four { T x[FEATURES]; };
template <typename H>
__device__ __forceinline__ void load_coefficients(H (&out)[FEATURES], const real<H>* h, int at, long long plane) {
    const auto v = *reinterpret_cast<const Four<real<H>>*>(h + at);
    if constexpr (planes<H> == 2) {
        const auto t = *reinterpret_cast<const Four<real<H>>*>(h + at + plane);
#pragma unroll
        for (int u = 0; u < FEATURES; ++u) out[u] = H(v.x[u], t.x[u]);
    } else {
#pragma unroll
        for (int u = 0; u < FEATURES; ++u) out[u] = v.x[u];
    }
}

// P[u][v] = sum_k h_{l,k,m+u} A[k, v], for four features and the monomials of a group; `h` is where they begin.
template <typename S, typename H>
__device__ __forceinline__ void project(S (&P)[FEATURES][3], const Densities<S>& A, const real<H>* h, long long h_plane,
                                        int group, int n_radial) {
    const int a = group_moments[group][0], b = group_moments[group][1], c = group_moments[group][2];
#pragma unroll
    for (int u = 0; u < FEATURES; ++u)
#pragma unroll
        for (int v = 0; v < 3; ++v) P[u][v] = S(0);
    for (int k = 0; k < n_radial; ++k) {
        H factors[FEATURES];
        load_coefficients(factors, h, k * FEATURES, h_plane);
        const S x = A.get(k, a);
#pragma unroll
        for (int u = 0; u < FEATURES; ++u) P[u][0] += x * factors[u];
        if (size_of(group) == 1) continue;
        const S y = A.get(k, b), z = A.get(k, c);
#pragma unroll
        for (int u = 0; u < FEATURES; ++u) {
            P[u][1] += y * factors[u];
            P[u][2] += z * factors[u];
        }
    }
}

// g[u][v] = 2 w dq_{m+u} P[u][v]; zero beyond the last feature.
template <typename S>
__device__ __forceinline__ void weigh_projection(S (&P)[FEATURES][3], const real<S>* dq, long long stride, int m,
                                                 int n_features, int group) {
    const real<S> w = real<S>(2 * group_weight[group]);
#pragma unroll
    for (int u = 0; u < FEATURES; ++u) {
        const S d = m + u < n_features ? load<S>(dq, (m + u) * stride, n_features * stride) * w : S(0);
#pragma unroll
        for (int v = 0; v < 3; ++v) P[u][v] *= d;
    }
}

}  // namespace fd
