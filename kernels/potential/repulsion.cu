// Short-range repulsion of nuclei. Twin, with the formulas: fastdesc/potential/repulsion.py.
//
// specialise repulsion_zbl
//
// A warp owns an atom, its lanes take the pairs of the row in turn. Sums go over lanes in a fixed order; no atomics, so
// results repeat bit for bit.
#include "common.cuh"

using namespace fd;

constexpr int THREADS = 128;    // of a block

// phi and phi' of (1) and (2) at a distance below `outer`; t is a row of the table.
__device__ __forceinline__ void joined(double d, const double* t, double& energy, double& slope) {
    constexpr double WEIGHTS[4] = {0.02817, 0.28022, 0.50986, 0.18175};
    constexpr double RATES[4] = {0.20162, 0.40290, 0.94229, 3.19980};
    double f = 0.0, f1 = 0.0;
#pragma unroll
    for (int n = 0; n < 4; ++n) {
        const double b = RATES[n] * t[1];
        const double e = WEIGHTS[n] * exp(-b * d);
        f += e;
        f1 -= b * e;
    }
    const double s = t[0] / d, x = d > t[2] ? d - t[2] : 0.0;
    energy = s * f + t[6] + x * x * x * (t[4] / 3 + x * t[5] / 4);
    slope = s * (f1 - f / d) + x * x * (t[4] + x * t[5]);
}

struct RepulsionZblScalars {
    long long n_atoms;         // atoms that have results
    int n_species;             // elements
    long long virials_stride;  // from row to row of virials
};

// Formula (3).
__global__ void __launch_bounds__(THREADS) repulsion_zbl(
    const long long* __restrict__ row,     // (n_atoms + 1,)
    const int* __restrict__ j,             // (n_pairs,)
    const int* __restrict__ shift,         // (n_pairs, 3)
    const int* __restrict__ frame,         // (n_atoms,)
    const double* __restrict__ positions,  // (n_atoms, 3), Å
    const double* __restrict__ cells,      // (n_frames, 3, 3), Å
    const int* __restrict__ species,       // (n_atoms,)
    const double* __restrict__ table,      // (n_species, n_species, 8)
    double* __restrict__ energies,         // (n_atoms,), eV
    double* __restrict__ forces,           // (n_atoms, 3), eV/Å
    double* __restrict__ virials,          // (9, n_atoms), eV
    const RepulsionZblScalars given
) {
    const long long i = (blockIdx.x * (long long)blockDim.x + threadIdx.x) / 32;
    double sums[10] = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0};    // energy, force, xx yy zz yz xz xy
    if (i < given.n_atoms) {
        const double* h = cells + 9 * frame[i];
        const double* own = table + (long long)8 * given.n_species * species[i];
        for (long long p = row[i] + threadIdx.x % 32; p < row[i + 1]; p += 32) {
            const long long n = j[p];
            const double a = shift[3 * p], b = shift[3 * p + 1], c = shift[3 * p + 2];
            double r[3];
#pragma unroll
            for (int k = 0; k < 3; ++k)
                r[k] = positions[3 * n + k] - positions[3 * i + k] + (a * h[k] + b * h[3 + k] + c * h[6 + k]);
            const double* t = own + 8 * species[n];
            const double square = r[0] * r[0] + r[1] * r[1] + r[2] * r[2];
            if (square < t[3] * t[3]) {
                const double d = sqrt(square);
                double energy, slope;
                joined(d, t, energy, slope);
                const double g = slope / d;
                sums[0] += 0.5 * energy;
#pragma unroll
                for (int k = 0; k < 3; ++k) {
                    sums[1 + k] += g * r[k];
                    sums[4 + k] += 0.5 * g * r[k] * r[k];
                }
                sums[7] += 0.5 * g * r[1] * r[2];
                sums[8] += 0.5 * g * r[0] * r[2];
                sums[9] += 0.5 * g * r[0] * r[1];
            }
        }
    }
#pragma unroll
    for (int c = 0; c < 10; ++c) sums[c] = sum_lanes(sums[c], 1, 32);
    const int lane = threadIdx.x % 32;
    if (i < given.n_atoms && lane == 0) energies[i] = sums[0];
#pragma unroll
    for (int c = 0; c < 3; ++c)
        if (i < given.n_atoms && lane == c) forces[3 * i + c] = sums[1 + c];
#pragma unroll
    for (int c = 0; c < 9; ++c) {
        constexpr int VOIGT[9] = {0, 5, 4, 5, 1, 3, 4, 3, 2};    // xx yy zz yz xz xy
        if (i < given.n_atoms && lane == c) virials[c * given.virials_stride + i] = sums[4 + VOIGT[c]];
    }
}
