"""Memory that a loop keeps: handed out again, never while it is in use, and no new pages once it is there."""

import subprocess
import sys

import numpy as np
import pytest

from fastdesc.backend import workspace
from fastdesc.backend.arrays import empty, padded
from fastdesc.backend.workspace import LINE, Workspace, current, kept_memory


def test_the_next_step_gets_the_same_memory_grown_where_it_must():
    own = Workspace()
    with own:
        first = [own.empty((3, 5), "float64"), own.empty((7,), "float32")]
        assert not np.shares_memory(*first)
    held = own.n_bytes
    with own:
        second = [own.empty((3, 5), "float64"), own.empty((100,), "float32")]
    assert np.shares_memory(first[0], second[0])
    assert not np.shares_memory(first[1], second[1])
    assert own.n_bytes > held
    assert all(x.ctypes.data % LINE == 0 for x in first + second)
    assert second[0].shape == (3, 5) and second[0].dtype == np.float64 and second[0].flags.c_contiguous


def test_arrays_come_from_it_only_inside():
    assert current() is None
    with kept_memory():
        outer = current()
        a = padded((2, 100), "float32")
        with kept_memory():
            assert current() is outer
            b = empty((2, 100), "float32")
        assert not np.shares_memory(a, b)
    assert current() is None
    with kept_memory():
        again = padded((2, 100), "float32")
    assert np.shares_memory(a, again)
    assert not np.shares_memory(a, padded((2, 100), "float32"))


def test_what_grew_too_large_is_given_back(monkeypatch):
    monkeypatch.setattr(workspace, "LARGEST", 1000)
    with kept_memory():
        a = empty((2000,), "uint8")
    with kept_memory():
        assert not np.shares_memory(a, empty((2000,), "uint8"))


def test_an_error_inside_leaves_the_thread_as_it_was():
    with pytest.raises(ValueError, match="stop"), kept_memory():
        raise ValueError("stop")
    assert current() is None


FAULTS = """
import resource
from ase.build import bulk
import fastdesc as fd
atoms = bulk("Cu", "fcc", a=3.6, cubic=True) * (6, 6, 6)
potential = fd.Potential(fd.EmbeddedDensity(species=["Cu"], cutoff=4.0, iterations=0, n_features=360), hidden=(16,))
structures = fd.Structures.from_ase(atoms)
pairs, model = fd.Pairs.find(structures, 4.0), potential.model("float32")
potential.evaluate(structures, pairs, model)
for n in (1, 2, 5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(n):
        potential.evaluate(structures, pairs, model)
    found = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(found)
"""
WITHOUT = """
import contextlib
from fastdesc.backend import workspace
workspace.kept_memory = contextlib.nullcontext
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page faults are counted as Linux does")
def test_evaluations_ask_for_no_fresh_pages():
    """In a process of its own, whose heap is as glibc has it; features and their gradient alone are 2.5 MB."""

    def faults(code):
        command = [sys.executable, "-c", code]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults(FAULTS) < 100 < 1000 < faults(WITHOUT + FAULTS)


def test_what_was_asked_for_before_is_the_same_array():
    own = Workspace()
    with own:
        a, b = own.empty((3, 5), "float64"), own.empty((4,), np.dtype("int32"))
    with own:
        assert own.empty((3, 5), "float64") is a and own.empty((2, 2), "int32").shape == (2, 2)
    with own:
        assert own.empty((5, 3), "float64").shape == (5, 3) and own.empty((4,), "float32").dtype == np.float32
    assert own.n_bytes >= 136 and np.shares_memory(a, own._arrays[0][2]) and b.shape == (4,)
