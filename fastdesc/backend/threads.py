"""Chunks of atoms on a pool of threads: kernels release the GIL, so threads are all that is needed."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait
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
def _controller():
    return ThreadpoolController()


def single_threaded_blas():
    """Context in which BLAS uses one thread, so that it does not compete with our own."""
    return _controller().limit(limits=1, user_api="blas")


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


def for_chunks(task, n, chunk=256):
    """Run task(first, last) over [0, n) in chunks; results come back as a list in order.

    The chunks do not depend on the number of threads, so neither do sums over them. Each thread takes the next chunk
    when it is done with one: a chunk costs about a microsecond on top of its work. Called from within a task, all
    chunks are that thread's own.
    """
    bounds = [(a, min(a + chunk, n)) for a in range(0, n, chunk)]
    threads = min(n_threads(), len(bounds))
    if threads <= 1 or getattr(_here, "at_work", False):
        return [task(a, b) for a, b in bounds]
    results = [None] * len(bounds)
    left = iter(range(len(bounds)))  # next() on it is atomic

    def work():
        _here.at_work = True
        try:
            for k in left:
                results[k] = task(*bounds[k])
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
