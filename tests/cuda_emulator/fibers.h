// Fibers: one stack for each emulated thread, and the switch between them. Compiled without sanitizers, but told by
// EMULATOR_ADDRESS or EMULATOR_THREAD that the kernels have one, so that it follows the switches.
#pragma once
#include <cstddef>
#include <sys/mman.h>
#include <vector>
#if !defined(__x86_64__)
#include <ucontext.h>
#define EMULATOR_UCONTEXT
#endif

#if defined(EMULATOR_THREAD)
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned);
void __tsan_destroy_fiber(void*);
void __tsan_switch_to_fiber(void*, unsigned);
void __tsan_acquire(void*);
void __tsan_release(void*);
}
static void acquire(const void* p) { __tsan_acquire(const_cast<void*>(p)); }
static void release(const void* p) { __tsan_release(const_cast<void*>(p)); }
#else
static void acquire(const void*) {}
static void release(const void*) {}
#endif
#if defined(EMULATOR_ADDRESS)
extern "C" {
void __sanitizer_start_switch_fiber(void**, const void*, size_t);
void __sanitizer_finish_switch_fiber(void*, const void**, size_t*);
void __asan_unpoison_memory_region(const void*, size_t);
}
#endif

namespace emulator {

struct Fiber {
    unsigned char* stack;
    size_t size;
    void* sanitizer;
    void* start;  // the thread that runs first
#if defined(EMULATOR_UCONTEXT)
    ucontext_t context;
#else
    void* stack_pointer;
#endif
};
constexpr size_t STACK = 256 * 1024, GUARD = 4096;

static std::vector<Fiber*> fibers, idle;
static Fiber host_fiber;
static Fiber* current_fiber;

#if !defined(EMULATOR_UCONTEXT)
extern "C" void emulator_switch(void** save, void* load);
asm(R"(
.text
.globl emulator_switch
.hidden emulator_switch
.type emulator_switch,@function
emulator_switch:
    pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    movq %rsp,(%rdi)
    movq %rsi,%rsp
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
    ret
.size emulator_switch,.-emulator_switch
)");
#endif

static void fiber_main();

static void prime(Fiber* f) {  // make f start at fiber_main, on an empty stack
#if defined(EMULATOR_ADDRESS)
    __asan_unpoison_memory_region(f->stack, f->size);
#endif
#if defined(EMULATOR_UCONTEXT)
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = f->size;
    f->context.uc_link = nullptr;
    makecontext(&f->context, fiber_main, 0);
#else
    void** top = reinterpret_cast<void**>(f->stack + f->size);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(fiber_main);
    for (int k = 0; k < 6; ++k) *--top = nullptr;
    f->stack_pointer = top;
#endif
}

static Fiber* new_fiber() {
    Fiber* f = new Fiber();
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    auto* memory = static_cast<unsigned char*>(mmap(nullptr, STACK + GUARD, PROT_READ | PROT_WRITE, flags, -1, 0));
    mprotect(memory, GUARD, PROT_NONE);  // a stack that overflows faults
    f->stack = memory + GUARD;
    f->size = STACK;
#if defined(EMULATOR_THREAD)
    f->sanitizer = __tsan_create_fiber(0);
#endif
    prime(f);
    fibers.push_back(f);
    return f;
}

static void free_fibers() {
    for (Fiber* f : fibers) {
#if defined(EMULATOR_THREAD)
        __tsan_destroy_fiber(f->sanitizer);
#endif
        munmap(f->stack - GUARD, f->size + GUARD);
        delete f;
    }
    fibers.clear();
}

static Fiber* idle_fiber() {
    if (idle.empty()) return new_fiber();
    Fiber* f = idle.back();
    idle.pop_back();
    return f;
}

static void switch_to(Fiber* to) {
    Fiber* from = current_fiber;
#if defined(EMULATOR_THREAD)
    __tsan_switch_to_fiber(to->sanitizer, 1);  // 1: the switch itself orders nothing
#endif
#if defined(EMULATOR_ADDRESS)
    void* fake_stack;
    __sanitizer_start_switch_fiber(&fake_stack, to->stack, to->size);
#endif
    current_fiber = to;
#if defined(EMULATOR_UCONTEXT)
    swapcontext(&from->context, &to->context);
#else
    emulator_switch(&from->stack_pointer, to->stack_pointer);
#endif
#if defined(EMULATOR_ADDRESS)
    const void* bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(fake_stack, &bottom, &size);
#endif
}

static void on_first_entry() {  // what fiber_main calls first
#if defined(EMULATOR_ADDRESS)
    const void* bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
    if (!host_fiber.stack) {  // the very first fiber is entered from the host's stack
        host_fiber.stack = static_cast<unsigned char*>(const_cast<void*>(bottom));
        host_fiber.size = size;
    }
#endif
}

}  // namespace emulator
