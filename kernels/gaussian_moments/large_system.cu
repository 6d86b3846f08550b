// Gaussian moments of one large periodic cell in float32: a thread an atom. How it is launched, with the formulas:
// fastdesc/descriptors/gaussian_moments/large_system.py.
//
// specialise gm_large_moments
// specialise gm_large_gradients
// specialise gm_large_forces
//
// Atoms are sorted along a curve in space; 32 of them that follow one another are a slice, the atoms of a warp. The
// list is transposed within a slice: neighbour k of atom a is slot start[a / 32] + 32 k + a % 32, so that threads of
// a warp read and write side by side. Vectors of pairs are made where they are used and stored nowhere.
#include "gaussian_moments/large_places.cuh"
#include "tensors.cuh"

using namespace fd;

constexpr int NR = 5;  // radial channels in registers
// Blocks that a multiprocessor must be able to hold: the most without spills.
constexpr int SUM_BLOCKS = 3, FORCE_BLOCKS = 8;

struct alignas(16) Four { float x, y, z, w; };

// What belongs to the atom of a thread; no pairs where there is no such atom.
struct Own {
    Place place;
    int count;
    unsigned slot;  // of the first neighbour

    __device__ __forceinline__ Own(const int* counts, const long long* start, const int* places, long long a,
                                   long long end)
        : place{0, 0, 0, 0}, count(0), slot(0) {
        if (a >= end) return;
        place = reinterpret_cast<const Place*>(places)[a];
        count = counts[a];
        slot = first_slot(start, a);
    }
};

// Call visit(slot, vector) for all neighbours of an atom.
template <typename Visit>
__device__ __forceinline__ void each_neighbour(const Own& own, const Grid& grid, const int* neighbour,
                                               const int* places, Visit visit) {
    for (int k = 0; k < own.count; ++k) {
        const unsigned slot = own.slot + k * LANES;
        const Place other = reinterpret_cast<const Place*>(places)[neighbour[slot]];
        visit(slot, other.species, grid.between(own.place, other));
    }
}

// Radial channels of an element as cubics, NR of them side by side: (n_species, knots + 1, NR) Fours.
struct Table {
    const Four* at;
    int pieces;
    float per_knot;

    // Of an element in a slab of channels, in shared memory where that is to be staged; the whole block calls.
    __device__ __forceinline__ Table(Four* shared, const float* tables, int slab, int knots, int n, float per,
                                     bool staged, int species)
        : pieces(knots + 1), per_knot(per) {
        const int size = n * n * pieces * NR;
        at = reinterpret_cast<const Four*>(tables) + (long long)slab * size;
        if (staged) {
            __syncthreads();
            for (int x = threadIdx.x; x < size; x += ATOM_THREADS) shared[x] = at[x];
            __syncthreads();
            at = shared;
        }
        at += species * n * pieces * NR;
    }
    // The first of NR cubics of a neighbour's element at a distance, and how far behind its knot that is.
    __device__ __forceinline__ const Four* cubics(int species, float d, float& t) const {
        const float x = d * per_knot;
        const int p = (int)x;
        t = x - (float)p;
        return at + (species * pieces + p) * NR;
    }
};

__device__ __forceinline__ void clear(float (&x)[NR][N_MOMENTS]) {
#pragma unroll
    for (int s = 0; s < NR; ++s)
#pragma unroll
        for (int c = 0; c < N_MOMENTS; ++c) x[s][c] = 0.0f;
}

// Call visit(s, c, index) for all moments of a slab that exist, where they lie in an array of rows in column i.
template <typename Visit>
__device__ __forceinline__ void each_moment(int slab, int n_radial, int n_moments, int stride, int i, Visit visit) {
#pragma unroll
    for (int s = 0; s < NR; ++s) {
        if (slab * NR + s >= n_radial) break;
        const long long row = (long long)(slab * NR + s) * n_moments * stride + i;
#pragma unroll
        for (int c = 0; c < N_MOMENTS; ++c)
            if (c < n_moments) visit(s, c, row + c * stride);
    }
}

struct GmLargeMomentsScalars {
    long long n_atoms;   // atoms that have results
    long long first;     // first atom of the curve that has results
    int moments_stride;  // from row to row of moments
    int n_species;       // elements
    int n_radial;        // radial channels
    int n_moments;       // monomials
    int knots;           // pieces of a radial cubic
    float per_knot;      // 1/Å
    float cutoff;        // Å
    bool staged;         // tables in shared memory
};

// Moments of the atoms first .. first + n_atoms - 1 of the curve: blockIdx.y is a slab of NR channels.
__global__ void __launch_bounds__(ATOM_THREADS, SUM_BLOCKS)
gm_large_moments(
    const int* __restrict__ count,        // (n_all,): neighbours
    const long long* __restrict__ start,  // (n_slices + 1,)
    const int* __restrict__ neighbour,    // (n_slots,)
    const int* __restrict__ places,       // (n_all, 4)
    const int* __restrict__ column,       // (n_all,): of an atom among those of the array of moments
    const double* __restrict__ cell,      // (3, 3), Å
    const float* __restrict__ tables,     // (slabs, n_species, n_species, knots + 1, NR, 4)
    float* __restrict__ moments,          // (n_radial, n_moments, n_atoms)
    const GmLargeMomentsScalars given
) {
    FD_DYNAMIC_SHARED(Four, shared);
    const int i = blockIdx.x * ATOM_THREADS + threadIdx.x;
    const Own own(count, start, places, given.first + i, given.first + given.n_atoms);
    const Table table(shared, tables, blockIdx.y, given.knots, given.n_species, given.per_knot, given.staged,
                      own.place.species);
    const float square = given.cutoff * given.cutoff;
    float M[NR][N_MOMENTS];
    clear(M);
    each_neighbour(own, Grid(cell), neighbour, places, [&](unsigned, int z, Vector<float> r) {
        const float r2 = dot(r, r);
        if (r2 >= square) return;
        const float per_d = inverse_square_root(r2);
        float t, R[NR];
        const Four* cubic = table.cubics(z, r2 * per_d, t);
#pragma unroll
        for (int s = 0; s < NR; ++s) R[s] = ((cubic[s].w * t + cubic[s].z) * t + cubic[s].y) * t + cubic[s].x;
        each_monomial(Vector<float>{r[0] * per_d, r[1] * per_d, r[2] * per_d}, N_MOMENTS, [&](int c, float monomial) {
#pragma unroll
            for (int s = 0; s < NR; ++s) M[s][c] += R[s] * monomial;
        });
    });
    if (i >= given.n_atoms) return;
    each_moment(blockIdx.y, given.n_radial, given.n_moments, given.moments_stride, column[given.first + i],
                [&](int s, int c, long long at) { moments[at] = M[s][c]; });
}

struct GmLargeGradientsScalars {
    long long n_atoms;    // atoms that have results
    long long first;      // first atom of the curve that has results
    int dmoments_stride;  // from row to row of dmoments
    int n_species;        // elements
    int n_radial;         // radial channels
    int n_moments;        // monomials
    int knots;            // pieces of a radial cubic
    float per_knot;       // 1/Å
    float cutoff;         // Å
    bool staged;          // tables in shared memory
};

// Gradients of the energies of the atoms first .. first + n_atoms - 1 with respect to the vectors of their pairs.
__global__ void __launch_bounds__(ATOM_THREADS, SUM_BLOCKS)
gm_large_gradients(
    const int* __restrict__ count,        // (n_all,): neighbours
    const long long* __restrict__ start,  // (n_slices + 1,)
    const int* __restrict__ neighbour,    // (n_slots,)
    const int* __restrict__ places,       // (n_all, 4)
    const int* __restrict__ column,       // (n_all,): of an atom among those of the array of moments
    const double* __restrict__ cell,      // (3, 3), Å
    const float* __restrict__ tables,     // (slabs, n_species, n_species, knots + 1, NR, 4)
    const float* __restrict__ dmoments,   // (n_radial, n_moments, n_atoms)
    float* __restrict__ gradients,        // (n_slots, 4), eV/Å; the last number is zero
    const GmLargeGradientsScalars given
) {
    FD_DYNAMIC_SHARED(Four, shared);
    const int i = blockIdx.x * ATOM_THREADS + threadIdx.x;
    const Own own(count, start, places, given.first + i, given.first + given.n_atoms);
    const float square = given.cutoff * given.cutoff;
    for (int slab = 0; slab * NR < given.n_radial; ++slab) {
        const Table table(shared, tables, slab, given.knots, given.n_species, given.per_knot, given.staged,
                          own.place.species);
        float D[NR][N_MOMENTS];
        clear(D);
        if (i < given.n_atoms)
            each_moment(slab, given.n_radial, given.n_moments, given.dmoments_stride, column[given.first + i],
                        [&](int s, int c, long long at) { D[s][c] = dmoments[at]; });
        each_neighbour(own, Grid(cell), neighbour, places, [&](unsigned slot, int z, Vector<float> r) {
            Four dr = {0.0f, 0.0f, 0.0f, 0.0f};
            const float r2 = dot(r, r);
            if (r2 < square) {
                const float per_d = inverse_square_root(r2);
                const Vector<float> u = {r[0] * per_d, r[1] * per_d, r[2] * per_d};
                float t, R[NR], dR[NR], slope = 0.0f;
                const Four* cubic = table.cubics(z, r2 * per_d, t);
#pragma unroll
                for (int s = 0; s < NR; ++s) {
                    const Four a = cubic[s];
                    R[s] = ((a.w * t + a.z) * t + a.y) * t + a.x;
                    dR[s] = ((3.0f * a.w * t + 2.0f * a.z) * t + a.y) * given.per_knot;
                }
                const Vector<float> g = pull_monomials(u, N_MOMENTS, [&](int c, float monomial) {
                    float f = 0.0f, df = 0.0f;
#pragma unroll
                    for (int s = 0; s < NR; ++s) f += R[s] * D[s][c], df += dR[s] * D[s][c];
                    slope += df * monomial;
                    return f;
                });
                const float along = slope - dot(u, g) * per_d;
                dr = {u[0] * along + g[0] * per_d, u[1] * along + g[1] * per_d, u[2] * along + g[2] * per_d, 0.0f};
            }
            Four* out = reinterpret_cast<Four*>(gradients) + slot;
            if (slab > 0) dr.x += out->x, dr.y += out->y, dr.z += out->z;
            *out = dr;
        });
    }
}

// Forces on all atoms, in their own order, and one sum of virials a block.
__global__ void __launch_bounds__(ATOM_THREADS, FORCE_BLOCKS)
gm_large_forces(
    const int* __restrict__ count,          // (n_atoms,): neighbours
    const long long* __restrict__ start,    // (n_slices + 1,)
    const int* __restrict__ neighbour,      // (n_slots,)
    const unsigned* __restrict__ opposite,  // (n_slots,): slot of the mirror
    const int* __restrict__ places,         // (n_atoms, 4)
    const double* __restrict__ cell,        // (3, 3), Å
    const int* __restrict__ order,          // (n_atoms,): who is where on the curve
    const float* __restrict__ gradients,    // (n_slots, 4), eV/Å
    double* __restrict__ forces,            // (n_atoms, 3), eV/Å
    double* __restrict__ virials,           // (gridDim.x, 9), eV
    const GmLargeScalars given
) {
    FD_SHARED(double, sums, [ATOM_THREADS / LANES * 6]);
    const long long a = (long long)blockIdx.x * ATOM_THREADS + threadIdx.x;
    const Own own(count, start, places, a, given.n_atoms);
    const Four* dr = reinterpret_cast<const Four*>(gradients);
    double f[3] = {0.0, 0.0, 0.0};
    float w[6] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    each_neighbour(own, Grid(cell), neighbour, places, [&](unsigned slot, int, Vector<float> r) {
        const Four g = dr[slot], m = dr[opposite[slot]];
        // A pair and its mirror stay opposite to the last bit.
        f[0] += (double)(g.x - m.x), f[1] += (double)(g.y - m.y), f[2] += (double)(g.z - m.z);
        w[0] += r[0] * g.x, w[1] += r[1] * g.y, w[2] += r[2] * g.z;
        w[3] += 0.5f * (r[1] * g.z + r[2] * g.y), w[4] += 0.5f * (r[0] * g.z + r[2] * g.x);
        w[5] += 0.5f * (r[0] * g.y + r[1] * g.x);
    });
    if (a < given.n_atoms)
#pragma unroll
        for (int c = 0; c < 3; ++c) forces[3ll * order[a] + c] = f[c];
#pragma unroll
    for (int c = 0; c < 6; ++c) {
        const double sum = sum_lanes((double)w[c], 1, LANES);
        if (threadIdx.x % LANES == 0) sums[threadIdx.x / LANES * 6 + c] = sum;
    }
    __syncthreads();
    constexpr int VOIGT[9] = {0, 5, 4, 5, 1, 3, 4, 3, 2};    // xx yy zz yz xz xy
#pragma unroll
    for (int c = 0; c < 9; ++c)
        if (threadIdx.x == c) {
            double total = 0.0;
#pragma unroll
            for (int warp = 0; warp < ATOM_THREADS / LANES; ++warp) total += sums[warp * 6 + VOIGT[c]];
            virials[9ll * blockIdx.x + c] = total;
        }
}
