// Spline filters. Twins, with the formulas: fastdesc/descriptors/spline_filters/{features,pullback,parameters_pullback}.py.
//
// specialise sf_features<S, NB>             S: float, double, Dual<float>; NB: 1, 4, 8
// specialise sf_features<S, NB>             S: Dual<double>; NB: 1, 4
// specialise sf_pullback<S, NB>             S: float, double, Dual<float>; NB: 1, 4, 8
// specialise sf_pullback<S, NB>             S: Dual<double>; NB: 1, 4
// specialise sf_parameters_pullback<S, NB>  S: float, double, Dual<float>; NB: 1, 4, 8
// specialise sf_parameters_pullback<S, NB>  S: Dual<double>; NB: 1, 4
//
// A warp owns an atom. For pairs a lane takes a pair. For triplets a lane takes a neighbour j, and 32 neighbours k at a
// time are staged in shared memory, where all lanes read the same one. The pullbacks visit (j, k) and (k, j), so that
// every lane owns what it sums and nothing is added by atomics.
//
// Tables are (n_elements or pairs of elements, filters, pieces, 4). `knots` holds first knot, 1/dx, dx and number of
// knots of every group and element for pair filters, n_groups of equal size, then of every element and of every pair of
// elements for the filters of triplets. Arrays with atoms or pairs last: element (.., n) of
// `x` is x[row * x_stride + n].
#include "spline_filters/neighbours.cuh"

using namespace fd;

// Knots of the angular filters: one entry for all pairs of elements, or one for each.
template <typename S> struct AngularKnots {
    const real<S>* table;
    const bool alike;
    const Knots<real<S>> first;

    __device__ __forceinline__ AngularKnots(const real<S>* table, int alike)
        : table(table), alike(alike), first(table, 0) {}
    __device__ __forceinline__ Place<S> place(S cosine, int elements) const {
        return alike ? Place<S>(cosine, first) : Place<S>(cosine, Knots<real<S>>(table, elements));
    }
};

// From values to tangents of the table of angular filters; `given` are the scalars of a kernel.
template <typename Given> __device__ __forceinline__ long long angular_plane(const Given& given) {
    const long long n_element_pairs = (long long)given.n_elements * (given.n_elements + 1) / 2;
    return n_element_pairs * given.angular_pieces * room_for(given.n_triplet) * 4;
}

constexpr int BLOCKS = 2;  // that a multiprocessor must be able to hold: registers without spills

template <typename S> struct SfFeaturesScalars {
    long long n_atoms;       // atoms that have results
    long long rij_stride;    // from row to row of rij
    long long q_stride;      // from row to row of q
    int n_pair;              // pair filters
    int n_triplet;           // triplet filters
    int n_elements;          // elements that filters tell apart
    int n_groups;            // groups of pair filters, each with its knots
    int angles_alike;        // one set of angular knots for all pairs of elements
    int pair_pieces;         // pieces of a pair filter
    int radial_pieces;       // of a radial filter of triplets
    int angular_pieces;      // of an angular filter
    real<S> cutoff;          // Å
    real<S> triplet_cutoff;  // Å
};

// Features of all atoms: a warp an atom, blockIdx.y a slab of NB pair filters or, behind those, of triplets.
template <typename S, int NB>
__global__ void __launch_bounds__(PAIR_THREADS<S>, BLOCKS)
sf_features(
    const long long* __restrict__ row,    // (n_atoms + 1,)
    const int* __restrict__ j,            // (n_pairs,)
    const int* __restrict__ species,      // (n_atoms,)
    const real<S>* __restrict__ rij,      // (3, n_pairs), Å
    const real<S>* __restrict__ knots,    // (.., 4)
    const real<S>* __restrict__ pair,     // (n_elements, n_pair, pair_pieces, 4)
    const real<S>* __restrict__ radial,   // (n_elements, n_triplet, radial_pieces, 4)
    const real<S>* __restrict__ angular,  // (pairs of elements, angular_pieces, room_for(n_triplet), 4)
    real<S>* __restrict__ q,              // (n_pair + n_triplet, n_atoms)
    const SfFeaturesScalars<S> given
) {
    using Neighbours = CloseNeighbours<S, NB>;
    FD_SHARED(S, tiles, [WARPS<S>][Neighbours::VALUES]);
    FD_SHARED(int, marks, [WARPS<S>][Neighbours::MARKS]);
    const int lane = threadIdx.x % 32, w = threadIdx.x / 32;
    const int group = given.n_pair / given.n_groups, slabs = (group + NB - 1) / NB, pair_slabs = given.n_groups * slabs;
    const long long i = (long long)blockIdx.x * WARPS<S> + w;
    const Row own(row, species, i, given.n_atoms);
    const bool of_pairs = (int)blockIdx.y < pair_slabs;
    const int number = of_pairs ? (int)blockIdx.y : (int)blockIdx.y - pair_slabs;
    const int g = of_pairs ? number / slabs : 0, slab = of_pairs ? g * group + number % slabs * NB : number * NB;
    const int n = min(NB, (of_pairs ? (g + 1) * group : given.n_triplet) - slab);

    S sums[NB] = {};
    if (of_pairs) {
        const long long plane = (long long)given.n_elements * given.n_pair * given.pair_pieces * 4;
        for (long long p = own.begin + lane; p < own.end; p += 32) {
            const Pair<S> r(rij, given.rij_stride, p, given.cutoff);
            if (!r.inside) continue;
            const int z = given.n_elements > 1 ? species[j[p]] : 0;
            const Place<S> place(r.d, Knots<real<S>>(knots, g * given.n_elements + z));
#pragma unroll
            for (int b = 0; b < NB; ++b) {
                const int at = (z * given.n_pair + min(slab + b, given.n_pair - 1)) * given.pair_pieces + place.piece;
                sums[b] += Cubic<S>(pair, at, plane).value(place.t);
            }
        }
    } else {
        const real<S>* triplet_knots = knots + 4 * given.n_groups * given.n_elements;
        const AngularKnots<S> angles(triplet_knots + 4 * given.n_elements, given.angles_alike);
        const long long plane = angular_plane(given);
        const Neighbours others{own, j, species, rij, given.rij_stride, radial, triplet_knots, given.n_triplet,
                                given.n_elements, given.radial_pieces, given.angular_pieces, given.triplet_cutoff,
                                tiles[w], marks[w]};
        for (long long pj = own.begin; pj < own.end;) {
            long long pk = pj;
            const Close<S, NB> mine = others.take(pj, slab);
            const int own_slot = others.slot_of(mine);
            S s[NB] = {};
            while (pk < own.end) {
                const int count = others.stage(others.take(pk, slab));
                for (int k = 0; k < count; ++k) {
                    if (own_slot < 0 || others.slot(k) <= own_slot) continue;
                    const int elements = others.elements(mine.z, k);
                    const Place<S> place = angles.place(dot(mine.u, others.u(k)), elements);
                    const int piece = others.piece(elements, slab, place.piece);
#pragma unroll
                    for (int b = 0; b < NB; ++b) {
                        const Cubic<S> g(angular, piece + b, plane);
                        s[b] += g.value(place.t) * others.f(b, k);
                    }
                }
            }
#pragma unroll
            for (int b = 0; b < NB; ++b) sums[b] += mine.f[b] * s[b];
        }
    }
#pragma unroll
    for (int b = 0; b < NB; ++b) {
        const S sum = sum_lanes(sums[b], 1, 32);
        if (lane == b && b < n && i < given.n_atoms)
            store(q, ((of_pairs ? 0 : given.n_pair) + slab + b) * given.q_stride + i,
                  (given.n_pair + given.n_triplet) * given.q_stride, sum);
    }
}

// What pullbacks know of their atom's cotangents.
template <typename S> struct Cotangents {
    const real<S>* dq;
    long long at, stride, plane;

    __device__ __forceinline__ S operator[](int feature) const { return load<S>(dq, feature * stride + at, plane); }
};

template <typename S> struct SfPullbackScalars {
    long long n_atoms;       // atoms that have results
    long long rij_stride;    // from row to row of rij
    long long dq_stride;     // from row to row of dq
    long long drij_stride;   // from row to row of drij
    int n_pair;              // pair filters
    int n_triplet;           // triplet filters
    int n_elements;          // elements that filters tell apart
    int n_groups;            // groups of pair filters, each with its knots
    int angles_alike;        // one set of angular knots for all pairs of elements
    int pair_pieces;         // pieces of a pair filter
    int radial_pieces;       // of a radial filter of triplets
    int angular_pieces;      // of an angular filter
    real<S> cutoff;          // Å
    real<S> triplet_cutoff;  // Å
};

// Pullback of the features of all atoms to the vectors of their pairs: a warp an atom, a lane a neighbour.
template <typename S, int NB>
__global__ void __launch_bounds__(PAIR_THREADS<S>, BLOCKS)
sf_pullback(
    const long long* __restrict__ row,    // (n_atoms + 1,)
    const int* __restrict__ j,            // (n_pairs,)
    const int* __restrict__ species,      // (n_atoms,)
    const real<S>* __restrict__ rij,      // (3, n_pairs), Å
    const real<S>* __restrict__ knots,    // (.., 4)
    const real<S>* __restrict__ pair,     // (n_elements, n_pair, pair_pieces, 4)
    const real<S>* __restrict__ radial,   // (n_elements, n_triplet, radial_pieces, 4)
    const real<S>* __restrict__ angular,  // (pairs of elements, angular_pieces, room_for(n_triplet), 4)
    const real<S>* __restrict__ dq,       // (n_pair + n_triplet, n_atoms)
    real<S>* __restrict__ drij,           // (3, n_pairs), eV/Å
    const SfPullbackScalars<S> given
) {
    using Neighbours = CloseNeighbours<S, NB>;
    FD_SHARED(S, tiles, [WARPS<S>][Neighbours::VALUES]);
    FD_SHARED(int, marks, [WARPS<S>][Neighbours::MARKS]);
    const int lane = threadIdx.x % 32, w = threadIdx.x / 32;
    const long long i = (long long)blockIdx.x * WARPS<S> + w;
    const Row own(row, species, i, given.n_atoms);
    const Cotangents<S> d{dq, i, given.dq_stride, (given.n_pair + given.n_triplet) * given.dq_stride};
    const int group = given.n_pair / given.n_groups;
    const real<S>* triplet_knots = knots + 4 * given.n_groups * given.n_elements;
    const AngularKnots<S> angles(triplet_knots + 4 * given.n_elements, given.angles_alike);
    const long long pair_plane = (long long)given.n_elements * given.n_pair * given.pair_pieces * 4;
    const long long plane = angular_plane(given);

    const auto write = [&](long long p, const Vector<S>& u, S along, const Vector<S>& v) {
#pragma unroll
        for (int c = 0; c < 3; ++c) store(drij, c * given.drij_stride + p, 3 * given.drij_stride, u[c] * along + v[c]);
    };
    // sum_a d_a rho_a'
    const auto pair_slope = [&](const Pair<S>& r, long long p) {
        const int z = given.n_elements > 1 ? species[j[p]] : 0;
        S slope = S(0);
#pragma unroll 1
        for (int g = 0; g < given.n_groups; ++g) {
            const Place<S> place(r.d, Knots<real<S>>(knots, g * given.n_elements + z));
#pragma unroll 1
            for (int a = g * group; a < (g + 1) * group; ++a) {
                const int at = (z * given.n_pair + a) * given.pair_pieces + place.piece;
                slope += d[a] * Cubic<S>(pair, at, pair_plane).slope(place.t);
            }
        }
        return slope;
    };

    for (long long p = own.begin + lane; p < own.end; p += 32) {
        const Pair<S> r(rij, given.rij_stride, p, given.cutoff);
        if (given.n_triplet > 0 && value(r.d) < given.triplet_cutoff) continue;
        write(p, r.u, r.inside ? pair_slope(r, p) : S(0), zeros<S, 3>());
    }
    if (given.n_triplet == 0) return;
    const Neighbours others{own, j, species, rij, given.rij_stride, radial, triplet_knots, given.n_triplet,
                            given.n_elements, given.radial_pieces, given.angular_pieces, given.triplet_cutoff,
                            tiles[w], marks[w]};
    for (long long pj = own.begin; pj < own.end;) {
        const long long tile = pj;
        Vector<S> u = zeros<S, 3>(), v = zeros<S, 3>();
        S along = S(0), per_d = S(0);
        long long own_p = -1;
        for (int slab = 0; slab < given.n_triplet; slab += NB) {
            pj = tile;
            const Close<S, NB> mine = others.take(pj, slab);
            u = mine.u;
            per_d = mine.per_d;
            own_p = mine.p;
            S weights[NB], s[NB] = {};  // d_b f_bj; sum_k f_bk g_b
#pragma unroll
            for (int b = 0; b < NB; ++b)
                weights[b] = mine.p >= 0 && slab + b < given.n_triplet ? d[given.n_pair + slab + b] * mine.f[b] : S(0);
            const int own_slot = others.slot_of(mine);
            for (long long pk = own.begin; pk < own.end;) {
                const int count = others.stage(others.take(pk, slab));
                for (int k = 0; k < count; ++k) {
                    if (own_slot < 0 || others.slot(k) == own_slot) continue;
                    const Vector<S> uk = others.u(k);
                    const int elements = others.elements(mine.z, k);
                    const Place<S> place = angles.place(dot(u, uk), elements);
                    const int piece = others.piece(elements, slab, place.piece);
                    S e = S(0);
#pragma unroll
                    for (int b = 0; b < NB; ++b) {
                        const Cubic<S> g(angular, piece + b, plane);
                        const S f = others.f(b, k);
                        s[b] += f * g.value(place.t);
                        e += weights[b] * f * g.slope(place.t);
                    }
                    add_to(v, e, uk);
                }
            }
#pragma unroll
            for (int b = 0; b < NB; ++b)
                if (mine.p >= 0 && slab + b < given.n_triplet)
                    along += d[given.n_pair + slab + b] * s[b] * others.filter(mine, slab, b).slope(mine.place.t);
        }
        if (own_p < 0) continue;
#pragma unroll
        for (int c = 0; c < 3; ++c) v[c] = v[c] * per_d;
        along = along - dot(u, v);
        const Pair<S> r(rij, given.rij_stride, own_p, given.cutoff);
        write(own_p, u, along + pair_slope(r, own_p), v);
    }
}

template <typename S> struct SfParametersPullbackScalars {
    long long n_atoms;       // atoms that have results
    int atoms_per_warp;      // atoms that a warp adds up
    long long rij_stride;    // from row to row of rij
    long long dq_stride;     // from row to row of dq
    int n_pair;              // pair filters
    int n_triplet;           // triplet filters
    int n_elements;          // elements that filters tell apart
    int n_groups;            // groups of pair filters, each with its knots
    int angles_alike;        // one set of angular knots for all pairs of elements
    int pair_pieces;         // pieces of a pair filter
    int radial_pieces;       // of a radial filter of triplets
    int angular_pieces;      // of an angular filter
    real<S> cutoff;          // Å
    real<S> triplet_cutoff;  // Å
};

// Pullback of the features of all atoms to the tables, as one partial sum a warp. Each warp takes
// atoms_per_warp atoms and adds to its own row in their order, so that the sum over rows does not depend on scheduling.
// A lane owns filter lane / 4 of a slab and power lane % 4: what a tile of neighbours adds is shown to all through
// shared memory, and added one after the other.
template <typename S, int NB>
__global__ void __launch_bounds__(PAIR_THREADS<S>, BLOCKS)
sf_parameters_pullback(
    const long long* __restrict__ row,    // (n_atoms + 1,)
    const int* __restrict__ j,            // (n_pairs,)
    const int* __restrict__ species,      // (n_atoms,)
    const real<S>* __restrict__ rij,      // (3, n_pairs), Å
    const real<S>* __restrict__ knots,    // (.., 4)
    const real<S>* __restrict__ radial,   // (n_elements, n_triplet, radial_pieces, 4)
    const real<S>* __restrict__ angular,  // (pairs of elements, angular_pieces, room_for(n_triplet), 4)
    const real<S>* __restrict__ dq,       // (n_pair + n_triplet, n_atoms)
    real<S>* __restrict__ dpair,          // (rows, n_elements, pair_pieces, n_pair, 4), zero at the start
    real<S>* __restrict__ dradial,        // (rows, n_elements, radial_pieces, n_triplet, 4), zero at the start
    real<S>* __restrict__ dangular,       // (rows, pairs of elements, angular_pieces, n_triplet, 4), zero at the start
    const SfParametersPullbackScalars<S> given
) {
    using Neighbours = CloseNeighbours<S, NB>;
    FD_SHARED(S, tiles, [WARPS<S>][Neighbours::VALUES]);
    FD_SHARED(S, weights, [WARPS<S>][NB * 32]);
    FD_SHARED(S, coordinates, [WARPS<S>][32]);
    FD_SHARED(int, marks, [WARPS<S>][Neighbours::MARKS]);
    FD_SHARED(int, rows, [WARPS<S>][32]);
    const int lane = threadIdx.x % 32, w = threadIdx.x / 32, group = given.n_pair / given.n_groups;
    const real<S>* triplet_knots = knots + 4 * given.n_groups * given.n_elements;
    const int n_rows = gridDim.x * WARPS<S>, warp = blockIdx.x * WARPS<S> + w;
    const int own_b = lane / 4, own_q = lane % 4;

    // Add cotangent(n) t^q to row rows[n] of `table` (elements, pieces, filters, 4), filters slab .. end-1 as far as
    // they go, for all n in `all`.
    const auto scatter = [&](real<S>* table, long long n_table_rows, int n_filters, int slab, int end, unsigned all,
                             const auto& cotangent) {
        const long long size = n_table_rows * n_filters * 4, plane = n_rows * size;
        real<S>* mine = table + warp * size;
        __syncwarp();
        if (own_b < NB && slab + own_b < end)
            for (; all; all &= all - 1) {
                const int n = __ffs(all) - 1;
                const long long at = ((long long)rows[w][n] * n_filters + slab + own_b) * 4 + own_q;
                store(mine, at, plane, load<S>(mine, at, plane) + cotangent(n) * power(coordinates[w][n], own_q));
            }
        __syncwarp();
    };

    for (int a = 0; a < given.atoms_per_warp; ++a) {
        const long long i = ((long long)blockIdx.x * given.atoms_per_warp + a) * WARPS<S> + w;
        const Row own(row, species, i, given.n_atoms);
        const Cotangents<S> d{dq, i, given.dq_stride, (given.n_pair + given.n_triplet) * given.dq_stride};

        for (long long p0 = own.begin; p0 < own.end; p0 += 32) {
            const long long p = min(p0 + lane, own.end - 1);
            const Pair<S> r(rij, given.rij_stride, p, given.cutoff);
            const int z = given.n_elements > 1 ? species[j[p]] : 0;
            const unsigned all = __ballot_sync(WHOLE_WARP, p0 + lane < own.end && r.inside);
            for (int g = 0; g < given.n_groups; ++g) {
                const Place<S> place(r.d, Knots<real<S>>(knots, g * given.n_elements + z));
                rows[w][lane] = z * given.pair_pieces + place.piece;
                coordinates[w][lane] = place.t;
                const int end = (g + 1) * group;
                for (int slab = g * group; slab < end; slab += NB) {
                    const S weight = own_b < NB && slab + own_b < end ? d[slab + own_b] : S(0);
                    scatter(dpair, given.n_elements * given.pair_pieces, given.n_pair, slab, end, all,
                            [&](int) { return weight; });
                }
            }
        }

        const Neighbours others{own, j, species, rij, given.rij_stride, radial, triplet_knots, given.n_triplet,
                                given.n_elements, given.radial_pieces, given.angular_pieces, given.triplet_cutoff,
                                tiles[w], marks[w]};
        const int n_element_pairs = given.n_elements * (given.n_elements + 1) / 2;
        const long long plane = angular_plane(given);
        for (int slab = 0; slab < given.n_triplet; slab += NB)
            for (long long pj = own.begin; pj < own.end;) {
                const Close<S, NB> mine = others.take(pj, slab);
                const int own_slot = others.slot_of(mine);
                S s[NB] = {};
                __syncwarp();
#pragma unroll
                for (int b = 0; b < NB; ++b)
                    weights[w][b * 32 + lane] =
                        mine.p >= 0 && slab + b < given.n_triplet ? d[given.n_pair + slab + b] * mine.f[b] : S(0);
                for (long long pk = own.begin; pk < own.end;) {
                    const int count = others.stage(others.take(pk, slab));
                    for (int k = 0; k < count; ++k) {
                        const bool exists = own_slot >= 0 && others.slot(k) != own_slot;
                        if (exists) {
                            const int elements = others.elements(mine.z, k);
                            // Knots are loaded anew: there is no register left to keep them in.
                            const int entry = given.n_elements + (given.angles_alike ? 0 : elements);
                            const Knots<real<S>> own_knots(triplet_knots, entry);
                            const Place<S> place(dot(mine.u, others.u(k)), own_knots);
                            const int piece = others.piece(elements, slab, place.piece);
#pragma unroll
                            for (int b = 0; b < NB; ++b) {
                                const Cubic<S> g(angular, piece + b, plane);
                                s[b] += g.value(place.t) * others.f(b, k);
                            }
                            rows[w][lane] = elements * given.angular_pieces + place.piece;
                            coordinates[w][lane] = place.t;
                        }
                        const unsigned all = __ballot_sync(WHOLE_WARP, exists && others.slot(k) > own_slot);
                        if (all)
                            scatter(dangular, n_element_pairs * given.angular_pieces, given.n_triplet, slab,
                                    given.n_triplet, all, [&](int n) {
                                return weights[w][own_b * 32 + n] * others.f(own_b, k);
                            });
                    }
                }
                __syncwarp();
#pragma unroll
                for (int b = 0; b < NB; ++b)
                    weights[w][b * 32 + lane] =
                        mine.p >= 0 && slab + b < given.n_triplet ? d[given.n_pair + slab + b] * s[b] : S(0);
                rows[w][lane] = mine.z * given.radial_pieces + mine.place.piece;
                coordinates[w][lane] = mine.place.t;
                const unsigned all = __ballot_sync(WHOLE_WARP, mine.p >= 0);
                scatter(dradial, given.n_elements * given.radial_pieces, given.n_triplet, slab, given.n_triplet, all,
                        [&](int n) { return weights[w][own_b * 32 + n]; });
            }
    }
}
