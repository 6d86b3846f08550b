"""Uncertainty from the last layer, held against dense algebra on differences of energies and forces.

Energies and forces are linear in the weights of the last layer, so differences by these weights are exact.
"""

from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise

import h5py
import numpy as np
import pytest
from helpers.backends import DOUBLE_AND_GPU
from helpers.device_models import DESCRIPTORS, potential
from helpers.ladder_models import RUNGS, rung
from helpers.training import alloy

import fastdesc as fd
from fastdesc.backend import threads
from fastdesc.errors import FileFormatError, InputError
from fastdesc.geometry import pair_vectors
from fastdesc.potential import one_pass, uncertainty
from fastdesc.potential.last_layer import LastLayer
from fastdesc.potential.uncertainty import Uncertainty

FRAMES = [*alloy(3), alloy(1, 5, (1, 1, 1))[0][:3]]


def other_knots():
    """Embeddings with another number of knots for each element."""
    p = rung("s-MEAM")
    p.set_buffers({"network/1/grid": np.array([[-2.0, 4.0, 9]])})
    name = "network/1/splines"
    p.set_parameters({name: np.random.default_rng(0).normal(size=p.parameters[name].shape)})
    return p


FAMILIES = {
    "Gaussian moments": lambda: fd.Potential(DESCRIPTORS["gaussian moments"](), hidden=(6, 5)),
    "one network": lambda: fd.Potential(DESCRIPTORS["gaussian moments"](), hidden=(6, 5), network="shared"),
    "linear": lambda: fd.Potential(DESCRIPTORS["gaussian moments"](), hidden=(), network="shared"),
    "densities": lambda: fd.Potential(DESCRIPTORS["embedded density"](), hidden=(4,), activation="tanh"),
    "recursion": lambda: fd.Potential(DESCRIPTORS["recursion"](), hidden=(4, 3, 5)),
    "residual": lambda: potential("residual recursion"),
    "knots by element": lambda: other_knots(),
    **{name: lambda name=name: rung(name) for name in RUNGS},
}


def last_weights(p):
    """(name, index in the array, unit) of every weight of the last layers, in the order of LastLayer."""
    found = []
    for k, network in enumerate(p.networks):
        if p.network == "spline":
            x0, x1, n = network.buffers["grid"].T
            unit = np.ones(network.splines.shape)
            unit[:, -2:] = ((x1 - x0) / (n - 1))[:, None]
            name = f"network/{k}/splines"
            found += [(name, i, unit[i]) for i in np.ndindex(*unit.shape)]
        elif p.network != "none":
            layer = len(network.layers) - 1 if hasattr(network, "layers") else "last"
            names = [f"network/{k}/{layer}/{kind}" for kind in ("weight", "bias")]
            found += [(n, i, 1.0) for n in names if n in p.parameters for i in np.ndindex(*p.parameters[n].shape)]
    if "direct" in p.parameters:
        found += [("direct", i, 1.0) for i in np.ndindex(*p.parameters["direct"].shape)]
    return found


def by_weights(p, frames):
    """Derivatives of energies, atomic energies and forces by the weights of the last layers, weights last."""
    before, out = p.parameters, []
    for name, index, unit in last_weights(p):
        found = []
        for sign in (1, -1):
            array = before[name].copy()
            array[index] += sign
            p.set_parameters({name: array})
            found.append(p.predict(frames))
            p.set_parameters({name: before[name]})
        parts = [(getattr(found[0], n) - getattr(found[1], n)) / (2 * unit) for n in ("energy", "energies", "forces")]
        out.append(parts)
    return [np.stack(parts, axis=-1) for parts in zip(*out, strict=True)]


def with_some(p, seed=0):
    """Give a potential a covariance of no symmetry."""
    n, rng = len(last_weights(p)), np.random.default_rng(seed)
    p.uncertainty = Uncertainty(rng.normal(size=(n, n)) / n, rng.uniform(1, 2, 2), 1.3, 0.7, {"ridge": 0.1})
    return p


def with_distances(p):
    """The same, and matrices by which atoms are far."""
    with_some(p)
    rng, rows = np.random.default_rng(5), LastLayer.of(p.model(), p.direct_columns).n_rows
    more = {"local": rng.normal(size=(2, rows, rows)), "local_forces": np.array([0.3, 0.8])}
    p.uncertainty = replace(p.uncertainty, **more)
    return p


@pytest.mark.parametrize("kind", FAMILIES)
def test_grades_are_lengths_in_the_metric_of_the_element(kind, tmp_path):
    p = FAMILIES[kind]()
    layer, of_atoms = LastLayer.of(p.model(), p.direct_columns), by_weights(p, FRAMES)[1]
    p = with_distances(p)
    species = np.concatenate([a.numbers == 79 for a in FRAMES]).astype(int)
    phi = [of_atoms[i, layer.places[z]] for i, z in enumerate(species)]
    wanted = [np.linalg.norm(p.uncertainty.local[z][: len(x), : len(x)] @ x) for z, x in zip(species, phi, strict=True)]
    p.save(tmp_path / "p.h5")
    for q, asked in ((p, True), (p, "energy"), (p, "local"), (fd.load(tmp_path / "p.h5"), "local")):
        found = q.predict(FRAMES, uncertainty=asked)
        np.testing.assert_allclose(found.grade, wanted, rtol=1e-8)
        if asked == "local":
            wanted_forces = np.array([0.3, 0.8])[species] * wanted
            np.testing.assert_allclose(found.forces_uncertainty, np.repeat(wanted_forces[:, None], 3, 1), rtol=1e-8)
    assert p.predict(FRAMES, uncertainty="local", forces=False).forces_uncertainty is None
    calculator = fd.FastdescCalculator(p, uncertainty="local")
    found = calculator.get_property("forces_uncertainty", FRAMES[0])
    np.testing.assert_allclose(found[:, 2], wanted_forces[: len(FRAMES[0])], rtol=1e-8)
    with pytest.raises(InputError, match=r"older than uncertainty='local'; fd\.fit"):
        with_some(p).predict(FRAMES, uncertainty="local")


@pytest.mark.parametrize("kind", FAMILIES)
def test_standard_deviations_are_those_of_dense_algebra(kind):
    p = FAMILIES[kind]()
    by_energy, by_atom, by_force = by_weights(p, FRAMES)
    assert LastLayer.of(p.model(), p.direct_columns).n == by_energy.shape[1]
    u = with_some(p).uncertainty
    found = p.predict(FRAMES, uncertainty=True, members=by_energy.shape[1])
    for wanted, value, factor in (
        (by_energy, found.energy_uncertainty, 1.3),
        (by_atom, found.energies_uncertainty, 1.3),
        (by_force, found.forces_uncertainty, 0.7),
    ):
        wanted = factor * np.sqrt(((wanted @ u.factor) ** 2).sum(-1))
        np.testing.assert_allclose(value, wanted, rtol=1e-8, atol=1e-9 * wanted.max())
        assert wanted.max() > 0
    species = np.concatenate([a.numbers == 79 for a in FRAMES]).astype(int)    # elements by number: Cu, Au
    np.testing.assert_allclose(found.grade, found.energies_uncertainty / 1.3 / u.largest[species], rtol=1e-12)


@pytest.mark.parametrize("kind", ["Gaussian moments", "one network", "recursion"])
def test_products_of_last_layer_features_are_covariances(kind):
    p = FAMILIES[kind]()
    per_atom = by_weights(p, FRAMES)[0] / np.array([[len(a)] for a in FRAMES])
    wanted = 1.3**2 * per_atom @ (with_some(p).uncertainty.factor @ p.uncertainty.factor.T) @ per_atom.T
    rows = fd.last_layer_features(p, FRAMES)
    np.testing.assert_allclose(rows @ rows.T, wanted, rtol=1e-8, atol=1e-9 * wanted.max())
    single = fd.last_layer_features(p, FRAMES, dtype="float32")
    np.testing.assert_allclose(single, rows, rtol=0, atol=1e-6 * abs(rows).max())    # ten roundings of float32


@pytest.mark.parametrize("kind", FAMILIES)
def test_values_are_those_without_uncertainty(kind):
    p = with_some(FAMILIES[kind]())
    plain = p.predict(FRAMES)
    alone = {"uncertainty": True, "forces": False, "stress": False}
    for asked in ({"uncertainty": True}, {"uncertainty": "energy"}, alone):
        found = p.predict(FRAMES, **asked)
        np.testing.assert_allclose(found.energy, plain.energy, rtol=1e-12)
        np.testing.assert_allclose(found.energies, plain.energies, rtol=1e-11, atol=1e-12)
        if found.forces is not None:
            np.testing.assert_allclose(found.forces, plain.forces, rtol=0, atol=1e-11)
            np.testing.assert_allclose(found.stress, plain.stress, rtol=0, atol=1e-11)
        assert found.energy_uncertainty.shape == (len(FRAMES),)
        assert (found.forces_uncertainty is not None) == (found.forces is not None and asked["uncertainty"] is True)


@pytest.mark.parametrize("kind", ["Gaussian moments", "one network", "linear"])
def test_members_of_one_pass_are_those_of_single_pullbacks(kind, monkeypatch):
    """All at once, and by twos, as many as a small memory holds: nothing of the general way is called."""
    p = with_some(FAMILIES[kind]())
    placed, pairs, species = p.placed(fd.Structures.from_ase(FRAMES), None, p.model())
    layer = LastLayer.of(p.model(), p.direct_columns)
    rij = pair_vectors(placed.positions, placed.cells, pairs, np.dtype(float))
    general = uncertainty.values_and_spread(layer, p.model(), rij, pairs, species.on_device, p.uncertainty, members=5)
    monkeypatch.setattr(uncertainty, "values_and_spread", None)
    for memory in (1 << 28, 2 * 3 * 8 * pairs.n_pairs):
        monkeypatch.setattr(one_pass, "MEMBERS_MEMORY", memory)
        found = p.predict(FRAMES, uncertainty=True, members=5)
        wanted = general[1][-1]
        assert wanted.max() > 0
        np.testing.assert_allclose(found.forces_uncertainty, 0.7 * wanted, rtol=1e-10, atol=1e-12 * wanted.max())
        np.testing.assert_allclose(found.forces, general[0][1], rtol=0, atol=1e-12)


def test_a_few_members_agree_with_all_of_them_in_the_mean():
    p = with_some(FAMILIES["Gaussian moments"]())
    exact = p.predict(FRAMES, uncertainty=True, members=12).forces_uncertainty
    assert len(p.uncertainty.factor) == 12
    found = p.predict(FRAMES, uncertainty=True).forces_uncertainty
    # 8 of 12 orthogonal directions: single components differ, their mean square by a few percent.
    assert 0.8 < (found**2).sum() / (exact**2).sum() < 1.25
    assert abs(found / exact - 1).max() > 0.01


@pytest.mark.parametrize("kind", ["Gaussian moments", "s-MEAM", "s-NNP", "pair"])
def test_float32_is_near_float64(kind):
    p = with_some(FAMILIES[kind]())
    one, other = (p.predict(FRAMES, dtype=dtype, uncertainty=True) for dtype in ("float64", "float32"))
    for name in ("energy_uncertainty", "energies_uncertainty", "forces_uncertainty", "grade"):
        wanted, found = getattr(one, name), getattr(other, name)
        # Features, networks and products with L are sums of tens of float32 terms.
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * wanted.max())


@pytest.mark.parametrize("device", DOUBLE_AND_GPU)
@pytest.mark.parametrize("kind", FAMILIES)
def test_a_device_finds_the_same_and_waits_once(kind, device):
    pytest.importorskip("cupy", reason="CuPy is not installed: the double has its functions and signatures from it")
    from cuda_emulator import gcc_status
    from doubles.cupy_double import device_double

    if not gcc_status()[0]:
        pytest.skip(gcc_status()[1])
    p = with_distances(FAMILIES[kind]())
    expected = p.predict(FRAMES, uncertainty=True)
    with device_double() if device == "double" else nullcontext() as ledger:
        found = p.predict(FRAMES, device="cuda", uncertainty=True)
        if device == "double":
            assert len(ledger.waits) == 1, ledger.waits
    for name in ("energy", "energy_uncertainty", "energies_uncertainty", "forces_uncertainty", "grade"):
        wanted = getattr(expected, name)
        np.testing.assert_allclose(getattr(found, name), wanted, rtol=1e-9, atol=1e-10 * abs(wanted).max())


def test_frames_outside_have_larger_uncertainties(tmp_path):
    """As much as the mean square of the atoms' grades says, up to three times the usual; atoms are as they were."""
    p = with_distances(FAMILIES["Gaussian moments"]())
    kinds = (True, "energy", "local")
    plain = [p.predict(FRAMES, uncertainty=kind) for kind in kinds]
    n, gold = np.array([len(a) for a in FRAMES]), np.concatenate([a.numbers for a in FRAMES]) == 79
    first = np.cumsum([0, *n])
    for scale in (0.05, 0.3, 30.0):
        reach = scale * np.where(gold, 2.0, 3.0) * np.sqrt((plain[0].grade ** 2).mean())
        p.uncertainty = replace(p.uncertainty, reach=np.array([reach[~gold][0], reach[gold][0]]))
        grown = [np.sqrt(((plain[0].grade / reach)[a:b] ** 2).mean()) for a, b in pairwise(first)]
        grown = np.clip(grown, 1, 3)
        assert (grown.min() == 3) == (scale == 0.05) and (grown.max() == 1) == (scale == 30), grown
        p.save(tmp_path / "p.h5")
        q, of_atom = fd.load(tmp_path / "p.h5"), np.repeat(grown, n)[:, None]
        for kind, before in zip(kinds, plain, strict=True):
            found = q.predict(FRAMES, uncertainty=kind)
            np.testing.assert_allclose(found.energy_uncertainty, grown**1.5 * before.energy_uncertainty, rtol=1e-12)
            np.testing.assert_array_equal(found.energies_uncertainty, before.energies_uncertainty)
            np.testing.assert_array_equal(found.grade, before.grade)
            if kind != "energy":
                wanted = of_atom ** (1 if kind == "local" else 1.5) * before.forces_uncertainty
                np.testing.assert_allclose(found.forces_uncertainty, wanted, rtol=1e-12)
        calculator = fd.FastdescCalculator(q, uncertainty=True)
        for name in ("energy_uncertainty", "forces_uncertainty"):
            found = calculator.get_property(name, FRAMES[-1])
            wanted = getattr(q.predict(FRAMES[-1], uncertainty=True), name)
            np.testing.assert_allclose(found, wanted if np.ndim(found) else wanted[0], rtol=1e-12)
    p.uncertainty = replace(p.uncertainty, largest=np.array([1.0, 0.0]), reach=np.array([100.0, 0.0]))
    found = p.predict(FRAMES, uncertainty="energy")
    with_gold = np.logical_or.reduceat(gold, first[:-1])
    wanted = np.where(with_gold, 3**1.5, 1) * plain[1].energy_uncertainty
    np.testing.assert_allclose(found.energy_uncertainty, wanted, rtol=1e-12)


def test_components_of_forces_have_a_least_width(tmp_path):
    p = with_some(FAMILIES["Gaussian moments"]())
    plain = p.predict(FRAMES, uncertainty=True).forces_uncertainty
    p.uncertainty = replace(p.uncertainty, least=np.array([0.3, 4.0]), by_element=np.array([1.0, 2.0]))
    p.save(tmp_path / "p.h5")
    gold = np.concatenate([a.numbers for a in FRAMES]) == 79
    wanted = np.where(gold, 2, 1)[:, None] * np.hypot(plain, 0.7 * np.where(gold, 4.0, 0.3)[:, None])
    found = fd.load(tmp_path / "p.h5").predict(FRAMES, uncertainty=True).forces_uncertainty
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_files_keep_it_and_files_without_say_how_to_get_it(tmp_path):
    p = with_some(FAMILIES["Gaussian moments"]())
    p.uncertainty = replace(p.uncertainty, by_element=np.array([0.5, 2.0]))
    p.save(tmp_path / "p.h5")
    one, other = (q.predict(FRAMES, uncertainty=True).forces_uncertainty for q in (p, fd.load(tmp_path / "p.h5")))
    np.testing.assert_array_equal(one, other)
    plain = with_some(p).predict(FRAMES, uncertainty=True).forces_uncertainty
    gold = np.concatenate([a.numbers for a in FRAMES]) == 79
    np.testing.assert_allclose(one, np.where(gold, 2.0, 0.5)[:, None] * plain, rtol=1e-12)
    p.uncertainty = replace(p.uncertainty, forces_factor=np.nan)
    p.save(tmp_path / "p.h5")
    loaded = fd.load(tmp_path / "p.h5")
    assert loaded.uncertainty.told == {"ridge": 0.1} and np.isnan(loaded.uncertainty.forces_factor)
    one, other = (q.predict(FRAMES, uncertainty=True) for q in (p, loaded))
    np.testing.assert_array_equal(one.energy_uncertainty, other.energy_uncertainty)
    np.testing.assert_array_equal(one.grade, other.grade)
    assert np.isnan(other.forces_uncertainty).all()
    with h5py.File(tmp_path / "p.h5", "r+") as f:
        for dataset in f["uncertainty"].values():
            assert {"unit", "shape"} <= set(dataset.attrs)
        f["uncertainty/factor"][...] = 0
        del f["uncertainty/largest"]
        f["uncertainty"].create_dataset("largest", data=np.ones(3))
    with pytest.raises(FileFormatError, match="largest"):
        fd.load(tmp_path / "p.h5")
    with h5py.File(tmp_path / "p.h5", "r+") as f:
        del f["uncertainty"]
    old = fd.load(tmp_path / "p.h5")
    with pytest.raises(InputError, match=r"fd\.fit_uncertainty"):
        old.predict(FRAMES, uncertainty=True)


def test_it_goes_when_parameters_change():
    p = with_some(FAMILIES["Gaussian moments"]())
    p.set_parameters({"scale": p.parameters["scale"]})
    assert p.uncertainty is None
    p = with_some(rung("EAM"))
    p.set_buffers(p.buffers)
    assert p.uncertainty is None


def test_an_element_that_did_not_occur_is_infinitely_far():
    p = with_some(FAMILIES["Gaussian moments"]())
    p.uncertainty = replace(p.uncertainty, largest=np.array([1.0, 0.0]))
    found = p.predict(FRAMES, uncertainty="energy")
    gold = np.concatenate([a.numbers for a in FRAMES]) == 79
    assert np.isinf(found.grade[gold]).all() and np.isfinite(found.grade[~gold]).all()
    first = np.cumsum([0, *map(len, FRAMES)])
    frame, atom, grade = found.farthest(first)
    assert FRAMES[frame].numbers[atom] == 79 and grade == np.inf


@pytest.mark.parametrize("wrong", [{"uncertainty": "all"}, {"uncertainty": 1}, {"members": 1}, {"members": 2.5}])
def test_wrong_words_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        with_some(FAMILIES["Gaussian moments"]()).predict(FRAMES, **wrong)




def test_spread_of_blocks_is_the_same_on_any_number_of_threads_and_leaves_out_zeros():
    """Rows of a QR factorisation: most tiles begin with zeros, which are not multiplied."""
    p = with_distances(fd.Potential(DESCRIPTORS["gaussian moments"](), hidden=(6, 40)))
    frames = [FRAMES[k % len(FRAMES)] for k in range(70)]
    try:
        found = []
        for n in (1, 2):
            threads.set_threads(n)
            found.append(p.predict(frames, forces=False, stress=False, uncertainty="energy"))
    finally:
        threads.set_threads(None)
    for name in ("energy_uncertainty", "energies_uncertainty", "grade"):
        np.testing.assert_array_equal(getattr(found[0], name), getattr(found[1], name))
    starts = uncertainty._spread_of_blocks(p._kept_model(np.dtype("float64")), p.uncertainty).starts
    assert starts[0] == 0 and starts.max() > 24
