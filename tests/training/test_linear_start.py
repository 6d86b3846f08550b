"""The linear start: it finds a pair potential that is there, no other fits better, and training goes on from it."""

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from helpers.training import alloy, small_potential

import fastdesc as fd
from fastdesc.errors import InputError
from fastdesc.training.batch_gradient import predict_batch
from fastdesc.training.dataset import TrainingSet
from fastdesc.training.linear_start import fit_pair_potential, start_linear
from fastdesc.training.loss import LossWeights

WEIGHTS = LossWeights(2.0, 1.0, 0.0)
KEYWORDS = {"cutoff": 4.5, "triplet_cutoff": 3.5, "r_min": 1.8, "n_pair": 1, "n_triplet": 0, "n_knots": 6}


def filters(**changed):
    return fd.SplineFilters(**{"species": ["Cu", "Au"], **KEYWORDS, **changed})


def pair_potential(**changed):
    return fd.Potential(filters(**changed), network="none", direct=True)


def labelled_by(potential, n=8, size=(2, 1, 1)):
    """Frames with the energies and forces of a potential."""
    frames = [atoms.copy() for atoms in alloy(n, size=size)]
    for k, atoms in enumerate(frames):
        if k % 2:
            del atoms[k]    # compositions differ, so that the energies of both elements can be told apart
        out = potential.predict(atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=out.energy[0], forces=out.forces)
    return frames


def training_set(potential, frames):
    return TrainingSet(frames, potential.descriptor, np.float64)


@pytest.mark.parametrize("changed", [{}, {"shared": True}, {"ends": ("natural", "natural")}])
def test_a_pair_potential_is_found_again(changed):
    truth = pair_potential(seed=5, **changed)
    truth.reference = np.array([-3.5, -1234.5])
    frames = labelled_by(truth)
    found = pair_potential(**changed)
    data = training_set(found, frames)
    p, reference = fit_pair_potential(found.descriptor, data, WEIGHTS, smoothness=1e-14)
    found.descriptor.set_parameters(pair=p[None])
    found.reference = reference
    one, two = truth.predict(frames), found.predict(frames)
    np.testing.assert_allclose(two.forces, one.forces, rtol=0, atol=1e-6 * abs(one.forces).max())
    np.testing.assert_allclose(two.energy, one.energy, rtol=0, atol=1e-5)


def test_no_other_pair_potential_fits_better():
    """The gradient of the loss of EMT's labels, which no pair potential meets, is zero there."""
    frames = alloy(6)
    del frames[1].calc.results["forces"]
    del frames[2].calc.results["energy"]
    frames[3].info["weight"] = 3.0
    potential = pair_potential()
    data = training_set(potential, frames)
    p, reference = fit_pair_potential(potential.descriptor, data, WEIGHTS, smoothness=1e-13)

    def loss(p, reference):
        potential.descriptor.set_parameters(pair=p[None])
        batch = data.batch(np.arange(6), reference)
        from fastdesc.training.loss import residuals

        return float(residuals(batch.targets, *predict_batch(potential.model(), batch)[:3], WEIGHTS).loss)

    best, rng = loss(p, reference), np.random.default_rng(0)
    for _ in range(5):
        dp, dr = 1e-3 * rng.standard_normal(p.shape), 1e-3 * rng.standard_normal(2)
        up, down = loss(p + dp, reference + dr), loss(p - dp, reference - dr)
        assert up > best and down > best
        # A parabola around its minimum: both sides rise alike.
        assert abs(up - down) < 1e-3 * (up + down - 2 * best)


def test_curvature_smooths_the_fit():
    data = training_set(pair_potential(), alloy(6))
    d = filters()
    parts = []
    for curvature in (0.0, 1e-2):
        p, _ = fit_pair_potential(d, data, WEIGHTS, curvature)
        parts.append(d.training_hints.penalty({"pair": p[None]}, 1.0, 0.0)[0])
    assert parts[1] < 0.5 * parts[0]


@pytest.mark.parametrize("network", ["per_species", "spline"])
def test_other_parts_start_beside_it(network):
    """Without its network the potential is the pair potential; other filters and direct weights add nothing to it."""
    frames = alloy(8)
    d = filters(n_pair=3, n_triplet=2)
    potential = fd.Potential(d, network=network, hidden=(4,), direct=["pair_0", "pair_2"], bias=False)
    data = training_set(potential, frames)
    start_linear(potential, data, WEIGHTS)
    np.testing.assert_array_equal(potential.descriptor.parameters["pair"][1:], d.parameters["pair"][1:])
    assert (potential.direct_weights[:, 1] == 0).all() and (potential.direct_weights[:, 0] > 0).all()
    alone = pair_potential()
    start_linear(alone, data, WEIGHTS)
    forces = np.concatenate([a.get_forces() for a in frames])
    left = np.sqrt(((alone.predict(frames).forces - forces) ** 2).mean())
    added = potential.predict(frames).forces - alone.predict(frames).forces
    assert np.sqrt((added**2).mean()) == pytest.approx(left, rel=1e-6), "networks as large as what is left"


def test_training_begins_where_the_fit_ends():
    frames = alloy(12)
    losses = {}
    for start in ("random", "linear"):
        potential = fd.Potential(filters(n_triplet=2), hidden=(4,), direct=["pair_0"], bias=False)
        history = fd.train(potential, frames, epochs=1, start=start, warmup=0.99, progress=False)
        losses[start] = history["train_loss"][0]
    assert losses["linear"] < 0.3 * losses["random"]


def test_what_cannot_start_so(tmp_path):
    frames = alloy(2)
    with pytest.raises(InputError, match="GaussianMoments has none"):
        fd.train(small_potential(), frames, epochs=1, start="linear", progress=False)
    with pytest.raises(InputError, match="needs pair_0 to enter the energy directly"):
        fd.train(fd.Potential(filters(), hidden=(4,)), frames, epochs=1, start="linear", progress=False)
    d = fd.GaussianMoments(species=["Cu", "Au"], cutoff=4.0)
    path = fd.featurize(frames, tmp_path / "f.h5", d, progress=False)
    with pytest.raises(InputError, match="which a features file lacks"):
        fd.train(fd.Potential(d, hidden=(4,)), path, epochs=1, valid_fraction=0, start="linear", progress=False)
    with pytest.raises(InputError, match="start 'linar' is not known"):
        fd.train(small_potential(), frames, epochs=1, start="linar", progress=False)
