// Symmetric tensors of rank 0..3 by their unique entries, and the products from which invariants are made.
//
//     0: 1 | 1..3: x y z | 4..9: xx xy xz yy yz zz | 10..19: xxx xxy xxz xyy xyz xzz yyy yyz yzz zzz
//
// An entry such as xy stands for xy and yx. A *weighted* tensor has its entries multiplied by how many they stand for,
// so that the plain dot product of a weighted tensor with an unweighted one is their full contraction. Derivatives
// with respect to unique entries are weighted. Names of the products as in
// fastdesc/descriptors/gaussian_moments/contractions.py.
#pragma once
#include "common.cuh"

namespace fd {

constexpr int N_MOMENTS = 20;
constexpr int RANK1 = 1, RANK2 = 4, RANK3 = 10;  // first entry of each rank

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

template <typename S> __device__ __forceinline__ Matrix<S> weighted(const Matrix<S>& a) {
    using T = real<S>;
    return {a[0], a[1] * T(2), a[2] * T(2), a[3], a[4] * T(2), a[5]};
}

template <typename S> __device__ __forceinline__ Tensor<S> weighted(const Tensor<S>& a) {
    using T = real<S>;
    return {a[0], a[1] * T(3), a[2] * T(3), a[3] * T(3), a[4] * T(6),
            a[5] * T(3), a[6], a[7] * T(3), a[8] * T(3), a[9]};
}

// The matrix a_ij0, a_ij1 or a_ij2 of a tensor.
template <typename S> __device__ __forceinline__ Matrix<S> slice(const Tensor<S>& a, int k) {
    if (k == 0) return {a[0], a[1], a[2], a[3], a[4], a[5]};
    if (k == 1) return {a[1], a[3], a[4], a[6], a[7], a[8]};
    return {a[2], a[4], a[5], a[7], a[8], a[9]};
}

// ------------------------------------------------------------------------------------------------- monomials

// Entries of u, u u and u u u.
template <typename S> __device__ __forceinline__ Matrix<S> monomials2(const Vector<S>& u) {
    return {u[0] * u[0], u[0] * u[1], u[0] * u[2], u[1] * u[1], u[1] * u[2], u[2] * u[2]};
}
template <typename S> __device__ __forceinline__ Tensor<S> monomials3(const Vector<S>& u, const Matrix<S>& uu) {
    return {uu[0] * u[0], uu[0] * u[1], uu[0] * u[2], uu[3] * u[0], uu[1] * u[2],
            uu[5] * u[0], uu[3] * u[1], uu[3] * u[2], uu[5] * u[1], uu[5] * u[2]};
}

// g += sum_c f_c dm_c/du for the monomials of rank 2, of rank 3.
template <typename S>
__device__ __forceinline__ void pull_monomials2(Vector<S>& g, const Matrix<S>& f, const Vector<S>& u) {
    using T = real<S>;
    g[0] += T(2) * u[0] * f[0] + u[1] * f[1] + u[2] * f[2];
    g[1] += u[0] * f[1] + T(2) * u[1] * f[3] + u[2] * f[4];
    g[2] += u[0] * f[2] + u[1] * f[4] + T(2) * u[2] * f[5];
}
template <typename S>
__device__ __forceinline__ void pull_monomials3(Vector<S>& g, const Tensor<S>& f, const Matrix<S>& uu) {
    using T = real<S>;
    g[0] += T(3) * uu[0] * f[0] + T(2) * (uu[1] * f[1] + uu[2] * f[2]) + uu[3] * f[3] + uu[4] * f[4] + uu[5] * f[5];
    g[1] += T(3) * uu[3] * f[6] + T(2) * (uu[1] * f[3] + uu[4] * f[7]) + uu[0] * f[1] + uu[2] * f[4] + uu[5] * f[8];
    g[2] += T(3) * uu[5] * f[9] + T(2) * (uu[2] * f[5] + uu[4] * f[8]) + uu[0] * f[2] + uu[1] * f[4] + uu[3] * f[7];
}

// Call visit(c, m_c) for all entries c < n_moments.
template <typename S, typename Visit>
__device__ __forceinline__ void each_monomial(const Vector<S>& u, int n_moments, Visit visit) {
    visit(0, S(1));
    if (n_moments > RANK1) {
#pragma unroll
        for (int c = 0; c < 3; ++c) visit(RANK1 + c, u[c]);
    }
    if (n_moments > RANK2) {
        const Matrix<S> uu = monomials2(u);
#pragma unroll
        for (int c = 0; c < 6; ++c) visit(RANK2 + c, uu[c]);
        if (n_moments > RANK3) {
            const Tensor<S> uuu = monomials3(u, uu);
#pragma unroll
            for (int c = 0; c < 10; ++c) visit(RANK3 + c, uuu[c]);
        }
    }
}

// Sum of f_c dm_c/du over all entries c < n_moments, where f_c = visit(c, m_c).
template <typename S, typename Visit>
__device__ __forceinline__ Vector<S> pull_monomials(const Vector<S>& u, int n_moments, Visit visit) {
    Vector<S> g = zeros<S, 3>();
    visit(0, S(1));
    if (n_moments > RANK1) {
#pragma unroll
        for (int c = 0; c < 3; ++c) g[c] = visit(RANK1 + c, u[c]);
    }
    if (n_moments > RANK2) {
        const Matrix<S> uu = monomials2(u);
        Matrix<S> f2;
#pragma unroll
        for (int c = 0; c < 6; ++c) f2[c] = visit(RANK2 + c, uu[c]);
        pull_monomials2(g, f2, u);
        if (n_moments > RANK3) {
            const Tensor<S> uuu = monomials3(u, uu);
            Tensor<S> f3;
#pragma unroll
            for (int c = 0; c < 10; ++c) f3[c] = visit(RANK3 + c, uuu[c]);
            pull_monomials3(g, f3, uu);
        }
    }
    return g;
}

// -------------------------------------------------------------------------------------------------- products

// Weighted symmetric part of a_k b_l.
template <typename S>
__device__ __forceinline__ Matrix<S> vectors_product(const Vector<S>& a, const Vector<S>& b) {
    return {a[0] * b[0], a[0] * b[1] + a[1] * b[0], a[0] * b[2] + a[2] * b[0],
            a[1] * b[1], a[1] * b[2] + a[2] * b[1], a[2] * b[2]};
}

// The matrix times the vector: derivative of vectors_product(a, b) : d with respect to a.
template <typename S> __device__ __forceinline__ Vector<S> times(const Matrix<S>& d, const Vector<S>& b) {
    return {d[0] * b[0] + d[1] * b[1] + d[2] * b[2], d[1] * b[0] + d[3] * b[1] + d[4] * b[2],
            d[2] * b[0] + d[4] * b[1] + d[5] * b[2]};
}

// Weighted symmetric part of a_jk b_jl. Since a_jk b_jl c_kl is symmetric in a, b and c, this is also its derivative
// with respect to c.
template <typename S>
__device__ __forceinline__ Matrix<S> matrices_product(const Matrix<S>& a, const Matrix<S>& b) {
    return {a[0] * b[0] + a[1] * b[1] + a[2] * b[2],
            a[0] * b[1] + a[1] * b[3] + a[2] * b[4] + b[0] * a[1] + b[1] * a[3] + b[2] * a[4],
            a[0] * b[2] + a[1] * b[4] + a[2] * b[5] + b[0] * a[2] + b[1] * a[4] + b[2] * a[5],
            a[1] * b[1] + a[3] * b[3] + a[4] * b[4],
            a[1] * b[2] + a[3] * b[4] + a[4] * b[5] + b[1] * a[2] + b[3] * a[4] + b[4] * a[5],
            a[2] * b[2] + a[4] * b[4] + a[5] * b[5]};
}

// Weighted symmetric part of a_ijk b_ijl.
template <typename S>
__device__ __forceinline__ Matrix<S> tensors_product(const Tensor<S>& a, const Tensor<S>& b) {
    const Matrix<S> x = weighted(slice(b, 0)), y = weighted(slice(b, 1)), z = weighted(slice(b, 2));
    const Matrix<S> i = slice(a, 0), j = slice(a, 1), k = slice(a, 2);
    return {dot(i, x), dot(i, y) + dot(j, x), dot(i, z) + dot(k, x), dot(j, y), dot(j, z) + dot(k, y), dot(k, z)};
}

// Derivative with respect to a tensor of the contraction of its slices with x, y and z, weighted matrices.
template <typename S>
__device__ __forceinline__ Tensor<S> unslice(const Matrix<S>& x, const Matrix<S>& y, const Matrix<S>& z) {
    return {x[0], x[1] + y[0], x[2] + z[0], x[3] + y[1], x[4] + y[2] + z[1],
            x[5] + z[2], y[3], y[4] + z[3], y[5] + z[4], z[5]};
}

template <typename S>
__device__ __forceinline__ Matrix<S> combine(S p, const Matrix<S>& x, S q, const Matrix<S>& y, S r,
                                             const Matrix<S>& z) {
    Matrix<S> sum;
#pragma unroll
    for (int k = 0; k < 6; ++k) sum[k] = p * x[k] + q * y[k] + r * z[k];
    return sum;
}

// Derivative of tensors_product(a, b) : d with respect to a.
template <typename S>
__device__ __forceinline__ Tensor<S> tensors_product_pullback(const Matrix<S>& d, const Tensor<S>& b) {
    const Matrix<S> x = weighted(slice(b, 0)), y = weighted(slice(b, 1)), z = weighted(slice(b, 2));
    return unslice(combine(d[0], x, d[1], y, d[2], z), combine(d[1], x, d[3], y, d[4], z),
                   combine(d[2], x, d[4], y, d[5], z));
}

// The vector a_ijk b_ij, for `b` weighted.
template <typename S>
__device__ __forceinline__ Vector<S> tensor_matrix_product(const Tensor<S>& a, const Matrix<S>& b) {
    return {dot(slice(a, 0), b), dot(slice(a, 1), b), dot(slice(a, 2), b)};
}

// Derivatives of tensor_matrix_product(a, weighted(b)) . d with respect to a and to b.
template <typename S>
__device__ __forceinline__ Tensor<S> pull_tensor(const Vector<S>& d, const Matrix<S>& b) {
    Matrix<S> x, y, z;
    const Matrix<S> w = weighted(b);
#pragma unroll
    for (int k = 0; k < 6; ++k) x[k] = d[0] * w[k], y[k] = d[1] * w[k], z[k] = d[2] * w[k];
    return unslice(x, y, z);
}
template <typename S>
__device__ __forceinline__ Matrix<S> pull_matrix(const Vector<S>& d, const Tensor<S>& a) {
    return weighted(combine(d[0], slice(a, 0), d[1], slice(a, 1), d[2], slice(a, 2)));
}

}  // namespace fd
