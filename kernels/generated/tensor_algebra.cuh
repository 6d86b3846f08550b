// Written by kernels/generated/generate.py from the Numba text: change it there, not here.
#pragma once
#include "entries.cuh"

namespace fd {

// The six monomials of degree 2.
template <typename S>
__device__ __forceinline__ Matrix<S> monomials_2(S x, S y, S z) {
    return {x * x, x * y, x * z, y * y, y * z, z * z};
}

// The ten monomials of degree 3.
template <typename S>
__device__ __forceinline__ Tensor<S> monomials_3(S x, S y, S z) {
    const S xx = x * x;
    const S yy = y * y;
    const S zz = z * z;
    return {xx * x, xx * y, xx * z, yy * x, x * y * z, zz * x, yy * y, yy * z, zz * y, zz * z};
}

// Sum_c f_c dm_c/dr for the six monomials of degree 2.
template <typename S>
__device__ __forceinline__ Vector<S> pull_2(const Matrix<S>& f, S x, S y, S z) {
    const S x2 = x + x;
    const S y2 = y + y;
    const S z2 = z + z;
    return {x2 * f[0] + y * f[1] + z * f[2], x * f[1] + y2 * f[3] + z * f[4], x * f[2] + y * f[4] + z2 * f[5]};
}

// Sum_c f_c dm_c/dr for the ten monomials of degree 3.
template <typename S>
__device__ __forceinline__ Vector<S> pull_3(const Tensor<S>& f, S x, S y, S z) {
    const S xx = x * x;
    const S yy = y * y;
    const S zz = z * z;
    const S xy = x * y;
    const S xz = x * z;
    const S yz = y * z;
    return {xx * f[0] * real<S>(3) + (xy * f[1] + xz * f[2]) * real<S>(2) + yy * f[3] + yz * f[4] + zz * f[5],
            yy * f[6] * real<S>(3) + (xy * f[3] + yz * f[7]) * real<S>(2) + xx * f[1] + xz * f[4] + zz * f[8],
            zz * f[9] * real<S>(3) + (xz * f[5] + yz * f[8]) * real<S>(2) + xx * f[2] + xy * f[4] + yy * f[7]};
}

// The entries of a matrix, each times how many it stands for.
template <typename S>
__device__ __forceinline__ Matrix<S> weighted6(const Matrix<S>& a) {
    return {a[0], a[1] + a[1], a[2] + a[2], a[3], a[4] + a[4], a[5]};
}

// The entries of a rank-3 tensor, each times how many it stands for.
template <typename S>
__device__ __forceinline__ Tensor<S> weighted10(const Tensor<S>& a) {
    return {a[0], a[1] * real<S>(3), a[2] * real<S>(3), a[3] * real<S>(3), a[4] * real<S>(6), a[5] * real<S>(3), a[6],
            a[7] * real<S>(3), a[8] * real<S>(3), a[9]};
}

// The symmetric matrix a_ijx of a rank-3 tensor.
template <typename S>
__device__ __forceinline__ Matrix<S> slice_x(const Tensor<S>& a) {
    return {a[0], a[1], a[2], a[3], a[4], a[5]};
}

// The symmetric matrix a_ijy of a rank-3 tensor.
template <typename S>
__device__ __forceinline__ Matrix<S> slice_y(const Tensor<S>& a) {
    return {a[1], a[3], a[4], a[6], a[7], a[8]};
}

// The symmetric matrix a_ijz of a rank-3 tensor.
template <typename S>
__device__ __forceinline__ Matrix<S> slice_z(const Tensor<S>& a) {
    return {a[2], a[4], a[5], a[7], a[8], a[9]};
}

// Adjoint of the three slices.
template <typename S>
__device__ __forceinline__ Tensor<S> unslice(const Matrix<S>& x, const Matrix<S>& y, const Matrix<S>& z) {
    return {x[0], x[1] + y[0], x[2] + z[0], x[3] + y[1], x[4] + y[2] + z[1], x[5] + z[2], y[3], y[4] + z[3],
            y[5] + z[4], z[5]};
}

// Weighted symmetric part of a_k b_l (contraction 6).
template <typename S>
__device__ __forceinline__ Matrix<S> vectors_product(const Vector<S>& a, const Vector<S>& b) {
    return {a[0] * b[0], a[0] * b[1] + a[1] * b[0], a[0] * b[2] + a[2] * b[0], a[1] * b[1], a[1] * b[2] + a[2] * b[1],
            a[2] * b[2]};
}

// Cotangent of `a` in vectors_product(a, b); it is symmetric, so also of b, given a.
template <typename S>
__device__ __forceinline__ Vector<S> vectors_product_pullback(const Matrix<S>& d, const Vector<S>& b) {
    return {d[0] * b[0] + d[1] * b[1] + d[2] * b[2], d[1] * b[0] + d[3] * b[1] + d[4] * b[2],
            d[2] * b[0] + d[4] * b[1] + d[5] * b[2]};
}

// Weighted symmetric part of a_jk b_jl (contraction 5).
template <typename S>
__device__ __forceinline__ Matrix<S> matrices_product(const Matrix<S>& a, const Matrix<S>& b) {
    return {a[0] * b[0] + a[1] * b[1] + a[2] * b[2],
            a[0] * b[1] + a[1] * b[3] + a[2] * b[4] + b[0] * a[1] + b[1] * a[3] + b[2] * a[4],
            a[0] * b[2] + a[1] * b[4] + a[2] * b[5] + b[0] * a[2] + b[1] * a[4] + b[2] * a[5],
            a[1] * b[1] + a[3] * b[3] + a[4] * b[4],
            a[1] * b[2] + a[3] * b[4] + a[4] * b[5] + b[1] * a[2] + b[3] * a[4] + b[4] * a[5],
            a[2] * b[2] + a[4] * b[4] + a[5] * b[5]};
}

// Cotangent of `a` in matrices_product(a, b); it is symmetric, so also of b, given a.
template <typename S>
__device__ __forceinline__ Matrix<S> matrices_product_pullback(const Matrix<S>& d, const Matrix<S>& b) {
    return {d[0] * b[0] + d[1] * b[1] + d[2] * b[2],
            (d[0] + d[3]) * b[1] + d[1] * (b[0] + b[3]) + d[2] * b[4] + d[4] * b[2],
            (d[0] + d[5]) * b[2] + d[1] * b[4] + d[2] * (b[0] + b[5]) + d[4] * b[1],
            d[3] * b[3] + d[1] * b[1] + d[4] * b[4],
            (d[3] + d[5]) * b[4] + d[1] * b[2] + d[2] * b[1] + d[4] * (b[3] + b[5]),
            d[5] * b[5] + d[2] * b[2] + d[4] * b[4]};
}

// Weighted symmetric part of a_ijk b_ijl (contraction 7).
template <typename S>
__device__ __forceinline__ Matrix<S> tensors_product(const Tensor<S>& a, const Tensor<S>& b) {
    const Matrix<S> ax = slice_x(a);
    const Matrix<S> ay = slice_y(a);
    const Matrix<S> az = slice_z(a);
    const Matrix<S> bx = weighted6(slice_x(b));
    const Matrix<S> by = weighted6(slice_y(b));
    const Matrix<S> bz = weighted6(slice_z(b));
    return {dot(ax, bx), dot(ax, by) + dot(ay, bx), dot(ax, bz) + dot(az, bx), dot(ay, by), dot(ay, bz) + dot(az, by),
            dot(az, bz)};
}

// The matrix p x + q y + r z.
template <typename S>
__device__ __forceinline__ Matrix<S> combine3(S p, const Matrix<S>& x, S q, const Matrix<S>& y, S r,
                                              const Matrix<S>& z) {
    return {p * x[0] + q * y[0] + r * z[0], p * x[1] + q * y[1] + r * z[1], p * x[2] + q * y[2] + r * z[2],
            p * x[3] + q * y[3] + r * z[3], p * x[4] + q * y[4] + r * z[4], p * x[5] + q * y[5] + r * z[5]};
}

// The matrix p x.
template <typename S>
__device__ __forceinline__ Matrix<S> scaled6(S p, const Matrix<S>& x) {
    return {p * x[0], p * x[1], p * x[2], p * x[3], p * x[4], p * x[5]};
}

// Cotangent of `a` in tensors_product(a, b); it is symmetric, so also of b, given a.
template <typename S>
__device__ __forceinline__ Tensor<S> tensors_product_pullback(const Matrix<S>& d, const Tensor<S>& b) {
    const Matrix<S> bx = weighted6(slice_x(b));
    const Matrix<S> by = weighted6(slice_y(b));
    const Matrix<S> bz = weighted6(slice_z(b));
    return unslice(combine3(d[0], bx, d[1], by, d[2], bz), combine3(d[1], bx, d[3], by, d[4], bz),
                   combine3(d[2], bx, d[4], by, d[5], bz));
}

// Vector a_ijk b_ij (contraction 8).
template <typename S>
__device__ __forceinline__ Vector<S> tensor_matrix_product(const Tensor<S>& a, const Matrix<S>& b) {
    const Matrix<S> w = weighted6(b);
    return {dot(slice_x(a), w), dot(slice_y(a), w), dot(slice_z(a), w)};
}

// Cotangent of the tensor `a` in tensor_matrix_product(a, b).
template <typename S>
__device__ __forceinline__ Tensor<S> tensor_matrix_pullback_tensor(const Vector<S>& d, const Matrix<S>& b) {
    const Matrix<S> w = weighted6(b);
    return unslice(scaled6(d[0], w), scaled6(d[1], w), scaled6(d[2], w));
}

// Cotangent of the matrix `b` in tensor_matrix_product(a, b).
template <typename S>
__device__ __forceinline__ Matrix<S> tensor_matrix_pullback_matrix(const Vector<S>& d, const Tensor<S>& a) {
    return weighted6(combine3(d[0], slice_x(a), d[1], slice_y(a), d[2], slice_z(a)));
}

}  // namespace fd
