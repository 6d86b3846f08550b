"""The process that reads damaged files; it says a line of each, and dies of those that it cannot survive.

    python -m bench.fuzz.worker FOLDER FIRST LAST SEED KIND,KIND,.. SECONDS
"""

import ctypes
import faulthandler
import os
import resource
import shutil
import signal
import sys
import traceback
import warnings
from pathlib import Path

from bench.fuzz.damage import damaged
from bench.fuzz.files import FAULTS, KINDS, make
from fastdesc.errors import FastdescError

MOST = 1 << 29
"""Bytes of memory that one file of a few kB may take."""
LIMIT = 1 << 33
OPENED = 0x20 | 0x01    # of inotify: opened, read


def read_all(folder, first, last, seed, kinds, seconds, answer):
    """Damage and read the files first .. last; `answer` gets a line of each."""
    work, outside = Path(folder, f"work-{os.getpid()}"), Path(folder, "outside")
    watch, all_kinds = _watched(outside), KINDS | FAULTS
    resource.setrlimit(resource.RLIMIT_AS, (_memory("VmPeak") + LIMIT, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)    # ends the process wherever it is, in HDF5, too
    warnings.simplefilter("ignore")
    originals = {kind: Path(folder, "sound", all_kinds[kind].target).read_bytes() for kind in kinds}
    for kind in kinds:
        shutil.copytree(Path(folder, "sound"), work / kind)
    for number in range(first, last):
        kind = kinds[number % len(kinds)]
        target = work / kind / all_kinds[kind].target
        target.write_bytes(damaged(originals[kind], number_of(seed, number), target.suffix.endswith("xyz")))
        before = _memory("VmPeak")
        signal.setitimer(signal.ITIMER_REAL, seconds)
        outcome = _outcome(all_kinds[kind].read, work / kind / all_kinds[kind].opened)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if (grown := _memory("VmPeak") - before) > MOST:
            outcome = f"memory {grown >> 20} MB"
        if _was_opened(watch):
            outcome = "outside it read a file that is not its own"
        answer(outcome)


def number_of(seed, number):
    return [seed, number]


def _outcome(read, path):
    try:
        read(path)
    except FastdescError as error:
        words = str(error)
        return "exception several lines: " + repr(words) if "\n" in words or not words else "refused"
    except MemoryError:
        return "memory more than there is"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"exception {type(error).__name__} {str(error)[:80]!r} at {where.filename}:{where.lineno}"
    return "read"


def _memory(name):
    """Bytes; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def _watched(folder):
    """File descriptor that tells of reads in a folder; None where there is no inotify."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "inotify_init1"):
        return None
    watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if libc.inotify_add_watch(watch, str(folder).encode(), OPENED) < 0:
        raise OSError(ctypes.get_errno(), f"{folder} cannot be watched")
    return watch


def _was_opened(watch):
    if watch is None:
        return False
    try:
        return bool(os.read(watch, 4096))
    except BlockingIOError:
        return False


def main(folder, first, last, seed, kinds, seconds):
    if first == "make":
        make(folder)
    out = os.dup(1)
    os.dup2(2, 1)
    with open(Path(folder, "stack"), "w") as stack:
        faulthandler.enable(stack)
        read_all(
            folder, int(first), int(last), int(seed), kinds.split(","), float(seconds),
            lambda line: os.write(out, (line.replace("\n", " ") + "\n").encode("utf-8", "replace")),
        )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
