// Positions <-> pairs. Twins, with the formulas: fastdesc/geometry.py.
//
// specialise geometry_pair_vectors<T>    T: float, double
// specialise geometry_pair_tangents<T>   T: float, double
// specialise geometry_forces<T>          T: float, double
// specialise geometry_virials<T>         T: float, double
// specialise geometry_sum_frames
//
// A warp owns an atom, its lanes take the pairs of the row in turn: neighbouring lanes touch neighbouring pairs. Sums
// go over lanes in a fixed order and in float64; no atomics, so results repeat bit for bit.
//
// Arrays with atoms or pairs last: element (.., n) of `x` is x[row * x_stride + n].
#include "common.cuh"

using namespace fd;

__device__ __forceinline__ long long own_atom() {
    return (blockIdx.x * (long long)blockDim.x + threadIdx.x) / 32;
}

struct GeometryPairVectorsScalars {
    long long n_atoms;     // atoms that have results
    long long rij_stride;  // from row to row of rij
};

// Equation (1): r_p = x_j - x_i + shift_p·H, differences in float64.
template <typename T>
__global__ void geometry_pair_vectors(
    const long long* __restrict__ row,     // (n_atoms + 1,)
    const int* __restrict__ j,             // (n_pairs,)
    const int* __restrict__ shift,         // (n_pairs, 3)
    const int* __restrict__ frame,         // (n_atoms,)
    const double* __restrict__ positions,  // (n_atoms, 3), Å
    const double* __restrict__ cells,      // (n_frames, 3, 3), Å
    T* __restrict__ rij,                   // (3, n_pairs), Å
    const GeometryPairVectorsScalars given
) {
    const long long i = own_atom();
    if (i >= given.n_atoms) return;
    const double x[3] = {positions[3 * i], positions[3 * i + 1], positions[3 * i + 2]};
    const double* h = cells + 9 * frame[i];
    for (long long p = row[i] + threadIdx.x % 32; p < row[i + 1]; p += 32) {
        const long long n = j[p];
        const double s = shift[3 * p], t = shift[3 * p + 1], u = shift[3 * p + 2];
#pragma unroll
        for (int c = 0; c < 3; ++c)
            rij[c * given.rij_stride + p] = (T)(positions[3 * n + c] - x[c] + (s * h[c] + t * h[3 + c] + u * h[6 + c]));
    }
}

struct GeometryPairTangentsScalars {
    long long n_atoms;      // atoms that have results
    long long rij_stride;   // from row to row of rij
    long long trij_stride;  // from row to row of trij
};

// Equation (2): tr_p = rho_j - rho_i + r_p·strain[frame].
template <typename T>
__global__ void geometry_pair_tangents(
    const long long* __restrict__ row,  // (n_atoms + 1,)
    const int* __restrict__ j,          // (n_pairs,)
    const int* __restrict__ frame,      // (n_atoms,)
    const double* __restrict__ rho,     // (n_atoms, 3)
    const double* __restrict__ strain,  // (n_frames, 3, 3)
    const T* __restrict__ rij,          // (3, n_pairs), Å
    T* __restrict__ trij,               // (3, n_pairs)
    const GeometryPairTangentsScalars given
) {
    const long long i = own_atom();
    if (i >= given.n_atoms) return;
    const double own[3] = {rho[3 * i], rho[3 * i + 1], rho[3 * i + 2]};
    const double* e = strain + 9 * frame[i];
    for (long long p = row[i] + threadIdx.x % 32; p < row[i + 1]; p += 32) {
        const long long n = j[p];
        const double x = rij[p], y = rij[given.rij_stride + p], z = rij[2 * given.rij_stride + p];
#pragma unroll
        for (int c = 0; c < 3; ++c)
            trij[c * given.trij_stride + p] = (T)(rho[3 * n + c] - own[c] + (x * e[c] + y * e[3 + c] + z * e[6 + c]));
    }
}

struct GeometryForcesScalars {
    long long n_atoms;      // atoms that have results
    long long drij_stride;  // from row to row of drij
};

// Equation (3): F_i = sum over p in row i of (dr_p - dr_mirror(p)).
template <typename T>
__global__ void geometry_forces(
    const long long* __restrict__ row,  // (n_atoms + 1,)
    const int* __restrict__ mirror,     // (n_pairs,)
    const T* __restrict__ drij,         // (3, n_pairs), eV/Å
    double* __restrict__ out,           // (n_atoms, 3), eV/Å
    const GeometryForcesScalars given
) {
    const long long i = own_atom();
    double sums[3] = {0.0, 0.0, 0.0};
    if (i < given.n_atoms)
        for (long long p = row[i] + threadIdx.x % 32; p < row[i + 1]; p += 32) {
            const long long m = mirror[p];
#pragma unroll
            for (int c = 0; c < 3; ++c)
                sums[c] += (double)drij[c * given.drij_stride + p] - (double)drij[c * given.drij_stride + m];
        }
#pragma unroll
    for (int c = 0; c < 3; ++c) sums[c] = sum_lanes(sums[c], 1, 32);
    if (i < given.n_atoms && threadIdx.x % 32 < 3) {
        const int c = threadIdx.x % 32;
        out[3 * i + c] = c == 0 ? sums[0] : c == 1 ? sums[1] : sums[2];
    }
}

struct GeometryVirialsScalars {
    long long n_atoms;      // atoms that have results
    long long rij_stride;   // from row to row of rij
    long long drij_stride;  // from row to row of drij
    long long out_stride;   // from row to row of out
};

// Equation (4), the part of every row: sum over p of r_p (x) dr_p, symmetrised, all nine of it.
template <typename T>
__global__ void geometry_virials(
    const long long* __restrict__ row,  // (n_atoms + 1,)
    const T* __restrict__ rij,          // (3, n_pairs), Å
    const T* __restrict__ drij,         // (3, n_pairs), eV/Å
    double* __restrict__ out,           // (9, n_atoms), eV
    const GeometryVirialsScalars given
) {
    const long long i = own_atom();
    double sums[6] = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
    if (i < given.n_atoms)
        for (long long p = row[i] + threadIdx.x % 32; p < row[i + 1]; p += 32) {
            const double x = rij[p], y = rij[given.rij_stride + p], z = rij[2 * given.rij_stride + p];
            const double u = drij[p], v = drij[given.drij_stride + p], w = drij[2 * given.drij_stride + p];
            sums[0] += x * u;
            sums[1] += y * v;
            sums[2] += z * w;
            sums[3] += 0.5 * (y * w + z * v);
            sums[4] += 0.5 * (x * w + z * u);
            sums[5] += 0.5 * (x * v + y * u);
        }
#pragma unroll
    for (int c = 0; c < 6; ++c) sums[c] = sum_lanes(sums[c], 1, 32);
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int c = 0; c < 9; ++c) {
        constexpr int VOIGT[9] = {0, 5, 4, 5, 1, 3, 4, 3, 2};    // xx yy zz yz xz xy
        if (i < given.n_atoms && lane == c) out[c * given.out_stride + i] = sums[VOIGT[c]];
    }
}

struct GeometrySumFramesScalars {
    int n_components;           // rows of per_atom
    long long per_atom_stride;  // from row to row of per_atom
};

// Sum over the atoms of each frame: a block a frame and component, four sums a thread to keep loads in flight.
__global__ void geometry_sum_frames(
    const double* __restrict__ per_atom,  // (n_components, n_atoms)
    const long long* __restrict__ first,  // (n_frames + 1,)
    double* __restrict__ out,             // (n_frames, n_components)
    const GeometrySumFramesScalars given
) {
    FD_SHARED(double, warps, [32]);
    const int frame = blockIdx.x, c = blockIdx.y;
    const long long end = first[frame + 1];
    const double* x = per_atom + c * given.per_atom_stride;
    double sums[4] = {0.0, 0.0, 0.0, 0.0};
    for (long long a = first[frame] + threadIdx.x; a < end; a += 4 * blockDim.x)
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            const long long b = a + k * (long long)blockDim.x;
            if (b < end) sums[k] += x[b];
        }
    const double sum = sum_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]), 1, 32);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        double total = 0.0;
        for (int w = 0; w < blockDim.x / 32; ++w) total += warps[w];
        out[frame * given.n_components + c] = total;
    }
}
