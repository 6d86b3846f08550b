// Embedded density, the pullback to the coefficients of the neighbours. Twins, with the formulas:
// fastdesc/descriptors/embedded_density/coefficients_pullback.py.
//
// specialise ed_coefficients_pullback<S>       S: float, double, Dual<float>, Dual<double>
// specialise ed_rows<S>                        S: float, double, Dual<float>, Dual<double>
//
// Arrays with atoms or pairs last: element (.., n) of `x` is x[row * x_stride + n], its tangent x_plane further.
#include "embedded_density/orbitals.cuh"

using namespace fd;

// Blocks that a multiprocessor must be able to hold: the most without spills. Unasked, ptxas aims higher and spills.
constexpr int PAIR_BLOCKS = 2, TURN_BLOCKS = 4;

template <typename S> struct EdCoefficientsPullbackScalars {
    long long n_atoms;         // atoms that have results
    long long rij_stride;      // from row to row of rij
    long long dc_stride;       // from row to row of dc
    long long ddensity_plane;  // from values to tangents of ddensity
    int n_species;             // elements
    int n_radial;              // radial functions
    int n_moments;             // monomials
    int terms;                 // monomials of a row, filled up
    int columns;               // radial functions of a row, filled up
    bool normalized;           // monomials are of unit vectors
    real<S> cutoff;            // Å
};

// Pullback of the densities to the coefficients of all atoms, which are the neighbours here: the pairs of an
// atom's own row are the mirrors of those in which it is one. blockIdx.y is a slab of eight radial functions.
// In the second half of a tile, a lane owns a radial function and every fourth monomial, so that the cotangents of a
// neighbour are read together.
template <typename S>
__global__ void __launch_bounds__(PAIR_THREADS<S>, PAIR_BLOCKS)
ed_coefficients_pullback(
    const long long* __restrict__ row,     // (n_atoms + 1,)
    const int* __restrict__ j,             // (n_pairs,)
    const int* __restrict__ species,       // (n_atoms,)
    const real<S>* __restrict__ rij,       // (3, n_pairs), Å
    const real<S>* __restrict__ alpha,     // (n_species, n_radial), 1/Å^2
    const real<S>* __restrict__ r_s,       // (n_species, n_radial), Å
    const real<S>* __restrict__ ddensity,  // (n_atoms + 1, terms, columns), as ed_rows writes it
    real<S>* __restrict__ dc,              // (n_radial, n_atoms)
    const EdCoefficientsPullbackScalars<S> given
) {
    constexpr int NR = COLUMNS, PARTS = 32 / NR;
    FD_SHARED(S, tiles, [WARPS<S> * TILE<NR>]);
    const int lane = threadIdx.x % 32, w = threadIdx.x / 32, k = lane % NR, part = lane / NR, slab = blockIdx.y * NR;
    const long long i = (long long)blockIdx.x * WARPS<S> + w;
    const Row own(row, species, i, given.n_atoms);
    const Orbitals<S> orbitals{alpha, r_s, given.n_species, given.n_radial, given.normalized, given.cutoff};
    S* channels = tiles + w * TILE<NR>;
    S* monomials = channels + NR * TILE_STRIDE;

    S sum = S(0);
    for (long long p0 = own.begin; p0 < own.end; p0 += 32) {
        S R[NR] = {};
        Vector<S> v = zeros<S, 3>();
        int jp = 0;
        if (p0 + lane < own.end) {
            const Pair<S> pair(rij, given.rij_stride, p0 + lane, given.cutoff);
            v = orbitals.vector(pair);
            jp = j[p0 + lane];
            if (pair.inside)
                orbitals.template each<NR>(pair, own.species, slab, [&](int s, S P, S, S) { R[s] = P; });
        }
#pragma unroll
        for (int s = 0; s < NR; ++s) channels[s * TILE_STRIDE + lane] = R[s];
        each_monomial(Vector<S>{-v[0], -v[1], -v[2]}, given.n_moments,
                      [&](int c, S monomial) { monomials[c * TILE_STRIDE + lane] = monomial; });
        __syncwarp();
        const int pairs = own.end - p0 < 32 ? (int)(own.end - p0) : 32;
        for (int q = 0; q < pairs; ++q) {
            const long long at = (long long)__shfl_sync(WHOLE_WARP, jp, q) * given.terms * given.columns + slab + k;
            S u = S(0);
            for (int c = part; c < given.n_moments; c += PARTS)
                u += monomials[c * TILE_STRIDE + q] * load<S>(ddensity, at + c * given.columns, given.ddensity_plane);
            sum += channels[k * TILE_STRIDE + q] * u;
        }
        __syncwarp();
    }
    sum = sum_lanes(sum, NR, 32);
    if (part == 0 && i < given.n_atoms && slab + k < given.n_radial)
        store(dc, (slab + k) * given.dc_stride + i, given.n_radial * given.dc_stride, sum);
}

// Turn an array like `density` into one that lies atom by atom: 32 atoms a block, in tiles of 32
// numbers each.
constexpr int TURN_THREADS = 256;
struct EdRowsScalars {
    long long n_atoms;         // atoms that have results
    long long density_stride;  // from row to row of density
    long long density_plane;   // from values to tangents of density
    long long rows_plane;      // from values to tangents of rows
    int n_radial;              // radial functions
    int n_moments;             // monomials
    int terms;                 // monomials of a row, filled up
    int columns;               // radial functions of a row, filled up
};

template <typename S>
__global__ void __launch_bounds__(TURN_THREADS, TURN_BLOCKS)
ed_rows(
    const real<S>* __restrict__ density,  // (n_radial, n_moments, n_atoms)
    real<S>* __restrict__ rows,           // (n_atoms + 1, terms, columns), zero at the start
    const EdRowsScalars given
) {
    FD_SHARED(S, tile, [32 * 33]);
    const long long i0 = (long long)blockIdx.x * 32;
    const int lane = threadIdx.x % 32, w = threadIdx.x / 32;
    for (int x0 = 0; x0 < given.n_moments * given.n_radial; x0 += 32) {  // x = c * n_radial + k
        for (int y = w; y < 32; y += TURN_THREADS / 32) {
            const int x = x0 + y, c = x / given.n_radial, k = x % given.n_radial;
            if (c < given.n_moments && i0 + lane < given.n_atoms)
                tile[y * 33 + lane] = load<S>(density, (k * given.n_moments + c) * given.density_stride + i0 + lane,
                                              given.density_plane);
        }
        __syncthreads();
        for (int y = w; y < 32; y += TURN_THREADS / 32) {
            const int x = x0 + lane, c = x / given.n_radial, k = x % given.n_radial;
            if (c < given.n_moments && i0 + y < given.n_atoms)
                store(rows, ((i0 + y) * given.terms + c) * given.columns + k, given.rows_plane, tile[lane * 33 + y]);
        }
        __syncthreads();
    }
}
