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
// A lane owns an atom. ed_contract and its pullback are small matrix products, of `hyper` with the densities of a block's
// atoms in shared memory; blocks of four features are shared out among the threads of an atom.
//
// Arrays with atoms or pairs last: element (.., n) of `x` is x[row * x_stride + n], its tangent x_plane further.
#include "embedded_density/density_products.cuh"

using namespace fd;

constexpr int ATOMS = 32, CONTRACT_WARPS = 8, CONTRACT_THREADS = 32 * CONTRACT_WARPS;
constexpr int CONTRACT_BLOCKS = 1;  // that a multiprocessor must be able to hold; unasked, ptxas aims higher and spills
template <typename S> constexpr int OWNERS = CONTRACT_THREADS / ROW_ATOMS<S>;  // threads that share an atom

struct EdContractScalars {
    long long n_atoms;         // atoms that have results
    long long density_stride;  // from row to row of density
    long long q_stride;        // from row to row of q
    long long density_plane;   // from values to tangents of density
    long long hyper_plane;     // from values to tangents of hyper
    int n_radial;              // radial functions
    int l_max;                 // highest degree of a monomial
    int n_moments;             // monomials
    int n_features;            // features
};

// Features of all atoms. Shared memory: 128 n_radial n_moments bytes.
template <typename S, typename H>
__global__ void __launch_bounds__(CONTRACT_THREADS, CONTRACT_BLOCKS)
ed_contract(
    const real<H>* __restrict__ hyper,    // (blocks of features, l_max + 1, n_radial, 4)
    const real<S>* __restrict__ density,  // (n_radial, n_moments, n_atoms)
    real<S>* __restrict__ q,              // (n_features, n_atoms)
    const EdContractScalars given
) {
    FD_DYNAMIC_SHARED(S, staged);
    const int a = threadIdx.x % ROW_ATOMS<S>, owner = threadIdx.x / ROW_ATOMS<S>;
    const long long i0 = (long long)blockIdx.x * ROW_ATOMS<S>, i = i0 + a;
    stage_densities<S, OWNERS<S>>(staged, density + i, given.density_stride, given.density_plane, i < given.n_atoms,
                                  given.n_radial, given.n_moments);
    if (i >= given.n_atoms) return;
    const int step = (given.l_max + 1) * given.n_radial * FEATURES;
    for (int m = owner * FEATURES; m < given.n_features; m += OWNERS<S> * FEATURES) {
        const real<H>* of_block = hyper + m / FEATURES * step;
        S total[FEATURES] = {};
        for (int group = 1; group < triples_end(given.l_max); ++group)
            add_squares<S, H, 3>(total, staged + a, of_block, given.hyper_plane, group, given.n_radial);
        for (int group = 0; group < groups_of(given.l_max); group += LONE_STEP)
            add_squares<S, H, 1>(total, staged + a, of_block, given.hyper_plane, group, given.n_radial);
#pragma unroll
        for (int u = 0; u < FEATURES; ++u)
            if (m + u < given.n_features)
                store(q, (m + u) * given.q_stride + i, given.n_features * given.q_stride, total[u]);
    }
}

struct EdContractPullbackScalars {
    long long n_atoms;          // atoms that have results
    long long density_stride;   // from row to row of density
    long long dq_stride;        // from row to row of dq
    long long ddensity_stride;  // from row to row of ddensity
    long long density_plane;    // from values to tangents of density
    long long ddensity_plane;   // from values to tangents of ddensity
    long long hyper_plane;      // from values to tangents of hyper
    int n_radial;               // radial functions
    int l_max;                  // highest degree of a monomial
    int n_moments;              // monomials
    int n_features;             // features
};

// Sums over all features for the N monomials of a group and SLAB radial functions from k0 on, of which each warp adds
// up its share and the block those of its warps, in their order; `partial` is (CONTRACT_WARPS, SLAB * N, ROW_ATOMS).
template <typename S, typename H, int N, int SLAB>
__device__ __forceinline__ void pull_group(S* partial, const S* own, const real<H>* hyper, const real<S>* dq,
                                           const Densities<S>& dA, const EdContractPullbackScalars& given,
                                           bool exists, int group, int k0) {
    constexpr int A = ROW_ATOMS<S>;
    const int a = threadIdx.x % A, owner = threadIdx.x / A, lane = threadIdx.x % 32, w = threadIdx.x / 32;
    const int n_radial = given.n_radial, step = (given.l_max + 1) * n_radial * FEATURES;
    S sums[SLAB][N] = {};
    for (int m = owner * FEATURES; m < given.n_features; m += OWNERS<S> * FEATURES) {
        S g[FEATURES][N];
        const real<H>* h = hyper + m / FEATURES * step + group_degree[group] * n_radial * FEATURES;
        project<S, H, N>(g, own, h, given.hyper_plane, group, n_radial);
        weigh_projection<S, N>(g, dq, given.dq_stride, m, given.n_features, group);
        h += k0 * FEATURES;
#pragma unroll
        for (int k = 0; k < SLAB; ++k) {
            if (k0 + k >= n_radial) break;
            H factors[FEATURES];
            load_coefficients(factors, h, k * FEATURES, given.hyper_plane);
#pragma unroll
            for (int u = 0; u < FEATURES; ++u)
#pragma unroll
                for (int v = 0; v < N; ++v) sums[k][v] += g[u][v] * factors[u];
        }
    }
    __syncthreads();  // the sums before these have been read
#pragma unroll
    for (int x = 0; x < SLAB * N; ++x) {
        const S sum = sum_lanes(sums[x / N][x % N], A, 32);
        if (lane < A) partial[(w * SLAB * N + x) * A + a] = sum;
    }
    __syncthreads();
#pragma unroll
    for (int x0 = 0; x0 < SLAB * N; x0 += OWNERS<S>) {
        const int x = x0 + owner, k = k0 + x / N;
        if (!exists || x >= SLAB * N || k >= n_radial) continue;
        S sum = partial[x * A + a];
#pragma unroll
        for (int other = 1; other < CONTRACT_WARPS; ++other) sum += partial[(other * SLAB * N + x) * A + a];
        dA.set(k, group_moments[group][x % N], sum);
    }
}

// Pullback of ed_contract to the densities of all atoms. Shared memory: 128 (n_radial n_moments + 192) bytes.
template <typename S, typename H>
__global__ void __launch_bounds__(CONTRACT_THREADS, CONTRACT_BLOCKS)
ed_contract_pullback(
    const real<H>* __restrict__ hyper,    // (blocks of features, l_max + 1, n_radial, 4)
    const real<S>* __restrict__ density,  // (n_radial, n_moments, n_atoms)
    const real<S>* __restrict__ dq,       // (n_features, n_atoms)
    real<S>* __restrict__ ddensity,       // (n_radial, n_moments, n_atoms)
    const EdContractPullbackScalars given
) {
    FD_DYNAMIC_SHARED(S, staged);
    constexpr int SLAB = sizeof(S) > 8 ? 4 : 8;
    const int a = threadIdx.x % ROW_ATOMS<S>;
    const long long i = (long long)blockIdx.x * ROW_ATOMS<S> + a;
    const bool exists = i < given.n_atoms;
    stage_densities<S, OWNERS<S>>(staged, density + i, given.density_stride, given.density_plane, exists,
                                  given.n_radial, given.n_moments);
    S* partial = staged + given.n_radial * given.n_moments * ROW_ATOMS<S>;
    const Densities<S> dA{ddensity + i, given.ddensity_stride, given.ddensity_plane, given.n_moments};
    const real<S>* own_dq = dq + (exists ? i : given.n_atoms - 1);
    for (int k0 = 0; k0 < given.n_radial; k0 += SLAB) {
        for (int group = 1; group < triples_end(given.l_max); ++group)
            pull_group<S, H, 3, SLAB>(partial, staged + a, hyper, own_dq, dA, given, exists, group, k0);
        for (int group = 0; group < groups_of(given.l_max); group += LONE_STEP)
            pull_group<S, H, 1, SLAB>(partial, staged + a, hyper, own_dq, dA, given, exists, group, k0);
    }
}

struct EdGramScalars {
    long long n_atoms;         // atoms that have results
    long long density_stride;  // from row to row of density
    long long gram_stride;     // from row to row of gram
    long long density_plane;   // from values to tangents of density
    int n_radial;              // radial functions
    int l_max;                 // highest degree of a monomial
    int n_moments;             // monomials
};

// Products of densities, summed over the monomials of a degree: a lane an atom, a warp every eighth product.
//     gram[(l, k, k')] = sum_c w_c A[k, c] A[k', c],   k <= k'
template <typename S>
__global__ void __launch_bounds__(ATOMS * CONTRACT_WARPS)
ed_gram(
    const real<S>* __restrict__ density,  // (n_radial, n_moments, n_atoms)
    real<S>* __restrict__ gram,           // ((l_max + 1) n_radial (n_radial + 1) / 2, n_atoms)
    const EdGramScalars given
) {
    const long long i = (long long)blockIdx.x * ATOMS + threadIdx.x % ATOMS;
    if (i >= given.n_atoms) return;
    const Densities<S> A{const_cast<real<S>*>(density) + i, given.density_stride, given.density_plane, given.n_moments};
    const int triangle = given.n_radial * (given.n_radial + 1) / 2, rows = (given.l_max + 1) * triangle;
    for (int row = threadIdx.x / ATOMS; row < rows; row += CONTRACT_WARPS) {
        const int l = row / triangle;
        int k = 0, k2 = row % triangle;
        while (k2 >= given.n_radial - k) k2 -= given.n_radial - k++;
        k2 += k;
        S sum = S(0);
        for (int group = 0; group < groups_of(given.l_max); ++group)
            if (group_degree[group] == l)
                for (int v = 0; v < size_of(group); ++v) {
                    const int c = group_moments[group][v];
                    sum += A.get(k, c) * A.get(k2, c) * real<S>(group_weight[group]);
                }
        store(gram, row * given.gram_stride + i, rows * given.gram_stride, sum);
    }
}

struct EdSquaresScalars {
    long long n_atoms;         // atoms that have results
    long long density_stride;  // from row to row of density
    long long q_stride;        // from row to row of q
    long long density_plane;   // from values to tangents of density
    int n_radial;              // radial functions
    int l_max;                 // highest degree of a monomial
    int n_moments;             // monomials
};

// One feature for each degree and radial function, of all atoms: a lane an atom.
template <typename S>
__global__ void __launch_bounds__(ATOMS * CONTRACT_WARPS)
ed_squares(
    const real<S>* __restrict__ density,  // (n_radial, n_moments, n_atoms)
    real<S>* __restrict__ q,              // ((l_max + 1) n_radial, n_atoms)
    const EdSquaresScalars given
) {
    const long long i = (long long)blockIdx.x * ATOMS + threadIdx.x % ATOMS;
    if (i >= given.n_atoms) return;
    const Densities<S> A{const_cast<real<S>*>(density) + i, given.density_stride, given.density_plane, given.n_moments};
    for (int k = threadIdx.x / ATOMS; k < given.n_radial; k += CONTRACT_WARPS)
        for (int l = 0; l <= given.l_max; ++l) {
            S sum = S(0);
            for (int group = 0; group < groups_of(given.l_max); ++group)
                if (group_degree[group] == l)
                    for (int v = 0; v < size_of(group); ++v) {
                        const S x = A.get(k, group_moments[group][v]);
                        sum += x * x * real<S>(group_weight[group]);
                    }
            store(q, (l * given.n_radial + k) * given.q_stride + i,
                  (given.l_max + 1) * given.n_radial * given.q_stride, sum);
        }
}

struct EdSquaresPullbackScalars {
    long long n_atoms;          // atoms that have results
    long long density_stride;   // from row to row of density
    long long dq_stride;        // from row to row of dq
    long long ddensity_stride;  // from row to row of ddensity
    long long density_plane;    // from values to tangents of density
    long long ddensity_plane;   // from values to tangents of ddensity
    int n_radial;               // radial functions
    int l_max;                  // highest degree of a monomial
    int n_moments;              // monomials
};

// Pullback of ed_squares.
template <typename S>
__global__ void __launch_bounds__(ATOMS * CONTRACT_WARPS)
ed_squares_pullback(
    const real<S>* __restrict__ density,  // (n_radial, n_moments, n_atoms)
    const real<S>* __restrict__ dq,       // ((l_max + 1) n_radial, n_atoms)
    real<S>* __restrict__ ddensity,       // (n_radial, n_moments, n_atoms)
    const EdSquaresPullbackScalars given
) {
    const long long i = (long long)blockIdx.x * ATOMS + threadIdx.x % ATOMS;
    if (i >= given.n_atoms) return;
    const Densities<S> A{const_cast<real<S>*>(density) + i, given.density_stride, given.density_plane, given.n_moments};
    const Densities<S> dA{ddensity + i, given.ddensity_stride, given.ddensity_plane, given.n_moments};
    for (int k = threadIdx.x / ATOMS; k < given.n_radial; k += CONTRACT_WARPS)
        for (int group = 0; group < groups_of(given.l_max); ++group) {
            const long long at = (group_degree[group] * given.n_radial + k) * given.dq_stride + i;
            const long long plane = (given.l_max + 1) * given.n_radial * given.dq_stride;
            const S d = load<S>(dq, at, plane) * real<S>(2 * group_weight[group]);
            for (int v = 0; v < size_of(group); ++v) {
                const int c = group_moments[group][v];
                dA.set(k, c, d * A.get(k, c));
            }
        }
}
