// Invariants of Gaussian moments and their pullback for one atom and one radial channel, in jobs of one rank each, so
// that few tensors are alive at a time. Twins, with the table of contractions: descriptors/gaussian_moments_contractions.py.
#pragma once
#include "moments.cuh"

namespace fd {

// First feature of each contraction, counted from 1; negative for those left out.
struct Offsets {
    int o[9];
    __device__ __forceinline__ int operator[](int contraction) const { return o[contraction]; }
    __device__ __forceinline__ bool has(int contraction) const { return o[contraction] >= 0; }
};

// Number of a tuple r <= s, of a tuple r <= s <= t, in lexicographic order.
__device__ __forceinline__ int pair_index(int n, int r, int s) { return r * n - r * (r - 1) / 2 + s - r; }
__device__ __forceinline__ int any_pair_index(int n, int r, int s) {
    return r <= s ? pair_index(n, r, s) : pair_index(n, s, r);
}
__device__ __forceinline__ int triple_index(int n, int r, int s, int t) {
    const int all = n * (n + 1) * (n + 2) / 6, m = n - r, from_r = m * (m + 1) * (m + 2) / 6;
    return all - from_r + pair_index(m, s - r, t - r);
}
__device__ __forceinline__ int any_triple_index(int n, int r, int s, int t) {
    const int low = min(r, min(s, t)), high = max(r, max(s, t));
    return triple_index(n, low, r + s + t - low - high, high);
}

// One atom's column of an array (rows, n_atoms).
template <typename S> struct Column {
    real<S>* at;
    long long stride, plane;

    __device__ __forceinline__ Column(real<S>* array, long long atom, long long stride_, int rows)
        : at(array + atom), stride(stride_), plane(rows * stride_) {}
    __device__ __forceinline__ S get(int row) const { return load<S>(at, row * stride, plane); }
    __device__ __forceinline__ void set(int row, S x) const { store(at, row * stride, plane, x); }
};

// One atom's moments (n radial channels, rows of n_moments entries).
template <typename S> struct Moments : Column<S> {
    int n, n_moments;

    __device__ __forceinline__ Moments(real<S>* array, long long atom, long long stride, int n_radial, int entries)
        : Column<S>(array, atom, stride, n_radial * entries), n(n_radial), n_moments(entries) {}

    template <int N> __device__ __forceinline__ Entries<S, N> entries(int r, int from) const {
        Entries<S, N> a;
#pragma unroll
        for (int k = 0; k < N; ++k) a[k] = this->get(r * n_moments + from + k);
        return a;
    }
    __device__ __forceinline__ Vector<S> vector(int r) const { return entries<3>(r, RANK1); }
    __device__ __forceinline__ Matrix<S> matrix(int r) const { return entries<6>(r, RANK2); }
    __device__ __forceinline__ Tensor<S> tensor(int r) const { return entries<10>(r, RANK3); }

    template <int N> __device__ __forceinline__ void set_entries(int r, int from, const Entries<S, N>& a) const {
#pragma unroll
        for (int k = 0; k < N; ++k) this->set(r * n_moments + from + k, a[k]);
    }
};

// --------------------------------------------------------------- features whose first channel is r, by its rank

template <typename S>
__device__ __forceinline__ void contract_vectors(const Moments<S>& M, const Column<S>& q, const Offsets& o, int r) {
    const int n = M.n;
    if (o.has(1)) q.set(o[1] + r, M.get(r * M.n_moments));
    if (!o.has(2) && !o.has(6)) return;
    const Vector<S> a = M.vector(r);
    for (int s = r; s < n; ++s) {
        const Vector<S> b = M.vector(s);
        const int rs = pair_index(n, r, s);
        if (o.has(2)) q.set(o[2] + rs, dot(a, b));
        if (o.has(6)) {
            const Matrix<S> ab = vectors_product(a, b);
            for (int t = 0; t < n; ++t) q.set(o[6] + rs * n + t, dot(ab, M.matrix(t)));
        }
    }
}

template <typename S>
__device__ __forceinline__ void contract_matrices(const Moments<S>& M, const Column<S>& q, const Offsets& o, int r) {
    const int n = M.n;
    if (!o.has(3) && !o.has(5)) return;
    const Matrix<S> a = M.matrix(r);
    for (int s = r; s < n; ++s) {
        const Matrix<S> b = M.matrix(s);
        if (o.has(3)) q.set(o[3] + pair_index(n, r, s), dot(weighted(a), b));
        if (o.has(5)) {
            const Matrix<S> ab = matrices_product(a, b);
            for (int t = s; t < n; ++t) q.set(o[5] + triple_index(n, r, s, t), dot(ab, M.matrix(t)));
        }
    }
}

template <typename S>
__device__ __forceinline__ void contract_tensors(const Moments<S>& M, const Column<S>& q, const Offsets& o, int r) {
    const int n = M.n;
    if (!o.has(4) && !o.has(7)) return;
    const Tensor<S> a = M.tensor(r);
    for (int s = r; s < n; ++s) {
        const Tensor<S> b = M.tensor(s);
        const int rs = pair_index(n, r, s);
        if (o.has(4)) q.set(o[4] + rs, dot(weighted(a), b));
        if (o.has(7)) {
            const Matrix<S> ab = tensors_product(a, b);
            for (int t = 0; t < n; ++t) q.set(o[7] + rs * n + t, dot(ab, M.matrix(t)));
        }
    }
}

template <typename S>
__device__ __forceinline__ void contract_mixed(const Moments<S>& M, const Column<S>& q, const Offsets& o, int r) {
    const int n = M.n;
    if (!o.has(8)) return;
    const Tensor<S> a = M.tensor(r);
    for (int s = 0; s < n; ++s) {
        const Vector<S> v = tensor_matrix_product(a, weighted(M.matrix(s)));
        for (int t = 0; t < n; ++t) q.set(o[8] + (r * n + s) * n + t, dot(v, M.vector(t)));
    }
}

// ------------------------------------------- cotangents of the moments of channel r: gathered, so each has one owner

// Sum over t of dq[first + t step] times M's entries of channel t.
template <typename S, int N>
__device__ __forceinline__ Entries<S, N> mix(const Moments<S>& M, const Column<S>& dq, int first, int step, int from,
                                             int begin, int end) {
    Entries<S, N> sum = zeros<S, N>();
    for (int t = begin; t < end; ++t) add_to(sum, dq.get(first + t * step), M.template entries<N>(t, from));
    return sum;
}

template <typename S>
__device__ __forceinline__ void pull_vectors(const Moments<S>& M, const Column<S>& dq, const Moments<S>& dM,
                                             const Offsets& o, int r) {
    using T = real<S>;
    const int n = M.n;
    dM.set(r * M.n_moments, o.has(1) ? dq.get(o[1] + r) : S(0));
    if (M.n_moments <= RANK1) return;
    Vector<S> g = zeros<S, 3>();
    for (int s = 0; s < n; ++s) {
        const int rs = any_pair_index(n, r, s);
        const T twice = r == s ? T(2) : T(1);
        if (o.has(2)) add_to(g, dq.get(o[2] + rs) * twice, M.vector(s));
        if (o.has(6)) add_to(g, twice, times(mix<S, 6>(M, dq, o[6] + rs * n, 1, RANK2, 0, n), M.vector(s)));
    }
    if (o.has(8))
        for (int s = 0; s < n; ++s)
            add_to(g, T(1), tensor_matrix_product(M.tensor(s),
                                                  weighted(mix<S, 6>(M, dq, o[8] + s * n * n + r, n, RANK2, 0, n))));
    dM.set_entries(r, RANK1, g);
}

template <typename S>
__device__ __forceinline__ void pull_matrices(const Moments<S>& M, const Column<S>& dq, const Moments<S>& dM,
                                              const Offsets& o, int r) {
    using T = real<S>;
    const int n = M.n;
    if (M.n_moments <= RANK2) return;
    Matrix<S> g = zeros<S, 6>();
    if (o.has(3))
        for (int s = 0; s < n; ++s)
            add_to(g, dq.get(o[3] + any_pair_index(n, r, s)) * (r == s ? T(2) : T(1)), weighted(M.matrix(s)));
    if (o.has(5))
        // All (s, t), so that a pair s != t comes twice; the derivative counts how often r is among (r, s, t).
        for (int s = 0; s < n; ++s) {
            Matrix<S> f = zeros<S, 6>();
            for (int t = 0; t < n; ++t) {
                const T count = T(1 + (s == r) + (t == r)) * (s == t ? T(1) : T(0.5));
                add_to(f, dq.get(o[5] + any_triple_index(n, r, s, t)) * count, M.matrix(t));
            }
            add_to(g, T(1), matrices_product(M.matrix(s), f));
        }
    for (int s = 0; s < n; ++s) {
        const int first = pair_index(n, s, 0);  // pairs s <= t are first + t
        if (o.has(6))
            add_to(g, T(1), vectors_product(M.vector(s), mix<S, 3>(M, dq, o[6] + first * n + r, n, RANK1, s, n)));
        if (o.has(7))
            add_to(g, T(1), tensors_product(M.tensor(s), mix<S, 10>(M, dq, o[7] + first * n + r, n, RANK3, s, n)));
        if (o.has(8))
            add_to(g, T(1), pull_matrix(mix<S, 3>(M, dq, o[8] + (s * n + r) * n, 1, RANK1, 0, n), M.tensor(s)));
    }
    dM.set_entries(r, RANK2, g);
}

template <typename S>
__device__ __forceinline__ void pull_tensors(const Moments<S>& M, const Column<S>& dq, const Moments<S>& dM,
                                             const Offsets& o, int r) {
    using T = real<S>;
    const int n = M.n;
    if (M.n_moments <= RANK3) return;
    Tensor<S> g = zeros<S, 10>();
    for (int s = 0; s < n; ++s) {
        const int rs = any_pair_index(n, r, s);
        const T twice = r == s ? T(2) : T(1);
        if (o.has(4)) add_to(g, dq.get(o[4] + rs) * twice, weighted(M.tensor(s)));
        if (o.has(7))
            add_to(g, twice,
                   tensors_product_pullback(mix<S, 6>(M, dq, o[7] + rs * n, 1, RANK2, 0, n), M.tensor(s)));
        if (o.has(8))
            add_to(g, T(1), pull_tensor(mix<S, 3>(M, dq, o[8] + (r * n + s) * n, 1, RANK1, 0, n), M.matrix(s)));
    }
    dM.set_entries(r, RANK3, g);
}

}  // namespace fd
