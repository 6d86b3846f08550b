// Runs unchanged CUDA C++ kernels on the CPU, for tests. Force-included before a kernel's source (g++ -include), linked
// with runtime.cpp. Neither a GPU nor CUDA headers are needed.
//
// - A CUDA thread is a fiber with a stack of its own; blocks run one after another.
// - Barriers and warp collectives are exact rendezvous; divergence, deadlock and wrong masks are reported.
// - Threads run forward, in reverse or in random order: where a barrier is missing, results differ.
// - To the thread sanitizer, barriers order memory; shuffles, votes and the order of blocks (if asked) do not.
// - Shared memory declared through FD_SHARED begins as NaN (bytes 0xff) in each block, and is allocated to the byte, so
//   that sanitizers see the first access past its end.
//
// Not emulated: cooperative groups, asynchronous copies, half precision, dynamic parallelism.
#pragma once
#define FD_EMULATED 1
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <math.h>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

// ---------------------------------------------------------------------------- the run time, as kernels see it

namespace emulator {

using Slot = unsigned char[16];  // what one lane brings to a collective

struct Thread {  // public head of the run time's record
    uint3 index;
    unsigned linear;
};
extern Thread* current;
extern uint3 block_index;
extern dim3 block_size, grid_size;

enum class Vote { count, all, any };
enum class Shuffle { index, up, down, exclusive_or };

int block_barrier(const char* what, int line, bool vote, Vote mode);
const Slot* warp_meet(unsigned mask, const void* value, unsigned size, const char* what, int line);
void* static_shared(const void* tag, size_t size);
unsigned char* dynamic_shared();
unsigned active_lanes();
[[noreturn]] void fail_because(const char* message);
int run(void (*body)(void**), void** args, const unsigned* grid, const unsigned* block, size_t shared);

template <typename T> T value_of(const Slot* slots, int lane) {
    T value;
    memcpy(&value, slots[lane], sizeof value);
    return value;
}

template <typename T>
T shuffle(Shuffle mode, const char* what, int line, unsigned mask, T value, int by, int width = 32) {
    static_assert(sizeof(T) <= sizeof(Slot), "a shuffled value has at most 16 bytes");
    const Slot* slots = warp_meet(mask, &value, sizeof(T), what, line);
    const int lane = current->linear % 32, base = lane & ~(width - 1);
    int from = lane;
    if (mode == Shuffle::index) from = base + (by & (width - 1));
    if (mode == Shuffle::up) from = lane - by < base ? lane : lane - by;
    if (mode == Shuffle::down) from = lane + by >= base + width ? lane : lane + by;
    if (mode == Shuffle::exclusive_or) from = (lane ^ by) >= base + width ? lane : lane ^ by;
    return value_of<T>(slots, from);  // a lane outside the mask delivers poison
}

inline unsigned ballot(const char* what, int line, unsigned mask, bool vote) {
    const unsigned char own = vote;
    const Slot* slots = warp_meet(mask, &own, 1, what, line);
    unsigned votes = 0;
    for (int lane = 0; lane < 32; ++lane)
        if (mask >> lane & 1 && slots[lane][0] == 1) votes |= 1u << lane;
    return votes;
}

template <typename T, typename F> T reduce(const char* what, int line, unsigned mask, T value, F combine) {
    const Slot* slots = warp_meet(mask, &value, sizeof(T), what, line);
    T result{};
    bool first = true;
    for (int lane = 0; lane < 32; ++lane)
        if (mask >> lane & 1) {
            const T x = value_of<T>(slots, lane);
            result = first ? x : combine(result, x);
            first = false;
        }
    return result;
}

template <typename T, typename F> T atomic(T* at, F update) {
    using Bits = std::conditional_t<sizeof(T) == 8, unsigned long long, unsigned>;
    Bits seen = __atomic_load_n((Bits*)at, __ATOMIC_RELAXED), wanted;
    T before;
    do {
        memcpy(&before, &seen, sizeof before);
        const T after = update(before);
        memcpy(&wanted, &after, sizeof wanted);
    } while (!__atomic_compare_exchange_n((Bits*)at, &seen, wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return before;
}

}  // namespace emulator

// -------------------------------------------------------------------------------------------- CUDA's built-ins

#define threadIdx (emulator::current->index)
#define blockIdx (emulator::block_index)
#define blockDim (emulator::block_size)
#define gridDim (emulator::grid_size)
constexpr int warpSize = 32;

#define FD_SHARED(T, name, dims)             \
    using name##_shared_type = T dims;       \
    static char name##_tag;                  \
    name##_shared_type& name =               \
        *reinterpret_cast<name##_shared_type*>(emulator::static_shared(&name##_tag, sizeof(name##_shared_type)))
#define FD_DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(emulator::dynamic_shared())

#define EMULATED_BARRIER(what, vote, mode) emulator::block_barrier(what, __LINE__, (vote), emulator::Vote::mode)
#define __syncthreads() ((void)EMULATED_BARRIER("__syncthreads", false, count))
#define __syncthreads_count(vote) EMULATED_BARRIER("__syncthreads_count", vote, count)
#define __syncthreads_and(vote) EMULATED_BARRIER("__syncthreads_and", vote, all)
#define __syncthreads_or(vote) EMULATED_BARRIER("__syncthreads_or", vote, any)

inline void emulated_syncwarp(int line, unsigned mask = 0xffffffffu) {
    emulator::warp_meet(mask, nullptr, 0, "__syncwarp", line);
}
#define __syncwarp(...) emulated_syncwarp(__LINE__ __VA_OPT__(, ) __VA_ARGS__)
#define EMULATED_SHUFFLE(what, mode, ...) emulator::shuffle(emulator::Shuffle::mode, what, __LINE__, __VA_ARGS__)
#define __shfl_sync(...) EMULATED_SHUFFLE("__shfl_sync", index, __VA_ARGS__)
#define __shfl_up_sync(...) EMULATED_SHUFFLE("__shfl_up_sync", up, __VA_ARGS__)
#define __shfl_down_sync(...) EMULATED_SHUFFLE("__shfl_down_sync", down, __VA_ARGS__)
#define __shfl_xor_sync(...) EMULATED_SHUFFLE("__shfl_xor_sync", exclusive_or, __VA_ARGS__)
#define __ballot_sync(mask, vote) emulator::ballot("__ballot_sync", __LINE__, (mask), (vote))
#define __any_sync(mask, vote) (emulator::ballot("__any_sync", __LINE__, (mask), (vote)) != 0)
#define __all_sync(mask, vote) (emulator::ballot("__all_sync", __LINE__, (mask), !(vote)) == 0)
#define EMULATED_REDUCE(what, mask, value, expression) \
    emulator::reduce(what, __LINE__, (mask), (value), [](auto a, auto b) { return expression; })
#define __reduce_add_sync(mask, value) EMULATED_REDUCE("__reduce_add_sync", mask, value, a + b)
#define __reduce_max_sync(mask, value) EMULATED_REDUCE("__reduce_max_sync", mask, value, a > b ? a : b)
#define __reduce_min_sync(mask, value) EMULATED_REDUCE("__reduce_min_sync", mask, value, a < b ? a : b)
#define __activemask() emulator::active_lanes()

#define EMULATED_ATOMIC(name, expression)                                               \
    template <typename T> inline T name(T* at, std::common_type_t<T> b) {               \
        return emulator::atomic<T>(at, [=](T a) { return T(expression); });             \
    }
EMULATED_ATOMIC(atomicAdd, a + b)
EMULATED_ATOMIC(atomicSub, a - b)
EMULATED_ATOMIC(atomicMax, a > b ? a : b)
EMULATED_ATOMIC(atomicMin, a < b ? a : b)
EMULATED_ATOMIC(atomicExch, b)
EMULATED_ATOMIC(atomicOr, a | b)
EMULATED_ATOMIC(atomicAnd, a & b)
template <typename T> inline T atomicCAS(T* at, std::common_type_t<T> expected, std::common_type_t<T> wanted) {
    T seen = expected;
    __atomic_compare_exchange_n(at, &seen, T(wanted), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return seen;
}

#define EMULATED_MIN_MAX(T)                                   \
    inline T min(T a, T b) { return b < a ? b : a; }          \
    inline T max(T a, T b) { return a < b ? b : a; }
EMULATED_MIN_MAX(int) EMULATED_MIN_MAX(unsigned) EMULATED_MIN_MAX(long) EMULATED_MIN_MAX(unsigned long)
EMULATED_MIN_MAX(long long) EMULATED_MIN_MAX(unsigned long long)
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

// mma.sync.m16n8k8 of TF32: D (16 x 8) += A (16 x 8) B (8 x 8) of a warp, the lower 13 bits of factors ignored. The PTX
// manual says which lane has which numbers; lanes of a whole warp must meet.
inline void emulated_mma_m16n8k8_tf32(float (&d)[4], const float (&a)[4], const float (&b)[2], int line = __builtin_LINE()) {
    const auto tf32 = [](const emulator::Slot& slot, int k) {
        uint32_t bits;
        memcpy(&bits, slot + 4 * k, 4);
        bits &= 0xffffe000u;
        float x;
        memcpy(&x, &bits, 4);
        return x;
    };
    const int lane = emulator::current->linear % 32, g = lane / 4, t = lane % 4;
    float rows[2][8], columns[8][2];
    const emulator::Slot* slots = emulator::warp_meet(0xffffffffu, &a, sizeof a, "mma", line);
    for (int r = 0; r < 2; ++r)
        for (int k = 0; k < 8; ++k) rows[r][k] = tf32(slots[4 * g + k % 4], r + 2 * (k / 4));
    slots = emulator::warp_meet(0xffffffffu, &b, sizeof b, "mma", line);
    for (int k = 0; k < 8; ++k)
        for (int c = 0; c < 2; ++c) columns[k][c] = tf32(slots[4 * (2 * t + c) + k % 4], k / 4);
    for (int r = 0; r < 2; ++r)
        for (int c = 0; c < 2; ++c)
            for (int k = 0; k < 8; ++k) d[2 * r + c] += rows[r][k] * columns[k][c];
}

constexpr double EMULATED_PI = 3.14159265358979323846;
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline float rsqrt(float x) { return 1 / sqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline double sinpi(double x) { return sin(x * EMULATED_PI); }
inline double cospi(double x) { return cos(x * EMULATED_PI); }
inline float sinpif(float x) { return float(sinpi(x)); }
inline float cospif(float x) { return float(cospi(x)); }
inline void sincospi(double x, double* s, double* c) { *s = sinpi(x), *c = cospi(x); }
inline void sincospif(float x, float* s, float* c) { *s = sinpif(x), *c = cospif(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
template <typename T> T __ldg(const T* at) { return *at; }
template <typename T> T __ldcs(const T* at) { return *at; }
template <typename T> void __stcs(T* at, T value) { *at = value; }
inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __trap() { emulator::fail_because("__trap()"); }

// ------------------------------------------------------------- how Python calls a kernel, with types to check

namespace emulator {

template <typename T> constexpr char kind() {
    using U = std::remove_cv_t<T>;
    if (std::is_same_v<U, bool>) return 'b';
    if (std::is_floating_point_v<U>) return 'f';
    if (std::is_integral_v<U>) return std::is_signed_v<U> ? 'i' : 'u';
    return 'V';
}

template <auto kernel> struct Launcher;
template <typename... Args, void (*kernel)(Args...)> struct Launcher<kernel> {
    template <size_t... I> static void call(void** args, std::index_sequence<I...>) {
        kernel(*reinterpret_cast<std::remove_cv_t<Args>*>(args[I])...);
    }
    static void body(void** args) { call(args, std::index_sequence_for<Args...>{}); }

    // "i4" an int, "*f4" a float*, "c*f4" a const float*
    template <typename T> static void describe(char*& out) {
        if constexpr (std::is_pointer_v<T>) {
            using Pointee = std::remove_pointer_t<T>;
            using Sized = std::conditional_t<std::is_void_v<Pointee>, char, Pointee>;
            const char* constant = std::is_const_v<Pointee> ? "c" : "";
            out += sprintf(out, "%s*%c%zu,", constant, kind<Pointee>(), sizeof(Sized));
        } else {
            out += sprintf(out, "%c%zu,", kind<T>(), sizeof(T));
        }
    }
    static const char* signature() {
        static char text[sizeof...(Args) * 12 + 1];
        char* out = text;
        (describe<Args>(out), ...);
        if (out > text) out[-1] = 0;
        return text;
    }
};

}  // namespace emulator

#define EMULATED_EXPORT(symbol, ...)                                                                          \
    extern "C" int symbol(const unsigned* grid, const unsigned* block, size_t shared, void** args) {          \
        return emulator::run(&emulator::Launcher<&__VA_ARGS__>::body, args, grid, block, shared);             \
    }                                                                                                         \
    extern "C" const char* symbol##_signature() { return emulator::Launcher<&__VA_ARGS__>::signature(); }
