// Symmetric tensors of rank 0..3 by their unique entries, and monomials.
//
//     0: 1 | 1..3: x y z | 4..9: xx xy xz yy yz zz | 10..19: xxx xxy xxz xyy xyz xzz yyy yyz yzz zzz
//
// An entry such as xy stands for xy and yx. A *weighted* tensor has its entries multiplied by how many they stand for,
// so that the plain dot product of a weighted tensor with an unweighted one is their full contraction. The products
// from which invariants are made, and the monomials of one degree, are in generated/tensor_algebra.cuh.
#pragma once
#include "generated/tensor_algebra.cuh"

namespace fd {

constexpr int N_MOMENTS = 20;
constexpr int RANK1 = 1, RANK2 = 4, RANK3 = 10;  // first entry of each rank

// Call visit(c, m_c) for all entries c < n_moments.
template <typename S, typename Visit>
__device__ __forceinline__ void each_monomial(const Vector<S>& u, int n_moments, Visit visit) {
    visit(0, S(1));
    if (n_moments > RANK1) {
#pragma unroll
        for (int c = 0; c < 3; ++c) visit(RANK1 + c, u[c]);
    }
    if (n_moments > RANK2) {
        const Matrix<S> uu = monomials_2(u[0], u[1], u[2]);
#pragma unroll
        for (int c = 0; c < 6; ++c) visit(RANK2 + c, uu[c]);
        if (n_moments > RANK3) {
            const Tensor<S> uuu = monomials_3(u[0], u[1], u[2]);
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
        const Matrix<S> uu = monomials_2(u[0], u[1], u[2]);
        Matrix<S> f2;
#pragma unroll
        for (int c = 0; c < 6; ++c) f2[c] = visit(RANK2 + c, uu[c]);
        add_to(g, real<S>(1), pull_2(f2, u[0], u[1], u[2]));
        if (n_moments > RANK3) {
            const Tensor<S> uuu = monomials_3(u[0], u[1], u[2]);
            Tensor<S> f3;
#pragma unroll
            for (int c = 0; c < 10; ++c) f3[c] = visit(RANK3 + c, uuu[c]);
            add_to(g, real<S>(1), pull_3(f3, u[0], u[1], u[2]));
        }
    }
    return g;
}

}  // namespace fd
