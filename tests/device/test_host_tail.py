"""What the host does behind an evaluation on a device: large sums and copies are the device's."""

import numpy as np
import pytest
from cuda_emulator import gcc_status
from helpers.device_models import potential
from helpers.training import alloy

import fastdesc as fd
from fastdesc import potential as potentials
from fastdesc.backend import arrays
from fastdesc.potential.evaluation import energies_and_gradient

pytest.importorskip("cupy", reason="CuPy is not installed: the double has its functions and signatures from it")
from doubles import cupy_double

pytestmark = pytest.mark.skipif(not gcc_status()[0], reason=gcc_status()[1])


@pytest.fixture
def ledger():
    with cupy_double.device_double() as found:
        yield found


def test_energies_of_many_atoms_are_summed_on_the_device(ledger, monkeypatch):
    """Two frames, with reference energies: the numbers of the host's sums, one wait, in page-locked memory."""
    pot = potential("gaussian moments")
    pot.reference = np.array([-3.0, 7.0])
    structures = fd.Structures.from_ase(alloy(2))
    model, placed = pot.model("float64", "cuda"), structures.to_device("cuda")
    pairs = fd.Pairs.find(structures, 4.0).to_device("cuda")
    expected = pot.evaluate(placed, pairs, model)
    monkeypatch.setattr(potentials, "SUMMED_ON_HOST", 0)
    monkeypatch.setattr(arrays, "LOCKED", 0)
    lent = []
    monkeypatch.setattr(arrays, "pinned", lambda *shape: lent.append(np.empty(*shape)) or lent[-1])
    ledger.clear()
    found = pot.evaluate(placed, pairs, model)
    assert len(ledger.waits) == 1 and len(lent) == 1
    for a, b in zip(found, expected, strict=True):
        assert np.shares_memory(a, lent[0])
        np.testing.assert_allclose(a, b, rtol=1e-14, atol=1e-13)
    np.testing.assert_array_equal(found[1], expected[1])


def test_features_and_their_gradient_are_not_copied(ledger, monkeypatch):
    """One network for all elements: its products take features as they are, and what it returns is the gradient."""
    pot, atoms = potential("gaussian moments", "shared"), alloy(1)
    model, (rij, pairs, species) = pot.model("float64", "cuda"), pot.descriptor.prepare(atoms, device="cuda")
    network, seen = model.networks[0], {}
    pull_back, to_pairs = type(network).pullback, pot.descriptor.pullback

    def of_network(_, tape, dy):
        seen["dx"], chain = pull_back(network, tape, dy)
        return seen["dx"], chain

    def of_descriptor(*arguments):
        seen["dq"] = arguments[-1]
        return to_pairs(*arguments)

    monkeypatch.setattr(type(network), "pullback", of_network)
    monkeypatch.setattr(pot.descriptor, "pullback", of_descriptor)
    q, _ = pot.descriptor.forward(rij, pairs, species, model.theta)
    assert q.flags.c_contiguous
    out, drij, _ = energies_and_gradient(model, rij, pairs, species)
    assert seen["dq"] is seen["dx"]
    monkeypatch.undo()
    host = potential("gaussian moments", "shared")
    plain, other = host.model(), host.descriptor.prepare(atoms)
    expected = energies_and_gradient(plain, *other)
    np.testing.assert_allclose(out.get(), expected[0], rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(drij.get(), expected[1], rtol=1e-10, atol=1e-12)
