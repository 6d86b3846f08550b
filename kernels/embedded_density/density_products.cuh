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
// Groups of three monomials are 1 .. triples_end - 1; those of one are 0 and LONE_STEP.
constexpr int LONE_STEP = 7;
__device__ __forceinline__ int triples_end(int l_max) { return l_max == 3 ? LONE_STEP : groups_of(l_max); }

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

// Atoms of a block whose densities are in shared memory: 128 bytes for each density. Function k of monomial c of
// atom a is staged[(c * n_radial + k) * ROW_ATOMS + a], so that a lane finds all functions at fixed distances.
template <typename S> constexpr int ROW_ATOMS = 128 / sizeof(S);

// Densities of a block's atoms to shared memory; `own` are those of the thread's atom, which OWNERS threads share.
template <typename S, int OWNERS>
__device__ __forceinline__ void stage_densities(S* staged, const real<S>* own, long long stride, long long plane,
                                                bool exists, int n_radial, int n_moments) {
    constexpr int A = ROW_ATOMS<S>;
    for (int k = threadIdx.x / A; k < n_radial; k += OWNERS) {
        const real<S>* from = own + (long long)k * n_moments * stride;
        S* to = staged + k * A + threadIdx.x % A;
#pragma unroll 2
        for (int c = 0; c < n_moments; ++c) {
            *to = exists ? load<S>(from, 0, plane) : S(0);
            from += stride;
            to += n_radial * A;
        }
    }
    __syncthreads();
}

// P[u][v] = sum_k h_{l,k,m+u} A[k, v], for four features and the N monomials of a group; `h` is where they begin.
template <typename S, typename H, int N>
__device__ __forceinline__ void project(S (&P)[FEATURES][N], const S* own, const real<H>* h, long long h_plane,
                                        int group, int n_radial) {
    constexpr int A = ROW_ATOMS<S>;
    const S* densities[N];
#pragma unroll
    for (int v = 0; v < N; ++v) densities[v] = own + group_moments[group][v] * n_radial * A;
#pragma unroll
    for (int u = 0; u < FEATURES; ++u)
#pragma unroll
        for (int v = 0; v < N; ++v) P[u][v] = S(0);
#pragma unroll 4
    for (int k = 0; k < n_radial; ++k) {
        H factors[FEATURES];
        load_coefficients(factors, h, k * FEATURES, h_plane);
#pragma unroll
        for (int v = 0; v < N; ++v) {
            const S x = densities[v][k * A];
#pragma unroll
            for (int u = 0; u < FEATURES; ++u) P[u][v] += x * factors[u];
        }
    }
}

// Add w sum_v P[u][v]^2 to the four features of a block, for the N monomials of a group.
template <typename S, typename H, int N>
__device__ __forceinline__ void add_squares(S (&total)[FEATURES], const S* own, const real<H>* of_block,
                                            long long h_plane, int group, int n_radial) {
    S P[FEATURES][N];
    project<S, H, N>(P, own, of_block + group_degree[group] * n_radial * FEATURES, h_plane, group, n_radial);
    const real<S> w = real<S>(group_weight[group]);
#pragma unroll
    for (int u = 0; u < FEATURES; ++u) {
        S sum = P[u][0] * P[u][0];
#pragma unroll
        for (int v = 1; v < N; ++v) sum += P[u][v] * P[u][v];
        total[u] += sum * w;
    }
}

// g[u][v] = 2 w dq_{m+u} P[u][v]; zero beyond the last feature.
template <typename S, int N>
__device__ __forceinline__ void weigh_projection(S (&P)[FEATURES][N], const real<S>* dq, long long stride, int m,
                                                 int n_features, int group) {
    const real<S> w = real<S>(2 * group_weight[group]);
#pragma unroll
    for (int u = 0; u < FEATURES; ++u) {
        const S d = m + u < n_features ? load<S>(dq, (m + u) * stride, n_features * stride) * w : S(0);
#pragma unroll
        for (int v = 0; v < N; ++v) P[u][v] *= d;
    }
}

}  // namespace fd
