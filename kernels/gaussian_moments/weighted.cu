// Gaussian moments whose neighbours have weights: the pair loops of the recursion. Twins, with the formulas:
// fastdesc/descriptors/gaussian_moments/{channels,weights_pullback}.py.
//
// specialise gm_moments_by_channels<S, NR>           S: float, double, Dual<float>, Dual<double>; NR: 5
// specialise gm_moments_by_channels_pullback<S, NR>  S: float, double, Dual<float>; NR: 5
// specialise gm_moments_by_channels_pullback<S, NR>  S: Dual<double>; NR: 2
// specialise gm_beta_by_channels_pullback<S, NR>     S: float, double, Dual<float>, Dual<double>; NR: 5
// specialise gm_weights_pullback<S, NR>              S: float, double, Dual<float>, Dual<double>; NR: 5
// specialise gm_weights_sum<S>                       S: float, double, Dual<float>, Dual<double>
//
// A warp owns an atom, its lanes the pairs. Radial channels go in slabs of NR.
//
// Arrays with atoms or pairs last: element (.., n) of `x` is x[row * x_stride + n], its tangent x_plane further.
#include "gaussian_moments/pair_sums.cuh"

using namespace fd;

// Blocks that a multiprocessor must be able to hold: the most without spills. Unasked, ptxas aims higher and spills.
constexpr int PAIR_BLOCKS = 2, SUM_BLOCKS = 2;
constexpr int AT_ONCE = 2;  // iterations whose cotangents are in shared memory together

// The weights of neighbours, NR channels from `slab` on: of iteration t from 1 on, before it they are one.
template <typename S> struct Weights {
    const real<S>* weights;  // (iterations, rows, columns)
    long long plane, rows;
    int columns;

    template <int NR>
    __device__ __forceinline__ void multiply(S (&x)[NR], int t, int neighbour, int slab) const {
        if (t == 0) return;
        const real<S>* own = weights + ((t - 1) * rows + neighbour) * columns;
#pragma unroll
        for (int s = 0; s < NR; ++s) x[s] *= load<S>(own, min(slab + s, columns - 1), plane);
    }
};

template <typename S> struct GmMomentsByChannelsScalars {
    long long n_atoms;         // atoms that have results
    int iteration;             // number of weights, from 1 on; 0: none
    long long rij_stride;      // from row to row of rij
    long long moments_stride;  // from row to row of moments
    long long moments_plane;   // from values to tangents of moments
    long long weights_plane;   // from values to tangents of weights
    long long weights_rows;    // atoms of weights, ghosts too
    int columns;               // of a row of weights
    int n_species;             // elements
    int n_radial;              // radial channels
    int n_basis;               // radial basis functions
    int n_moments;             // monomials
    int basis;                 // which radial basis, as numbered in radial.cuh
    real<S> cutoff;            // Å
    real<S> r_min;             // Å
};

// Moments of all atoms, with the weights that an iteration made: blockIdx.y is a slab.
template <typename S, int NR>
__global__ void __launch_bounds__(PAIR_THREADS<S>, PAIR_BLOCKS)
gm_moments_by_channels(
    const long long* __restrict__ row,    // (n_atoms + 1,)
    const int* __restrict__ j,            // (n_pairs,)
    const int* __restrict__ species,      // (n_atoms,)
    const real<S>* __restrict__ rij,      // (3, n_pairs), Å
    const real<S>* __restrict__ beta,     // (n_species, n_species, n_radial, n_basis)
    const real<S>* __restrict__ weights,  // (iterations, weights_rows, columns)
    real<S>* __restrict__ moments,        // (n_radial, n_moments, n_atoms)
    const GmMomentsByChannelsScalars<S> given
) {
    FD_SHARED(S, tiles, [WARPS<S> * MOMENTS_TILE<NR>]);
    const Weights<S> of_neighbours{weights, given.weights_plane, given.weights_rows, given.columns};
    const int slab = blockIdx.y * NR;
    sum_moments<S, NR>(tiles, row, j, species, rij, beta, moments, given, given.moments_plane, slab,
                       [&](long long p, S(&R)[NR]) { of_neighbours.multiply(R, given.iteration, j[p], slab); });
}

template <typename S> struct GmMomentsByChannelsPullbackScalars {
    long long n_atoms;          // atoms that have results
    long long rij_stride;       // from row to row of rij
    long long dmoments_stride;  // from row to row of dmoments
    long long dmoments_plane;   // from values to tangents of dmoments
    long long drij_stride;      // from row to row of drij
    long long weights_plane;    // from values to tangents of weights
    long long weights_rows;     // atoms of weights, ghosts too
    int columns;                // of a row of weights
    int n_later;                // iterations after the first
    int n_species;              // elements
    int n_radial;               // radial channels
    int n_basis;                // radial basis functions
    int n_moments;              // monomials
    int basis;                  // which radial basis, as numbered in radial.cuh
    real<S> cutoff;             // Å
    real<S> r_min;              // Å
};

// Pullback of the moments of all iterations to the vectors of pairs: a lane a pair.
template <typename S, int NR>
__global__ void __launch_bounds__(PAIR_THREADS<S>, PAIR_BLOCKS)
gm_moments_by_channels_pullback(
    const long long* __restrict__ row,     // (n_atoms + 1,)
    const int* __restrict__ j,             // (n_pairs,)
    const int* __restrict__ species,       // (n_atoms,)
    const real<S>* __restrict__ rij,       // (3, n_pairs), Å
    const real<S>* __restrict__ beta,      // (n_species, n_species, n_radial, n_basis)
    const real<S>* __restrict__ weights,   // (iterations, weights_rows, columns)
    const real<S>* __restrict__ dmoments,  // (1 + iterations, n_radial, n_moments, n_atoms)
    real<S>* __restrict__ drij,            // (3, n_pairs), eV/Å
    const GmMomentsByChannelsPullbackScalars<S> given
) {
    FD_SHARED(S, dm, [AT_ONCE][WARPS<S>][N_MOMENTS * NR]);
    const int lane = threadIdx.x % 32, w = threadIdx.x / 32;
    const long long i0 = (long long)blockIdx.x * WARPS<S>;
    const Row own(row, species, i0 + w, given.n_atoms);
    const RadialBasis<real<S>> radial(given.basis, given.n_basis, given.cutoff, given.r_min);
    const Weights<S> of_neighbours{weights, given.weights_plane, given.weights_rows, given.columns};
    const long long of_iteration = given.n_radial * given.n_moments * given.dmoments_stride;

    for (int slab = 0; slab < given.n_radial; slab += NR)
        for (int t0 = 0; t0 <= given.n_later; t0 += AT_ONCE) {
            const int t1 = min(t0 + AT_ONCE, given.n_later + 1);
            __syncthreads();
            for (int t = t0; t < t1; ++t)
                stage_dmoments<S, NR>(dm[t - t0], dmoments + t * of_iteration, given, given.dmoments_plane, i0, slab);
            __syncthreads();
            for (long long p = own.begin + lane; p < own.end; p += 32) {
                Vector<S> dr = zeros<S, 3>();
                const Pair<S> pair(rij, given.rij_stride, p, given.cutoff);
                if (pair.inside) {
                    const int jp = j[p];
                    S R[NR], dR[NR];
                    const Coefficients<S, NR> coefficients(beta, given, slab, own.species, species[jp]);
                    radial_channels(radial, pair, coefficients, R, dR);
                    S slope = S(0);
                    Vector<S> g = zeros<S, 3>();
                    for (int t = t0; t < t1; ++t) {
                        S own_w[NR];
#pragma unroll
                        for (int s = 0; s < NR; ++s) own_w[s] = S(1);
                        of_neighbours.multiply(own_w, t, jp, slab);
                        const Vector<S> more = pull_monomials(pair.u, given.n_moments, [&](int c, S monomial) {
                            S f = S(0), df = S(0);
#pragma unroll
                            for (int s = 0; s < NR; ++s) {
                                const S D = own_w[s] * dm[t - t0][w][c * NR + s];
                                f += R[s] * D;
                                df += dR[s] * D;
                            }
                            slope += df * monomial;
                            return f;
                        });
#pragma unroll
                        for (int c = 0; c < 3; ++c) g[c] += more[c];
                    }
                    const S along = slope - dot(pair.u, g) * pair.per_d;
#pragma unroll
                    for (int c = 0; c < 3; ++c) dr[c] = pair.u[c] * along + g[c] * pair.per_d;
                }
#pragma unroll
                for (int c = 0; c < 3; ++c) {
                    const long long at = c * given.drij_stride + p, plane = 3 * given.drij_stride;
                    store(drij, at, plane, slab + t0 == 0 ? dr[c] : load<S>(drij, at, plane) + dr[c]);
                }
            }
        }
}

template <typename S> struct GmBetaByChannelsPullbackScalars {
    long long n_atoms;          // atoms that have results
    int atoms_per_warp;         // atoms that a warp adds up
    long long rij_stride;       // from row to row of rij
    long long dmoments_stride;  // from row to row of dmoments
    long long dmoments_plane;   // from values to tangents of dmoments
    long long weights_plane;    // from values to tangents of weights
    long long weights_rows;     // atoms of weights, ghosts too
    int columns;                // of a row of weights
    int n_later;                // iterations after the first
    int n_species;              // elements
    int n_radial;               // radial channels
    int n_basis;                // radial basis functions
    int n_moments;              // monomials
    int basis;                  // which radial basis, as numbered in radial.cuh
    real<S> cutoff;             // Å
    real<S> r_min;              // Å
};

// Pullback of the moments of all iterations to beta, as one partial sum a warp; grid and partial sums as of
// gm_beta_pullback in kernels/gaussian_moments/gaussian_moments.cu.
template <typename S, int NR>
__global__ void __launch_bounds__(PAIR_THREADS<S>, PAIR_BLOCKS)
gm_beta_by_channels_pullback(
    const long long* __restrict__ row,     // (n_atoms + 1,)
    const int* __restrict__ j,             // (n_pairs,)
    const int* __restrict__ species,       // (n_atoms,)
    const real<S>* __restrict__ rij,       // (3, n_pairs), Å
    const real<S>* __restrict__ weights,   // (iterations, weights_rows, columns)
    const real<S>* __restrict__ dmoments,  // (1 + iterations, n_radial, n_moments, n_atoms)
    real<S>* __restrict__ dbeta,           // (gridDim.x * WARPS, like beta), zero at the start
    const GmBetaByChannelsPullbackScalars<S> given
) {
    FD_SHARED(S, dm, [WARPS<S>][N_MOMENTS * NR]);
    FD_SHARED(S, tiles, [WARPS<S> * BETA_TILE<NR>]);
    const Weights<S> of_neighbours{weights, given.weights_plane, given.weights_rows, given.columns};
    const int slab = blockIdx.y * NR;
    const long long of_iteration = given.n_radial * given.n_moments * given.dmoments_stride;
    for (int t = 0; t <= given.n_later; ++t)
        sum_beta<S, NR>(dm, tiles, row, j, species, rij, dmoments + t * of_iteration, dbeta, given,
                        given.dmoments_plane,
                        [&](long long p, S(&h)[NR]) { of_neighbours.multiply(h, t, j[p], slab); });
}

template <typename S> struct GmWeightsPullbackScalars {
    long long n_atoms;          // atoms that have results
    long long rij_stride;       // from row to row of rij
    long long dmoments_stride;  // from row to row of dmoments
    long long dmoments_plane;   // from values to tangents of dmoments
    long long dpairs_plane;     // from values to tangents of dpairs
    int n_species;              // elements
    int n_radial;               // radial channels
    int n_basis;                // radial basis functions
    int n_moments;              // monomials
    int basis;                  // which radial basis, as numbered in radial.cuh
    real<S> cutoff;             // Å
    real<S> r_min;              // Å
};

// What each pair finds for the weights of its neighbour: a lane a pair.
//     h_s = R_s sum_c dM_sc m_c
template <typename S, int NR>
__global__ void __launch_bounds__(PAIR_THREADS<S>, PAIR_BLOCKS)
gm_weights_pullback(
    const long long* __restrict__ row,     // (n_atoms + 1,)
    const int* __restrict__ j,             // (n_pairs,)
    const int* __restrict__ species,       // (n_atoms,)
    const real<S>* __restrict__ rij,       // (3, n_pairs), Å
    const real<S>* __restrict__ beta,      // (n_species, n_species, n_radial, n_basis)
    const real<S>* __restrict__ dmoments,  // (n_radial, n_moments, n_atoms)
    real<S>* __restrict__ dpairs,          // (n_pairs, n_radial)
    const GmWeightsPullbackScalars<S> given
) {
    FD_SHARED(S, dm, [WARPS<S>][N_MOMENTS * NR]);
    const int lane = threadIdx.x % 32, w = threadIdx.x / 32;
    const long long i0 = (long long)blockIdx.x * WARPS<S>;
    const Row own(row, species, i0 + w, given.n_atoms);
    const RadialBasis<real<S>> radial(given.basis, given.n_basis, given.cutoff, given.r_min);

    for (int slab = 0; slab < given.n_radial; slab += NR) {
        __syncthreads();
        stage_dmoments<S, NR>(dm, dmoments, given, given.dmoments_plane, i0, slab);
        __syncthreads();
        for (long long p = own.begin + lane; p < own.end; p += 32) {
            S R[NR] = {}, h[NR] = {};
            const Pair<S> pair(rij, given.rij_stride, p, given.cutoff);
            if (pair.inside) {
                const Coefficients<S, NR> coefficients(beta, given, slab, own.species, species[j[p]]);
                radial_channels(radial, pair, coefficients, R);
                each_monomial(pair.u, given.n_moments, [&](int c, S monomial) {
#pragma unroll
                    for (int s = 0; s < NR; ++s) h[s] += dm[w][c * NR + s] * monomial;
                });
            }
#pragma unroll
            for (int s = 0; s < NR; ++s)
                if (slab + s < given.n_radial)
                    store(dpairs, p * given.n_radial + slab + s, given.dpairs_plane, h[s] * R[s]);
        }
    }
}

struct GmWeightsSumScalars {
    long long n_atoms;       // atoms that have results
    long long dpairs_plane;  // from values to tangents of dpairs
    long long dw_stride;     // from row to row of dw
    int n_radial;            // radial channels
};

// Cotangents of the weights of all atoms: a warp an atom, which finds its terms at the mirrors of its own pairs.
template <typename S>
__global__ void __launch_bounds__(PAIR_THREADS<S>, SUM_BLOCKS)
gm_weights_sum(
    const long long* __restrict__ row,   // (n_atoms + 1,)
    const int* __restrict__ mirror,      // (n_pairs,)
    const real<S>* __restrict__ dpairs,  // (n_pairs, n_radial)
    real<S>* __restrict__ dw,            // (n_radial, n_atoms)
    const GmWeightsSumScalars given
) {
    const int lane = threadIdx.x % 32;
    const long long i = (long long)blockIdx.x * WARPS<S> + threadIdx.x / 32;
    if (i >= given.n_atoms) return;
    for (int s = 0; s < given.n_radial; ++s) {
        S sum = S(0);
        for (long long p = row[i] + lane; p < row[i + 1]; p += 32)
            sum += load<S>(dpairs, (long long)mirror[p] * given.n_radial + s, given.dpairs_plane);
        sum = sum_lanes(sum, 1, 32);
        if (lane == 0) store(dw, s * given.dw_stride + i, given.n_radial * given.dw_stride, sum);
    }
}
