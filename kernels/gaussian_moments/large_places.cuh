// Large systems: atoms along a curve in space, as whole numbers of 2^-32 of the cell, and slots of their neighbours. The
// difference of two such numbers wraps around to that of the nearest image.
#pragma once
#include "entries.cuh"

namespace fd {

constexpr int ATOM_THREADS = 128, LANES = 32;

struct alignas(16) Place { int x, y, z, species; };

// Of kernels that need no other.
struct GmLargeScalars {
    long long n_atoms;  // atoms that have results
};

__device__ __forceinline__ float apart(int from, int to) { return (float)(int)((unsigned)to - (unsigned)from); }

// The cell in Å for each 2^-32 of its vectors.
struct Grid {
    float h[9];

    __device__ __forceinline__ explicit Grid(const double* cell) {
#pragma unroll
        for (int k = 0; k < 9; ++k) h[k] = (float)(cell[k] * (1.0 / 4294967296.0));
    }
    // Vector from one place to the nearest image of another, Å.
    __device__ __forceinline__ Vector<float> between(const Place& from, const Place& to) const {
        const float a = apart(from.x, to.x), b = apart(from.y, to.y), c = apart(from.z, to.z);
        return {a * h[0] + b * h[3] + c * h[6], a * h[1] + b * h[4] + c * h[7], a * h[2] + b * h[5] + c * h[8]};
    }
};

// Slot of the first neighbour of an atom: 32 atoms that follow one another are a slice.
__device__ __forceinline__ unsigned first_slot(const long long* start, long long a) {
    return (unsigned)(start[a / LANES] + a % LANES);
}

}  // namespace fd
