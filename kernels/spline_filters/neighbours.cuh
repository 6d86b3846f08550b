// The neighbours of an atom that take part in triplets, gathered 32 at a time: one a lane, and all in shared memory.
#pragma once
#include "pair_loops.cuh"
#include "spline_filters/cubic_pieces.cuh"

namespace fd {

// Filters that a table of angular filters has room for: full slabs, whatever NB a kernel takes.
__device__ __forceinline__ int room_for(int n_filters) {
    return n_filters < 2 ? n_filters : n_filters <= 4 ? 4 : (n_filters + 7) / 8 * 8;
}

// A close neighbour as its lane sees it, with NB of its filters; p < 0 where there is none.
template <typename S, int NB> struct Close {
    long long p;
    int z;
    S per_d;
    Vector<S> u;
    Place<S> place;
    S f[NB];
};

// Close neighbours of the warp's atom. Filters go in slabs of NB, known at compile time, so that they stay in
// registers; filters past the last repeat it: what they lead to is never used.
template <typename S, int NB> struct CloseNeighbours {
    static constexpr int VALUES = (3 + NB) * 32, MARKS = 3 * 32;  // shared memory a warp needs of S and of int

    const Row& own;
    const int* j;
    const int* species;
    const real<S>* rij;
    long long rij_stride;
    const real<S>* radial;
    const real<S>* knots;  // of the radial filters, by element
    int n_filters, n_elements, radial_pieces, angular_pieces;
    real<S> cutoff;
    S* tile;
    int* marks;

    // Number of the piece of a slab's first filter in the table of angular filters, (.., pieces, room_for(n_filters), 4):
    // those of the others follow, and need no address of their own.
    __device__ __forceinline__ int piece(int elements, int slab, int piece) const {
        return (elements * angular_pieces + piece) * room_for(n_filters) + slab;
    }

    // Number of the pair of elements of a neighbour and of the one staged as k.
    __device__ __forceinline__ int elements(int z, int k) const {
        return n_elements > 1 ? element_pair(z, this->z(k), n_elements) : 0;
    }

    // Place of a neighbour in the row, as `slot(k)` has it; -1 for none.
    __device__ __forceinline__ int slot_of(const Close<S, NB>& close) const {
        return close.p < 0 ? -1 : (int)(close.p - own.begin);
    }

    // The next 32 close neighbours from pair p on, in order, one a lane; moves p behind the last of them.
    __device__ __forceinline__ Close<S, NB> take(long long& p, int slab) const {
        const int lane = threadIdx.x % 32;
        int* slots = marks;
        int count = 0;
        __syncwarp();
        while (p < own.end && count < 32) {
            const bool close = p + lane < own.end && Pair<S>(rij, rij_stride, p + lane, cutoff).inside;
            const unsigned all = __ballot_sync(WHOLE_WARP, close);
            const int slot = count + __popc(all & ((1u << lane) - 1));
            if (close && slot < 32) slots[slot] = (int)(p + lane - own.begin);
            const unsigned left = __ballot_sync(WHOLE_WARP, close && slot >= 32);
            p += left ? __ffs(left) - 1 : 32;
            count += __popc(all);
        }
        __syncwarp();
        if (lane >= count) return {-1, 0, S(0), zeros<S, 3>(), Place<S>(), {}};
        const long long mine = own.begin + slots[lane];
        const Pair<S> pair(rij, rij_stride, mine, cutoff);
        const int z = n_elements > 1 ? species[j[mine]] : 0;
        Close<S, NB> close{mine, z, pair.per_d, pair.u, Place<S>(pair.d, Knots<real<S>>(knots, z)), {}};
#pragma unroll
        for (int b = 0; b < NB; ++b) close.f[b] = filter(close, slab, b).value(close.place.t);
        return close;
    }

    // The piece on which filter b of a close neighbour lies.
    __device__ __forceinline__ Cubic<S> filter(const Close<S, NB>& close, int slab, int b) const {
        const int n = close.z * n_filters + min(slab + b, n_filters - 1);
        return {radial, n * radial_pieces + close.place.piece, (long long)n_elements * n_filters * radial_pieces * 4};
    }

    // Show every lane's neighbour to the whole warp; returns how many there are.
    __device__ __forceinline__ int stage(const Close<S, NB>& close) const {
        const int lane = threadIdx.x % 32;
        __syncwarp();
#pragma unroll
        for (int c = 0; c < 3; ++c) tile[c * 32 + lane] = close.u[c];
#pragma unroll
        for (int b = 0; b < NB; ++b) tile[(3 + b) * 32 + lane] = close.f[b];
        marks[32 + lane] = close.z;
        marks[64 + lane] = slot_of(close);
        __syncwarp();
        return __popc(__ballot_sync(WHOLE_WARP, close.p >= 0));
    }

    // What has been staged.
    __device__ __forceinline__ Vector<S> u(int k) const { return {tile[k], tile[32 + k], tile[64 + k]}; }
    __device__ __forceinline__ S f(int b, int k) const { return tile[(3 + b) * 32 + k]; }
    __device__ __forceinline__ int z(int k) const { return marks[32 + k]; }
    __device__ __forceinline__ int slot(int k) const { return marks[64 + k]; }
};

}  // namespace fd
