"""Pairs a rounding error inside the cutoff, where cutoff functions are zero in floating-point numbers, not by rule."""

import numpy as np
import pytest
from ase import Atoms
from helpers.backends import BACKENDS, HERE
from helpers.battery import descriptor_of
from helpers.families import variants

from fastdesc.backend.arrays import to_device, to_host

INSIDE = (0, 1e-16, 3e-16, 1e-13, 1e-11, 1e-9, 1e-8, 3e-8, 1e-7, 1e-6, 1e-5, 3e-5, 1e-4)


@pytest.mark.parametrize("dual", [False, True], ids=["plain", "dual"])
@pytest.mark.parametrize("dtype", [pytest.param(np.float32, marks=pytest.mark.single), np.float64])
@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize(("family", "variant"), variants())
def test_nothing_much_happens(family, variant, backend, dtype, dual):
    descriptor, rng = descriptor_of(family, variant), np.random.default_rng(3)
    direction = np.array([0.48, -0.6, 0.64])
    frames = [Atoms("CO", positions=[np.zeros(3), descriptor.cutoff * (1 - h) * direction]) for h in INSIDE]
    rij, pairs, species = descriptor.prepare([*frames, Atoms("CO", positions=[np.zeros(3), direction])], dtype)
    w = rng.uniform(-1, 1, (descriptor.n_features, pairs.n_atoms)).astype(dtype)
    if dual:
        trij = rng.uniform(-1, 1, rij.shape)
        rij, w = np.stack([rij, (trij - trij[:, pairs.mirror]).astype(dtype)]), np.stack([w, w])
    context, device = BACKENDS[backend]
    with context():
        placed = to_device(rij, device), pairs.to_device(device), to_device(species, device)
        given = *placed, descriptor.theta(dtype, device)
        q, saved = descriptor.forward(*given)
        drij = to_host(descriptor.pullback(*given, saved, to_device(w, device)))
        dtheta = descriptor.pullback_parameters(*given, saved, to_device(w, device))
    assert all(np.isfinite(to_host(x)).all() for x in (q, drij, *dtheta.values()))
    if family.variants[variant].order_at_cutoff >= 2:
        values = drij[0] if dual else drij
        assert abs(values[:, :-2]).max() < 0.02 and values[:, -2:].all()
