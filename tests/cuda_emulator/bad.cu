// Kernels with one bug each, which the emulator must find; and their correct counterparts.
#include "../../kernels/common.cuh"

template <typename T> __global__ void right_barrier(const T* x, T* y) {
    FD_SHARED(T, s, [128]);
    const int t = threadIdx.x;
    s[t] = x[t];
    __syncthreads();
    y[t] = s[(t + 1) % 128];
}

template <typename T> __global__ void missing_barrier(const T* x, T* y) {  // a neighbour's slot is read unwritten
    FD_SHARED(T, s, [128]);
    const int t = threadIdx.x;
    s[t] = x[t];
    y[t] = s[(t + 1) % 128];
}

template <typename T> __global__ void divergent_barriers(const T* x, T* y) {
    if (threadIdx.x < 64) {
        __syncthreads();
        y[threadIdx.x] = x[threadIdx.x];
    } else {
        __syncthreads();
        y[threadIdx.x] = 2 * x[threadIdx.x];
    }
}

template <typename T> __global__ void half_a_warp(const T* x, T* y) {  // the others never come to the shuffle
    T v = x[threadIdx.x];
    if (threadIdx.x % 32 < 16) v = __shfl_down_sync(0xffffffffu, v, 8);
    else __syncthreads();
    y[threadIdx.x] = v;
}

template <typename T> __global__ void wrong_mask(const T* x, T* y) {
    y[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, x[threadIdx.x], 1);
}

template <typename T> __global__ void missing_warp_barrier(const T* x, T* y) {  // as if a warp ran in lockstep
    FD_SHARED(T, s, [128]);
    const int t = threadIdx.x, lane = t % 32;
    s[t] = x[t];
    for (int o = 16; o; o /= 2)
        if (lane < o) s[t] += s[t + o];
    y[t] = s[t - lane];
}

template <typename T> __global__ void vote_as_barrier(const T* x, T* y) {  // votes do not order memory
    FD_SHARED(T, s, [128]);
    const int t = threadIdx.x;
    s[t] = x[t];
    __ballot_sync(0xffffffffu, true);
    y[t] = s[t ^ 1];
}

template <typename T> __global__ void right_warp_barrier(const T* x, T* y) {
    FD_SHARED(T, s, [128]);
    const int t = threadIdx.x;
    s[t] = x[t];
    __syncwarp();
    y[t] = s[t ^ 1];
}

template <typename T> __global__ void uninitialised(const T* x, T* y) {  // slot 127
    FD_SHARED(T, s, [128]);
    const int t = threadIdx.x;
    if (t < 127) s[t] = x[t];
    __syncthreads();
    y[t] = s[t];
}

template <typename T> __global__ void past_the_end(const T* x, T* y) {  // of a global array of 128
    y[threadIdx.x] = x[threadIdx.x + 1];
}

template <typename T> __global__ void past_shared(const T* x, T* y) {  // slot 128
    FD_SHARED(T, s, [128]);
    T* p = s;
    const int t = threadIdx.x;
    p[t + (x[0] > 0)] = x[t];
    __syncthreads();
    y[t] = p[t];
}

template <typename T> __global__ void race(const T* x, T* y) { y[0] += x[threadIdx.x]; }  // no atomic

template <typename T> __global__ void race_between_blocks(const T* x, T* y) {
    if (threadIdx.x == 0) y[0] += x[blockIdx.x];
}

template <typename T> __global__ void no_race(const T* x, T* y) { atomicAdd(&y[0], x[threadIdx.x]); }
