// Run time of emulator.h: barriers and warp collectives, shared memory, launches.
#include "threads.h"

namespace emulator {

static void open_barrier_if_all_are_there() {
    if (!barrier.waiting || barrier.waiting != alive) return;
    barrier.waiting = 0;
    barrier.phase ^= 1;
    barrier.votes[barrier.phase] = 0;
    barrier.what = nullptr;
    for (Thread& t : threads)
        if (t.state == State::at_barrier) wake(t);
}

static void wait_at(State state, const char* what, int line) {
    current->state = state;
    current->what = what;
    current->line = line;
}

int block_barrier(const char* what, int line, bool vote, Vote mode) {
    const unsigned phase = barrier.phase;
    if (barrier.waiting && (barrier.line != line || strcmp(barrier.what, what)))
        fail("divergent barriers: %s line %d while others wait in %s line %d", what, line, barrier.what, barrier.line);
    barrier.what = what;
    barrier.line = line;
    barrier.voters[phase] = ++barrier.waiting;
    barrier.votes[phase] += vote;
    release(&barrier.tag[phase]);
    wait_at(State::at_barrier, what, line);
    open_barrier_if_all_are_there();
    wait();
    acquire(&barrier.tag[phase]);
    const int votes = barrier.votes[phase];
    return mode == Vote::count ? votes : mode == Vote::all ? votes == barrier.voters[phase] : votes != 0;
}

static void end_meeting_if_all_are_there(const Warp& warp, Meeting& m, unsigned first_thread) {
    if (!m.arrived || m.arrived != (m.mask & warp.alive)) return;
    const unsigned lanes = m.arrived;
    m.arrived = 0;
    m.phase ^= 1;
    for (unsigned lane = 0; lane < 32; ++lane)
        if (lanes >> lane & 1) wake(threads[first_thread + lane]);
}

const Slot* warp_meet(unsigned mask, const void* value, unsigned size, const char* what, int line) {
    const unsigned lane = current->linear % 32, number = current->linear / 32;
    Warp& warp = warps[number];
    if (!(mask >> lane & 1)) fail("%s line %d: calling lane %u is not in mask 0x%08x", what, line, lane, mask);
    Meeting* own = nullptr;
    for (Meeting* m = warp.meetings; m < warp.meetings + warp.n_meetings; ++m) {
        if (m->mask == mask) own = m;
        else if (m->arrived & mask)
            fail("%s line %d: mask 0x%08x overlaps lanes waiting in %s line %d with mask 0x%08x", what, line, mask,
                 m->what, m->line, m->mask);
    }
    if (!own) {
        if (warp.n_meetings == MAX_MASKS) fail("more than %u different masks in one warp", MAX_MASKS);
        own = &warp.meetings[warp.n_meetings++];
        own->mask = mask;
        own->arrived = own->phase = 0;
    }
    if (own->arrived && (own->line != line || strcmp(own->what, what)))
        fail("divergent warp collectives: %s line %d while others wait in %s line %d", what, line, own->what, own->line);
    const unsigned phase = own->phase;
    own->what = what;
    own->line = line;
    if (!own->arrived) poison(own->slots[phase], sizeof own->slots[phase]);
    for (unsigned k = 0; k < size; ++k) own->slots[phase][lane][k] = static_cast<const volatile unsigned char*>(value)[k];
    own->arrived |= 1u << lane;
    // Only __syncwarp, which brings no value, orders memory; shuffles and votes do not.
    if (!value) release(&own->slots[phase]);
    wait_at(State::at_warp, what, line);
    end_meeting_if_all_are_there(warp, *own, number * 32);
    wait();
    if (!value) acquire(&own->slots[phase]);
    return own->slots[phase];
}

static void end_thread() {
    current->state = State::done;
    --alive;
    const unsigned number = current->linear / 32;
    Warp& warp = warps[number];
    warp.alive &= ~(1u << current->linear % 32);
    for (unsigned k = 0; k < warp.n_meetings; ++k) end_meeting_if_all_are_there(warp, warp.meetings[k], number * 32);
    open_barrier_if_all_are_there();
    release(&end_of_block);
}

static void fiber_main() {
    on_first_entry();
    for (;;) {
        Fiber* own = current_fiber;
        current = static_cast<Thread*>(own->start);
        current->state = State::running;
        current->fiber = own;
        body(arguments);
        end_thread();
        Thread* next = pick();
        if (!next) {
            if (alive) deadlock();
            switch_to(&host_fiber);
        }
#if !defined(EMULATOR_THREAD)
        if (next->state == State::fresh) {  // no switch at all where there is no barrier
            own->start = next;
            continue;
        }
        idle.push_back(own);
        own->start = nullptr;
#endif
        if (next->state != State::fresh) current = next, next->state = State::running;
        switch_to(next->fiber);
    }
}

// ------------------------------------------------------------------------------------------------------- launch

void* static_shared(const void* tag, size_t size) {
    for (auto& known : statics)
        if (known.first == tag) {
            acquire(known.second);
            return known.second;
        }
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, size)) fail("out of memory");
    poison(memory, size);
    statics.push_back({tag, memory});
    release(memory);
    return memory;
}

static const char* why_not_launchable(dim3 grid, dim3 block, size_t shared) {
    if (block.x * block.y * block.z == 0 || block.x * block.y * block.z > MAX_THREADS || block.z > 64) return "block size";
    if (!grid.x || !grid.y || !grid.z || grid.y > 65535 || grid.z > 65535) return "grid size";
    if (shared > MAX_SHARED) return "dynamic shared memory";
    return nullptr;
}

static void run_block(unsigned n, size_t shared) {
    for (Warp& w : warps) w.alive = w.n_meetings = 0;
    threads.resize(n);
    ready.head = ready.count = 0;
    alive = n;
    barrier = {};
    dynamic = nullptr;
    if (shared && !posix_memalign(reinterpret_cast<void**>(&dynamic), 64, shared)) poison(dynamic, shared);
    for (unsigned k = 0; k < n; ++k) {
        const uint3 index{k % block_size.x, k / block_size.x % block_size.y, k / (block_size.x * block_size.y)};
        threads[k] = Thread{index, k, State::fresh, nullptr, "", 0};
        make_ready(threads[k]);
        warps[k / 32].alive |= 1u << k % 32;
#if defined(EMULATOR_THREAD)
        threads[k].fiber = new_fiber();  // all made here, so that none of them precedes another
        threads[k].fiber->start = &threads[k];
#endif
    }
    current_fiber = &host_fiber;
    switch_to(fiber_for(pick()));
    current = nullptr;
    if (ordered_blocks) {  // else memory is leaked on purpose, so that races between blocks keep their addresses
        acquire(&end_of_block);
        free(dynamic);
        for (auto& s : statics) free(s.second);
    }
    statics.clear();
#if defined(EMULATOR_THREAD)
    if (ordered_blocks) free_fibers();  // else kept, so that no later one is taken for it
#else
    if (failed) free_fibers();
    for (Fiber* f : fibers) prime(f);
#endif
    idle = fibers;
}

int run(void (*kernel)(void**), void** args, const unsigned* grid, const unsigned* block, size_t shared) {
    grid_size = dim3(grid[0], grid[1], grid[2]);
    block_size = dim3(block[0], block[1], block[2]);
    body = kernel;
    arguments = args;
    failed = false;
    error_text[0] = 0;
    if (const char* what = why_not_launchable(grid_size, block_size, shared)) {
        snprintf(error_text, sizeof error_text, "not launchable: %s (grid %u,%u,%u block %u,%u,%u shared %zu)", what,
                 grid[0], grid[1], grid[2], block[0], block[1], block[2], shared);
        return 1;
    }
#if defined(EMULATOR_THREAD)
    host_fiber.sanitizer = __tsan_get_current_fiber();
#endif
    const unsigned n = block_size.x * block_size.y * block_size.z;
    for (unsigned z = 0; z < grid_size.z && !failed; ++z)
        for (unsigned y = 0; y < grid_size.y && !failed; ++y)
            for (unsigned x = 0; x < grid_size.x && !failed; ++x) {
                block_index = {x, y, z};
                run_block(n, shared);
            }
#if defined(EMULATOR_THREAD)
    free_fibers();
#endif
    acquire(&end_of_block);  // the launch is over: the host sees everything
    return failed ? 2 : 0;
}

}  // namespace emulator

extern "C" const char* emulator_error() { return emulator::error_text; }
extern "C" void emulator_order(int order, uint64_t seed) {
    emulator::order = order;
    emulator::random_state = seed ? seed : 1;
}
extern "C" void emulator_release() {  // the stacks, which the next launch makes anew
    emulator::free_fibers();
    emulator::idle.clear();
}
extern "C" void emulator_ordered_blocks(int ordered) { emulator::ordered_blocks = ordered; }
