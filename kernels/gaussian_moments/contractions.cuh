// Invariants of Gaussian moments and their pullback for one atom and one radial channel, in jobs of one rank each, so
// that few tensors are alive at a time. Twins, with the table of contractions:
// fastdesc/descriptors/gaussian_moments/contractions.py.
#pragma once
#include "tensors.cuh"

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

// Atoms a block: a row of their moments in shared memory is 128 bytes, so that entries are read at constant offsets.
// A warp takes 32 / ATOMS channels at a time.
template <typename S> constexpr int ATOMS = 128 / sizeof(S);

// One atom's column of an array (rows, n_atoms).
template <typename S> struct Column {
    real<S>* at;
    long long stride, plane;

    __device__ __forceinline__ Column(real<S>* array, long long atom, long long stride_, int rows)
        : at(array + atom), stride(stride_), plane(rows * stride_) {}
    __device__ __forceinline__ Column from(int row) const {
        Column other = *this;
        other.at += row * stride;
        return other;
    }
    __device__ __forceinline__ void advance(int rows) { at += rows * stride; }
    __device__ __forceinline__ S get() const { return load<S>(at, 0, plane); }
    __device__ __forceinline__ S get(int row) const { return load<S>(at, row * stride, plane); }
    __device__ __forceinline__ void set(S x) const { store(at, 0, plane, x); }
    __device__ __forceinline__ void set(int row, S x) const { store(at, row * stride, plane, x); }
    template <int N> __device__ __forceinline__ void set(int row, const Entries<S, N>& a) const {
        Column next = from(row);
#pragma unroll
        for (int k = 0; k < N; ++k) next.set(a[k]), next.advance(1);
    }
};

// One atom's moments in shared memory: n radial channels, rows of n_moments entries.
template <typename S> struct Moments {
    const S* at;
    int n, n_moments;

    template <int N> __device__ __forceinline__ Entries<S, N> entries(int r, int from) const {
        const S* row = at + (r * n_moments + from) * ATOMS<S>;
        Entries<S, N> a;
#pragma unroll
        for (int k = 0; k < N; ++k) a[k] = row[k * ATOMS<S>];
        return a;
    }
    __device__ __forceinline__ S scalar(int r) const { return at[r * n_moments * ATOMS<S>]; }
    __device__ __forceinline__ Vector<S> vector(int r) const { return entries<3>(r, RANK1); }
    __device__ __forceinline__ Matrix<S> matrix(int r) const { return entries<6>(r, RANK2); }
    __device__ __forceinline__ Tensor<S> tensor(int r) const { return entries<10>(r, RANK3); }
};

// Moments of the block's atoms i0 .. to shared memory; returns those of the calling thread's atom.
template <typename S>
__device__ __forceinline__ Moments<S> stage_moments(S* shared, const real<S>* moments, long long stride, long long i0,
                                                    long long n_atoms, int n_radial, int n_moments) {
    const int rows = n_radial * n_moments, atom = threadIdx.x % ATOMS<S>;
    if (i0 + atom < n_atoms)
        for (int row = threadIdx.x / ATOMS<S>; row < rows; row += blockDim.x / ATOMS<S>)
            shared[row * ATOMS<S> + atom] = load<S>(moments, row * stride + i0 + atom, rows * stride);
    __syncthreads();
    return {shared + atom, n_radial, n_moments};
}

// The jobs of a thread: one kind for a whole warp at a time, channels by its lanes.
template <typename S> struct Jobs {
    static constexpr int TOGETHER = 32 / ATOMS<S>;
    int job, kinds, n_radial;

    __device__ __forceinline__ Jobs(int kinds_, int n) : job(threadIdx.x / 32), kinds(kinds_), n_radial(n) { skip(); }
    __device__ __forceinline__ int kind() const { return job % kinds; }
    __device__ __forceinline__ int channel() const { return job / kinds * TOGETHER + threadIdx.x % 32 / ATOMS<S>; }
    __device__ __forceinline__ bool left() const { return job < (n_radial + TOGETHER - 1) / TOGETHER * kinds; }
    __device__ __forceinline__ void next() { job += blockDim.x / 32, skip(); }
    __device__ __forceinline__ void skip() {
        while (left() && channel() >= n_radial) job += blockDim.x / 32;
    }
};

// --------------------------------------------------------------- features whose first channel is r, by its rank

// The features a : M_t of the channels t from `begin` on, one below the other.
template <typename S, int N>
__device__ __forceinline__ void set_all(Column<S> q, const Entries<S, N>& a, const Moments<S>& M, int rank, int begin) {
#pragma unroll 4
    for (int t = begin; t < M.n; ++t) {
        q.set(dot(a, M.template entries<N>(t, rank)));
        q.advance(1);
    }
}

template <typename S>
__device__ __forceinline__ void contract_vectors(const Moments<S>& M, const Column<S>& q, const Offsets& o, int r) {
    const int n = M.n;
    if (o.has(1)) q.set(o[1] + r, M.scalar(r));
    if (!o.has(2) && !o.has(6)) return;
    const Vector<S> a = M.vector(r);
    for (int s = r; s < n; ++s) {
        const Vector<S> b = M.vector(s);
        const int rs = pair_index(n, r, s);
        if (o.has(2)) q.set(o[2] + rs, dot(a, b));
        if (o.has(6)) {
            const Matrix<S> ab = vectors_product(a, b);
            set_all(q.from(o[6] + rs * n), ab, M, RANK2, 0);
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
        if (o.has(3)) q.set(o[3] + pair_index(n, r, s), dot(weighted6(a), b));
        if (o.has(5)) {
            const Matrix<S> ab = matrices_product(a, b);
            set_all(q.from(o[5] + triple_index(n, r, s, s)), ab, M, RANK2, s);
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
        if (o.has(4)) q.set(o[4] + rs, dot(weighted10(a), b));
        if (o.has(7)) {
            const Matrix<S> ab = tensors_product(a, b);
            set_all(q.from(o[7] + rs * n), ab, M, RANK2, 0);
        }
    }
}

template <typename S>
__device__ __forceinline__ void contract_mixed(const Moments<S>& M, const Column<S>& q, const Offsets& o, int r) {
    const int n = M.n;
    if (!o.has(8)) return;
    const Tensor<S> a = M.tensor(r);
    for (int s = 0; s < n; ++s) {
        const Vector<S> v = tensor_matrix_product(a, M.matrix(s));
        set_all(q.from(o[8] + (r * n + s) * n), v, M, RANK1, 0);
    }
}

// ------------------------------------------- cotangents of the moments of channel r: gathered, so each has one owner

// Sum over t of dq[first + t step] times the entries from `rank` on of channel t.
template <typename S, int N>
__device__ __forceinline__ Entries<S, N> mix(const Moments<S>& M, const Column<S>& dq, int first, int step, int rank,
                                             int begin) {
    Entries<S, N> sum = zeros<S, N>();
    Column<S> weight = dq.from(first + begin * step);
#pragma unroll 4
    for (int t = begin; t < M.n; ++t) {
        add_to(sum, weight.get(), M.template entries<N>(t, rank));
        weight.advance(step);
    }
    return sum;
}

template <typename S>
__device__ __forceinline__ void pull_vectors(const Moments<S>& M, const Column<S>& dq, const Column<S>& dM,
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
        if (o.has(6)) add_to(g, twice, vectors_product_pullback(mix<S, 6>(M, dq, o[6] + rs * n, 1, RANK2, 0), M.vector(s)));
    }
    if (o.has(8))
        for (int s = 0; s < n; ++s)
            add_to(g, T(1),
                   tensor_matrix_product(M.tensor(s), mix<S, 6>(M, dq, o[8] + s * n * n + r, n, RANK2, 0)));
    dM.set(r * M.n_moments + RANK1, g);
}

template <typename S>
__device__ __forceinline__ void pull_matrices(const Moments<S>& M, const Column<S>& dq, const Column<S>& dM,
                                              const Offsets& o, int r) {
    using T = real<S>;
    const int n = M.n;
    if (M.n_moments <= RANK2) return;
    Matrix<S> g = zeros<S, 6>();
    if (o.has(3))
        for (int s = 0; s < n; ++s)
            add_to(g, dq.get(o[3] + any_pair_index(n, r, s)) * (r == s ? T(2) : T(1)), weighted6(M.matrix(s)));
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
            add_to(g, T(1), vectors_product(M.vector(s), mix<S, 3>(M, dq, o[6] + first * n + r, n, RANK1, s)));
        if (o.has(7))
            add_to(g, T(1), tensors_product(M.tensor(s), mix<S, 10>(M, dq, o[7] + first * n + r, n, RANK3, s)));
        if (o.has(8))
            add_to(g, T(1), tensor_matrix_pullback_matrix(
                                 mix<S, 3>(M, dq, o[8] + (s * n + r) * n, 1, RANK1, 0), M.tensor(s)));
    }
    dM.set(r * M.n_moments + RANK2, g);
}

template <typename S>
__device__ __forceinline__ void pull_tensors(const Moments<S>& M, const Column<S>& dq, const Column<S>& dM,
                                             const Offsets& o, int r) {
    using T = real<S>;
    const int n = M.n;
    if (M.n_moments <= RANK3) return;
    Tensor<S> g = zeros<S, 10>();
    for (int s = 0; s < n; ++s) {
        const int rs = any_pair_index(n, r, s);
        const T twice = r == s ? T(2) : T(1);
        if (o.has(4)) add_to(g, dq.get(o[4] + rs) * twice, weighted10(M.tensor(s)));
        if (o.has(7))
            add_to(g, twice,
                   tensors_product_pullback(mix<S, 6>(M, dq, o[7] + rs * n, 1, RANK2, 0), M.tensor(s)));
        if (o.has(8))
            add_to(g, T(1), tensor_matrix_pullback_tensor(
                                 mix<S, 3>(M, dq, o[8] + (r * n + s) * n, 1, RANK1, 0), M.matrix(s)));
    }
    dM.set(r * M.n_moments + RANK3, g);
}

}  // namespace fd
