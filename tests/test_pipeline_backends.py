"""The whole pipeline, from pairs to the gradient of a loss, on the CUDA sources and on a GPU: the CPU's numbers."""

import numpy as np
import pytest
from backends import BACKENDS, SKIPS
from test_potential import cell, potential
from test_training import alloy, small_potential

from fastdesc.gradient import batch_gradient, initialise
from fastdesc.loss import LossWeights
from fastdesc.training_set import TrainingSet

OTHERS = [
    pytest.param(name, marks=pytest.mark.skipif(not SKIPS[name][0], reason=f"{name}: {SKIPS[name][1]}"))
    for name in BACKENDS
    if name != "numba"
]


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("network", ["per_species", "shared"])
def test_prediction(backend, network):
    p, atoms = potential(network), cell()
    expected = p.predict(atoms)
    context, device = BACKENDS[backend]
    with context():
        found = p.predict(atoms, device=device)
    for name in ("energy", "forces", "stress", "energies"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-10, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("backend", OTHERS)
def test_gradient_of_the_loss(backend):
    frames, p = alloy(2), small_potential()
    context, device = BACKENDS[backend]

    def gradient(device):
        data = TrainingSet(frames, p.descriptor, np.float64, device)
        if not p.fitted:
            initialise(p, data)
        batch = data.batch([1, 0], p.reference)
        found, g = batch_gradient(p, p.model(device=device), batch, LossWeights(1.0, 1.0, 1.0))
        return float(found.loss), {name: a if isinstance(a, np.ndarray) else a.get() for name, a in g.items()}

    loss, expected = gradient("cpu")
    with context():
        other, found = gradient(device)
    assert other == pytest.approx(loss, rel=1e-11)
    for name, g in expected.items():
        np.testing.assert_allclose(found[name], g, rtol=1e-9, atol=1e-10 * abs(g).max(), err_msg=name)
