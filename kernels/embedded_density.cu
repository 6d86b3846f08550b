// Embedded density. Twins, with the formulas: fastdesc/descriptors/embedded_density_{pairs,pullbacks,mirror,contraction,
// contraction_pullbacks}.py.
//
// specialise ed_density<S, NR>                 S: float, double, Dual<float>; NR: 4, 8
// specialise ed_density<S, NR>                 S: Dual<double>; NR: 4
// specialise ed_density_again<S, NR>           S: float, double, Dual<float>; NR: 4, 8
// specialise ed_density_again<S, NR>           S: Dual<double>; NR: 4
// specialise ed_density_pullback<S, NR>        S: float, double, Dual<float>; NR: 4, 8
// specialise ed_density_pullback<S, NR>        S: Dual<double>; NR: 4
// specialise ed_coefficients_pullback<S>       S: float, double, Dual<float>, Dual<double>
// specialise ed_parameters_pullback<S, NR>     S: float, Dual<float>; NR: 4, 8
// specialise ed_parameters_pullback<S, NR>     S: double, Dual<double>; NR: 4
// specialise ed_rows<S>                        S: float, double, Dual<float>, Dual<double>
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
// A warp owns an atom where there are pairs, and a lane an atom where there are none. Radial functions go in slabs of
// NR, known at compile time, so that they stay in registers.
//
// Arrays with atoms or pairs last: element (.., n) of `x` is x[row * x_stride + n], its tangent x_plane further.
#include "density_products.cuh"
#include "orbitals.cuh"

using namespace fd;

// Blocks that a multiprocessor must be able to hold: the most without spills. Unasked, ptxas aims higher and spills.
constexpr int PAIR_BLOCKS = 2, PARAMETER_BLOCKS = 1, TURN_BLOCKS = 4, CONTRACT_BLOCKS = 1;

// ------------------------------------------------------------------------------------------------------ densities

// Densities of atoms first .. last-1, with the coefficients of the neighbours' elements: blockIdx.y is a slab.
//   in   row (n_atoms+1,), j (n_pairs,), species (n_atoms,), rij (3, n_pairs) Å,
//        alpha (1/Å^2), r_s (Å), coefficients (n_species, n_radial)
//   out  density (n_radial, n_moments, n_atoms)
template <typename S, int NR>
__global__ void __launch_bounds__(PAIR_THREADS<S>, PAIR_BLOCKS)
ed_density(long long first, long long last, const long long* __restrict__ row, const int* __restrict__ j,
           const int* __restrict__ species, const real<S>* __restrict__ rij, const real<S>* __restrict__ alpha,
           const real<S>* __restrict__ r_s, const real<S>* __restrict__ coefficients, real<S>* __restrict__ density,
           long long rij_stride, long long density_stride, long long density_plane, int n_species, int n_radial,
           int n_moments, bool normalized, real<S> cutoff) {
    FD_SHARED(S, tiles, [WARPS<S> * TILE<NR>]);
    const Orbitals<S> orbitals{alpha, r_s, n_species, n_radial, normalized, cutoff};
    const int slab = blockIdx.y * NR;
    sum_densities<S, NR>(tiles, first + (long long)blockIdx.x * WARPS<S>, last, row, j, species, rij, density, orbitals,
                         slab, rij_stride, density_stride, density_plane, n_moments, [&](long long, int z, S(&R)[NR]) {
#pragma unroll
                             for (int s = 0; s < NR; ++s) {
                                 const int k = min(slab + s, n_radial - 1);
                                 R[s] *= load<S>(coefficients, (long long)z * n_radial + k, orbitals.plane());
                             }
                         });
}

// Densities of atoms first .. last-1, with coefficients of the neighbours' own.
//   in   as ed_density; c (iterations, n_atoms, columns), of which this is number `iteration`
//   out  density (n_radial, n_moments, n_atoms)
template <typename S, int NR>
__global__ void __launch_bounds__(PAIR_THREADS<S>, PAIR_BLOCKS)
ed_density_again(long long first, long long last, const long long* __restrict__ row, const int* __restrict__ j,
                 const int* __restrict__ species, const real<S>* __restrict__ rij, const real<S>* __restrict__ alpha,
                 const real<S>* __restrict__ r_s, const real<S>* __restrict__ c, int iteration,
                 real<S>* __restrict__ density, long long rij_stride, long long density_stride,
                 long long density_plane, long long c_plane, long long n_atoms, int n_species, int n_radial,
                 int n_moments, int columns, bool normalized, real<S> cutoff) {
    FD_SHARED(S, tiles, [WARPS<S> * TILE<NR>]);
    const Orbitals<S> orbitals{alpha, r_s, n_species, n_radial, normalized, cutoff};
    const int slab = blockIdx.y * NR;
    const real<S>* own = c + iteration * n_atoms * columns + slab;  // columns are full slabs
    sum_densities<S, NR>(tiles, first + (long long)blockIdx.x * WARPS<S>, last, row, j, species, rij, density, orbitals,
                         slab, rij_stride, density_stride, density_plane, n_moments, [&](long long p, int, S(&R)[NR]) {
#pragma unroll
                             for (int s = 0; s < NR; ++s)
                                 R[s] *= load<S>(own, (long long)j[p] * columns + s, c_plane);
                         });
}

// ------------------------------------------------------------------------------------------ pullbacks to the pairs

// Pullback of the densities of all iterations, atoms first .. last-1, to the vectors of their pairs: a lane a pair.
//   in   as ed_density; c (iterations, n_atoms, columns); ddensity (1 + iterations, n_radial, n_moments, n_atoms)
//   out  drij (3, n_pairs)
template <typename S, int NR>
__global__ void __launch_bounds__(PAIR_THREADS<S>, PAIR_BLOCKS)
ed_density_pullback(long long first, long long last, const long long* __restrict__ row, const int* __restrict__ j,
                    const int* __restrict__ species, const real<S>* __restrict__ rij,
                    const real<S>* __restrict__ alpha, const real<S>* __restrict__ r_s,
                    const real<S>* __restrict__ coefficients, const real<S>* __restrict__ c,
                    const real<S>* __restrict__ ddensity, real<S>* __restrict__ drij, long long rij_stride,
                    long long ddensity_stride, long long drij_stride, long long ddensity_plane, long long c_plane,
                    long long n_atoms, int n_later, int n_species, int n_radial, int n_moments, int columns,
                    bool normalized, real<S> cutoff) {
    FD_SHARED(S, staged, [WARPS<S> * AT_ONCE * N_MOMENTS * NR]);
    const int lane = threadIdx.x % 32, w = threadIdx.x / 32;
    const long long i0 = first + (long long)blockIdx.x * WARPS<S>;
    const Row own(row, species, i0 + w, last);
    const Orbitals<S> orbitals{alpha, r_s, n_species, n_radial, normalized, cutoff};
    const Coefficients_of<S> coefficients_of{coefficients, c, n_atoms, c_plane, n_species, n_radial, columns};

    for (int slab = 0; slab < n_radial; slab += NR)
        for (int t0 = 0; t0 <= n_later; t0 += AT_ONCE) {
            const int t1 = min(t0 + AT_ONCE, n_later + 1);
            stage_cotangents<S, NR>(staged, ddensity, i0, last, slab, t0, t1, n_radial, n_moments, ddensity_stride,
                                    ddensity_plane);
            for (long long p = own.begin + lane; p < own.end; p += 32) {
                Vector<S> dr = zeros<S, 3>();
                const Pair<S> pair(rij, rij_stride, p, cutoff);
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
                        const Vector<S> more = pull_monomials(v, n_moments, [&](int m, S monomial) {
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
                    if (normalized) {
                        slope -= dot(pair.u, g) * pair.per_d;
#pragma unroll
                        for (int x = 0; x < 3; ++x) g[x] *= pair.per_d;
                    }
#pragma unroll
                    for (int x = 0; x < 3; ++x) dr[x] = pair.u[x] * slope + g[x];
                }
#pragma unroll
                for (int x = 0; x < 3; ++x) {
                    const long long at = x * drij_stride + p, plane = 3 * drij_stride;
                    store(drij, at, plane, slab + t0 == 0 ? dr[x] : load<S>(drij, at, plane) + dr[x]);
                }
            }
        }
}

// Pullback of the densities to the coefficients of atoms first .. last-1, which are the neighbours here: the pairs of an
// atom's own row are the mirrors of those in which it is one. blockIdx.y is a slab of eight radial functions.
// In the second half of a tile, a lane owns a radial function and every fourth monomial, so that the cotangents of a
// neighbour are read together.
//   in   as ed_density; ddensity (n_atoms + 1, 10 or 20, columns) as ed_rows writes it
//   out  dc (n_radial, n_atoms)
template <typename S>
__global__ void __launch_bounds__(PAIR_THREADS<S>, PAIR_BLOCKS)
ed_coefficients_pullback(long long first, long long last, const long long* __restrict__ row, const int* __restrict__ j,
                         const int* __restrict__ species, const real<S>* __restrict__ rij,
                         const real<S>* __restrict__ alpha, const real<S>* __restrict__ r_s,
                         const real<S>* __restrict__ ddensity, real<S>* __restrict__ dc, long long rij_stride,
                         long long dc_stride, long long ddensity_plane, int n_species, int n_radial, int n_moments,
                         int terms, int columns, bool normalized, real<S> cutoff) {
    constexpr int NR = COLUMNS, PARTS = 32 / NR;
    FD_SHARED(S, tiles, [WARPS<S> * TILE<NR>]);
    const int lane = threadIdx.x % 32, w = threadIdx.x / 32, k = lane % NR, part = lane / NR, slab = blockIdx.y * NR;
    const long long i = first + (long long)blockIdx.x * WARPS<S> + w;
    const Row own(row, species, i, last);
    const Orbitals<S> orbitals{alpha, r_s, n_species, n_radial, normalized, cutoff};
    S* channels = tiles + w * TILE<NR>;
    S* monomials = channels + NR * TILE_STRIDE;

    S sum = S(0);
    for (long long p0 = own.begin; p0 < own.end; p0 += 32) {
        S R[NR] = {};
        Vector<S> v = zeros<S, 3>();
        int jp = 0;
        if (p0 + lane < own.end) {
            const Pair<S> pair(rij, rij_stride, p0 + lane, cutoff);
            v = orbitals.vector(pair);
            jp = j[p0 + lane];
            if (pair.inside)
                orbitals.template each<NR>(pair, own.species, slab, [&](int s, S P, S, S) { R[s] = P; });
        }
#pragma unroll
        for (int s = 0; s < NR; ++s) channels[s * TILE_STRIDE + lane] = R[s];
        each_monomial(Vector<S>{-v[0], -v[1], -v[2]}, n_moments,
                      [&](int c, S monomial) { monomials[c * TILE_STRIDE + lane] = monomial; });
        __syncwarp();
        const int pairs = own.end - p0 < 32 ? (int)(own.end - p0) : 32;
        for (int q = 0; q < pairs; ++q) {
            const long long at = (long long)__shfl_sync(WHOLE_WARP, jp, q) * terms * columns + slab + k;
            S u = S(0);
            for (int c = part; c < n_moments; c += PARTS)
                u += monomials[c * TILE_STRIDE + q] * load<S>(ddensity, at + c * columns, ddensity_plane);
            sum += channels[k * TILE_STRIDE + q] * u;
        }
        __syncwarp();
    }
    sum = sum_lanes(sum, NR, 32);
    if (part == 0 && i < last && slab + k < n_radial) store(dc, (slab + k) * dc_stride + i, n_radial * dc_stride, sum);
}

// Pullback of the densities of all iterations to alpha, r_s and coefficients, as one partial sum a warp: each takes
// atoms_per_warp atoms and adds to its own row of dparameters in their order, so that the sum over rows does not depend
// on scheduling. blockIdx.y is a slab of NR radial functions.
//   in   as ed_density_pullback
//   out  dparameters (gridDim.x * WARPS, 3, n_species, n_radial), zero at the start
template <typename S, int NR>
__global__ void __launch_bounds__(PAIR_THREADS<S>, PARAMETER_BLOCKS)
ed_parameters_pullback(long long first, long long last, const long long* __restrict__ row, const int* __restrict__ j,
                       const int* __restrict__ species, const real<S>* __restrict__ rij,
                       const real<S>* __restrict__ alpha, const real<S>* __restrict__ r_s,
                       const real<S>* __restrict__ coefficients, const real<S>* __restrict__ c,
                       const real<S>* __restrict__ ddensity, real<S>* __restrict__ dparameters, int atoms_per_warp,
                       long long rij_stride, long long ddensity_stride, long long ddensity_plane, long long c_plane,
                       long long n_atoms, int n_later, int n_species, int n_radial, int n_moments, int columns,
                       bool normalized, real<S> cutoff) {
    constexpr int W = WARPS<S>;
    FD_SHARED(S, staged, [W * AT_ONCE * N_MOMENTS * NR]);
    const int lane = threadIdx.x % 32, w = threadIdx.x / 32, slab = blockIdx.y * NR;
    const Orbitals<S> orbitals{alpha, r_s, n_species, n_radial, normalized, cutoff};
    const Coefficients_of<S> coefficients_of{coefficients, c, n_atoms, c_plane, n_species, n_radial, columns};
    const long long table = 3LL * n_species * n_radial, plane = (long long)gridDim.x * W * table;
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
                if (current >= 0 && lane == s && slab + s < n_radial) {
                    const long long at = (which * n_species + current) * n_radial + slab + s;
                    store(mine, at, plane, load<S>(mine, at, plane) + sum);
                }
            }
    };

    for (int a = 0; a < atoms_per_warp; ++a) {
        const long long i0 = first + ((long long)blockIdx.x * atoms_per_warp + a) * W;
        const Row own(row, species, i0 + w, last);
        for (int t0 = 0; t0 <= n_later; t0 += AT_ONCE) {
            const int t1 = min(t0 + AT_ONCE, n_later + 1);
            stage_cotangents<S, NR>(staged, ddensity, i0, last, slab, t0, t1, n_radial, n_moments, ddensity_stride,
                                    ddensity_plane);
            for (long long p0 = own.begin; p0 < own.end; p0 += 32) {
                const long long p = p0 + lane < own.end ? p0 + lane : own.end - 1;
                const Pair<S> pair(rij, rij_stride, p, cutoff);
                const bool counts = p0 + lane < own.end && pair.inside;
                const int jp = j[p], z = species[jp];
                const Vector<S> v = orbitals.vector(pair);
                S first_e[NR] = {}, e[NR] = {};  // sum_c dA^0 m_c; sum_t c^t sum_c dA^t m_c
                for (int t = t0; t < t1; ++t) {
                    const S* dA = staged + (w * AT_ONCE + t - t0) * N_MOMENTS * NR;
                    S h[NR] = {}, own_c[NR];
                    coefficients_of(own_c, t, jp, z, slab);
                    each_monomial(v, n_moments, [&](int m, S monomial) {
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

// Turn an array like `density` into one that lies atom by atom, atoms first .. last-1: 32 atoms a block, in tiles of 32
// numbers each.
//   in   density (n_radial, n_moments, n_atoms)
//   out  rows (n_atoms + 1, terms, columns), zero at the start
constexpr int TURN_THREADS = 256;
template <typename S>
__global__ void __launch_bounds__(TURN_THREADS, TURN_BLOCKS)
ed_rows(long long first, long long last, const real<S>* __restrict__ density, real<S>* __restrict__ rows,
        long long density_stride, long long density_plane, long long rows_plane, int n_radial, int n_moments, int terms,
        int columns) {
    FD_SHARED(S, tile, [32 * 33]);
    const long long i0 = first + (long long)blockIdx.x * 32;
    const int lane = threadIdx.x % 32, w = threadIdx.x / 32;
    for (int x0 = 0; x0 < n_moments * n_radial; x0 += 32) {  // x = c * n_radial + k
        for (int y = w; y < 32; y += TURN_THREADS / 32) {
            const int x = x0 + y, c = x / n_radial, k = x % n_radial;
            if (c < n_moments && i0 + lane < last)
                tile[y * 33 + lane] = load<S>(density, (k * n_moments + c) * density_stride + i0 + lane, density_plane);
        }
        __syncthreads();
        for (int y = w; y < 32; y += TURN_THREADS / 32) {
            const int x = x0 + lane, c = x / n_radial, k = x % n_radial;
            if (c < n_moments && i0 + y < last)
                store(rows, ((i0 + y) * terms + c) * columns + k, rows_plane, tile[lane * 33 + y]);
        }
        __syncthreads();
    }
}

// ---------------------------------------------------------------------------------------------------- contraction

constexpr int ATOMS = 32, CONTRACT_WARPS = 8;

// Features of atoms first .. last-1: a lane an atom, a warp every eighth block of four features.
//   in   hyper (blocks of features, l_max + 1, n_radial, 4); density (n_radial, n_moments, n_atoms)
//   out  q (n_features, n_atoms)
template <typename S, typename H>
__global__ void __launch_bounds__(ATOMS * CONTRACT_WARPS)
ed_contract(long long first, long long last, const real<H>* __restrict__ hyper, const real<S>* __restrict__ density,
            real<S>* __restrict__ q, long long density_stride, long long q_stride, long long density_plane,
            long long hyper_plane, int n_radial, int l_max, int n_moments, int n_features) {
    const long long i = first + (long long)blockIdx.x * ATOMS + threadIdx.x % ATOMS;
    if (i >= last) return;
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

// Pullback of ed_contract to the densities of atoms first .. last-1: a lane an atom, a warp a group of monomials and a
// slab of radial functions, whose sums over all features it keeps.
//   in   hyper, density as for ed_contract; dq (n_features, n_atoms)
//   out  ddensity like density
template <typename S, typename H>
__global__ void __launch_bounds__(ATOMS * CONTRACT_WARPS, CONTRACT_BLOCKS)
ed_contract_pullback(long long first, long long last, const real<H>* __restrict__ hyper,
                     const real<S>* __restrict__ density, const real<S>* __restrict__ dq,
                     real<S>* __restrict__ ddensity, long long density_stride, long long dq_stride,
                     long long ddensity_stride, long long density_plane, long long ddensity_plane,
                     long long hyper_plane, int n_radial, int l_max, int n_moments, int n_features) {
    constexpr int SLAB = sizeof(S) > 8 ? 4 : 8;
    const long long i = first + (long long)blockIdx.x * ATOMS + threadIdx.x % ATOMS;
    if (i >= last) return;
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
//   in   density (n_radial, n_moments, n_atoms)
//   out  gram ((l_max + 1) n_radial (n_radial + 1) / 2, n_atoms)
template <typename S>
__global__ void __launch_bounds__(ATOMS * CONTRACT_WARPS)
ed_gram(long long first, long long last, const real<S>* __restrict__ density, real<S>* __restrict__ gram,
        long long density_stride, long long gram_stride, long long density_plane, int n_radial, int l_max,
        int n_moments) {
    const long long i = first + (long long)blockIdx.x * ATOMS + threadIdx.x % ATOMS;
    if (i >= last) return;
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

// One feature for each degree and radial function, of atoms first .. last-1: a lane an atom.
//   in   density (n_radial, n_moments, n_atoms)
//   out  q ((l_max + 1) n_radial, n_atoms)
template <typename S>
__global__ void __launch_bounds__(ATOMS * CONTRACT_WARPS)
ed_squares(long long first, long long last, const real<S>* __restrict__ density, real<S>* __restrict__ q,
           long long density_stride, long long q_stride, long long density_plane, int n_radial, int l_max,
           int n_moments) {
    const long long i = first + (long long)blockIdx.x * ATOMS + threadIdx.x % ATOMS;
    if (i >= last) return;
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
//   in   density (n_radial, n_moments, n_atoms), dq ((l_max + 1) n_radial, n_atoms)
//   out  ddensity like density
template <typename S>
__global__ void __launch_bounds__(ATOMS * CONTRACT_WARPS)
ed_squares_pullback(long long first, long long last, const real<S>* __restrict__ density,
                    const real<S>* __restrict__ dq, real<S>* __restrict__ ddensity, long long density_stride,
                    long long dq_stride, long long ddensity_stride, long long density_plane, long long ddensity_plane,
                    int n_radial, int l_max, int n_moments) {
    const long long i = first + (long long)blockIdx.x * ATOMS + threadIdx.x % ATOMS;
    if (i >= last) return;
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
