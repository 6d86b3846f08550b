// Embedded density, sums over pairs and their pullbacks to vectors and parameters. Twins, with the formulas:
// fastdesc/descriptors/embedded_density/{density,density_pullback}.py.
//
// specialise ed_density<S, NR>                 S: float, double, Dual<float>; NR: 4, 8
// specialise ed_density<S, NR>                 S: Dual<double>; NR: 4
// specialise ed_density_again<S, NR>           S: float, double, Dual<float>; NR: 4, 8
// specialise ed_density_again<S, NR>           S: Dual<double>; NR: 4
// specialise ed_density_pullback<S, NR>        S: float, double, Dual<float>; NR: 4, 8
// specialise ed_density_pullback<S, NR>        S: Dual<double>; NR: 4
// specialise ed_parameters_pullback<S, NR>     S: float, Dual<float>; NR: 4, 8
// specialise ed_parameters_pullback<S, NR>     S: double, Dual<double>; NR: 4
//
// A warp owns an atom. Radial functions go in slabs of NR, known at compile time, so that they stay in registers.
//
// Arrays with atoms or pairs last: element (.., n) of `x` is x[row * x_stride + n], its tangent x_plane further.
#include "embedded_density/orbitals.cuh"

using namespace fd;

// Blocks that a multiprocessor must be able to hold: the most without spills. Unasked, ptxas aims higher and spills.
constexpr int PAIR_BLOCKS = 2, PARAMETER_BLOCKS = 1;

// ------------------------------------------------------------------------------------------------------ densities

template <typename S> struct EdDensityScalars {
    long long n_atoms;         // atoms that have results
    long long rij_stride;      // from row to row of rij
    long long density_stride;  // from row to row of density
    long long density_plane;   // from values to tangents of density
    int n_species;             // elements
    int n_radial;              // radial functions
    int n_moments;             // monomials
    bool normalized;           // monomials are of unit vectors
    real<S> cutoff;            // Å
};

// Densities of all atoms, with the coefficients of the neighbours' elements: blockIdx.y is a slab.
template <typename S, int NR>
__global__ void __launch_bounds__(PAIR_THREADS<S>, PAIR_BLOCKS)
ed_density(
    const long long* __restrict__ row,         // (n_atoms + 1,)
    const int* __restrict__ j,                 // (n_pairs,)
    const int* __restrict__ species,           // (n_atoms,)
    const real<S>* __restrict__ rij,           // (3, n_pairs), Å
    const real<S>* __restrict__ alpha,         // (n_species, n_radial), 1/Å^2
    const real<S>* __restrict__ r_s,           // (n_species, n_radial), Å
    const real<S>* __restrict__ coefficients,  // (n_species, n_radial)
    real<S>* __restrict__ density,             // (n_radial, n_moments, n_atoms)
    const EdDensityScalars<S> given
) {
    FD_SHARED(S, tiles, [WARPS<S> * TILE<NR>]);
    const Orbitals<S> orbitals{alpha, r_s, given.n_species, given.n_radial, given.normalized, given.cutoff};
    const int slab = blockIdx.y * NR;
    sum_densities<S, NR>(tiles, row, j, species, rij, density, orbitals, slab, given, [&](long long, int z, S(&R)[NR]) {
#pragma unroll
                             for (int s = 0; s < NR; ++s) {
                                 const int k = min(slab + s, given.n_radial - 1);
                                 R[s] *= load<S>(coefficients, (long long)z * given.n_radial + k, orbitals.plane());
                             }
                         });
}

template <typename S> struct EdDensityAgainScalars {
    long long n_atoms;         // atoms that have results
    int iteration;             // which of c
    long long rij_stride;      // from row to row of rij
    long long density_stride;  // from row to row of density
    long long density_plane;   // from values to tangents of density
    long long c_plane;         // from values to tangents of c
    long long c_rows;          // atoms of c, ghosts too
    int n_species;             // elements
    int n_radial;              // radial functions
    int n_moments;             // monomials
    int columns;               // of a row of c, filled up
    bool normalized;           // monomials are of unit vectors
    real<S> cutoff;            // Å
};

// Densities of all atoms, with coefficients of the neighbours' own.
template <typename S, int NR>
__global__ void __launch_bounds__(PAIR_THREADS<S>, PAIR_BLOCKS)
ed_density_again(
    const long long* __restrict__ row,  // (n_atoms + 1,)
    const int* __restrict__ j,          // (n_pairs,)
    const int* __restrict__ species,    // (n_atoms,)
    const real<S>* __restrict__ rij,    // (3, n_pairs), Å
    const real<S>* __restrict__ alpha,  // (n_species, n_radial), 1/Å^2
    const real<S>* __restrict__ r_s,    // (n_species, n_radial), Å
    const real<S>* __restrict__ c,      // (iterations, c_rows, columns)
    real<S>* __restrict__ density,      // (n_radial, n_moments, n_atoms)
    const EdDensityAgainScalars<S> given
) {
    FD_SHARED(S, tiles, [WARPS<S> * TILE<NR>]);
    const Orbitals<S> orbitals{alpha, r_s, given.n_species, given.n_radial, given.normalized, given.cutoff};
    const int slab = blockIdx.y * NR;
    const real<S>* own = c + given.iteration * given.c_rows * given.columns + slab;  // columns are full slabs
    sum_densities<S, NR>(tiles, row, j, species, rij, density, orbitals, slab, given, [&](long long p, int, S(&R)[NR]) {
#pragma unroll
                             for (int s = 0; s < NR; ++s)
                                 R[s] *= load<S>(own, (long long)j[p] * given.columns + s, given.c_plane);
                         });
}

// ------------------------------------------------------------------------------------------ pullbacks to the pairs

template <typename S> struct EdDensityPullbackScalars {
    long long n_atoms;          // atoms that have results
    long long rij_stride;       // from row to row of rij
    long long ddensity_stride;  // from row to row of ddensity
    long long drij_stride;      // from row to row of drij
    long long ddensity_plane;   // from values to tangents of ddensity
    long long c_plane;          // from values to tangents of c
    long long c_rows;           // atoms of c, ghosts too
    int n_later;                // iterations after the first
    int n_species;              // elements
    int n_radial;               // radial functions
    int n_moments;              // monomials
    int columns;                // of a row of c, filled up
    bool normalized;            // monomials are of unit vectors
    real<S> cutoff;             // Å
};

// Pullback of the densities of all iterations, to the vectors of their pairs: a lane a pair.
template <typename S, int NR>
__global__ void __launch_bounds__(PAIR_THREADS<S>, PAIR_BLOCKS)
ed_density_pullback(
    const long long* __restrict__ row,         // (n_atoms + 1,)
    const int* __restrict__ j,                 // (n_pairs,)
    const int* __restrict__ species,           // (n_atoms,)
    const real<S>* __restrict__ rij,           // (3, n_pairs), Å
    const real<S>* __restrict__ alpha,         // (n_species, n_radial), 1/Å^2
    const real<S>* __restrict__ r_s,           // (n_species, n_radial), Å
    const real<S>* __restrict__ coefficients,  // (n_species, n_radial)
    const real<S>* __restrict__ c,             // (iterations, c_rows, columns)
    const real<S>* __restrict__ ddensity,      // (1 + iterations, n_radial, n_moments, n_atoms)
    real<S>* __restrict__ drij,                // (3, n_pairs), eV/Å
    const EdDensityPullbackScalars<S> given
) {
    FD_SHARED(S, staged, [WARPS<S> * AT_ONCE * N_MOMENTS * NR]);
    const int lane = threadIdx.x % 32, w = threadIdx.x / 32;
    const long long i0 = (long long)blockIdx.x * WARPS<S>;
    const Row own(row, species, i0 + w, given.n_atoms);
    const Orbitals<S> orbitals{alpha, r_s, given.n_species, given.n_radial, given.normalized, given.cutoff};
    const Coefficients_of<S> coefficients_of{coefficients, c, given.c_rows, given.c_plane,
                                              given.n_species, given.n_radial, given.columns};

    for (int slab = 0; slab < given.n_radial; slab += NR)
        for (int t0 = 0; t0 <= given.n_later; t0 += AT_ONCE) {
            const int t1 = min(t0 + AT_ONCE, given.n_later + 1);
            stage_cotangents<S, NR>(staged, ddensity, i0, slab, t0, t1, given);
            for (long long p = own.begin + lane; p < own.end; p += 32) {
                Vector<S> dr = zeros<S, 3>();
                const Pair<S> pair(rij, given.rij_stride, p, given.cutoff);
                if (pair.inside) {
                    const int jp = j[p], z = species[jp];
                    S P[NR], dP[NR];
                    const S fall = orbitals.template each<NR>(pair, z, slab, [&](int s, S value, S x, S a) {
                        P[s] = value;
                        dP[s] = a * x;
                    });
#pragma unroll
                    for (int s = 0; s < NR; ++s) dP[s] = (fall - dP[s] - dP[s]) * P[s];
                    const Vector<S> v = orbitals.vector(pair);
                    S slope = S(0);
                    Vector<S> g = zeros<S, 3>();
                    for (int t = t0; t < t1; ++t) {
                        const S* dA = staged + (w * AT_ONCE + t - t0) * N_MOMENTS * NR;
                        S own_c[NR];
                        coefficients_of(own_c, t, jp, z, slab);
                        const Vector<S> more = pull_monomials(v, given.n_moments, [&](int m, S monomial) {
                            S f = S(0), df = S(0);
#pragma unroll
                            for (int s = 0; s < NR; ++s) {
                                const S D = own_c[s] * dA[m * NR + s];
                                f += P[s] * D;
                                df += dP[s] * D;
                            }
                            slope += df * monomial;
                            return f;
                        });
#pragma unroll
                        for (int x = 0; x < 3; ++x) g[x] += more[x];
                    }
                    if (given.normalized) {
                        slope -= dot(pair.u, g) * pair.per_d;
#pragma unroll
                        for (int x = 0; x < 3; ++x) g[x] *= pair.per_d;
                    }
#pragma unroll
                    for (int x = 0; x < 3; ++x) dr[x] = pair.u[x] * slope + g[x];
                }
#pragma unroll
                for (int x = 0; x < 3; ++x) {
                    const long long at = x * given.drij_stride + p, plane = 3 * given.drij_stride;
                    store(drij, at, plane, slab + t0 == 0 ? dr[x] : load<S>(drij, at, plane) + dr[x]);
                }
            }
        }
}

template <typename S> struct EdParametersPullbackScalars {
    long long n_atoms;          // atoms that have results
    int atoms_per_warp;         // atoms that a warp adds up
    long long rij_stride;       // from row to row of rij
    long long ddensity_stride;  // from row to row of ddensity
    long long ddensity_plane;   // from values to tangents of ddensity
    long long c_plane;          // from values to tangents of c
    long long c_rows;           // atoms of c, ghosts too
    int n_later;                // iterations after the first
    int n_species;              // elements
    int n_radial;               // radial functions
    int n_moments;              // monomials
    int columns;                // of a row of c, filled up
    bool normalized;            // monomials are of unit vectors
    real<S> cutoff;             // Å
};

// Pullback of the densities of all iterations to alpha, r_s and coefficients, as one partial sum a warp: each takes
// atoms_per_warp atoms and adds to its own row of dparameters in their order, so that the sum over rows does not depend
// on scheduling. blockIdx.y is a slab of NR radial functions.
template <typename S, int NR>
__global__ void __launch_bounds__(PAIR_THREADS<S>, PARAMETER_BLOCKS)
ed_parameters_pullback(
    const long long* __restrict__ row,         // (n_atoms + 1,)
    const int* __restrict__ j,                 // (n_pairs,)
    const int* __restrict__ species,           // (n_atoms,)
    const real<S>* __restrict__ rij,           // (3, n_pairs), Å
    const real<S>* __restrict__ alpha,         // (n_species, n_radial), 1/Å^2
    const real<S>* __restrict__ r_s,           // (n_species, n_radial), Å
    const real<S>* __restrict__ coefficients,  // (n_species, n_radial)
    const real<S>* __restrict__ c,             // (iterations, c_rows, columns)
    const real<S>* __restrict__ ddensity,      // (1 + iterations, n_radial, n_moments, n_atoms)
    real<S>* __restrict__ dparameters,         // (gridDim.x * WARPS, 3, n_species, n_radial), zero at the start
    const EdParametersPullbackScalars<S> given
) {
    constexpr int W = WARPS<S>;
    FD_SHARED(S, staged, [W * AT_ONCE * N_MOMENTS * NR]);
    const int lane = threadIdx.x % 32, w = threadIdx.x / 32, slab = blockIdx.y * NR;
    const Orbitals<S> orbitals{alpha, r_s, given.n_species, given.n_radial, given.normalized, given.cutoff};
    const Coefficients_of<S> coefficients_of{coefficients, c, given.c_rows, given.c_plane,
                                              given.n_species, given.n_radial, given.columns};
    const long long table = 3LL * given.n_species * given.n_radial, plane = (long long)gridDim.x * W * table;
    real<S>* mine = dparameters + ((long long)blockIdx.x * W + w) * table;

    S sums[3][NR] = {};
    int current = -1;  // element of the neighbours that the sums are of
    const auto flush = [&]() {
#pragma unroll
        for (int which = 0; which < 3; ++which)
#pragma unroll
            for (int s = 0; s < NR; ++s) {
                const S sum = sum_lanes(sums[which][s], 1, 32);
                sums[which][s] = S(0);
                if (current >= 0 && lane == s && slab + s < given.n_radial) {
                    const long long at = (which * given.n_species + current) * given.n_radial + slab + s;
                    store(mine, at, plane, load<S>(mine, at, plane) + sum);
                }
            }
    };

    for (int a = 0; a < given.atoms_per_warp; ++a) {
        const long long i0 = ((long long)blockIdx.x * given.atoms_per_warp + a) * W;
        const Row own(row, species, i0 + w, given.n_atoms);
        for (int t0 = 0; t0 <= given.n_later; t0 += AT_ONCE) {
            const int t1 = min(t0 + AT_ONCE, given.n_later + 1);
            stage_cotangents<S, NR>(staged, ddensity, i0, slab, t0, t1, given);
            for (long long p0 = own.begin; p0 < own.end; p0 += 32) {
                const long long p = p0 + lane < own.end ? p0 + lane : own.end - 1;
                const Pair<S> pair(rij, given.rij_stride, p, given.cutoff);
                const bool counts = p0 + lane < own.end && pair.inside;
                const int jp = j[p], z = species[jp];
                const Vector<S> v = orbitals.vector(pair);
                S first_e[NR] = {}, e[NR] = {};  // sum_c dA^0 m_c; sum_t c^t sum_c dA^t m_c
                for (int t = t0; t < t1; ++t) {
                    const S* dA = staged + (w * AT_ONCE + t - t0) * N_MOMENTS * NR;
                    S h[NR] = {}, own_c[NR];
                    coefficients_of(own_c, t, jp, z, slab);
                    each_monomial(v, given.n_moments, [&](int m, S monomial) {
#pragma unroll
                        for (int s = 0; s < NR; ++s) h[s] += dA[m * NR + s] * monomial;
                    });
#pragma unroll
                    for (int s = 0; s < NR; ++s) {
                        e[s] += own_c[s] * h[s];
                        if (t == 0) first_e[s] = h[s];
                    }
                }
                S add[3][NR] = {};
                if (counts)
                    orbitals.template each<NR>(pair, z, slab, [&](int s, S P, S x, S a) {
                        const S Pe = P * e[s];
                        add[0][s] = -(x * x * Pe);
                        add[1][s] = a * x * Pe * real<S>(2);
                        add[2][s] = P * first_e[s];
                    });
                each_species(__ballot_sync(WHOLE_WARP, counts), z, [&](int element, unsigned) {
                    if (element != current) {
                        flush();
                        current = element;
                    }
                    if (counts && z == element) {
#pragma unroll
                        for (int which = 0; which < 3; ++which)
#pragma unroll
                            for (int s = 0; s < NR; ++s) sums[which][s] += add[which][s];
                    }
                });
            }
        }
    }
    flush();
}
