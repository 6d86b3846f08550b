"""What training adds for the parameters' own sake: curvature and magnitude of filters, and frozen parameters."""

import numpy as np
import pytest
from helpers.families import FAMILIES
from helpers.training import alloy, small_potential

import fastdesc as fd
from fastdesc.cli.config import load_config
from fastdesc.errors import InputError
from fastdesc.training import trainer_for
from fastdesc.training.batch_gradient import batch_gradient

KEYWORDS = {"cutoff": 4.5, "triplet_cutoff": 3.5, "r_min": 1.8, "n_pair": 2, "n_triplet": 2, "n_knots": 6}
CURVATURE, MAGNITUDE = 0.03, 0.7


def filters(**changed):
    return fd.SplineFilters(species=["Cu", "Au"], **{**KEYWORDS, **changed})


def random_theta(descriptor, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(p.shape) for name, p in descriptor.parameters.items()}


@pytest.mark.parametrize("end", ["clamped", "natural"])
def test_penalty_is_the_integral_over_every_filter(end):
    d = filters(ends=("clamped", end))
    theta = random_theta(d)
    expected = 0.0
    for name, p in theta.items():
        s = d.spline(name, 0, 0)
        # The midpoints of so many intervals, a multiple of those between knots: second order in 1/n.
        n = 5 * 4000
        x = s.x0 + (np.arange(n) + 0.5) * (s.x1 - s.x0) / n
        unit = s.x1 - s.x0
        expected += CURVATURE * unit**4 * (s.values(p, x, 2) ** 2).mean(-1).sum()
        expected += MAGNITUDE * (s.values(p, x) ** 2).mean(-1).sum()
    assert d.training_hints.penalty(theta, CURVATURE, MAGNITUDE)[0] == pytest.approx(expected, rel=1e-6)


def test_gradient_of_the_penalty_is_exact():
    """A central difference of a quadratic function has no error of its own, whatever the step."""
    d = filters()
    theta = random_theta(d)
    gradient = d.training_hints.penalty(theta, CURVATURE, MAGNITUDE)[1]
    for name, p in theta.items():
        direction = np.random.default_rng(1).standard_normal(p.shape)
        moved = ({**theta, name: p + h * direction} for h in (-1, 1))
        low, high = (d.training_hints.penalty(near, CURVATURE, MAGNITUDE)[0] for near in moved)
        assert (gradient[name] * direction).sum() == pytest.approx((high - low) / 2, rel=1e-12), name


def test_a_weight_means_the_same_at_any_number_of_knots():
    """Between every two knots one more: the same functions, the same penalty."""
    coarse, fine = filters(n_knots=6), filters(n_knots=11)
    theta, resampled = random_theta(coarse), {}
    for name, p in theta.items():
        s, t = coarse.spline(name, 0, 0), fine.spline(name, 0, 0)
        resampled[name] = np.zeros((*p.shape[:-1], 13))
        resampled[name][..., :-2] = s.values(p, t.knots)
        if name == "triplet_angular":    # natural: second derivatives at the ends, times the square of the spacing
            resampled[name][..., -2:] = p[..., -2:] / 4
        else:
            resampled[name][..., -2:] = s.values(p, [s.x0, s.x1], 1)
    for weights in ((1, 0), (0, 1)):
        value = coarse.training_hints.penalty(theta, *weights)[0]
        assert fine.training_hints.penalty(resampled, *weights)[0] == pytest.approx(value, rel=1e-12)


def test_training_adds_the_penalty_to_the_gradient():
    frames = alloy(4)
    settings = {"valid_fraction": 0, "dtype": "float64", "batch_size": 4, "epochs": 1, "ema": 0}
    trainer = trainer_for(fd.Potential(filters(), hidden=(4,)), frames, curvature=CURVATURE, magnitude=MAGNITUDE,
                          **settings)  # fmt: skip
    seen = {}

    def keep(parameters, gradient, factor, norm):
        seen.update(gradient)

    trainer.optimizer.step = keep
    history = trainer.run(progress=False)
    potential = trainer.potential
    order = np.random.default_rng(0).permutation(4)
    batch = trainer.data.batch(order, potential.reference)
    found, plain = batch_gradient(potential, potential.model(), batch, trainer.weights)
    value, added = potential.descriptor.training_hints.penalty(potential.descriptor.parameters, CURVATURE, MAGNITUDE)
    for name, g in plain.items():
        expected = g + added.get(name.removeprefix("descriptor/"), 0.0)
        np.testing.assert_allclose(seen[name], expected, rtol=1e-9, atol=1e-12 * abs(expected).max(), err_msg=name)
    row = history.rows[0]
    assert row["train_penalty"] == pytest.approx(value, rel=1e-12)
    assert row["train_loss"] == pytest.approx(found.loss, rel=1e-9)


def test_curvature_smooths():
    smooth, rough = (fd.Potential(filters(n_knots=9), hidden=(4,)) for _ in range(2))
    for potential, weight in ((smooth, 1e-2), (rough, 0.0)):
        history = fd.train(potential, alloy(6), epochs=40, descriptor_learning_rate=0.05, curvature=weight,
                           progress=False)  # fmt: skip
    assert "train_penalty" not in history.columns()
    parts = [p.descriptor.training_hints.penalty(p.descriptor.parameters, 1.0, 0.0)[0] for p in (smooth, rough)]
    assert parts[0] < 0.5 * parts[1]


@pytest.mark.parametrize("name", ["curvature", "magnitude"])
@pytest.mark.parametrize("still", [{"freeze": ["descriptor/*"]}, {"descriptor_learning_rate": 0.0}])
def test_a_penalty_that_no_filter_follows_is_refused(name, still):
    with pytest.raises(InputError, match=f"{name} is 2, and no filter learns: .* Leave {name} out, or let filters"):
        fd.train(fd.Potential(filters(), hidden=(4,)), alloy(3), epochs=1, progress=False, **{name: 2.0}, **still)


def test_a_penalty_that_some_filters_follow():
    """Those that stay as they are add their constant."""
    potential = fd.Potential(filters(), hidden=(4,))
    still = potential.descriptor.parameters["pair"].copy()
    history = fd.train(potential, alloy(3), epochs=2, curvature=1.0, freeze=["descriptor/pair"], progress=False)
    np.testing.assert_array_equal(potential.descriptor.parameters["pair"], still)
    assert min(history["train_penalty"]) > potential.descriptor.training_hints.penalty({"pair": still}, 1.0, 0.0)[0]


def test_a_linear_start_follows_the_curvature_alone():
    given = {"epochs": 1, "start": "linear", "freeze": ["descriptor/*"], "progress": False}
    potential = fd.Potential(filters(), hidden=(4,), direct=True)
    with pytest.raises(InputError, match="magnitude is 1, and no filter learns"):
        fd.train(potential, alloy(3), curvature=1.0, magnitude=1.0, **given)
    fd.train(potential, alloy(3), curvature=1.0, **given)
    with pytest.raises(InputError, match="curvature is 1, and no filter learns"):
        fd.train(potential, alloy(3), curvature=1.0, **given)


@pytest.mark.parametrize("setting", ["curvature", "magnitude"])
def test_families_without_splines_refuse(setting):
    with pytest.raises(InputError, match="GaussianMoments has no splines"):
        fd.train(small_potential(), alloy(2), epochs=1, progress=False, **{setting: 1e-3})
    with pytest.raises(InputError, match=f"{setting} came as -1"):
        fd.train(small_potential(), alloy(2), epochs=1, progress=False, **{setting: -1})


# ------------------------------------------------------------------------------------------------------ freezing


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_frozen_parameters_keep_every_bit(family):
    variant = next(iter(family.variants))
    potential = fd.Potential(family.make(variant, ["Cu", "Au"]), hidden=(4,))
    names = list(potential.parameters)
    first = names[0]
    before = {name: p.copy() for name, p in potential.parameters.items()}
    fd.train(potential, alloy(3), epochs=2, freeze=[first, "network/*/weight"], progress=False)
    for name, p in potential.parameters.items():
        held = name == first or (name.startswith("network/") and name.endswith("weight"))
        assert np.array_equal(p, before[name]) == held or name == "scale", name
    assert not np.array_equal(potential.parameters["network/0/0/bias"], before["network/0/0/bias"])


def test_frozen_networks_inside_a_descriptor_too():
    potential = fd.Potential(fd.EmbeddedDensity(species=["Cu", "Au"], cutoff=4.0, iterations=1), hidden=(4,))
    before = {name: p.copy() for name, p in potential.parameters.items()}
    fd.train(potential, alloy(3), epochs=2, freeze=["descriptor/*"], progress=False)
    for name, p in potential.parameters.items():
        if name.startswith("descriptor/"):
            np.testing.assert_array_equal(p, before[name], err_msg=name)


def test_patterns_that_fit_nothing_name_the_nearest():
    with pytest.raises(InputError, match=r"no parameter fits 'descriptor/bet'.*did you mean 'descriptor/beta'"):
        fd.train(small_potential(), alloy(2), epochs=1, freeze=["descriptor/bet"], progress=False)
    with pytest.raises(InputError, match="leave nothing to train"):
        fd.train(small_potential(), alloy(2), epochs=1, freeze=["*"], progress=False)


@pytest.mark.parametrize(("value", "message"), [("descriptor/*", "it must be a list"), ([1], "freeze holds 1")])
def test_freeze_is_a_list_of_names(value, message):
    with pytest.raises(InputError, match=message):
        fd.train(small_potential(), alloy(2), epochs=1, freeze=value, progress=False)


def test_settings_from_a_file_and_through_a_checkpoint(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('[data]\ntrain = "t.xyz"\n[training]\ncurvature = 1e-6\nmagnitude = 1\nfreeze = ["scale"]\n')
    training = load_config(path).training
    assert (training.curvature, training.magnitude, training.freeze) == (1e-6, 1, ("scale",))
    settings = {"progress": False, "checkpoint": tmp_path / "c.h5", "freeze": ["scale"]}
    fd.train(small_potential(), alloy(4), epochs=1, **settings)
    assert len(fd.train(small_potential(), alloy(4), epochs=2, resume=True, **settings)) == 2
    with pytest.raises(InputError, match="freeze"):
        fd.train(small_potential(), alloy(4), epochs=2, resume=True, **{**settings, "freeze": []})
