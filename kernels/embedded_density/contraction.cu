// Embedded density, features from densities and the way back. Twins, with the formulas:
// fastdesc/descriptors/embedded_density/{contraction,contraction_pullback}.py.
//
// specialise ed_contract<S, H>                 S: float, Dual<float>; H: float
// specialise ed_contract<S, H>                 S: double, Dual<double>; H: double
// specialise ed_contract<S, H>                 S: Dual<float>; H: Dual<float>
// specialise ed_contract<S, H>                 S: Dual<double>; H: Dual<double>
// specialise ed_contract_pullback<S, H>        S: float, Dual<float>; H: float
// specialise ed_contract_pullback<S, H>        S: double, Dual<double>; H: double
// specialise ed_contract_pullback<S, H>        S: Dual<float>; H: Dual<float>
// specialise ed_contract_pullback<S, H>        S: Dual<double>; H: Dual<double>
// specialise ed_gram<S>                        S: float, double, Dual<float>, Dual<double>
// specialise ed_squares<S>                     S: float, double, Dual<float>, Dual<double>
// specialise ed_squares_pullback<S>            S: float, double, Dual<float>, Dual<double>
//
// A lane owns an atom.
//
// Arrays with atoms or pairs last: element (.., n) of `x` is x[row * x_stride + n], its tangent x_plane further.
#include "embedded_density/density_products.cuh"

using namespace fd;

constexpr int ATOMS = 32, CONTRACT_WARPS = 8;
constexpr int CONTRACT_BLOCKS = 1;  // that a multiprocessor must be able to hold; unasked, ptxas aims higher and spills

// Features of all atoms: a lane an atom, a warp every eighth block of four features.
template <typename S, typename H>
__global__ void __launch_bounds__(ATOMS * CONTRACT_WARPS)
ed_contract(
    long long n_atoms,
    const real<H>* __restrict__ hyper,    // (blocks of features, l_max + 1, n_radial, 4)
    const real<S>* __restrict__ density,  // (n_radial, n_moments, n_atoms)
    real<S>* __restrict__ q,              // (n_features, n_atoms)
    long long density_stride,             // from row to row of density
    long long q_stride,                   // from row to row of q
    long long density_plane,              // from values to tangents of density
    long long hyper_plane,                // from values to tangents of hyper
    int n_radial,
    int l_max,
    int n_moments,
    int n_features
) {
    const long long i = (long long)blockIdx.x * ATOMS + threadIdx.x % ATOMS;
    if (i >= n_atoms) return;
    const Densities<S> A{const_cast<real<S>*>(density) + i, density_stride, density_plane, n_moments};
    const int step = (l_max + 1) * n_radial * FEATURES;
    for (int m = threadIdx.x / ATOMS * FEATURES; m < n_features; m += CONTRACT_WARPS * FEATURES) {
        S total[FEATURES] = {};
        for (int group = 0; group < groups_of(l_max); ++group) {
            S P[FEATURES][3];
            const real<H>* h = hyper + m / FEATURES * step + group_degree[group] * n_radial * FEATURES;
            project<S, H>(P, A, h, hyper_plane, group, n_radial);
            const real<S> w = real<S>(group_weight[group]);
#pragma unroll
            for (int u = 0; u < FEATURES; ++u)
                total[u] += (P[u][0] * P[u][0] + P[u][1] * P[u][1] + P[u][2] * P[u][2]) * w;
        }
#pragma unroll
        for (int u = 0; u < FEATURES; ++u)
            if (m + u < n_features) store(q, (m + u) * q_stride + i, n_features * q_stride, total[u]);
    }
}

// Pullback of ed_contract to the densities of all atoms: a lane an atom, a warp a group of monomials and a
// slab of radial functions, whose sums over all features it keeps.
template <typename S, typename H>
__global__ void __launch_bounds__(ATOMS * CONTRACT_WARPS, CONTRACT_BLOCKS)
ed_contract_pullback(
    long long n_atoms,
    const real<H>* __restrict__ hyper,    // (blocks of features, l_max + 1, n_radial, 4)
    const real<S>* __restrict__ density,  // (n_radial, n_moments, n_atoms)
    const real<S>* __restrict__ dq,       // (n_features, n_atoms)
    real<S>* __restrict__ ddensity,       // (n_radial, n_moments, n_atoms)
    long long density_stride,             // from row to row of density
    long long dq_stride,                  // from row to row of dq
    long long ddensity_stride,            // from row to row of ddensity
    long long density_plane,              // from values to tangents of density
    long long ddensity_plane,             // from values to tangents of ddensity
    long long hyper_plane,                // from values to tangents of hyper
    int n_radial,
    int l_max,
    int n_moments,
    int n_features
) {
    constexpr int SLAB = sizeof(S) > 8 ? 4 : 8;
    const long long i = (long long)blockIdx.x * ATOMS + threadIdx.x % ATOMS;
    if (i >= n_atoms) return;
    const Densities<S> A{const_cast<real<S>*>(density) + i, density_stride, density_plane, n_moments};
    const Densities<S> dA{ddensity + i, ddensity_stride, ddensity_plane, n_moments};
    const int step = (l_max + 1) * n_radial * FEATURES, n_groups = groups_of(l_max);
    const int jobs = n_groups * ((n_radial + SLAB - 1) / SLAB);
    for (int job = threadIdx.x / ATOMS; job < jobs; job += CONTRACT_WARPS) {
        const int group = job % n_groups, k0 = job / n_groups * SLAB;
        S sums[SLAB][3] = {};
        for (int m = 0; m < n_features; m += FEATURES) {
            S g[FEATURES][3];
            const real<H>* h = hyper + m / FEATURES * step + group_degree[group] * n_radial * FEATURES;
            project<S, H>(g, A, h, hyper_plane, group, n_radial);
            weigh_projection(g, dq + i, dq_stride, m, n_features, group);
#pragma unroll
            for (int k = 0; k < SLAB; ++k) {
                H factors[FEATURES];
                load_coefficients(factors, h, min(k0 + k, n_radial - 1) * FEATURES, hyper_plane);
#pragma unroll
                for (int u = 0; u < FEATURES; ++u)
#pragma unroll
                    for (int v = 0; v < 3; ++v) sums[k][v] += g[u][v] * factors[u];
            }
        }
#pragma unroll
        for (int k = 0; k < SLAB; ++k)
#pragma unroll
            for (int v = 0; v < 3; ++v)
                if (k0 + k < n_radial && v < size_of(group)) dA.set(k0 + k, group_moments[group][v], sums[k][v]);
    }
}

// Products of densities, summed over the monomials of a degree: a lane an atom, a warp every eighth product.
//     gram[(l, k, k')] = sum_c w_c A[k, c] A[k', c],   k <= k'
template <typename S>
__global__ void __launch_bounds__(ATOMS * CONTRACT_WARPS)
ed_gram(
    long long n_atoms,
    const real<S>* __restrict__ density,  // (n_radial, n_moments, n_atoms)
    real<S>* __restrict__ gram,           // ((l_max + 1) n_radial (n_radial + 1) / 2, n_atoms)
    long long density_stride,             // from row to row of density
    long long gram_stride,                // from row to row of gram
    long long density_plane,              // from values to tangents of density
    int n_radial,
    int l_max,
    int n_moments
) {
    const long long i = (long long)blockIdx.x * ATOMS + threadIdx.x % ATOMS;
    if (i >= n_atoms) return;
    const Densities<S> A{const_cast<real<S>*>(density) + i, density_stride, density_plane, n_moments};
    const int triangle = n_radial * (n_radial + 1) / 2, rows = (l_max + 1) * triangle;
    for (int row = threadIdx.x / ATOMS; row < rows; row += CONTRACT_WARPS) {
        const int l = row / triangle;
        int k = 0, k2 = row % triangle;
        while (k2 >= n_radial - k) k2 -= n_radial - k++;
        k2 += k;
        S sum = S(0);
        for (int group = 0; group < groups_of(l_max); ++group)
            if (group_degree[group] == l)
                for (int v = 0; v < size_of(group); ++v) {
                    const int c = group_moments[group][v];
                    sum += A.get(k, c) * A.get(k2, c) * real<S>(group_weight[group]);
                }
        store(gram, row * gram_stride + i, rows * gram_stride, sum);
    }
}

// One feature for each degree and radial function, of all atoms: a lane an atom.
template <typename S>
__global__ void __launch_bounds__(ATOMS * CONTRACT_WARPS)
ed_squares(
    long long n_atoms,
    const real<S>* __restrict__ density,  // (n_radial, n_moments, n_atoms)
    real<S>* __restrict__ q,              // ((l_max + 1) n_radial, n_atoms)
    long long density_stride,             // from row to row of density
    long long q_stride,                   // from row to row of q
    long long density_plane,              // from values to tangents of density
    int n_radial,
    int l_max,
    int n_moments
) {
    const long long i = (long long)blockIdx.x * ATOMS + threadIdx.x % ATOMS;
    if (i >= n_atoms) return;
    const Densities<S> A{const_cast<real<S>*>(density) + i, density_stride, density_plane, n_moments};
    for (int k = threadIdx.x / ATOMS; k < n_radial; k += CONTRACT_WARPS)
        for (int l = 0; l <= l_max; ++l) {
            S sum = S(0);
            for (int group = 0; group < groups_of(l_max); ++group)
                if (group_degree[group] == l)
                    for (int v = 0; v < size_of(group); ++v) {
                        const S x = A.get(k, group_moments[group][v]);
                        sum += x * x * real<S>(group_weight[group]);
                    }
            store(q, (l * n_radial + k) * q_stride + i, (l_max + 1) * n_radial * q_stride, sum);
        }
}

// Pullback of ed_squares.
template <typename S>
__global__ void __launch_bounds__(ATOMS * CONTRACT_WARPS)
ed_squares_pullback(
    long long n_atoms,
    const real<S>* __restrict__ density,  // (n_radial, n_moments, n_atoms)
    const real<S>* __restrict__ dq,       // ((l_max + 1) n_radial, n_atoms)
    real<S>* __restrict__ ddensity,       // (n_radial, n_moments, n_atoms)
    long long density_stride,             // from row to row of density
    long long dq_stride,                  // from row to row of dq
    long long ddensity_stride,            // from row to row of ddensity
    long long density_plane,              // from values to tangents of density
    long long ddensity_plane,             // from values to tangents of ddensity
    int n_radial,
    int l_max,
    int n_moments
) {
    const long long i = (long long)blockIdx.x * ATOMS + threadIdx.x % ATOMS;
    if (i >= n_atoms) return;
    const Densities<S> A{const_cast<real<S>*>(density) + i, density_stride, density_plane, n_moments};
    const Densities<S> dA{ddensity + i, ddensity_stride, ddensity_plane, n_moments};
    for (int k = threadIdx.x / ATOMS; k < n_radial; k += CONTRACT_WARPS)
        for (int group = 0; group < groups_of(l_max); ++group) {
            const long long at = (group_degree[group] * n_radial + k) * dq_stride + i;
            const S d = load<S>(dq, at, (l_max + 1) * n_radial * dq_stride) * real<S>(2 * group_weight[group]);
            for (int v = 0; v < size_of(group); ++v) {
                const int c = group_moments[group][v];
                dA.set(k, c, d * A.get(k, c));
            }
        }
}
