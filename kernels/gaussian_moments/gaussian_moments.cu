// Gaussian moments: the pair loops. Twins, with the formulas: fastdesc/descriptors/gaussian_moments/moments.py.
//
// specialise gm_moments<S, NR>            S: float, double, Dual<float>; NR: 4, 5, 8
// specialise gm_moments<S, NR>            S: Dual<double>; NR: 4, 5
// specialise gm_moments_pullback<S, NR>   S: float, double, Dual<float>, Dual<double>; NR: 4, 5, 8
// specialise gm_beta_pullback<S, NR>      S: float, double, Dual<float>, Dual<double>; NR: 4, 5, 8
// specialise gm_contract<S>               S: float, double, Dual<float>, Dual<double>
// specialise gm_contract_pullback<S>      S: float, double, Dual<float>, Dual<double>
//
// A warp owns an atom. Its lanes first take a pair each: distance, radial channels, monomials, so that nothing is
// computed twice; where sums over pairs follow, lanes then exchange these through shared memory and own sums instead.
// Radial channels go in slabs of NR, known at compile time, so that they stay in registers.
//
// Arrays with atoms or pairs last: element (.., n) of `x` is x[row * x_stride + n].
#include "common.cuh"
#include "gaussian_moments/contractions.cuh"
#include "gaussian_moments/pair_sums.cuh"

using namespace fd;

// Blocks that a multiprocessor must be able to hold: the most without spills. Unasked, ptxas aims higher and spills.
template <int NR> constexpr int MOMENTS_BLOCKS = NR < 5 ? 3 : 2;
constexpr int PULLBACK_BLOCKS = 2, CONTRACT_BLOCKS = 1;

template <typename S> struct GmMomentsScalars {
    long long n_atoms;         // atoms that have results
    long long rij_stride;      // from row to row of rij
    long long moments_stride;  // from row to row of moments
    int n_species;             // elements
    int n_radial;              // radial channels
    int n_basis;               // radial basis functions
    int n_moments;             // monomials
    int basis;                 // which radial basis, as numbered in radial.cuh
    real<S> cutoff;            // Å
    real<S> r_min;             // Å
};

// Moments of all atoms: a warp an atom, blockIdx.y a slab of NR channels.
template <typename S, int NR>
__global__ void __launch_bounds__(PAIR_THREADS<S>, MOMENTS_BLOCKS<NR>)
gm_moments(
    const long long* __restrict__ row,  // (n_atoms + 1,)
    const int* __restrict__ j,          // (n_pairs,)
    const int* __restrict__ species,    // (n_atoms,)
    const real<S>* __restrict__ rij,    // (3, n_pairs), Å
    const real<S>* __restrict__ beta,   // (n_species, n_species, n_radial, n_basis)
    real<S>* __restrict__ moments,      // (n_radial, n_moments, n_atoms)
    const GmMomentsScalars<S> given
) {
    FD_SHARED(S, tiles, [WARPS<S> * MOMENTS_TILE<NR>]);
    const long long plane = given.n_radial * given.n_moments * given.moments_stride;
    sum_moments<S, NR>(tiles, row, j, species, rij, beta, moments, given, plane, blockIdx.y * NR,
                       [](long long, S(&)[NR]) {});
}

template <typename S> struct GmMomentsPullbackScalars {
    long long n_atoms;          // atoms that have results
    long long rij_stride;       // from row to row of rij
    long long dmoments_stride;  // from row to row of dmoments
    long long drij_stride;      // from row to row of drij
    int n_species;              // elements
    int n_radial;               // radial channels
    int n_basis;                // radial basis functions
    int n_moments;              // monomials
    int basis;                  // which radial basis, as numbered in radial.cuh
    real<S> cutoff;             // Å
    real<S> r_min;              // Å
};

// Pullback of the moments of all atoms to the vectors of their pairs: a warp an atom, a lane a pair.
//     dr = u sum_c m_c sum_s R'_s dM_sc + (1 - u u) sum_c (dm_c/du) sum_s R_s dM_sc / d
template <typename S, int NR>
__global__ void __launch_bounds__(PAIR_THREADS<S>, PULLBACK_BLOCKS)
gm_moments_pullback(
    const long long* __restrict__ row,     // (n_atoms + 1,)
    const int* __restrict__ j,             // (n_pairs,)
    const int* __restrict__ species,       // (n_atoms,)
    const real<S>* __restrict__ rij,       // (3, n_pairs), Å
    const real<S>* __restrict__ beta,      // (n_species, n_species, n_radial, n_basis)
    const real<S>* __restrict__ dmoments,  // (n_radial, n_moments, n_atoms)
    real<S>* __restrict__ drij,            // (3, n_pairs), eV/Å
    const GmMomentsPullbackScalars<S> given
) {
    FD_SHARED(S, dm, [WARPS<S>][N_MOMENTS * NR]);
    const int lane = threadIdx.x % 32, w = threadIdx.x / 32;
    const long long i0 = (long long)blockIdx.x * WARPS<S>, i = i0 + w;
    const Row own(row, species, i, given.n_atoms);
    const RadialBasis<real<S>> radial(given.basis, given.n_basis, given.cutoff, given.r_min);

    for (int slab = 0; slab < given.n_radial; slab += NR) {
        __syncthreads();
        stage_dmoments<S, NR>(dm, dmoments, given, given.n_radial * given.n_moments * given.dmoments_stride, i0, slab);
        __syncthreads();
        for (long long p = own.begin + lane; p < own.end; p += 32) {
            Vector<S> dr = zeros<S, 3>();
            const Pair<S> pair(rij, given.rij_stride, p, given.cutoff);
            if (pair.inside) {
                S R[NR], dR[NR];
                const Coefficients<S, NR> coefficients(beta, given, slab, own.species, species[j[p]]);
                radial_channels(radial, pair, coefficients, R, dR);
                S slope = S(0);  // sum_c m_c sum_s R'_s dM_sc
                const Vector<S> g = pull_monomials(pair.u, given.n_moments, [&](int c, S monomial) {
                    S f = S(0), df = S(0);
#pragma unroll
                    for (int s = 0; s < NR; ++s) {
                        f += R[s] * dm[w][c * NR + s];
                        df += dR[s] * dm[w][c * NR + s];
                    }
                    slope += df * monomial;
                    return f;
                });
                const S along = slope - dot(pair.u, g) * pair.per_d;
#pragma unroll
                for (int c = 0; c < 3; ++c) dr[c] = pair.u[c] * along + g[c] * pair.per_d;
            }
#pragma unroll
            for (int c = 0; c < 3; ++c) {
                const long long at = c * given.drij_stride + p, plane = 3 * given.drij_stride;
                store(drij, at, plane, slab == 0 ? dr[c] : load<S>(drij, at, plane) + dr[c]);
            }
        }
    }
}

template <typename S> struct GmBetaPullbackScalars {
    long long n_atoms;          // atoms that have results
    int atoms_per_warp;         // atoms that a warp adds up
    long long rij_stride;       // from row to row of rij
    long long dmoments_stride;  // from row to row of dmoments
    int n_species;              // elements
    int n_radial;               // radial channels
    int n_basis;                // radial basis functions
    int n_moments;              // monomials
    int basis;                  // which radial basis, as numbered in radial.cuh
    real<S> cutoff;             // Å
    real<S> r_min;              // Å
};

// Pullback of the moments of all atoms to beta, as one partial sum a warp; blockIdx.y is a slab of NR
// channels, blockIdx.z one of 16 basis functions. Each warp takes atoms_per_warp atoms and adds to its own row of
// dbeta in their order, so that the sum over rows does not depend on scheduling.
//     dbeta_{Zi,Zj,s,b} = sum_p e_b h_s,   h_s = sum_c dM_sc m_c
template <typename S, int NR>
__global__ void __launch_bounds__(PAIR_THREADS<S>, PULLBACK_BLOCKS)
gm_beta_pullback(
    const long long* __restrict__ row,     // (n_atoms + 1,)
    const int* __restrict__ j,             // (n_pairs,)
    const int* __restrict__ species,       // (n_atoms,)
    const real<S>* __restrict__ rij,       // (3, n_pairs), Å
    const real<S>* __restrict__ dmoments,  // (n_radial, n_moments, n_atoms)
    real<S>* __restrict__ dbeta,           // (gridDim.x * WARPS, like beta), zero at the start
    const GmBetaPullbackScalars<S> given
) {
    FD_SHARED(S, dm, [WARPS<S>][N_MOMENTS * NR]);
    FD_SHARED(S, tiles, [WARPS<S> * BETA_TILE<NR>]);
    const long long plane = given.n_radial * given.n_moments * given.dmoments_stride;
    sum_beta<S, NR>(dm, tiles, row, j, species, rij, dmoments, dbeta, given, plane, [](long long, S(&)[NR]) {});
}

// The contraction kernels share out an atom's jobs, a rank and a channel each, among the warps of its block.
constexpr int CONTRACT_THREADS = 256;

struct GmContractScalars {
    long long n_atoms;         // atoms that have results
    long long moments_stride;  // from row to row of moments
    long long q_stride;        // from row to row of q
    int n_radial;              // radial channels
    int n_moments;             // monomials
    int n_features;            // features
    int o1;                    // first feature of contraction 1, -1 if left out
    int o2;                    // likewise, of the others
    int o3;
    int o4;
    int o5;
    int o6;
    int o7;
    int o8;
};

// Invariants of all atoms. Shared memory: 128 n_radial n_moments bytes.
template <typename S>
__global__ void __launch_bounds__(CONTRACT_THREADS, CONTRACT_BLOCKS)
gm_contract(
    const real<S>* __restrict__ moments,  // (n_radial, n_moments, n_atoms)
    real<S>* __restrict__ q,              // (n_features, n_atoms)
    const GmContractScalars given
) {
    FD_DYNAMIC_SHARED(S, shared);
    const long long i0 = (long long)blockIdx.x * ATOMS<S>, i = i0 + threadIdx.x % ATOMS<S>;
    const Moments<S> M = stage_moments(shared, moments, given.moments_stride, i0, given.n_atoms, given.n_radial,
                                       given.n_moments);
    if (i >= given.n_atoms) return;
    const Column<S> out(q, i, given.q_stride, given.n_features);
    const Offsets o{{0, given.o1, given.o2, given.o3, given.o4, given.o5, given.o6, given.o7, given.o8}};
    for (Jobs<S> jobs(4, given.n_radial); jobs.left(); jobs.next()) {
        switch (jobs.kind()) {
            case 0: contract_vectors(M, out, o, jobs.channel()); break;
            case 1: contract_matrices(M, out, o, jobs.channel()); break;
            case 2: contract_tensors(M, out, o, jobs.channel()); break;
            default: contract_mixed(M, out, o, jobs.channel());
        }
    }
}

struct GmContractPullbackScalars {
    long long n_atoms;          // atoms that have results
    long long moments_stride;   // from row to row of moments
    long long dq_stride;        // from row to row of dq
    long long dmoments_stride;  // from row to row of dmoments
    int n_radial;               // radial channels
    int n_moments;              // monomials
    int n_features;             // features
    int o1;                     // first feature of contraction 1, -1 if left out
    int o2;                     // likewise, of the others
    int o3;
    int o4;
    int o5;
    int o6;
    int o7;
    int o8;
};

// Pullback of the invariants of all atoms to their moments. Shared memory as gm_contract.
template <typename S>
__global__ void __launch_bounds__(CONTRACT_THREADS, CONTRACT_BLOCKS)
gm_contract_pullback(
    const real<S>* __restrict__ moments,  // (n_radial, n_moments, n_atoms)
    const real<S>* __restrict__ dq,       // (n_features, n_atoms)
    real<S>* __restrict__ dmoments,       // (n_radial, n_moments, n_atoms)
    const GmContractPullbackScalars given
) {
    FD_DYNAMIC_SHARED(S, shared);
    const long long i0 = (long long)blockIdx.x * ATOMS<S>, i = i0 + threadIdx.x % ATOMS<S>;
    const Moments<S> M = stage_moments(shared, moments, given.moments_stride, i0, given.n_atoms, given.n_radial,
                                       given.n_moments);
    if (i >= given.n_atoms) return;
    const Column<S> in(const_cast<real<S>*>(dq), i, given.dq_stride, given.n_features);
    const Column<S> dM(dmoments, i, given.dmoments_stride, given.n_radial * given.n_moments);
    const Offsets o{{0, given.o1, given.o2, given.o3, given.o4, given.o5, given.o6, given.o7, given.o8}};
    for (Jobs<S> jobs(3, given.n_radial); jobs.left(); jobs.next()) {
        switch (jobs.kind()) {
            case 0: pull_vectors(M, in, dM, o, jobs.channel()); break;
            case 1: pull_matrices(M, in, dM, o, jobs.channel()); break;
            default: pull_tensors(M, in, dM, o, jobs.channel());
        }
    }
}
