// Energies of many atoms from their Gaussian moments, and the gradient with respect to the moments, in float32: the
// contraction, a network with two hidden layers, and the way back, in one kernel. How it is launched, and which networks
// it takes: fastdesc/potential/large_network.py.
//
// specialise gm_large_network<A>   A: Silu, Tanh, Celu, Softplus
//
//     z1 = W1 q(M) + b1,  h1 = f(z1),  z2 = W2 h1 + b2,  h2 = f(z2),  E = scale (w3 . h2 + b3)             (1)
//     dM = q'(M)^T W1^T [ f'(z1) W2^T [ f'(z2) scale w3 ] ]                                                 (2)
//
// Blocks stay, and take TOGETHER atoms at a time; the weights stay in shared memory, features and their gradient are
// there only as long as they are needed. Products run on tensor cores, see tensor_cores.cuh; sums have a fixed order, so
// results repeat bit for bit.
#include "gaussian_moments/contractions.cuh"
#include "networks/activations.cuh"
#include "tensor_cores.cuh"

using namespace fd;

constexpr int TOGETHER = ATOMS<float>, HIDDEN = 64, NETWORK_THREADS = 512, NETWORK_WARPS = NETWORK_THREADS / 32;
constexpr int ATOM_TILES = TOGETHER / 8, HIDDEN_TILES = HIDDEN / 16;
// Lengths of rows in shared memory. Lanes (g, t) of a warp read rows 2t at columns g, rows t at columns g, or rows g at
// columns 2t; these lengths lead them to different banks.
constexpr int ROW = 36, ROW_BACK = 40, ROW_W2 = HIDDEN + 8;
// The sum over features is cut into so many parts, a group of warps each.
constexpr int PARTS = NETWORK_WARPS / HIDDEN_TILES;
constexpr int SUMS = HIDDEN * ROW;

// What a block keeps in shared memory; the host counts the same (large_network.shared_bytes).
struct Kept {
    float *w1, *w2, *b1, *b2, *w3, *b3;  // weights, in the order in which they come
    float* delta;                        // (HIDDEN, ROW_BACK): gradient by z1
    float* energy;                       // (HIDDEN_TILES, TOGETHER): parts of w3 . h2
    float* moments;                      // (n_radial n_moments, TOGETHER)
    float* q;                            // (features, ROW): features, then what layers make, then the gradient

    __device__ __forceinline__ Kept(float* at, int row_w1, int moments_rows) {
        w1 = at, w2 = w1 + HIDDEN * row_w1, b1 = w2 + HIDDEN * ROW_W2, b2 = b1 + HIDDEN, w3 = b2 + HIDDEN;
        b3 = w3 + HIDDEN, delta = b3 + 4, energy = delta + HIDDEN * ROW_BACK;
        moments = energy + HIDDEN_TILES * TOGETHER, q = moments + moments_rows * TOGETHER;
    }
};

// Place of a lane within tiles.
struct Lane {
    int g, t;
    __device__ __forceinline__ Lane() : g(threadIdx.x % 32 / 4), t(threadIdx.x % 4) {}
};

// Tile of a matrix (rows, ..) from `at` on, whose columns 2t and 2t + 1 stand for t and t + 4.
__device__ __forceinline__ Split<4> rows_of(const float* at, int row, Lane l) {
    const float* x = at + l.g * row + 2 * l.t;
    const float a[4] = {x[0], x[8 * row], x[1], x[8 * row + 1]};
    return Split<4>(a);
}
// Tile that it is multiplied by: (.., atoms), rows in the same order.
__device__ __forceinline__ Split<2> columns_of(const float* at, int row, Lane l) {
    const float* x = at + 2 * l.t * row + l.g;
    const float b[2] = {x[0], x[row]};
    return Split<2>(b);
}
// Tile of the transpose of a matrix.
__device__ __forceinline__ Split<4> transposed_of(const float* at, int row, Lane l) {
    const float* x = at + l.t * row + l.g;
    const float a[4] = {x[0], x[8], x[4 * row], x[4 * row + 8]};
    return Split<4>(a);
}
// Tile that it is multiplied by.
__device__ __forceinline__ Split<2> columns_back(const float* at, int row, Lane l) {
    const float* x = at + l.t * row + l.g;
    const float b[2] = {x[0], x[4 * row]};
    return Split<2>(b);
}
// Call visit(k, row, column) for the four numbers of a lane in a tile of a result.
template <typename Visit> __device__ __forceinline__ void each_of_tile(Lane l, Visit visit) {
#pragma unroll
    for (int k = 0; k < 4; ++k) visit(k, l.g + 8 * (k / 2), 2 * l.t + k % 2);
}

// Features of the block's atoms; rows without a feature are zero.
__device__ __forceinline__ void contract_all(const Moments<float>& M, const Offsets& o, float* q, int n_features,
                                             int rows, bool is_atom) {
    const int atom = threadIdx.x % TOGETHER;
    for (int row = n_features + threadIdx.x / TOGETHER; row < rows; row += NETWORK_WARPS) q[row * ROW + atom] = 0.0f;
    if (!is_atom) return;
    const Column<float> out(q, atom, ROW, n_features);
    for (Jobs<float> jobs(4, M.n); jobs.left(); jobs.next()) {
        switch (jobs.kind()) {
            case 0: contract_vectors(M, out, o, jobs.channel()); break;
            case 1: contract_matrices(M, out, o, jobs.channel()); break;
            case 2: contract_tensors(M, out, o, jobs.channel()); break;
            default: contract_mixed(M, out, o, jobs.channel());
        }
    }
}

// W1 q: a warp sums a part of the features for 16 rows; the parts follow one another in q, whose features are gone then.
__device__ __forceinline__ void first_layer(const Kept& kept, int row_w1, int rows, Lane l) {
    const int w = threadIdx.x / 32, tile = w % HIDDEN_TILES, part = w / HIDDEN_TILES;
    float z[ATOM_TILES][4] = {};
    for (int k = 8 * part; k < rows; k += 8 * PARTS) {
        const Split<4> a = rows_of(kept.w1 + 16 * tile * row_w1 + k, row_w1, l);
#pragma unroll
        for (int n = 0; n < ATOM_TILES; ++n) multiply(z[n], a, columns_of(kept.q + k * ROW + 8 * n, ROW, l));
    }
    __syncthreads();
#pragma unroll
    for (int n = 0; n < ATOM_TILES; ++n)
        each_of_tile(l, [&](int k, int row, int column) {
            kept.q[part * SUMS + (16 * tile + row) * ROW + 8 * n + column] = z[n][k];
        });
    __syncthreads();
}

// Sums of the parts, h1 and f'(z1) in place of the first two.
template <typename A> __device__ __forceinline__ void first_activation(const Kept& kept) {
    for (int k = threadIdx.x; k < HIDDEN * TOGETHER; k += NETWORK_THREADS) {
        const int row = k / TOGETHER, at = row * ROW + k % TOGETHER;
        float z = kept.b1[row], h, s;
#pragma unroll
        for (int part = 0; part < PARTS; ++part) z += kept.q[part * SUMS + at];
        A::value(z, h, s);
        kept.q[at] = h;
        kept.q[SUMS + at] = A::slope(h, s);
    }
    __syncthreads();
}

// The second layer of one tile for each warp: its part of the energy, and f'(z2) scale w3 in place of the third part.
template <typename A> __device__ __forceinline__ void second_layer(const Kept& kept, const float (&scale)[2], Lane l) {
    const int w = threadIdx.x / 32, tile = w % HIDDEN_TILES, n = w / HIDDEN_TILES;
    float z[4] = {}, e[2] = {};
#pragma unroll
    for (int k = 0; k < HIDDEN; k += 8)
        multiply(z, rows_of(kept.w2 + 16 * tile * ROW_W2 + k, ROW_W2, l), columns_of(kept.q + k * ROW + 8 * n, ROW, l));
    each_of_tile(l, [&](int k, int row_of_tile, int column) {
        const int row = 16 * tile + row_of_tile;
        float h, s;
        A::value(z[k] + kept.b2[row], h, s);
        e[k % 2] += kept.w3[row] * h;
        kept.q[2 * SUMS + row * ROW + 8 * n + column] = A::slope(h, s) * kept.w3[row] * scale[k % 2];
    });
#pragma unroll
    for (int k = 0; k < 2; ++k) {
#pragma unroll
        for (int by = 4; by < 32; by *= 2) e[k] += __shfl_xor_sync(0xffffffffu, e[k], by);
        if (l.g == 0) kept.energy[tile * TOGETHER + 8 * n + 2 * l.t + k] = e[k];
    }
    __syncthreads();
}

// f'(z1) W2^T delta2, a tile for each warp.
__device__ __forceinline__ void second_layer_back(const Kept& kept, Lane l) {
    const int w = threadIdx.x / 32, tile = w % HIDDEN_TILES, n = w / HIDDEN_TILES;
    const float* delta2 = kept.q + 2 * SUMS;
    float g[4] = {};
#pragma unroll
    for (int k = 0; k < HIDDEN; k += 8)
        multiply(g, transposed_of(kept.w2 + k * ROW_W2 + 16 * tile, ROW_W2, l),
                 columns_back(delta2 + k * ROW + 8 * n, ROW, l));
    each_of_tile(l, [&](int k, int row, int column) {
        const int at = 16 * tile + row, atom = 8 * n + column;
        kept.delta[at * ROW_BACK + atom] = g[k] * kept.q[SUMS + at * ROW + atom];
    });
    __syncthreads();
}

// dq = W1^T delta: a warp has half of the atoms, whose delta it keeps in registers, and takes 16 features at a time.
__device__ __forceinline__ void first_layer_back(const Kept& kept, int row_w1, int rows, Lane l) {
    constexpr int OWN = ATOM_TILES / 2, STEPS = HIDDEN / 8;
    const int w = threadIdx.x / 32, first = 8 * OWN * (w % 2);
    float delta[STEPS][OWN][2];
#pragma unroll
    for (int k = 0; k < STEPS; ++k)
#pragma unroll
        for (int n = 0; n < OWN; ++n) {
            const float* x = kept.delta + (8 * k + l.t) * ROW_BACK + first + 8 * n + l.g;
            delta[k][n][0] = x[0];
            delta[k][n][1] = x[4 * ROW_BACK];
        }
    for (int feature = 16 * (w / 2); feature < rows; feature += 16 * (NETWORK_WARPS / 2)) {
        float dq[OWN][4] = {};
#pragma unroll
        for (int k = 0; k < STEPS; ++k) {
            const Split<4> a = transposed_of(kept.w1 + 8 * k * row_w1 + feature, row_w1, l);
#pragma unroll
            for (int n = 0; n < OWN; ++n) multiply(dq[n], a, Split<2>(delta[k][n]));
        }
#pragma unroll
        for (int n = 0; n < OWN; ++n)
            each_of_tile(l, [&](int k, int row, int column) {
                kept.q[(feature + row) * ROW + first + 8 * n + column] = dq[n][k];
            });
    }
    __syncthreads();
}

// Gradient of the block's atoms by their moments.
__device__ __forceinline__ void pull_all(const Moments<float>& M, const Offsets& o, float* dq, const Column<float>& dM,
                                         int n_features) {
    const Column<float> in(dq, threadIdx.x % TOGETHER, ROW, n_features);
    for (Jobs<float> jobs(3, M.n); jobs.left(); jobs.next()) {
        switch (jobs.kind()) {
            case 0: pull_vectors(M, in, dM, o, jobs.channel()); break;
            case 1: pull_matrices(M, in, dM, o, jobs.channel()); break;
            default: pull_tensors(M, in, dM, o, jobs.channel());
        }
    }
}

struct GmLargeNetworkScalars {
    long long n_atoms;          // columns, an atom each
    long long moments_stride;   // from row to row of moments
    long long dmoments_stride;  // from row to row of dmoments
    int n_radial;               // radial channels
    int n_moments;              // monomials
    int n_features;             // features
    int rows;                   // features, and zeros up to a multiple of 16
    int row_w1;                 // from row to row of W1
    int o1;                     // first feature of contraction 1, -1 if left out
    int o2;                     // likewise, of the others
    int o3;
    int o4;
    int o5;
    int o6;
    int o7;
    int o8;
    bool derivatives;           // (2) is wanted
};

// Energies (1) of atoms, and the gradient (2) where it is asked for.
template <typename A>
__global__ void __launch_bounds__(NETWORK_THREADS, 1)
gm_large_network(
    const float* __restrict__ weights,  // W1 (HIDDEN, row_w1), W2 (HIDDEN, ROW_W2), b1, b2, w3 (HIDDEN,), b3 (4,)
    const float* __restrict__ moments,  // (n_radial, n_moments, n_atoms)
    const int* __restrict__ owner,      // (n_atoms,): which atom a column is
    const int* __restrict__ species,    // (n_all,)
    const float* __restrict__ scale,    // (n_species,), eV
    double* __restrict__ energies,      // (n_all,), eV
    float* __restrict__ dmoments,       // (n_radial, n_moments, n_atoms) where `derivatives`, else any array
    const GmLargeNetworkScalars given
) {
    FD_DYNAMIC_SHARED(float, shared);
    const Kept kept(shared, given.row_w1, given.n_radial * given.n_moments);
    const Offsets o{{0, given.o1, given.o2, given.o3, given.o4, given.o5, given.o6, given.o7, given.o8}};
    const Lane l;
    for (int k = threadIdx.x; k < kept.delta - kept.w1; k += NETWORK_THREADS) kept.w1[k] = weights[k];

    for (long long i0 = (long long)blockIdx.x * TOGETHER; i0 < given.n_atoms; i0 += (long long)gridDim.x * TOGETHER) {
        const long long i = i0 + threadIdx.x % TOGETHER;
        __syncthreads();  // the gradient of the atoms before has been read
        const Moments<float> M = stage_moments(kept.moments, moments, given.moments_stride, i0, given.n_atoms,
                                               given.n_radial, given.n_moments);
        contract_all(M, o, kept.q, given.n_features, given.rows, i < given.n_atoms);
        __syncthreads();
        first_layer(kept, given.row_w1, given.rows, l);
        first_activation<A>(kept);

        float own_scale[2];  // of the two columns of the lane's tile of the second layer
#pragma unroll
        for (int k = 0; k < 2; ++k) {
            const long long column = i0 + 8 * (threadIdx.x / 32 / HIDDEN_TILES) + 2 * l.t + k;
            own_scale[k] = column < given.n_atoms ? scale[species[owner[column]]] : 0.0f;
        }
        second_layer<A>(kept, own_scale, l);
        if (threadIdx.x < TOGETHER && i < given.n_atoms) {
            float e = kept.b3[0];
#pragma unroll
            for (int tile = 0; tile < HIDDEN_TILES; ++tile) e += kept.energy[tile * TOGETHER + threadIdx.x];
            const int atom = owner[i];
            energies[atom] = (double)e * (double)scale[species[atom]];
        }
        if (!given.derivatives) continue;
        second_layer_back(kept, l);
        first_layer_back(kept, given.row_w1, given.rows, l);
        if (i < given.n_atoms)
            pull_all(M, o, kept.q, Column<float>(dmoments, i, given.dmoments_stride, given.n_radial * given.n_moments),
                     given.n_features);
    }
}
