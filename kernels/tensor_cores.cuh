// Matrix products of a warp on tensor cores, in float32's accuracy: every factor is a sum of two numbers of 11 bits
// (TF32), and three of the four products are added up ("3xTF32"; the fourth is below float32's round-off).
//
// Lane l of a warp is row g = l / 4 and column t = l % 4 of a tile of 16 x 8, 8 x 8 or 16 x 8 numbers:
//
//     A (16 x 8)   a[0] (g, t)    a[1] (g + 8, t)    a[2] (g, t + 4)    a[3] (g + 8, t + 4)
//     B (8 x 8)    b[0] (t, g)    b[1] (t + 4, g)
//     D (16 x 8)   d[0] (g, 2t)   d[1] (g, 2t + 1)   d[2] (g + 8, 2t)   d[3] (g + 8, 2t + 1)
#pragma once
#include "common.cuh"

namespace fd {

// D += A B; of the numbers in A and B the upper 19 bits count, which TF32 has. All lanes of a warp must call it.
__device__ __forceinline__ void multiply_tf32(float (&d)[4], const float (&a)[4], const float (&b)[2]) {
#if defined(FD_EMULATED)
    emulated_mma_m16n8k8_tf32(d, a, b);
#elif __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
          "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
#else
    __trap();  // no such instruction
#endif
}

// Numbers as high + low. Masks are cheaper than a conversion to TF32, which sm_90 has no instruction for.
template <int N> struct Split {
    float high[N], low[N];

    __device__ __forceinline__ explicit Split(const float (&x)[N]) {
#pragma unroll
        for (int k = 0; k < N; ++k) {
            high[k] = __uint_as_float(__float_as_uint(x[k]) & 0xffffe000u);
            low[k] = x[k] - high[k];
        }
    }
};

// D += A B in float32's accuracy; the small products first.
__device__ __forceinline__ void multiply(float (&d)[4], const Split<4>& a, const Split<2>& b) {
    multiply_tf32(d, a.low, b.high);
    multiply_tf32(d, a.high, b.low);
    multiply_tf32(d, a.high, b.high);
}

}  // namespace fd
