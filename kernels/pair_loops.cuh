// What the pair loops of moments share: a pair as its lane sees it, radial coefficients, cotangents in shared memory.
#pragma once
#include "tensors.cuh"
#include "radial.cuh"

namespace fd {

// Atoms a block: as many as fill a 32-byte sector of memory, since arrays have the atoms last.
template <typename S> constexpr int WARPS = 32 / sizeof(S);
template <typename S> constexpr int PAIR_THREADS = 32 * WARPS<S>;

// The pairs of a warp's atom, none if there is no such atom.
struct Row {
    long long begin, end;
    int species;

    __device__ __forceinline__ Row(const long long* row, const int* all, long long i, long long n_atoms)
        : begin(i < n_atoms ? row[i] : 0), end(i < n_atoms ? row[i + 1] : 0), species(i < n_atoms ? all[i] : 0) {}
};

// A pair as its lane sees it.
template <typename S> struct Pair {
    bool inside;  // closer than the cutoff
    S d, per_d;
    Vector<S> u;

    __device__ __forceinline__ Pair(const real<S>* rij, long long stride, long long p, real<S> cutoff) {
        const S x = load<S>(rij, p, 3 * stride), y = load<S>(rij, stride + p, 3 * stride),
                z = load<S>(rij, 2 * stride + p, 3 * stride);
        const S square = x * x + y * y + z * z;
        per_d = inverse_square_root(square);
        d = square * per_d;
        u = {x * per_d, y * per_d, z * per_d};
        inside = value(d) < cutoff;
    }
};

// Coefficients of one pair of elements, NR channels from `slab` on. Channels past the last repeat it: what they lead to
// is never used. `given` are the scalars of a kernel.
template <typename S, int NR> struct Coefficients {
    const real<S>* of_channel[NR];
    long long plane;

    template <typename Given>
    __device__ __forceinline__ Coefficients(const real<S>* beta, const Given& given, int slab, int zi, int zj) {
        plane = (long long)given.n_species * given.n_species * given.n_radial * given.n_basis;
        beta += ((zi * given.n_species + zj) * given.n_radial + slab) * given.n_basis;
#pragma unroll
        for (int s = 0; s < NR; ++s) of_channel[s] = beta + min(s, given.n_radial - slab - 1) * given.n_basis;
    }

    __device__ __forceinline__ S at(int s, int b) const { return load<S>(of_channel[s], b, plane); }
};

// Radial channels of one pair.
template <typename S, int NR>
__device__ __forceinline__ void radial_channels(const RadialBasis<real<S>>& radial, const Pair<S>& pair,
                                                const Coefficients<S, NR>& coefficients, S (&R)[NR]) {
#pragma unroll
    for (int s = 0; s < NR; ++s) R[s] = S(0);
    const auto factors = radial.each(pair.d, pair.per_d, [&](int b, S e, S) {
#pragma unroll
        for (int s = 0; s < NR; ++s) R[s] += coefficients.at(s, b) * e;
    });
#pragma unroll
    for (int s = 0; s < NR; ++s) R[s] *= factors.value;
}

// Radial channels of one pair and their derivatives with respect to its distance.
template <typename S, int NR>
__device__ __forceinline__ void radial_channels(const RadialBasis<real<S>>& radial, const Pair<S>& pair,
                                                const Coefficients<S, NR>& coefficients, S (&R)[NR], S (&dR)[NR]) {
#pragma unroll
    for (int s = 0; s < NR; ++s) R[s] = dR[s] = S(0);
    const auto factors = radial.each(pair.d, pair.per_d, [&](int b, S e, S companion) {
#pragma unroll
        for (int s = 0; s < NR; ++s) {
            const S coefficient = coefficients.at(s, b);
            R[s] += coefficient * e;
            dR[s] += coefficient * companion;
        }
    });
#pragma unroll
    for (int s = 0; s < NR; ++s) {
        dR[s] = factors.slope_bare * R[s] + factors.slope_companion * dR[s];
        R[s] *= factors.value;
    }
}

// Cotangents of the moments of the block's atoms, NR channels from `slab` on, to shared memory: entry c of channel s
// of warp w's atom is dm[w][c * NR + s]; what does not exist is zero.
template <typename S, int NR, typename Given>
__device__ __forceinline__ void stage_dmoments(S (&dm)[WARPS<S>][N_MOMENTS * NR], const real<S>* dmoments,
                                               const Given& given, long long plane, long long i0, int slab) {
    const int n_moments = given.n_moments;
    for (int o = threadIdx.x; o < WARPS<S> * N_MOMENTS * NR; o += PAIR_THREADS<S>) {
        const int w = o % WARPS<S>, s = slab + o / WARPS<S> % NR, c = o / (WARPS<S> * NR);
        const bool exists = i0 + w < given.n_atoms && s < given.n_radial && c < n_moments;
        dm[w][o / WARPS<S>] =
            exists ? load<S>(dmoments, (s * n_moments + c) * given.dmoments_stride + i0 + w, plane) : S(0);
    }
}

// Call visit(z, lanes) for each element z among the lanes in `all`, in order of their first lanes. `mine` is the
// element of the calling lane; the whole warp calls.
template <typename Visit> __device__ __forceinline__ void each_species(unsigned all, int mine, Visit visit) {
    const bool counts = all >> threadIdx.x % 32 & 1;
    while (all) {
        const int z = __shfl_sync(WHOLE_WARP, mine, __ffs(all) - 1);
        const unsigned same = __ballot_sync(WHOLE_WARP, counts && mine == z);
        visit(z, same);
        all &= ~same;
    }
}

}  // namespace fd
