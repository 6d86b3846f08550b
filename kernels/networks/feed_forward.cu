// Layers of a feed-forward network, one launch each, for batches that a launch costs more than the product does.
// Formulas (1) and (2) are in fastdesc/networks/feed_forward.py, those of activations in fastdesc/networks/activations.py; for large batches
// fastdesc/networks/feed_forward_cuda.py leaves the products to cuBLAS.
//
// specialise network_layer<T, A>      T: float, double; A: Silu, Tanh, Celu, Softplus
// specialise network_affine<T>        T: float, double
// specialise network_back<T, A>       T: float, double; A: Silu, Tanh, Celu, Softplus
// specialise network_transposed<T>    T: float, double
//
// A block owns TILE rows and TILE columns (atoms) of the result, a thread one element; weights and columns come through
// shared memory, DEPTH terms of the sum at a time. Sums run in one order, so results repeat bit for bit.
//
// Columns are last: element (row, n) of `x` is x[row * x_stride + n]. Weights and results have no gaps.
#include "networks/activations.cuh"

using namespace fd;

constexpr int TILE = 16, DEPTH = 64, THREADS = TILE * TILE, CHAINS = 4;

__device__ __forceinline__ int own_row() { return blockIdx.y * TILE + threadIdx.x / TILE; }
__device__ __forceinline__ long long own_column() { return blockIdx.x * (long long)TILE + threadIdx.x % TILE; }

// Sum over k of M(row, k) x(k, column) of the thread's own row and column, M = w (n_rows, n_terms), or the transpose of
// w (n_terms, n_rows). All threads of a block must call it.
template <bool TRANSPOSED, typename T>
__device__ __forceinline__ T product(const T* __restrict__ w, const T* __restrict__ x, long long n, int n_rows,
                                     int n_terms, long long x_stride) {
    FD_SHARED(T, weights, [TILE][DEPTH + 1]);
    FD_SHARED(T, columns, [DEPTH][TILE]);
    const int row = threadIdx.x / TILE, column = threadIdx.x % TILE, first_row = blockIdx.y * TILE;
    const long long first_column = blockIdx.x * (long long)TILE;
    T sums[CHAINS] = {T(0), T(0), T(0), T(0)};
    for (int start = 0; start < n_terms; start += DEPTH) {
#pragma unroll
        for (int at = threadIdx.x; at < TILE * DEPTH; at += THREADS) {
            const int r = TRANSPOSED ? at % TILE : at / DEPTH, k = TRANSPOSED ? at / TILE : at % DEPTH;
            const long long i = first_row + r, term = start + k;
            const bool inside = i < n_rows && term < n_terms;
            weights[r][k] = inside ? w[TRANSPOSED ? term * n_rows + i : i * n_terms + term] : T(0);
            const long long own = start + at / TILE, c = first_column + at % TILE;
            columns[at / TILE][at % TILE] = own < n_terms && c < n ? x[own * x_stride + c] : T(0);
        }
        __syncthreads();
#pragma unroll 8
        for (int k = 0; k < DEPTH; ++k) sums[k % CHAINS] += weights[row][k] * columns[k][column];
        __syncthreads();
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

struct NetworkForwardScalars {
    long long n;         // atoms
    int n_out;           // rows of w
    int n_in;            // columns of w
    long long x_stride;  // from row to row of x
    bool biased;         // b is added
};

// h, s = value and gate of z = w x + b.
template <typename T, typename A>
__global__ void __launch_bounds__(THREADS)
network_layer(
    const T* __restrict__ w,  // (n_out, n_in)
    const T* __restrict__ b,  // (n_out,) where `biased`, else any array
    const T* __restrict__ x,  // (n_in, n)
    T* __restrict__ h,        // (n_out, n)
    T* __restrict__ s,        // (n_out, n)
    const NetworkForwardScalars given
) {
    const T sum = product<false>(w, x, given.n, given.n_out, given.n_in, given.x_stride);
    if (own_row() >= given.n_out || own_column() >= given.n) return;
    const long long at = own_row() * given.n + own_column();
    A::value(given.biased ? sum + b[own_row()] : sum, h[at], s[at]);
}

// z = w x + b.
template <typename T>
__global__ void __launch_bounds__(THREADS)
network_affine(
    const T* __restrict__ w,  // (n_out, n_in)
    const T* __restrict__ b,  // (n_out,) where `biased`, else any array
    const T* __restrict__ x,  // (n_in, n)
    T* __restrict__ z,        // (n_out, n)
    const NetworkForwardScalars given
) {
    const T sum = product<false>(w, x, given.n, given.n_out, given.n_in, given.x_stride);
    if (own_row() >= given.n_out || own_column() >= given.n) return;
    z[own_row() * given.n + own_column()] = given.biased ? sum + b[own_row()] : sum;
}

struct NetworkBackScalars {
    long long n;          // atoms
    int n_out;            // rows of w
    int n_in;             // columns of w
    long long dy_stride;  // from row to row of dy
};

// g = w^T dy and, of the layer below, delta = f'(z) g.
template <typename T, typename A>
__global__ void __launch_bounds__(THREADS)
network_back(
    const T* __restrict__ w,   // (n_out, n_in)
    const T* __restrict__ dy,  // (n_out, n)
    const T* __restrict__ h,   // (n_in, n)
    const T* __restrict__ s,   // (n_in, n)
    T* __restrict__ g,         // (n_in, n)
    T* __restrict__ delta,     // (n_in, n)
    const NetworkBackScalars given
) {
    const T sum = product<true>(w, dy, given.n, given.n_in, given.n_out, given.dy_stride);
    if (own_row() >= given.n_in || own_column() >= given.n) return;
    const long long at = own_row() * given.n + own_column();
    g[at] = sum;
    delta[at] = A::slope(h[at], s[at]) * sum;
}

// dx = w^T dy.
template <typename T>
__global__ void __launch_bounds__(THREADS)
network_transposed(
    const T* __restrict__ w,   // (n_out, n_in)
    const T* __restrict__ dy,  // (n_out, n)
    T* __restrict__ dx,        // (n_in, n)
    const NetworkBackScalars given
) {
    const T sum = product<true>(w, dy, given.n, given.n_in, given.n_out, given.dy_stride);
    if (own_row() < given.n_in && own_column() < given.n) dx[own_row() * given.n + own_column()] = sum;
}
