"""Shallow ensembles: how members are trained, and what they say beside potentials with these last layers."""

import warnings

import h5py
import numpy as np
import pytest
from helpers.training import alloy, small_potential
from scipy.integrate import quad
from scipy.stats import norm

import fastdesc as fd
from fastdesc.errors import FastdescError, FastdescWarning, InputError
from fastdesc.training import ensemble_members as module

TRAIN, VALID = alloy(10), alloy(6, 1, (1, 1, 1))
pytestmark = pytest.mark.filterwarnings("ignore:the energies of the training frames do not tell")


@pytest.fixture(scope="module")
def trained():
    p = small_potential()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastdescWarning)
        fd.train(p, TRAIN, VALID, epochs=2, progress=False, dtype="float64")
    return p


def samples(n, rng, d):
    """Features and errors of the widths |d^T x|."""
    x = rng.normal(size=(n, len(d)))
    return x, np.sqrt(((x @ d) ** 2).sum(1)) * rng.normal(size=n)


@pytest.mark.parametrize("likelihood", module.LIKELIHOODS)
def test_scores_are_those_of_their_definitions(likelihood):
    errors, widths = np.array([0.3, -1.2, 0.0, 2.0]), np.array([0.5, 1.0, 0.7, 0.4])
    value, slope = module.score(errors, widths, likelihood, 1.5)
    if likelihood == "nll":
        expected = -norm(0, widths).logpdf(errors).mean() - 0.5 * np.log(2 * np.pi)
    else:    # the square of the distance of two distribution functions, one of them a step
        def one(e, s):
            return quad(lambda t: norm(0, s).cdf(t) ** 2, -20, e)[0] + quad(lambda t: norm(0, s).sf(t) ** 2, e, 20)[0]

        expected = np.mean([one(e, s) for e, s in zip(errors, widths, strict=True)]) / 1.5
    assert value == pytest.approx(expected, rel=1e-6)
    for k in range(4):
        moved = widths + 1e-6 * (np.arange(4) == k)
        found = (module.score(errors, moved, likelihood, 1.5)[0] - value) / 1e-6
        assert slope[k] == pytest.approx(found, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("likelihood", module.LIKELIHOODS)
def test_gradients_are_those_of_the_loss(likelihood):
    rng = np.random.default_rng(0)
    parts = [samples(30, rng, rng.normal(size=(5, 2))) for _ in range(2)]
    parameters = [rng.normal(size=(5, 3)), np.array([0.1, -0.2])]

    def loss():
        b, scales = parameters
        return sum(module.score(e, module._widths(b, scale, x)[0], likelihood, np.sqrt((e**2).mean()))[0]
                   for (x, e), scale in zip(parts, scales, strict=True))    # fmt: skip

    for p, g in zip(parameters, module._gradients(parameters, parts, likelihood), strict=True):
        for index in np.ndindex(p.shape):
            before, found = p[index], []
            for step in (1e-5, -1e-5):
                p[index] = before + step
                found.append(loss())
            p[index] = before
            assert g[index] == pytest.approx((found[0] - found[1]) / 2e-5, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("likelihood", module.LIKELIHOODS)
def test_training_finds_widths_that_the_start_does_not_have(likelihood):
    """Errors of another covariance than the Gaussian's, for energies and forces with factors of their own."""
    rng = np.random.default_rng(1)
    d = rng.normal(size=(6, 2)) * np.array([3, 1, 1, 0.3, 0.1, 0.1])[:, None]
    sets = []
    for n in (3000, 1000):
        (x, e), (y, f) = samples(n, rng, d), samples(2 * n, rng, d)
        sets.append([(x, 5 * e), (y, f)])
    found, told = module.train_members(np.eye(6), *sets, 6, likelihood)
    assert found.shape == (6, 6) and told["loss"] < told["loss_before"] - (0.1 if likelihood == "nll" else 0.01)
    x = rng.normal(size=(500, 6))
    widths, wanted = (np.sqrt(((x @ m) ** 2).sum(1)) for m in (found, d))
    ratio = np.log(widths / wanted)
    assert ratio.std() < 0.15, ratio.std()


def test_members_are_potentials_with_these_last_layers(trained, tmp_path):
    """Energies, atomic energies and forces of M potentials, evaluated one by one."""
    before = trained.predict(VALID)
    fd.shallow_ensemble(trained, TRAIN, VALID, members=5, dtype="float64")
    found = trained.predict(VALID, uncertainty=True)
    np.testing.assert_array_equal(trained.predict(VALID).forces, before.forces)
    u = trained.uncertainty
    assert u.factor.shape == (18, 5) and u.told["shallow_ensemble"] == "nll" and u.told["members"] == 5
    names = [f"network/{k}/2/{kind}" for k in range(2) for kind in ("weight", "bias")]
    sizes = [trained.parameters[name].size for name in names]
    each = []
    for m in range(5):
        p = fd.Potential(trained.descriptor, **trained.arguments)
        p.set_parameters(trained.parameters)
        p.scaler, p.reference = trained.scaler, trained.reference
        moves = np.split(u.factor[:, m] * np.sqrt(5), np.cumsum(sizes)[:-1])
        old = p.parameters
        p.set_parameters({n: old[n] + d.reshape(old[n].shape) for n, d in zip(names, moves, strict=True)})
        each.append(p.predict(VALID))
    species, n = np.concatenate([a.numbers == 79 for a in VALID]).astype(int), np.array([len(a) for a in VALID])
    far = np.sqrt(np.add.reduceat((found.grade / u.reach[species]) ** 2, np.cumsum([0, *n[:-1]])) / n)
    far = np.clip(far, 1, 3)
    assert far.max() > 1
    for name, factor in (("energy", u.energy_factor), ("energies", u.energy_factor), ("forces", u.forces_factor)):
        spread = np.sqrt(np.mean([(getattr(e, name) - getattr(found, name)) ** 2 for e in each], axis=0))
        if name == "energy":
            spread *= far**1.5
        if name == "forces":
            spread = np.hypot(spread, u.least[species][:, None]) * u.by_element[species][:, None]
            spread *= np.repeat(far, n)[:, None] ** 1.5
        np.testing.assert_allclose(getattr(found, f"{name}_uncertainty"), factor * spread, rtol=1e-7, atol=1e-10)
    energy = np.array([a.get_potential_energy() for a in VALID])
    assert np.sqrt((((found.energy - energy) / found.energy_uncertainty) ** 2).mean()) == pytest.approx(1, rel=1e-9)
    trained.save(tmp_path / "p.h5")
    again = fd.load(tmp_path / "p.h5")
    with h5py.File(tmp_path / "p.h5") as file:    # which readers that know square factors alone must refuse
        assert int(file.attrs["format_version"]) == 5
    np.testing.assert_array_equal(again.predict(VALID, uncertainty=True).grade, found.grade)
    calculator = fd.FastdescCalculator(again)
    np.testing.assert_allclose(calculator.get_property("forces_uncertainty", VALID[0]), found.forces_uncertainty[:4])


def test_bad_input(trained):
    for name, value, told in (
        ("members", 1, "members came as 1"), ("members", 99, "last layers have 18 weights"),
        ("members", "x", "members"), ("likelihood", "mse", "likelihood 'mse' arrived"), ("seed", -1, "seed came"),
        ("device", "tpu", "tpu"),
        ("train_frames", [], "frame"), ("train_frames", "missing.xyz", "missing"), ("potential", 3, "give a Potential"),
        ("potential", small_potential(), "not been trained"),
    ):  # fmt: skip
        with pytest.raises(FastdescError, match=told):
            fd.shallow_ensemble(**{"potential": trained, "train_frames": TRAIN, "valid_frames": VALID, name: value})
    bare = [a.copy() for a in TRAIN]
    with pytest.raises(InputError):
        fd.shallow_ensemble(trained, bare, VALID)
