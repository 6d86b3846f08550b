"""Freed memory is kept: pages are asked for once, not again for every array; and never over the user's own choice."""

import os
import subprocess
import sys

import pytest

from fastdesc.backend.process import keep_freed_memory

NAMES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
COUNT = """
import resource, sys
import numpy as np
from fastdesc.backend.process import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    print("not here")
    sys.exit()
faults = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones((3 << 20) // 8) for _ in range(40)]    # 120 MB, as of a batch
    del arrays
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[0], faults[-1])
"""


def faults(how):
    words = [sys.executable, "-c", COUNT, how]
    env = {name: value for name, value in os.environ.items() if name not in NAMES}
    env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(words, capture_output=True, text=True, check=True, env=env).stdout.split()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_pages_are_asked_for_once():
    found = faults("keep")
    if found == ["not", "here"]:
        pytest.skip("no glibc")
    first, last = map(int, found)
    assert first > 10_000 and last < 100
    _, without = map(int, faults("leave"))
    assert without > 1000, "without the setting they are asked for again"


@pytest.mark.parametrize("name", NAMES)
def test_never_over_the_users_choice(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert not keep_freed_memory()


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()


def test_other_libraries_are_left_alone(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    for library in (object(), None):
        monkeypatch.setattr("ctypes.CDLL", lambda name, library=library: library if library else _missing())
        assert not keep_freed_memory()


def _missing():
    raise OSError("no libc.so.6")
