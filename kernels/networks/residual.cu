// Activation and normalisation of residual blocks, one launch for each layer and direction. Formulas (4) to (7) are in
// fastdesc/networks/residual.py.
//
// specialise residual_value<T, A, N>       T: float, double; A: TrainedSilu, TrainedIsru; N: true, false
// specialise residual_pullback<T, A, N>    T: float, double; A: TrainedSilu, TrainedIsru; N: true, false
//
// A block owns 32 columns (atoms); eight threads share the rows of one. Sums run in one order, so results repeat bit for
// bit. What a thread has written to the result it reads again, nobody else does.
//
// Columns are last and rows have no gaps: element (row, k) of `z` is z[row * n + k].
#include "networks/activations.cuh"

using namespace fd;

constexpr int COLUMNS = 32, PARTS = 8, THREADS = COLUMNS * PARTS;

__device__ __forceinline__ int own_part() { return threadIdx.x / COLUMNS; }
__device__ __forceinline__ int own_column() { return threadIdx.x % COLUMNS; }

// Sum over the eight threads of a column; all threads of a block must call it.
template <typename T> __device__ __forceinline__ T column_sum(T own, T (*shared)[COLUMNS]) {
    __syncthreads();
    shared[own_part()][own_column()] = own;
    __syncthreads();
    T sum = T(0);
#pragma unroll
    for (int part = 0; part < PARTS; ++part) sum += shared[part][own_column()];
    return sum;
}

// Writes a(z) to `h`, subtracts its mean over the rows, and returns the inverse square root of formula (6).
template <typename T, typename A>
__device__ __forceinline__ T centred(const T* z, const T* alpha, const T* beta, T* h, long long k, bool inside,
                                     long long n, int width, T (*shared)[COLUMNS]) {
    constexpr T epsilon = T(1e-5);
    T sum = T(0);
    if (inside)
        for (int row = own_part(); row < width; row += PARTS) {
            T phi, slope;
            A::value(z[row * n + k], beta[row], phi, slope);
            const T a = alpha[row] * phi;
            h[row * n + k] = a;
            sum += a;
        }
    const T mean = column_sum(sum, shared) / T(width);
    sum = T(0);
    if (inside)
        for (int row = own_part(); row < width; row += PARTS) {
            const T d = h[row * n + k] - mean;
            h[row * n + k] = d;
            sum += d * d;
        }
    return T(1) / square_root(column_sum(sum, shared) / T(width) + epsilon);
}

struct ResidualScalars {
    long long n;  // atoms
    int width;    // rows
};

// h = norm(a(z)).
template <typename T, typename A, bool N>
__global__ void __launch_bounds__(THREADS)
residual_value(
    const T* __restrict__ z,      // (width, n)
    const T* __restrict__ alpha,  // (width,)
    const T* __restrict__ beta,   // (width,)
    const T* __restrict__ gain,   // (width,) where normalised, else any array
    const T* __restrict__ shift,  // (width,), likewise
    T* h,                         // (width, n)
    const ResidualScalars given
) {
    FD_SHARED(T, shared, [PARTS][COLUMNS]);
    const long long k = blockIdx.x * (long long)COLUMNS + own_column();
    const bool inside = k < given.n;
    if (N) {
        const T r = centred<T, A>(z, alpha, beta, h, k, inside, given.n, given.width, shared);
        if (inside)
            for (int row = own_part(); row < given.width; row += PARTS)
                h[row * given.n + k] = gain[row] * (h[row * given.n + k] * r) + shift[row];
    } else if (inside) {
        for (int row = own_part(); row < given.width; row += PARTS) {
            T phi, slope;
            A::value(z[row * given.n + k], beta[row], phi, slope);
            h[row * given.n + k] = alpha[row] * phi;
        }
    }
}

// dz from dh, the cotangent of norm(a(z)).
template <typename T, typename A, bool N>
__global__ void __launch_bounds__(THREADS)
residual_pullback(
    const T* __restrict__ z,      // (width, n)
    const T* __restrict__ dh,     // (width, n)
    const T* __restrict__ alpha,  // (width,)
    const T* __restrict__ beta,   // (width,)
    const T* __restrict__ gain,   // (width,) where normalised, else any array
    T* dz,                        // (width, n)
    const ResidualScalars given
) {
    FD_SHARED(T, shared, [PARTS][COLUMNS]);
    const long long k = blockIdx.x * (long long)COLUMNS + own_column();
    const bool inside = k < given.n;
    T r = T(1), mean = T(0), along = T(0);
    if (N) {
        r = centred<T, A>(z, alpha, beta, dz, k, inside, given.n, given.width, shared);
        if (inside)
            for (int row = own_part(); row < given.width; row += PARTS) {
                const T D = dh[row * given.n + k] * gain[row];
                mean += D;
                along += D * dz[row * given.n + k];
            }
        mean = column_sum(mean, shared) / T(given.width);
        along = column_sum(along, shared) / T(given.width) * r * r;
    }
    if (inside)
        for (int row = own_part(); row < given.width; row += PARTS) {
            T phi, slope;
            A::value(z[row * given.n + k], beta[row], phi, slope);
            T da = dh[row * given.n + k];
            if (N) da = r * (da * gain[row] - mean - dz[row * given.n + k] * along);
            dz[row * given.n + k] = alpha[row] * slope * da;
        }
}
