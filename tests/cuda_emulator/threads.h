// Threads of the block that runs: their states, the order in which they take turns, and what if none can go on.
#pragma once
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "fibers.h"

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

namespace emulator {

constexpr size_t MAX_SHARED = 227 * 1024;
constexpr unsigned MAX_THREADS = 1024, MAX_MASKS = 32;

using Slot = unsigned char[16];
enum class Vote { count, all, any };
enum class State : unsigned char { fresh, ready, running, at_barrier, at_warp, done };

struct Thread {
    uint3 index;
    unsigned linear;
    State state;
    Fiber* fiber;
    const char* what;  // where it waits
    int line;
};
struct Meeting {  // lanes of one mask at a warp collective; two buffers, since a lane may still read the last one
    unsigned mask, arrived, phase;
    const char* what;
    int line;
    Slot slots[2][32];
};
struct Warp {
    unsigned alive, n_meetings;
    Meeting meetings[MAX_MASKS];
};
enum Order { FORWARD, REVERSE, RANDOM };

Thread* current;
uint3 block_index;
dim3 block_size, grid_size;

static void (*body)(void**);
static void** arguments;
static int order = FORWARD;
static uint64_t random_state = 1;
static bool ordered_blocks = true;
static char error_text[900];
static bool failed;

static std::vector<Thread> threads;
static Warp warps[MAX_THREADS / 32];  // not on the heap, whose calls the thread sanitizer sees
static struct {  // threads that can go on; a ring, since the thread sanitizer would watch a vector grow
    unsigned id[MAX_THREADS], head, count;
    unsigned& at(unsigned k) { return id[(head + k) % MAX_THREADS]; }
} ready;

static struct { unsigned waiting, phase; const char* what; int line; char tag[2]; int votes[2], voters[2]; } barrier;
static unsigned alive;
static char end_of_block;
static unsigned char* dynamic;
static std::vector<std::pair<const void*, void*>> statics;

unsigned char* dynamic_shared() { return dynamic; }
unsigned active_lanes() { return warps[current->linear / 32].alive; }

static unsigned next_random() {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return unsigned(random_state >> 32);
}

static void poison(void* at, size_t size) {
    for (size_t k = 0; k < size; ++k) static_cast<volatile unsigned char*>(at)[k] = 0xff;
}

// ------------------------------------------------------------------------------------------------------ failure

[[noreturn]] static void fail(const char* format, ...) {
    char text[600];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    const uint3 t = current ? current->index : uint3{0, 0, 0}, b = block_index;
    snprintf(error_text, sizeof error_text, "%s [block (%u,%u,%u) thread (%u,%u,%u)]", text, b.x, b.y, b.z, t.x, t.y,
             t.z);
    failed = true;
    switch_to(&host_fiber);
    __builtin_unreachable();
}

[[noreturn]] void fail_because(const char* message) { fail("%s", message); }

[[noreturn]] static void deadlock() {
    char text[500] = "deadlock:";
    size_t used = strlen(text);
    int shown = 0;
    unsigned waiting = 0;
    const Thread* last = nullptr;
    for (const Thread& t : threads) {
        if (t.state != State::at_barrier && t.state != State::at_warp) continue;
        ++waiting;
        if ((!last || t.what != last->what || t.line != last->line) && shown++ < 4)
            used += snprintf(text + used, sizeof text - used, " thread %u.. waits in %s line %d;", t.linear, t.what, t.line);
        last = &t;
    }
    fail("%s %u threads waiting, %u alive", text, waiting, alive);
}

// --------------------------------------------------------------------------------------------------- scheduling

static Thread* pick() {
    if (!ready.count) return nullptr;
    const unsigned last = ready.count - 1;
    const unsigned k = order == FORWARD ? 0 : order == REVERSE ? last : next_random() % ready.count;
    Thread* picked = &threads[ready.at(k)];
    if (k == 0) ++ready.head;
    else ready.at(k) = ready.at(last);
    --ready.count;
    return picked;
}

static void make_ready(Thread& t) { ready.at(ready.count++) = t.linear; }

static void wake(Thread& t) {
    t.state = State::ready;
    make_ready(t);
}

static Fiber* fiber_for(Thread* t) {
    if (t->fiber) return t->fiber;
    Fiber* f = idle_fiber();
    f->start = t;
    return f;
}

static void wait() {  // the current thread cannot go on: others run until it is woken
    Thread* self = current;
    Thread* next = pick();
    if (!next) deadlock();
    if (next != self) {
        if (next->state != State::fresh) current = next, next->state = State::running;
        switch_to(fiber_for(next));
    }
    current = self;
    self->state = State::running;
}

}  // namespace emulator
