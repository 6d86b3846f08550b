// Gaussian moments: what the loops over pairs are made of, for channels as they are and for channels that the weights
// of the neighbours multiply.
#pragma once
#include "common.cuh"
#include "pair_loops.cuh"

namespace fd {

constexpr int MOMENTS_STRIDE = 40;  // 32 pairs; four rows 8 banks apart, read together by the four parts
template <int NR> constexpr int MOMENTS_TILE = (NR + N_MOMENTS) * MOMENTS_STRIDE;

// Moments of a block's atoms, NR channels from `slab` on; `tiles` are WARPS of MOMENTS_TILE, `given` are the scalars of
// the kernel. weigh(p, R) may change the channels of pair p.
// In the second half of a tile, the eight lanes of equal `part` share the sums of five monomials; each takes every
// eighth pair.
template <typename S, int NR, typename Given, typename Weigh>
__device__ __forceinline__ void sum_moments(S* tiles, const long long* row, const int* j, const int* species,
                                            const real<S>* rij, const real<S>* beta, real<S>* moments,
                                            const Given& given, long long moments_plane, int slab, Weigh weigh) {
    constexpr int W = WARPS<S>, GROUPS = 8, PARTS = 4, OWN = N_MOMENTS / PARTS;
    constexpr int STRIDE = MOMENTS_STRIDE;
    const int lane = threadIdx.x % 32, w = threadIdx.x / 32, group = lane % GROUPS, part = lane / GROUPS;
    const long long i0 = (long long)blockIdx.x * W, i = i0 + w;
    const int n_moments = given.n_moments;
    const Row own(row, species, i, given.n_atoms);
    const RadialBasis<real<S>> radial(given.basis, given.n_basis, given.cutoff, given.r_min);
    S* channels = tiles + w * MOMENTS_TILE<NR>;
    S* monomials = channels + NR * STRIDE;

    S sums[NR][OWN] = {};
    for (long long p0 = own.begin; p0 < own.end; p0 += 32) {
        S R[NR] = {};
        Vector<S> u = zeros<S, 3>();
        if (p0 + lane < own.end) {
            const Pair<S> pair(rij, given.rij_stride, p0 + lane, given.cutoff);
            u = pair.u;
            if (pair.inside) {
                const Coefficients<S, NR> coefficients(beta, given, slab, own.species, species[j[p0 + lane]]);
                radial_channels(radial, pair, coefficients, R);
                weigh(p0 + lane, R);
            }
        }
#pragma unroll
        for (int s = 0; s < NR; ++s) channels[s * STRIDE + lane] = R[s];
        each_monomial(u, n_moments, [&](int c, S monomial) { monomials[c * STRIDE + lane] = monomial; });
        __syncwarp();
        const int pairs = own.end - p0 < 32 ? (int)(own.end - p0) : 32;
        for (int q = group; q < pairs; q += GROUPS) {
#pragma unroll
            for (int s = 0; s < NR; ++s) R[s] = channels[s * STRIDE + q];
#pragma unroll
            for (int m = 0; m < OWN; ++m) {
                const int c = part + PARTS * m;
                if (c < n_moments) {
                    const S monomial = monomials[c * STRIDE + q];
#pragma unroll
                    for (int s = 0; s < NR; ++s) sums[s][m] += R[s] * monomial;
                }
            }
        }
        __syncwarp();
    }

    S* out = tiles + w * MOMENTS_TILE<NR>;  // the tile has been read: it hands the sums to the block
#pragma unroll
    for (int s = 0; s < NR; ++s)
#pragma unroll
        for (int m = 0; m < OWN; ++m) {
            const S sum = sum_lanes(sums[s][m], 1, GROUPS);
            if (group == (s * OWN + m) % GROUPS) out[s * N_MOMENTS + part + PARTS * m] = sum;
        }
    __syncthreads();
    for (int o = threadIdx.x; o < W * N_MOMENTS * NR; o += PAIR_THREADS<S>) {
        const int w = o % W, c = o / W % N_MOMENTS, s = slab + o / (W * N_MOMENTS);
        if (i0 + w < given.n_atoms && c < n_moments && s < given.n_radial)
            store(moments, (s * n_moments + c) * given.moments_stride + i0 + w, moments_plane,
                  tiles[w * MOMENTS_TILE<NR> + o / W]);
    }
}

constexpr int BASIS_SLAB = 16;   // basis functions that a block takes
constexpr int BETA_STRIDE = 36;  // 32 pairs; eight rows 4 banks apart, read together at four pairs
template <int NR> constexpr int BETA_TILE = (BASIS_SLAB + NR) * BETA_STRIDE;

// Pullback of the moments to beta, added to the warp's row of dbeta; `tiles` are WARPS of BETA_TILE. weigh(p, h) may
// change what pair p adds for each channel.
// Pairs of a tile are sorted by element, since sums stay in registers as long as the element does.
template <typename S, int NR, typename Given, typename Weigh>
__device__ __forceinline__ void sum_beta(S (&dm)[WARPS<S>][N_MOMENTS * NR], S* tiles, const long long* row,
                                         const int* j, const int* species, const real<S>* rij,
                                         const real<S>* dmoments, real<S>* dbeta, const Given& given,
                                         long long dmoments_plane, Weigh weigh) {
    constexpr int W = WARPS<S>, SLAB = BASIS_SLAB;
    constexpr int STRIDE = BETA_STRIDE;
    const int lane = threadIdx.x % 32, w = threadIdx.x / 32;
    const int slab = blockIdx.y * NR, b0 = blockIdx.z * SLAB;
    const int n_species = given.n_species, n_radial = given.n_radial, n_basis = given.n_basis;
    const int width = n_basis - b0 <= 8 ? 8 : 16;  // lanes over basis functions; the others take other pairs
    const int own_b = lane % width, group = lane / width, groups = 32 / width;
    const RadialBasis<real<S>> radial(given.basis, n_basis, given.cutoff, given.r_min);
    S* bare = tiles + w * BETA_TILE<NR>;
    S* heights = bare + SLAB * STRIDE;

    const long long table = (long long)n_species * n_species * n_radial * n_basis;
    const long long plane = (long long)gridDim.x * W * table;
    real<S>* mine = dbeta + ((long long)blockIdx.x * W + w) * table;
    S sums[NR] = {};
    int current = -1;  // own.species * n_species + zj of the sums
    const auto flush = [&]() {
#pragma unroll
        for (int s = 0; s < NR; ++s) {
            S sum = sum_lanes(sums[s], 16, 32);
            if (width == 8) sum = sum_lanes(sum, 8, 16);
            sums[s] = S(0);
            if (current >= 0 && group == 0 && b0 + own_b < n_basis && slab + s < n_radial) {
                const long long at = ((long long)current * n_radial + slab + s) * n_basis + b0 + own_b;
                store(mine, at, plane, load<S>(mine, at, plane) + sum);
            }
        }
    };

    for (int a = 0; a < given.atoms_per_warp; ++a) {
        const long long i0 = ((long long)blockIdx.x * given.atoms_per_warp + a) * W, i = i0 + w;
        __syncthreads();
        stage_dmoments<S, NR>(dm, dmoments, given, dmoments_plane, i0, slab);
        __syncthreads();
        const Row own(row, species, i, given.n_atoms);
        for (long long p0 = own.begin; p0 < own.end; p0 += 32) {
            const long long p = p0 + lane < own.end ? p0 + lane : own.end - 1;
            const Pair<S> pair(rij, given.rij_stride, p, given.cutoff);
            const bool counts = p0 + lane < own.end && pair.inside;
            const int zj = species[j[p]];
            const unsigned all = __ballot_sync(WHOLE_WARP, counts);
            int slot = 0, used = 0;
            each_species(all, zj, [&](int, unsigned same) {
                if (same >> lane & 1) slot = used + __popc(same & ((1u << lane) - 1));
                used += __popc(same);
            });
            if (counts) {
                const auto factors = radial.each(pair.d, pair.per_d, [&](int b, S e, S) {
                    if (b >= b0 && b < b0 + SLAB) bare[(b - b0) * STRIDE + slot] = e;
                });
                S h[NR] = {};
                each_monomial(pair.u, given.n_moments, [&](int c, S monomial) {
#pragma unroll
                    for (int s = 0; s < NR; ++s) h[s] += dm[w][c * NR + s] * monomial;
                });
                weigh(p, h);
#pragma unroll
                for (int s = 0; s < NR; ++s) heights[s * STRIDE + slot] = h[s] * factors.value;
            }
            __syncwarp();
            int start = 0;
            each_species(all, zj, [&](int z, unsigned same) {
                const int stop = start + __popc(same), key = own.species * n_species + z;
                if (key != current) {
                    flush();
                    current = key;
                }
                for (int q = start + group; q < stop; q += groups) {
                    const S e = bare[own_b * STRIDE + q];
#pragma unroll
                    for (int s = 0; s < NR; ++s) sums[s] += heights[s * STRIDE + q] * e;
                }
                start = stop;
            });
            __syncwarp();
        }
    }
    flush();
}

}  // namespace fd
