"""Cells that do not fit into a device's memory are done in pieces, to the same bits; what cannot be is one sentence."""

import numpy as np
import pytest
from cuda_emulator import gcc_status
from helpers.device_models import DESCRIPTORS, potential
from helpers.training import alloy

import fastdesc as fd
from fastdesc import geometry
from fastdesc.backend import device_memory
from fastdesc.errors import DeviceError
from fastdesc.features.stream import compute
from fastdesc.io.frame_batch import make_batch

pytest.importorskip("cupy", reason="CuPy is not installed: the double has its functions and signatures from it")
from doubles import cupy_double

pytestmark = pytest.mark.skipif(not gcc_status()[0], reason=gcc_status()[1])
OWN_ROW = [name for name in DESCRIPTORS if DESCRIPTORS[name]().own_row]


@pytest.fixture
def ledger(monkeypatch):
    """A device that is not there, for pieces of any length; what is free is always looked at."""
    for name, value in {"UNASKED": 0, "MULTIPLE": 4, "LEAST": 2}.items():
        monkeypatch.setattr(device_memory, name, value)
    with cupy_double.device_double() as found:
        yield found


@pytest.fixture
def cut(monkeypatch):
    """A list of the bounds of pieces that were worked on."""
    found, bounds = [], device_memory.bounds

    def noted(n_atoms, n_pieces):
        found.append(bounds(n_atoms, n_pieces))
        return found[-1]

    monkeypatch.setattr(device_memory, "bounds", noted)
    return found


def little_memory(monkeypatch, left):
    monkeypatch.setattr(cupy_double, "MEMORY", (left, 80_000))


def batch(*frames):
    """The batch that a stream makes of frames."""
    given = [{"numbers": a.numbers, "positions": a.positions, "cell": a.cell.array, "pbc": a.pbc} for a in frames]
    n = range(len(frames))
    return make_batch(given, n, [0] * len(frames), n, "raise")


def frames():
    return alloy(1)[0] * (2, 1, 1)


@pytest.mark.parametrize("family", OWN_ROW)
def test_pieces_give_the_same_bits(ledger, cut, monkeypatch, family):
    """Features, energies, forces and stresses in float64: of all atoms, and of pieces of at least three."""
    pot, atoms = potential(family), frames()
    whole, q = pot.predict(atoms, "cuda", "float64"), pot.descriptor.compute(atoms, device="cuda", dtype="float32")
    alone = pot.predict(atoms, "cuda", "float64", forces=False, stress=False)
    assert [len(bounds) for bounds in cut] == [1, 1, 1]
    cut.clear()
    little_memory(monkeypatch, 1000)
    pieces, rows = pot.predict(atoms, "cuda", "float64"), pot.descriptor.compute(atoms, device="cuda", dtype="float32")
    again = pot.predict(atoms, "cuda", "float64", forces=False, stress=False)
    assert all(len(bounds) >= 3 for bounds in cut) and len(cut) == 3, cut
    for name in ("energy", "forces", "stress", "energies"):
        np.testing.assert_array_equal(getattr(pieces, name), getattr(whole, name))
    np.testing.assert_array_equal(rows, q)
    np.testing.assert_array_equal(again.energies, alone.energies)


def test_featurization_in_pieces(ledger, cut, monkeypatch):
    """A batch of a stream, its features by atom and pooled, with the distances below r_min counted."""
    descriptor = DESCRIPTORS["spline filters"]()
    given = batch(frames(), alloy(2)[1])
    whole = [compute(given, descriptor, "cuda", "float64", pool) for pool in (None, "mean")]
    little_memory(monkeypatch, 1000)
    cut.clear()
    pieces = [compute(given, descriptor, "cuda", "float64", pool) for pool in (None, "mean")]
    assert all(len(bounds) >= 3 for bounds in cut)
    for a, b in zip(whole, pieces, strict=True):
        np.testing.assert_array_equal(a.features, b.features)
        assert (a.short.n_short, a.short.n_all) == (b.short.n_short, b.short.n_all)


def full_above(monkeypatch, n_pairs):
    """Pair vectors of more pairs do not fit, whatever was said of the memory."""
    original = geometry._each_atom

    def refused(kernel, pairs, *rest, **scalars):
        if pairs.n_pairs > n_pairs:
            raise MemoryError
        original(kernel, pairs, *rest, **scalars)

    monkeypatch.setattr(geometry, "_each_atom", refused)


def test_shorter_pieces_where_the_estimate_was_too_low(ledger, cut, monkeypatch):
    pot, atoms = potential("gaussian moments"), frames()
    q = pot.descriptor.compute(atoms, device="cuda")
    cut.clear()
    full_above(monkeypatch, fd.Pairs.find(fd.Structures.from_ase([atoms]), 4.0).n_pairs // 3)
    np.testing.assert_array_equal(pot.descriptor.compute(atoms, device="cuda"), q)
    assert [len(bounds) for bounds in cut] == [1, 2, 4]


@pytest.mark.parametrize("family", ["gaussian moments", "recursion"])
def test_one_sentence_where_memory_runs_out(ledger, monkeypatch, family):
    """However short the pieces are; and at once for features that need those of neighbours, which are not cut."""
    pot, atoms = potential(family), frames()
    full_above(monkeypatch, 2)
    for call in (
        lambda: pot.predict(atoms, "cuda"),
        lambda: pot.descriptor.compute(atoms, device="cuda"),
        lambda: pot.descriptor.compute(atoms, jacobian=True, device="cuda"),
        lambda: pot.descriptor.vjp(atoms, np.ones((len(atoms), pot.descriptor.n_features)), device="cuda"),
        lambda: compute(batch(atoms), pot.descriptor, "cuda", "float64"),
    ):
        with pytest.raises(DeviceError, match=r"more than the GPU's memory, .* use dtype 'float32', fewer"):
            call()


def test_memory_of_the_host_is_not_called_that_of_a_gpu(monkeypatch):
    full_above(monkeypatch, 2)
    with pytest.raises(MemoryError):
        potential("spline filters").predict(frames())
