"""What every worker process shares: pinning, timing, and a conversation in lines of JSON.

A worker is started once, builds (and compiles) a case at its first request and then answers request after
request, so that two programs can be timed in turns within one run. Imports the standard library alone.

    request   {"case": "energy_forces", "options": {"system": "cu256", ...}, "seconds": 0.5}
    answer    {"wall": [s, ...], "cpu": [s, ...], "info": {"n_atoms": 256, ...}, "first_call": s}
              or {"error": "why not"}
"""

import gc
import json
import os
import resource
import sys
import time
import traceback

KEPT = 4
"""Cases a worker keeps ready: what one row of a table may ask of it in turns."""


def pin():
    """Stay on the processors that BENCH_CPUS names; call before importing anything that starts threads."""
    cpus = os.environ.get("BENCH_CPUS")
    if cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})


def n_threads():
    """Number of threads this worker was asked to use."""
    return len(os.environ.get("BENCH_CPUS", "0").split(","))


def measure(call, seconds, most=2000):
    """Wall and processor times of repeated calls, as two lists in seconds.

    Repeats until `seconds` have passed, at least once and at most `most` times. Processor time counts all
    threads; with one thread it is the figure that other programs on the machine disturb least.
    """
    wall, cpu = [], []
    gc.collect()
    gc.disable()
    stop = time.perf_counter() + seconds
    try:
        while not wall or (time.perf_counter() < stop and len(wall) < most):
            c, w = time.process_time(), time.perf_counter()
            call()
            wall.append(time.perf_counter() - w)
            cpu.append(time.process_time() - c)
    finally:
        gc.enable()
    return wall, cpu


def peak_memory():
    """Largest resident size of this process so far, in bytes."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024


def serve(cases):
    """Answer requests on stdin until it closes.

    Parameters
    ----------
    cases : dict name -> function(**options) -> (call, info)
        `call` takes no argument, does the work once and returns when it is finished; `info` is a dict of plain
        numbers and strings that goes into the answer.
    """
    # Libraries print to stdout; keep the real one for ourselves and give them stderr.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    built = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _answer(cases, built, **request)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        answers.write(json.dumps(answer) + "\n")


def _answer(cases, built, case, options, seconds):
    if case not in cases:
        return {"error": f"no case {case!r} here"}
    key = json.dumps([case, options], sort_keys=True)
    answer = {}
    if key not in built:
        while len(built) >= KEPT:
            built.pop(next(iter(built)))
        before = peak_memory()
        start = time.perf_counter()
        call, info = cases[case](**options)
        answer["build"] = time.perf_counter() - start
        start = time.perf_counter()
        call()
        answer["first_call"] = time.perf_counter() - start
        call()
        info["peak_memory"], info["memory_before"] = peak_memory(), before
        built[key] = call, info
    call, info = built[key]
    wall, cpu = measure(call, seconds)
    return {"wall": wall, "cpu": cpu, "info": info, **answer}
