"""The shorter ways of a training step give what the whole one gives."""

import numpy as np
import pytest
from helpers.families import FAMILIES
from helpers.training import alloy, five_point, small_potential

import fastdesc as fd
from fastdesc.training.batch_gradient import ENERGIES, EVERYTHING, FIXED, FIXED_ENERGIES, batch_gradient, evaluate_set
from fastdesc.training.dataset import TrainingSet
from fastdesc.training.initialise import initialise
from fastdesc.training.loss import LossWeights
from fastdesc.training.trainer import Trainer

BOTH = LossWeights(2.0, 1.0, 0.7)
ENERGY = LossWeights(2.0, 0.0, 0.0)


def prepared(network="per_species"):
    """A potential, fitted, and a batch of frames of which one has no energy and one weighs 3."""
    frames = alloy(5)
    frames[1].info["weight"] = 3.0
    del frames[2].calc.results["energy"]
    potential = small_potential(network)
    data = TrainingSet(frames, potential.descriptor, np.float64)
    initialise(potential, data)
    return potential, data, data.batch([3, 0, 2, 1], potential.reference)


def gradients(potential, batch, weights, *ways):
    return [batch_gradient(potential, potential.model(), batch, weights, way) for way in ways]


@pytest.mark.parametrize("network", ["per_species", "shared"])
def test_a_fixed_descriptor_changes_no_other_gradient(network):
    potential, _, batch = prepared(network)
    (found, whole), (again, fixed) = gradients(potential, batch, BOTH, EVERYTHING, FIXED)
    assert again.loss == found.loss
    assert list(fixed) == [name for name in whole if not name.startswith("descriptor/")]
    for name, g in fixed.items():
        np.testing.assert_array_equal(g, whole[name], err_msg=name)


@pytest.mark.parametrize("network", ["per_species", "shared"])
def test_energies_alone_need_no_derivatives(network):
    """The dual pass with weights of zero on forces and stresses says the same, to round-off."""
    potential, _, batch = prepared(network)
    (found, whole), (again, some), (last, fixed) = gradients(
        potential, batch, ENERGY, EVERYTHING, ENERGIES, FIXED_ENERGIES
    )
    assert again.loss == last.loss == pytest.approx(found.loss, rel=1e-12)
    assert set(again.errors) == {"energy", "has_energy"}
    assert list(some) == list(whole)
    assert list(fixed) == [name for name in whole if not name.startswith("descriptor/")]
    for name, g in some.items():
        np.testing.assert_allclose(g, whole[name], atol=1e-12 * abs(whole[name]).max(), err_msg=name)
    for name, g in fixed.items():
        np.testing.assert_array_equal(g, some[name], err_msg=name)


def test_gradient_of_energies_alone_is_exact():
    """Against differences, which know nothing of the dual pass."""
    potential, _, batch = prepared()
    parameters = potential.parameters
    _, gradient = batch_gradient(potential, potential.model(), batch, ENERGY, ENERGIES)
    rng = np.random.default_rng(1)
    for name, array in parameters.items():
        direction = rng.standard_normal(array.shape)

        def loss(h, name=name, array=array, direction=direction):
            model = potential.model(parameters={**parameters, name: array + h * direction})
            return ENERGIES.judge(model, batch, ENERGY).loss

        assert (gradient[name] * direction).sum() == pytest.approx(five_point(loss, 1e-4), rel=1e-8), name


def test_judging_energies_alone():
    potential, data, _ = prepared()
    given = potential.model(), data, potential.reference, ENERGY
    whole, short = evaluate_set(*given, EVERYTHING), evaluate_set(*given, ENERGIES)
    assert set(short) == {"loss", "energy_mae", "energy_rmse"}
    for name, value in short.items():
        assert value == pytest.approx(whole[name], rel=1e-12)


def pass_of(frames, valid=None, **settings):
    """The pass that a run takes."""
    from fastdesc.training.settings import Settings

    settings = Settings.named(epochs=1, **settings)
    return Trainer(small_potential(), frames, valid, settings, np.random.default_rng(0)).training_pass


def test_the_cheapest_pass_is_taken():
    frames, bare = alloy(3), alloy(3)
    for atoms in bare:
        del atoms.calc.results["forces"], atoms.calc.results["stress"]
    fixed, energies = {"descriptor_learning_rate": 0.0}, {"force_weight": 0.0, "stress_weight": 0.0}
    assert pass_of(frames) is EVERYTHING
    assert pass_of(frames, **fixed) is FIXED
    assert pass_of(frames, **energies) is ENERGIES
    assert pass_of(frames, **fixed, **energies) is FIXED_ENERGIES
    assert pass_of(bare) is ENERGIES
    assert pass_of(bare, frames) is EVERYTHING
    assert pass_of(frames, force_weight=0.0) is EVERYTHING
    assert pass_of(frames, freeze=["descriptor/*"]) is FIXED


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_of_every_family(family):
    frames = alloy(3)
    potential = fd.Potential(family.make(next(iter(family.variants)), ["Cu", "Au"]), hidden=(6, 5), seed=1)
    data = TrainingSet(frames, potential.descriptor, np.float64)
    initialise(potential, data)
    batch = data.batch([2, 0, 1], potential.reference)
    (_, whole), (_, fixed) = gradients(potential, batch, BOTH, EVERYTHING, FIXED)
    for name, g in fixed.items():
        np.testing.assert_array_equal(g, whole[name], err_msg=name)
    (_, whole), (_, some) = gradients(potential, batch, ENERGY, EVERYTHING, ENERGIES)
    for name, g in some.items():
        np.testing.assert_allclose(g, whole[name], atol=1e-12 * abs(whole[name]).max(), err_msg=name)
