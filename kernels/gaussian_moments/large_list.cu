// Large systems: atoms sorted along a curve in space, and their list of neighbours. How it is launched, and what the list
// looks like: fastdesc/descriptors/gaussian_moments/large_list.py.
//
// specialise gm_large_keys
// specialise gm_large_places
// specialise gm_large_list
// specialise gm_large_ranges
// specialise gm_large_count
// specialise gm_large_search
// specialise gm_large_mirrors
#include "gaussian_moments/large_places.cuh"

using namespace fd;

constexpr int AROUND = 27;

// Bits of a number below 1024 at every third place.
__device__ __forceinline__ unsigned spread(unsigned v) {
    v = (v | v << 16) & 0x030000ffu;
    v = (v | v << 8) & 0x0300f00fu;
    v = (v | v << 4) & 0x030c30c3u;
    return (v | v << 2) & 0x09249249u;
}

// Which of `bins` along a vector of the cell a part of it lies in.
__device__ __forceinline__ int bin(int part, int bins) {
    return (int)((unsigned long long)(unsigned)part * bins >> 32);
}

// Number of a bin along the curve.
__device__ __forceinline__ int curve(int a, int b, int c) {
    return (int)(spread(a) | spread(b) << 1 | spread(c) << 2);
}

// The first of ascending numbers, STEP apart, that is not below x.
template <int STEP = 1> __device__ __forceinline__ int lower_bound(const int* numbers, int n, int x) {
    int low = 0;
    while (n > 0) {
        const int half = n / 2;
        const bool right = numbers[(low + half) * STEP] < x;
        low = right ? low + half + 1 : low;
        n = right ? n - half - 1 : half;
    }
    return low;
}

struct GmLargeKeysScalars {
    long long n_atoms;  // atoms that have results
    int bins_a;         // bins along the first vector of the cell
    int bins_b;         // along the second
    int bins_c;         // along the third
};

// Number of the bin of every atom along a Z-order curve; bins along each vector of the cell are at most 1024.
__global__ void __launch_bounds__(ATOM_THREADS)
gm_large_keys(
    const int* __restrict__ places,  // (n_atoms, 4)
    int* __restrict__ keys,          // (n_atoms,)
    const GmLargeKeysScalars given
) {
    const long long a = (long long)blockIdx.x * ATOM_THREADS + threadIdx.x;
    if (a >= given.n_atoms) return;
    const Place own = reinterpret_cast<const Place*>(places)[a];
    keys[a] = curve(bin(own.x, given.bins_a), bin(own.y, given.bins_b), bin(own.z, given.bins_c));
}

// Places of all atoms in the order of the list.
__global__ void __launch_bounds__(ATOM_THREADS)
gm_large_places(
    const int* __restrict__ order,         // (n_atoms,): who is where on the curve
    const int* __restrict__ species,       // (n_atoms,)
    const double* __restrict__ positions,  // (n_atoms, 3), Å
    const double* __restrict__ cell,       // (3, 3), Å
    int* __restrict__ places,              // (n_atoms, 4)
    const GmLargeScalars given
) {
    const long long a = (long long)blockIdx.x * ATOM_THREADS + threadIdx.x;
    if (a >= given.n_atoms) return;
    const int i = order[a];
    const double* h = cell;
    const double* x = positions + 3ll * i;
    unsigned parts[3];
    // s = x H^-1, whose columns are cross products of the rows of H over the volume.
#pragma unroll
    for (int c = 0; c < 3; ++c) {
        const double* p = h + 3 * ((c + 1) % 3);
        const double* q = h + 3 * ((c + 2) % 3);
        const double n[3] = {p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]};
        const double volume = h[3 * c] * n[0] + h[3 * c + 1] * n[1] + h[3 * c + 2] * n[2];
        const double s = (x[0] * n[0] + x[1] * n[1] + x[2] * n[2]) / volume;
        parts[c] = (unsigned)(unsigned long long)((s - floor(s)) * 4294967296.0);
    }
    reinterpret_cast<Place*>(places)[a] = {(int)parts[0], (int)parts[1], (int)parts[2], species[i]};
}

// The list of neighbours and of mirrors, transposed within slices.
__global__ void __launch_bounds__(ATOM_THREADS)
gm_large_list(
    const long long* __restrict__ row,    // (n_atoms + 1,), of atoms in their own order
    const int* __restrict__ j,            // (n_pairs,)
    const int* __restrict__ mirror,       // (n_pairs,)
    const int* __restrict__ order,        // (n_atoms,): who is where on the curve
    const int* __restrict__ rank,         // (n_atoms,): where on the curve an atom is
    const long long* __restrict__ start,  // (n_slices + 1,)
    int* __restrict__ neighbour,          // (n_slots,): place on the curve
    unsigned* __restrict__ opposite,      // (n_slots,): slot of the mirror
    const GmLargeScalars given
) {
    const long long a = (long long)blockIdx.x * ATOM_THREADS + threadIdx.x;
    if (a >= given.n_atoms) return;
    const int i = order[a];
    long long slot = start[a / LANES] + a % LANES;
    for (long long p = row[i]; p < row[i + 1]; ++p) {
        const int n = j[p], b = rank[n];
        neighbour[slot] = b;
        opposite[slot] = first_slot(start, b) + (unsigned)(mirror[p] - row[n]) * LANES;
        slot += LANES;
    }
}

struct GmLargeRangesScalars {
    long long n_bins;  // bins of the cell
    int n_keys;        // atoms of all bins
    int bins_a;        // bins along the first vector of the cell
    int bins_b;        // along the second
    int bins_c;        // along the third
};

// The atoms of each bin and of those around it, in the order of the curve: first and last (exclusive) of up to 27 bins,
// 0 and 0 behind the last that is not empty. Bins are at least as thick as the cutoff; where there are two along a
// vector, the other is on both sides.
__global__ void __launch_bounds__(ATOM_THREADS)
gm_large_ranges(
    const int* __restrict__ keys,  // (n_keys,), of all atoms, ascending
    int* __restrict__ ranges,      // (n_bins, 27, 2)
    const GmLargeRangesScalars given
) {
    const int own = blockIdx.x * ATOM_THREADS + threadIdx.x;
    if (own >= given.n_bins) return;
    const int a = own % given.bins_a, b = own / given.bins_a % given.bins_b, c = own / given.bins_a / given.bins_b;
    int* out = ranges + 2ll * AROUND * own;
    int found = 0;
    for (int around = 0; around < AROUND; ++around) {
        const int da = around % 3, db = around / 3 % 3, dc = around / 9;
        if (da >= given.bins_a || db >= given.bins_b || dc >= given.bins_c) continue;
        const int key = curve((a + da + given.bins_a - 1) % given.bins_a, (b + db + given.bins_b - 1) % given.bins_b,
                              (c + dc + given.bins_c - 1) % given.bins_c);
        const int first = lower_bound(keys, given.n_keys, key), last = lower_bound(keys, given.n_keys, key + 1);
        if (first == last) continue;
        int k = found++;
        for (; k > 0 && out[2 * k - 2] > first; --k) out[2 * k] = out[2 * k - 2], out[2 * k + 1] = out[2 * k - 1];
        out[2 * k] = first, out[2 * k + 1] = last;
    }
    for (; found < AROUND; ++found) out[2 * found] = out[2 * found + 1] = 0;
}

struct GmLargeNearScalars {
    long long n_atoms;  // atoms that have results
    int bins_a;         // bins along the first vector of the cell
    int bins_b;         // along the second
    int bins_c;         // along the third
    float cutoff;       // Å
};

// Call visit(b, r2) for all atoms of the bins around that of the atom a which are closer than the cutoff, in order.
template <typename Visit>
__device__ __forceinline__ void each_near(long long a, const int* places, const double* cell, const int* ranges,
                                          const GmLargeNearScalars& given, Visit visit) {
    const Grid grid(cell);
    const Place own = reinterpret_cast<const Place*>(places)[a];
    const int a_bin = bin(own.x, given.bins_a), b_bin = bin(own.y, given.bins_b), c_bin = bin(own.z, given.bins_c);
    const int at = (c_bin * given.bins_b + b_bin) * given.bins_a + a_bin;
    const int* range = ranges + 2ll * AROUND * at;
    for (int around = 0; around < AROUND; ++around)
        for (int b = range[2 * around]; b < range[2 * around + 1]; ++b) {
            const Vector<float> r = grid.between(own, reinterpret_cast<const Place*>(places)[b]);
            const float r2 = dot(r, r);
            if (r2 < given.cutoff * given.cutoff && b != a) visit(b, r2);
        }
}

// How many neighbours each atom of the curve has, and how far the nearest is.
__global__ void __launch_bounds__(ATOM_THREADS)
gm_large_count(
    const int* __restrict__ places,   // (n_atoms, 4)
    const double* __restrict__ cell,  // (3, 3), Å
    const int* __restrict__ ranges,   // (n_bins, 27, 2)
    int* __restrict__ count,          // (n_atoms,)
    float* __restrict__ nearest,      // (n_atoms,), Å; the cutoff where there is none
    const GmLargeNearScalars given
) {
    const long long a = (long long)blockIdx.x * ATOM_THREADS + threadIdx.x;
    if (a >= given.n_atoms) return;
    int found = 0;
    float least = given.cutoff * given.cutoff;
    each_near(a, places, cell, ranges, given, [&](int, float r2) {
        ++found;
        least = fminf(least, r2);
    });
    count[a] = found;
    nearest[a] = square_root(least);
}

// The list of neighbours of all atoms of the curve, ascending, as gm_large_count counted them.
__global__ void __launch_bounds__(ATOM_THREADS)
gm_large_search(
    const int* __restrict__ places,       // (n_atoms, 4)
    const double* __restrict__ cell,      // (3, 3), Å
    const int* __restrict__ ranges,       // (n_bins, 27, 2)
    const long long* __restrict__ start,  // (n_slices + 1,)
    int* __restrict__ neighbour,          // (n_slots,): place on the curve
    const GmLargeNearScalars given
) {
    const long long a = (long long)blockIdx.x * ATOM_THREADS + threadIdx.x;
    if (a >= given.n_atoms) return;
    unsigned slot = first_slot(start, a);
    each_near(a, places, cell, ranges, given, [&](int b, float) {
        neighbour[slot] = b;
        slot += LANES;
    });
}

// Slots of the mirrors of a list whose neighbours ascend: an atom is looked for among the neighbours of its neighbour.
__global__ void __launch_bounds__(ATOM_THREADS)
gm_large_mirrors(
    const int* __restrict__ count,        // (n_atoms,)
    const long long* __restrict__ start,  // (n_slices + 1,)
    const int* __restrict__ neighbour,    // (n_slots,)
    unsigned* __restrict__ opposite,      // (n_slots,): slot of the mirror
    const GmLargeScalars given
) {
    const long long a = (long long)blockIdx.x * ATOM_THREADS + threadIdx.x;
    if (a >= given.n_atoms) return;
    unsigned slot = first_slot(start, a);
    for (int k = 0; k < count[a]; ++k) {
        const int b = neighbour[slot];
        const unsigned first = first_slot(start, b);
        opposite[slot] = first + LANES * lower_bound<LANES>(neighbour + first, count[b], (int)a);
        slot += LANES;
    }
}
