"""The whole pipeline, from pairs to the gradient of a loss, on the CUDA sources and on a GPU: the CPU's numbers."""

from functools import partial

import numpy as np
import pytest
from helpers import device_models
from helpers.backends import BACKENDS, HERE
from helpers.ladder_models import RUNGS, placed, rung
from helpers.potentials import cell, potential
from helpers.training import alloy, small_potential

from fastdesc.training.batch_gradient import batch_gradient
from fastdesc.training.dataset import TrainingSet
from fastdesc.training.initialise import initialise
from fastdesc.training.loss import LossWeights

OTHERS = [name for name in HERE if name != "numba"]

PLACED = {name: partial(potential, name) for name in ("per_species", "shared")}
PLACED |= {name: partial(placed, name) for name in RUNGS}
UNTRAINED = {"gaussian moments": small_potential} | {name: partial(rung, name) for name in RUNGS}
UNTRAINED["residual blocks"] = partial(device_models.potential, "residual recursion")


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("name", PLACED)
def test_prediction(backend, name):
    p, atoms = PLACED[name](), cell()
    expected = p.predict(atoms)
    context, device = BACKENDS[backend]
    with context():
        found = p.predict(atoms, device=device)
    for field in ("energy", "forces", "stress", "energies"):
        np.testing.assert_allclose(
            getattr(found, field), getattr(expected, field), rtol=1e-10, atol=1e-11, err_msg=field
        )


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("name", UNTRAINED)
def test_gradient_of_the_loss(backend, name):
    frames, p = alloy(2), UNTRAINED[name]()
    context, device = BACKENDS[backend]

    def gradient(device):
        data = TrainingSet(frames, p.descriptor, np.float64, device)
        if not p.fitted:
            initialise(p, data)
        batch = data.batch([1, 0], p.reference)
        found, g = batch_gradient(p, p.model(device=device), batch, LossWeights(1.0, 1.0, 1.0))
        return float(found.loss), {key: a if isinstance(a, np.ndarray) else a.get() for key, a in g.items()}

    loss, expected = gradient("cpu")
    with context():
        other, found = gradient(device)
    assert other == pytest.approx(loss, rel=1e-11)
    for key, g in expected.items():
        np.testing.assert_allclose(found[key], g, rtol=1e-9, atol=1e-10 * abs(g).max(initial=0.0), err_msg=key)
