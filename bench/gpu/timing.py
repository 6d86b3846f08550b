"""Times on a device: by events around many launches, so that what the host does is not in them; and by the clock."""

import time

import numpy as np

AT_ONCE = 10
"""Launches between two events at least."""


def seconds_of(call, seconds, most=100):
    """Median time of a call on the device, of AT_ONCE calls between two events; the first calls are not counted."""
    import cupy

    for _ in range(2):
        call()
    begin, end, times = cupy.cuda.Event(), cupy.cuda.Event(), []
    stop = time.monotonic() + seconds
    while not times or (time.monotonic() < stop and len(times) < most):
        begin.record()
        for _ in range(AT_ONCE):
            call()
        end.record()
        end.synchronize()
        times.append(1e-3 * cupy.cuda.get_elapsed_time(begin, end) / AT_ONCE)
    return float(np.median(times))


def wall_of(call, seconds, most=200):
    """Median time of a call by the clock, the wait for the device included."""
    import cupy

    wait = cupy.cuda.get_current_stream().synchronize
    for _ in range(2):
        call()
    wait()
    times, stop = [], time.monotonic() + seconds
    while not times or (time.monotonic() < stop and len(times) < most):
        start = time.monotonic()
        call()
        wait()
        times.append(time.monotonic() - start)
    return float(np.median(times))


def free_memory():
    """Give unused blocks of CuPy's pool back."""
    import cupy

    cupy.get_default_memory_pool().free_all_blocks()
