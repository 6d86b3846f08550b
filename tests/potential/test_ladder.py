"""From a pair potential to networks: every rung trains on its exact gradient, and is a potential in every other way."""

import json

import h5py
import numpy as np
import pytest
from ase import Atoms
from helpers.ladder_models import RUNGS, placed, rung
from helpers.potentials import cell
from helpers.training import alloy, five_point

import fastdesc as fd
from fastdesc.analysis.info import describe
from fastdesc.errors import FileFormatError, InputError
from fastdesc.networks.spline import SplineNetwork
from fastdesc.numerics.splines import Splines
from fastdesc.training.batch_gradient import ENERGIES, EVERYTHING, FIXED, FIXED_ENERGIES, batch_gradient, predict_batch
from fastdesc.training.dataset import TrainingSet
from fastdesc.training.initialise import initialise
from fastdesc.training.loss import LossWeights, residuals
from fastdesc.training.parameter_groups import groups_for
from fastdesc.training.settings import Settings


@pytest.mark.parametrize("name", RUNGS)
def test_gradient_of_the_loss_is_exact_for_every_parameter(name):
    """Energies, forces and stresses of periodic cells of two elements."""
    potential = rung(name)
    data = TrainingSet(alloy(3), potential.descriptor, np.float64)
    initialise(potential, data)
    weights = LossWeights(2.0, 1.0, 0.7)
    batch = data.batch([2, 0, 1], potential.reference)
    parameters = potential.parameters
    _, gradient = batch_gradient(potential, potential.model(parameters=parameters), batch, weights)
    assert list(gradient) == list(parameters)
    rng = np.random.default_rng(1)
    for key, array in parameters.items():
        if array.size == 0:    # no triplet filters, no parameters
            continue
        assert abs(gradient[key]).max() > 0, key
        direction = rng.standard_normal(array.shape)

        def loss(h, key=key, array=array, direction=direction):
            model = potential.model(parameters={**parameters, key: array + h * direction})
            return residuals(batch.targets, *predict_batch(model, batch)[:3], weights).loss

        # The loss is a square in what the energy is linear in. Elsewhere steps are short: a spline's third derivative
        # jumps at knots.
        linear = key in ("direct", "scale") or key.endswith("/splines")
        step, tolerance = (1e-2, 1e-9) if linear else (1e-6, 1e-6)
        assert (gradient[key] * direction).sum() == pytest.approx(five_point(loss, step), rel=tolerance), key


@pytest.mark.parametrize("name", RUNGS)
def test_the_shorter_ways_of_a_step_give_what_the_whole_one_gives(name):
    potential = rung(name)
    data = TrainingSet(alloy(3), potential.descriptor, np.float64)
    initialise(potential, data)
    batch = data.batch([2, 0, 1], potential.reference)
    for weights, exact, others in (
        (LossWeights(2.0, 1.0, 0.7), EVERYTHING, [FIXED]),
        (LossWeights(2.0, 0.0, 0.0), EVERYTHING, [ENERGIES, FIXED_ENERGIES]),
    ):
        whole = batch_gradient(potential, potential.model(), batch, weights, exact)[1]
        for way in others:
            some = batch_gradient(potential, potential.model(), batch, weights, way)[1]
            fixed = way in (FIXED, FIXED_ENERGIES)
            assert list(some) == [key for key in whole if not (fixed and key.startswith("descriptor/"))]
            for key, g in some.items():
                tolerance = 1e-11 * abs(whole[key]).max(initial=0.0)
                np.testing.assert_allclose(g, whole[key], atol=tolerance, err_msg=key)


@pytest.mark.parametrize("name", RUNGS)
def test_forces_and_stress_are_the_gradient(name):
    p, atoms = placed(name), cell()
    out = p.predict(atoms)
    rng = np.random.default_rng(2)
    direction, strain = rng.normal(size=(len(atoms), 3)), rng.normal(size=(3, 3))
    strain = strain + strain.T

    def moved(h):
        a = atoms.copy()
        a.positions += h * direction
        return p.predict(a).energy[0]

    def strained(h):
        a = atoms.copy()
        a.set_cell(a.cell @ (np.eye(3) + h * strain), scale_atoms=True)
        return p.predict(a).energy[0]

    assert -(out.forces * direction).sum() == pytest.approx(five_point(moved, 1e-5), rel=1e-8)
    s = out.stress[0]
    full = np.array([[s[0], s[5], s[4]], [s[5], s[1], s[3]], [s[4], s[3], s[2]]])
    assert (full * strain).sum() * atoms.get_volume() == pytest.approx(five_point(strained, 1e-5), rel=1e-8)


@pytest.mark.parametrize("name", RUNGS)
def test_energy_is_the_formula(name):
    """(1) of Potential, from features and plain NumPy."""
    p, atoms = placed(name), cell()
    q = p.descriptor.compute(atoms).T
    species = np.searchsorted(p.descriptor.species_numbers, atoms.numbers)
    scaled = (q - p.scaler.mean[:, None]) / p.scaler.scale[:, None]
    scaled = scaled if p.seen is None else scaled[p.seen]
    expected = p.reference[species] + (p.direct_weights[species].T * q[p.direct_columns]).sum(axis=0)
    for i, z in enumerate(species):
        network = p.networks[0 if len(p.networks) == 1 else z]
        expected[i] += p.scale[z] * textbook(network, scaled[:, i], p.bias)
    np.testing.assert_allclose(p.predict(atoms).energies, expected, rtol=1e-11)
    np.testing.assert_allclose(p.predict(atoms, forces=False, stress=False).energies, expected, rtol=1e-11)


def textbook(network, x, bias):
    if isinstance(network, SplineNetwork):
        total = 0.0
        for p, (x0, x1), n in zip(network.splines, network.grid, network.weight @ x, strict=True):
            spline = Splines(x0, x1, network.n_knots)
            total += spline.values(p, n) - (0.0 if bias else spline.values(p, 0.0))
        return float(total)
    layers = getattr(network, "layers", [])
    for l, (w, b) in enumerate(layers):
        x = w @ x + (0 if b is None else b[:, 0])
        x = x / (1 + np.exp(-x)) if l < len(layers) - 1 else x
    return x[0] if layers else 0.0


@pytest.mark.parametrize("network", ["per_species", "shared", "spline"])
@pytest.mark.parametrize("activation", ["silu", "tanh", "celu", "softplus"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_isolated_atom_has_its_reference_energy(network, activation, dtype):
    """To the last bit, after training too."""
    d = fd.GaussianMoments(species=["Cu", "Au"], cutoff=4.5, n_radial=2, n_basis=4)
    p = fd.Potential(d, hidden=(5,), activation=activation, network=network, direct=True, bias=False)
    fd.train(p, alloy(4), epochs=1, progress=False)
    assert not any(name.endswith("bias") for name in p.parameters)
    found = p.predict([Atoms("Cu"), Atoms("Au")], dtype=dtype).energy
    np.testing.assert_array_equal(found, p.reference)
    assert p.reference.any() and (p.predict(alloy(1)).energies != 0).all()


@pytest.mark.parametrize("name", RUNGS)
def test_a_saved_potential_comes_back(tmp_path, name):
    p, atoms = placed(name), cell()
    p.save(tmp_path / "p.h5")
    q = fd.load(tmp_path / "p.h5")
    assert q.arguments == p.arguments and list(q.parameters) == list(p.parameters)
    for field in ("energy", "forces", "stress", "energies"):
        np.testing.assert_array_equal(getattr(q.predict(atoms), field), getattr(p.predict(atoms), field))
    text = describe(tmp_path / "p.h5")
    for key in (*p.parameters, *p.buffers):
        assert key in text


def test_embeddings_of_one_potential_may_have_other_knots(tmp_path):
    """Functions of a published potential are put in as they are, each with its own grid."""
    p = rung("s-MEAM")
    for z, n_knots in enumerate((4, 11)):
        values = np.random.default_rng(z).normal(size=(1, n_knots + 2))
        p.networks[z] = SplineNetwork([[1.0, 0.5]], values, [[-1.0 - z, 3.0]], bias=False)
    p.save(tmp_path / "p.h5")
    frames = alloy(2)
    q = fd.load(tmp_path / "p.h5")
    assert p.fitted and q.fitted
    np.testing.assert_array_equal(q.predict(frames).forces, p.predict(frames).forces)
    fd.train(q, frames, epochs=1, valid_fraction=0, progress=False)
    assert [n.n_knots for n in q.networks] == [4, 11] and q.networks[1].grid.tolist() == [[-2.0, 3.0]]


def test_files_of_version_1_are_read(tmp_path):
    """They know neither direct terms nor buffers."""
    d = fd.GaussianMoments(species=["Cu"], cutoff=4.5, n_radial=2)
    p = fd.Potential(d, hidden=(5,), seed=2)
    p.save(tmp_path / "p.h5")
    with h5py.File(tmp_path / "p.h5", "a") as file:
        assert "buffers" not in file
        old = {name: json.loads(file.attrs["potential"])[name] for name in ("hidden", "activation", "network", "seed")}
        file.attrs["potential"], file.attrs["format_version"] = json.dumps(old), 1
    q = fd.load(tmp_path / "p.h5")
    np.testing.assert_array_equal(q.predict(cell_of_copper()).forces, p.predict(cell_of_copper()).forces)


def cell_of_copper():
    atoms = alloy(1)[0]
    atoms.numbers[:] = 29
    return atoms


@pytest.mark.parametrize("missing", ["buffers/network/0/grid", "buffers", "parameters/direct"])
def test_files_that_lack_something_say_so(tmp_path, missing):
    rung("s-MEAM").save(tmp_path / "p.h5")
    with h5py.File(tmp_path / "p.h5", "a") as file:
        del file[missing]
    with pytest.raises(FileFormatError, match=missing.split("/", 1)[-1] if "/" in missing else "network/0/grid"):
        fd.load(tmp_path / "p.h5")


def test_a_broken_grid_is_refused(tmp_path):
    rung("s-MEAM").save(tmp_path / "p.h5")
    with h5py.File(tmp_path / "p.h5", "a") as file:
        file["buffers/network/0/grid"][0, :2] = 1.0, -1.0
    with pytest.raises(FileFormatError, match="first must lie below the last"):
        fd.load(tmp_path / "p.h5")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": "none"}, "add direct=True"),
        ({"network": "none", "direct": ["pair_0"]}, "give direct=True"),
        ({"network": "none", "direct": True, "hidden": (4,)}, "has no layers"),
        ({"network": "spline", "hidden": (4, 4)}, r"one layer: \(n,\)"),
        ({"network": "splines"}, "did you mean 'spline'"),
        ({"network": "spline", "n_knots": 1}, "n_knots came as 1"),
        ({"direct": ["pair_7"]}, "'pair_7', which no feature is called"),
        ({"direct": ["Pair_0"]}, "did you mean 'pair_0'"),
        ({"direct": [3]}, "holds 3"),
        ({"direct": []}, "empty list"),
        ({"direct": "pair_0"}, "direct came as 'pair_0'"),
        ({"direct": 1}, "direct came as 1"),
        ({"direct": ["pair", "triplet"]}, "leaves the network none"),
        ({"bias": "no"}, "bias came as 'no'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        fd.Potential(rung("s-MEAM").descriptor, **arguments)


def test_names_and_beginnings_of_names():
    d = fd.SplineFilters(species=["Cu"], n_pair=12, n_triplet=3)
    for direct, expected in ((["pair_1"], [1]), (["pair_10", "triplet"], [10, 12, 13, 14]), (("pair",), range(12))):
        p = fd.Potential(d, direct=direct)
        assert list(p.direct_columns) == list(expected)
        assert sorted([*p.seen, *p.direct_columns]) == list(range(15))
        assert p.networks[0].layers[0][0].shape == (64, len(p.seen))
    assert list(fd.Potential(d, direct=True).direct_columns) == list(range(15))


def test_defaults_of_hidden():
    d = rung("s-MEAM").descriptor
    assert fd.Potential(d).hidden == (64, 64) and fd.Potential(d, hidden=()).hidden == ()
    for hidden in (None, (), (1,), [1]):
        assert fd.Potential(d, hidden, network="spline").hidden == (1,)
    p = rung("pair")
    assert p.hidden == () and list(p.parameters)[-1] == "direct" and "scale" not in p.parameters


@pytest.mark.parametrize("name", RUNGS)
def test_training_works_and_resumes_exactly(tmp_path, name):
    frames = alloy(10)
    settings = {"batch_atoms": 24, "progress": False, "learning_rate": 1e-2}
    settings |= {"schedule": "constant", "warmup": 0, "late": 0}    # nothing that goes by the number of epochs
    whole = rung(name)
    history = fd.train(whole, frames, epochs=30, **settings)
    assert history.rows[-1]["train_forces_mae"] < 0.8 * history.rows[0]["train_forces_mae"]
    part = {"checkpoint": tmp_path / "c.h5", **settings}
    fd.train(rung(name), frames, epochs=10, **part)
    again = rung(name)
    fd.train(again, frames, epochs=30, resume=True, **part)
    for key, array in whole.parameters.items():
        np.testing.assert_array_equal(again.parameters[key], array, err_msg=key)
    for key, array in whole.buffers.items():
        np.testing.assert_array_equal(again.buffers[key], array, err_msg=key)


def test_training_from_features(tmp_path):
    """Ranges of embeddings and sizes of direct weights are fitted to what a features file holds."""
    frames, p = alloy(8), rung("embeddings")
    fd.featurize(frames, tmp_path / "q.h5", p.descriptor, progress=False)
    weights = [network.weight for network in p.networks]
    history = fd.train(p, tmp_path / "q.h5", epochs=20, valid_fraction=0, progress=False, learning_rate=1e-2,
                       dtype="float64")  # fmt: skip
    assert history.rows[-1]["train_energy_mae"] < 0.9 * history.rows[0]["train_energy_mae"]
    q = p.descriptor.compute(frames)[:, p.seen] / p.scaler.scale[p.seen]
    species = np.searchsorted(p.descriptor.species_numbers, np.concatenate([a.numbers for a in frames]))
    for z, network in enumerate(p.networks):
        n = q[species == z] @ weights[z].T
        middle, half = (n.max(0) + n.min(0)) / 2, np.maximum(0.6 * (n.max(0) - n.min(0)), 0.5)
        np.testing.assert_allclose(network.grid, np.stack([middle - half, middle + half], 1), rtol=1e-12)


def test_weights_decay_and_functions_do_not():
    p = placed("s-MEAM")
    groups = groups_for(p, Settings(weight_decay=0.3, learning_rate=2e-3))
    assert {k for k, g in groups.items() if g.weight_decay} == {f"network/{z}/weight" for z in range(3)}
    assert groups["network/0/splines"].rate == 2e-3
    assert groups["direct"].rate == pytest.approx(2e-3 / p.scaler.scale[0], rel=1e-12)
