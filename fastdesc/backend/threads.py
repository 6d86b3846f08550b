"""Chunks of atoms on a pool of threads: kernels release the GIL, so threads are all that is needed."""

import os
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

_threads = None
_here = threading.local()


def n_threads():
    """Number of threads in use: set_threads, else NUMBA_NUM_THREADS, else the cores we may run on."""
    if _threads is not None:
        return _threads
    wanted = os.environ.get("NUMBA_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(n):
    """Use `n` threads from now on (None: back to the default)."""
    global _threads
    _threads = None if n is None else max(1, int(n))


@cache
def _pool(n, pid):
    return ThreadPoolExecutor(n, thread_name_prefix="fastdesc")


@cache
def _blas():
    """Controllers of the BLAS libraries that are loaded."""
    return ThreadpoolController().select(user_api="blas").lib_controllers


class single_threaded_blas:
    """Context in which BLAS uses one thread, so that it does not compete with our own."""

    # threadpoolctl's own context asks each library ten questions: 13 µs, as long as a network of a few atoms.

    def __enter__(self):
        self._before = [(blas, n) for blas in _blas() if (n := blas.get_num_threads()) is not None and n != 1]
        for blas, _ in self._before:
            blas.set_num_threads(1)

    def __exit__(self, *error):
        for blas, n in self._before:
            blas.set_num_threads(n)


def begin(task, n):
    """Start task(0), .., task(n - 1) on all threads; return a function that waits and gives the results in order.

    A task that calls `for_chunks` does all of its chunks itself.
    """

    def work(k):
        _here.at_work = True
        try:
            return task(k)
        finally:
            _here.at_work = False

    pool = _pool(n_threads(), os.getpid())
    futures = [pool.submit(work, k) for k in range(n)]
    return lambda: [future.result() for future in futures]


@contextmanager
def _recorded_on(tape):
    before, _here.tape = getattr(_here, "tape", None), tape
    try:
        yield tape
    finally:
        _here.tape = before


def recording():
    """Context in which this thread's calls of `for_chunks` also go onto a list, for `replay`.

    What was recorded gives the same again on the same arrays. Work outside of `for_chunks` is not in it.
    """
    return _recorded_on([])


def unrecorded():
    """Context in which nothing is recorded: for what is done once, and not at every step."""
    return _recorded_on(None)


def replay(tape):
    """Run once more what was recorded."""
    for task, n, chunk, before, after in tape:
        if n <= chunk:
            task(*before, 0, n, *after)
        else:
            for_chunks(task, n, chunk, before, after)


def for_chunks(task, n, chunk=256, before=(), after=()):
    """Run task(*before, first, last, *after) over [0, n) in chunks; results come back as a list in order.

    The chunks do not depend on the number of threads, so neither do sums over them. Each thread takes the next chunk
    when it is done with one: a chunk costs about a microsecond on top of its work. Called from within a task, all
    chunks are that thread's own.
    """
    tape = getattr(_here, "tape", None)
    if tape is not None:
        tape.append((task, n, chunk, before, after))
        with unrecorded():    # chunks within chunks are part of the task
            return for_chunks(task, n, chunk, before, after)
    if n <= chunk:
        return [task(*before, 0, n, *after)] if n > 0 else []
    bounds = [(a, min(a + chunk, n)) for a in range(0, n, chunk)]
    threads = min(n_threads(), len(bounds))
    if threads <= 1 or getattr(_here, "at_work", False):
        return [task(*before, a, b, *after) for a, b in bounds]
    results = [None] * len(bounds)
    left = iter(range(len(bounds)))  # next() on it is atomic

    def work():
        _here.at_work = True
        try:
            for k in left:
                results[k] = task(*before, *bounds[k], *after)
        except BaseException:
            for _ in left:  # the others stop after the chunk they are at
                pass
            raise
        finally:
            _here.at_work = False

    others = [_pool(threads - 1, os.getpid()).submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        wait(others)
    for other in others:
        other.result()
    return results


def in_order(task, items):
    """Yield task(item) of some items, in order: all threads work, while the caller's gets the next items.

    BLAS uses one thread meanwhile. Within a task everything is that thread's own.
    """
    if n_threads() <= 1 or getattr(_here, "at_work", False):
        yield from map(task, items)
        return

    def work(item):
        _here.at_work = True
        try:
            return task(item)
        finally:
            _here.at_work = False

    pool, begun = _pool(n_threads(), os.getpid()), deque()
    with single_threaded_blas():
        try:
            for item in items:
                begun.append(pool.submit(work, item))
                if len(begun) > n_threads():
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            wait(begun)
