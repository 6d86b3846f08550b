// What the pair loops of embedded densities share: orbitals of a pair, sums over pairs, cotangents in shared memory.
#pragma once
#include "pair_loops.cuh"

namespace fd {

constexpr int COLUMNS = 8;   // what pairs read of their neighbours is filled up to a multiple of these
constexpr int AT_ONCE = 4;   // iterations whose cotangents are in shared memory together

// What all pair loops are given of the orbitals: exponents and centres of the neighbours' elements.
template <typename S> struct Orbitals {
    const real<S>*alpha, *r_s;
    int n_species, n_radial;
    bool normalized;
    real<S> cutoff;

    __device__ __forceinline__ long long plane() const { return (long long)n_species * n_radial; }

    // The vector that monomials are made of.
    __device__ __forceinline__ Vector<S> vector(const Pair<S>& pair) const {
        if (normalized) return pair.u;
        return {pair.u[0] * pair.d, pair.u[1] * pair.d, pair.u[2] * pair.d};
    }

    // visit(s, P, x, alpha) for NR functions from `slab` on: P = f_c exp(-alpha x^2), x = r - r_s. Functions past the
    // last repeat it. Returns f_c'/f_c, and zero where f_c is: there P is, too, whatever multiplies it.
    template <int NR, typename Visit>
    __device__ __forceinline__ S each(const Pair<S>& pair, int z, int slab, Visit visit) const {
        constexpr real<S> pi = real<S>(3.14159265358979323846);
        const real<S> per_cutoff = real<S>(1) / cutoff;
        S s, c;
        sine_cosine_pi(pair.d * per_cutoff, s, c);
        const S half = (c + real<S>(1)) * real<S>(0.5), fc = half * half;
#pragma unroll
        for (int k = 0; k < NR; ++k) {
            const long long at = (long long)z * n_radial + min(slab + k, n_radial - 1);
            const S a = load<S>(alpha, at, plane()), x = pair.d - load<S>(r_s, at, plane());
            visit(k, fc * exponential(-(a * x * x)), x, a);
        }
        return value(half) > real<S>(0) ? s / half * (-pi * per_cutoff) : S(0);
    }
};

constexpr int TILE_STRIDE = 40;  // 32 pairs; four rows 8 banks apart, read together by the four parts
template <int NR> constexpr int TILE = (NR + N_MOMENTS) * TILE_STRIDE;

// Sums over the pairs of the block's atoms of w_s m_c, where weigh(p, z, w) multiplies the NR radial functions of a pair
// by what else belongs to it. In the second half of a tile of pairs, eight lanes of equal `part` share the sums of five
// monomials and take every eighth pair.
template <typename S, int NR, typename Given, typename Weigh>
__device__ __forceinline__ void sum_densities(S* tiles, const long long* row, const int* j, const int* species,
                                              const real<S>* rij, real<S>* density, const Orbitals<S>& orbitals,
                                              int slab, const Given& given, Weigh weigh) {
    constexpr int W = WARPS<S>, GROUPS = 8, PARTS = 4, OWN = N_MOMENTS / PARTS;
    const int lane = threadIdx.x % 32, w = threadIdx.x / 32, group = lane % GROUPS, part = lane / GROUPS;
    const int n_moments = given.n_moments;
    const long long i0 = (long long)blockIdx.x * W;
    const Row own(row, species, i0 + w, given.n_atoms);
    S* channels = tiles + w * TILE<NR>;
    S* monomials = channels + NR * TILE_STRIDE;

    S sums[NR][OWN] = {};
    for (long long p0 = own.begin; p0 < own.end; p0 += 32) {
        S R[NR] = {};
        Vector<S> v = zeros<S, 3>();
        if (p0 + lane < own.end) {
            const Pair<S> pair(rij, given.rij_stride, p0 + lane, orbitals.cutoff);
            v = orbitals.vector(pair);
            if (pair.inside) {
                const int z = species[j[p0 + lane]];
                orbitals.template each<NR>(pair, z, slab, [&](int s, S P, S, S) { R[s] = P; });
                weigh(p0 + lane, z, R);
            }
        }
#pragma unroll
        for (int s = 0; s < NR; ++s) channels[s * TILE_STRIDE + lane] = R[s];
        each_monomial(v, n_moments, [&](int c, S monomial) { monomials[c * TILE_STRIDE + lane] = monomial; });
        __syncwarp();
        const int pairs = own.end - p0 < 32 ? (int)(own.end - p0) : 32;
        for (int q = group; q < pairs; q += GROUPS) {
#pragma unroll
            for (int s = 0; s < NR; ++s) R[s] = channels[s * TILE_STRIDE + q];
#pragma unroll
            for (int m = 0; m < OWN; ++m) {
                const int c = part + PARTS * m;
                if (c < n_moments) {
                    const S monomial = monomials[c * TILE_STRIDE + q];
#pragma unroll
                    for (int s = 0; s < NR; ++s) sums[s][m] += R[s] * monomial;
                }
            }
        }
        __syncwarp();
    }
#pragma unroll
    for (int s = 0; s < NR; ++s)
#pragma unroll
        for (int m = 0; m < OWN; ++m) {
            const S sum = sum_lanes(sums[s][m], 1, GROUPS);
            if (group == (s * OWN + m) % GROUPS) channels[s * N_MOMENTS + part + PARTS * m] = sum;
        }
    __syncthreads();
    for (int o = threadIdx.x; o < W * N_MOMENTS * NR; o += PAIR_THREADS<S>) {
        const int w = o % W, c = o / W % N_MOMENTS, s = slab + o / (W * N_MOMENTS);
        if (i0 + w < given.n_atoms && c < n_moments && s < orbitals.n_radial)
            store(density, (s * n_moments + c) * given.density_stride + i0 + w, given.density_plane,
                  tiles[w * TILE<NR> + o / W]);
    }
}

// Cotangents of the block's atoms to shared memory, NR radial functions from `slab` on and iterations `t0` .. `t1`-1:
// entry c of function s is staged[((w * AT_ONCE + t - t0) * N_MOMENTS + c) * NR + s]; what does not exist is zero.
template <typename S, int NR, typename Given>
__device__ __forceinline__ void stage_cotangents(S* staged, const real<S>* ddensity, long long i0, int slab, int t0,
                                                 int t1, const Given& given) {
    constexpr int W = WARPS<S>;
    __syncthreads();
    for (int o = threadIdx.x; o < W * (t1 - t0) * N_MOMENTS * NR; o += PAIR_THREADS<S>) {
        const int w = o % W, s = o / W % NR, c = o / (W * NR) % N_MOMENTS, t = o / (W * NR * N_MOMENTS);
        const bool exists = i0 + w < given.n_atoms && slab + s < given.n_radial && c < given.n_moments;
        const long long from = ((long long)(t0 + t) * given.n_radial + slab + s) * given.n_moments + c;
        staged[((w * AT_ONCE + t) * N_MOMENTS + c) * NR + s] =
            exists ? load<S>(ddensity, from * given.ddensity_stride + i0 + w, given.ddensity_plane) : S(0);
    }
    __syncthreads();
}

// Coefficients of a neighbour, NR radial functions from a slab on: of its element in iteration 0, its own later.
template <typename S> struct Coefficients_of {
    const real<S>*coefficients, *c;
    long long c_rows, c_plane;
    int n_species, n_radial, columns;

    template <int NR> __device__ __forceinline__ void operator()(S (&out)[NR], int t, int jp, int z, int slab) const {
#pragma unroll
        for (int s = 0; s < NR; ++s)
            out[s] = t == 0 ? load<S>(coefficients, (long long)z * n_radial + min(slab + s, n_radial - 1),
                                      (long long)n_species * n_radial)
                            : load<S>(c, ((t - 1) * c_rows + jp) * columns + slab + s, c_plane);
    }
};

}  // namespace fd
