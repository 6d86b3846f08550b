"""What the host does for a device: one wait for each step, nothing of one among the other; see device_double.py."""

import re
from contextlib import nullcontext

import numpy as np
import pytest
from cuda_emulator import gcc_status
from helpers.backends import DOUBLE_AND_GPU
from helpers.device_models import DESCRIPTORS, potential
from helpers.ladder_models import RUNGS
from helpers.training import alloy

import fastdesc as fd
from fastdesc.backend.arrays import to_host
from fastdesc.training.from_features import open_feature_rows
from fastdesc.training.settings import Settings
from fastdesc.training.trainer import Trainer

cupy = pytest.importorskip("cupy", reason="CuPy is not installed: the double has its functions and signatures from it")
from doubles.cupy_double import DeviceArray, device_double  # noqa: E402

pytestmark = pytest.mark.skipif(not gcc_status()[0], reason=gcc_status()[1])

pytest_families = pytest.mark.parametrize("family", DESCRIPTORS)
pytest_everything = pytest.mark.parametrize("family", [*DESCRIPTORS, *RUNGS])


@pytest.fixture
def ledger():
    """A device that is not there, and what was asked of it."""
    with device_double() as found:
        yield found


@pytest.fixture(params=DOUBLE_AND_GPU)
def somewhere(request):
    """A device: the double, and a GPU where there is one."""
    with device_double() if request.param == "double" else nullcontext():
        yield


def test_the_double_refuses_what_cupy_refuses(ledger):
    import cupy

    x, host = cupy.zeros((3, 4)), np.ones(4)
    for wrong in (
        lambda: x + host,
        lambda: host * x,
        lambda: np.asarray(x),
        lambda: np.concatenate([x, x]),
        lambda: cupy.concatenate([x, host[None]]),
        lambda: cupy.repeat(x, cupy.arange(3)),
        lambda: x.__setitem__(0, host),
        lambda: cupy.zeros_like(x, wrong=1),
    ):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(AttributeError):
        x.nonsense  # noqa: B018
    with pytest.raises(AttributeError):
        cupy.nonsense  # noqa: B018
    assert not ledger.waits and ledger.uploads == []


def test_the_double_sees_who_waits(ledger):
    import cupy

    x = cupy.asarray(np.arange(6.0))
    for wait in (
        lambda: float(x.sum()),
        lambda: bool((x > 3).any()),
        lambda: x[x > 3],
        lambda: cupy.flatnonzero(x),
        lambda: x.get(),
        lambda: to_host(x),
    ):
        ledger.clear()
        wait()
        assert len(ledger.waits) == 1
    assert ledger.waits == [f"arrays.py:{to_host.__code__.co_firstlineno + 2} to_host: get"]
    ledger.clear()
    y = (2 * x)[cupy.arange(3)].reshape(3, 1) @ x[None]
    y += np.float64(2)
    assert not ledger.waits and isinstance(y, DeviceArray)
    x[[1, 2]] = 0
    assert len(ledger.uploads) == 1 and to_host(y)[2, 1] == 6


@pytest.mark.parametrize("network", ["per_species", "shared"])
@pytest_everything
def test_energies_and_forces_wait_once(family, network, ledger):
    frames, p = alloy(2), potential(family, network)
    expected = p.predict(frames)
    model = p.model("float64", "cuda")
    structures = fd.Structures.from_ase(frames)
    pairs, placed = fd.Pairs.find(structures, p.descriptor.cutoff).to_device("cuda"), structures.to_device("cuda")
    p.evaluate(placed, pairs, model)
    ledger.clear()
    energy, forces, _, _ = p.evaluate(placed, pairs, model)
    assert len(ledger.waits) == 1 and "to_host_together" in ledger.waits[0], ledger.waits
    np.testing.assert_allclose(energy, expected.energy, rtol=1e-11)
    np.testing.assert_allclose(forces, expected.forces, rtol=0, atol=1e-11)


@pytest_families
def test_dynamics_wait_once_a_step(family, ledger):
    atoms, p = alloy(1)[0], potential(family)
    atoms.calc = fd.FastdescCalculator(p, device="cuda")
    atoms.get_forces()
    for k in range(2):
        atoms.positions += 0.01 * np.random.default_rng(k).normal(size=(len(atoms), 3))
        ledger.clear()
        forces = atoms.get_forces()
        assert len(ledger.waits) == 1, ledger.waits
    assert atoms.calc.searches == 1
    np.testing.assert_allclose(forces, p.predict(atoms).forces, rtol=0, atol=1e-11)


LADDER = {
    "pair potential": {"network": "none", "direct": True},
    "EAM": {"network": "spline", "direct": ["pair_0"], "bias": False},
    "s-NNP": {"hidden": (5,), "direct": True, "bias": False},
}


@pytest.mark.parametrize("step", LADDER)
def test_every_head_predicts_and_trains_on_a_device(step, ledger):
    frames, p = alloy(2), fd.Potential(DESCRIPTORS["spline filters"](), **LADDER[step])
    expected = p.predict(frames)
    ledger.clear()
    found = p.predict(frames, device="cuda")
    assert len(ledger.waits) == 1, ledger.waits
    np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-11)
    settings = Settings.named(device="cuda", dtype="float64", epochs=1, batch_size=1)
    trainer = Trainer(p, frames, None, settings, np.random.default_rng(0))
    ledger.clear()
    trainer._epoch()
    assert len(ledger.waits) == 2 + 1, ledger.waits


def test_stored_features_train_on_a_device(ledger, tmp_path):
    frames, d = alloy(3), DESCRIPTORS["gaussian moments"]()
    fd.featurize(frames, tmp_path / "q.h5", d, progress=False)
    losses = []
    for device in ("cpu", "cuda"):
        p = fd.Potential(d, hidden=(6, 5))
        settings = {"epochs": 2, "device": device, "dtype": "float64", "seed": 0, "progress": False}
        losses.append(fd.train(p, tmp_path / "q.h5", **settings)["train_loss"])
    np.testing.assert_allclose(*losses, rtol=1e-9)


OPTIMIZERS = {
    "soap": {"clip": 1.0}, "adamw": {}, "amsgrad": {"clip": 1.0, "ema": 0.9}, "muon": {},
}  # fmt: skip
FEW = "gaussian moments", "recursion", "spline filters"
"""Families trained with every optimizer; the others with the default alone."""


@pytest.mark.parametrize(
    ("family", "optimizer"),
    [(family, o) for family in (*DESCRIPTORS, *RUNGS) for o in OPTIMIZERS if family in FEW or o == "soap"],
)
def test_training_waits_once_a_step(family, optimizer, ledger):
    """Three steps and the metrics of their epoch; the same numbers as on the host."""
    optimizer = {"optimizer": optimizer, **OPTIMIZERS[optimizer]}
    frames, results = alloy(3), {}
    if optimizer["optimizer"] == "amsgrad" and family == "spline filters":
        optimizer = {**optimizer, "curvature": 1e-3, "magnitude": 1e-4}
    if optimizer["optimizer"] == "adamw":
        optimizer = {**optimizer, "pull": 2.0}
    for device in ("cpu", "cuda"):
        settings = Settings.named(device=device, dtype="float64", epochs=1, batch_size=1, seed=1, **optimizer)
        further = "pull" in optimizer
        trainer = Trainer(potential(family), frames, None, settings, np.random.default_rng(0), further)
        ledger.clear()
        row = trainer._epoch()
        waits = list(ledger.waits)
        results[device] = [row["train_loss"], *(to_host(a) for a in trainer.parameters.values())]
        assert not further or row["train_penalty"] > 0
    assert len([w for w in waits if "to_host_together" in w]) == 3
    # What is left is fetched for the row: sums of errors, and of the penalty.
    assert len(waits) == 3 + 1 + ("curvature" in optimizer or further), waits
    # Directions of matrices are float32, and a step is at most about the learning rate.
    atol = 1e-11 if optimizer["optimizer"] in ("adamw", "amsgrad") else 1e-6 * trainer.settings.learning_rate
    for one, other in zip(*results.values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=atol)


def test_features_travel_while_the_next_batch_is_prepared(ledger, tmp_path):
    """Who computes never waits: the thread that writes does, once a batch."""
    frames, d = alloy(6), DESCRIPTORS["gaussian moments"]()
    fd.featurize(frames, tmp_path / "q.h5", d, device="cuda", chunk_atoms=16, progress=False)
    assert [w for w in ledger.waits if not re.fullmatch(r"stream.py:\d+ features: synchronize", w)] == [], ledger.waits
    assert len(ledger.waits) == 3
    np.testing.assert_allclose(fd.read_features(tmp_path / "q.h5").features, d.compute(frames), atol=1e-12)


@pytest_families
def test_features_models_and_dynamics_are_the_same(family, somewhere, tmp_path):
    frames, p = alloy(3), potential(family)
    expected, jacobian = p.descriptor.compute(frames, jacobian=True)
    found, other = p.descriptor.compute(frames, jacobian=True, device="cuda")
    v, w = np.ones((len(expected), 3)), np.ones(expected.shape)
    v[0], w[0] = 2, 2
    for product, x in ((p.descriptor.jvp, v), (p.descriptor.vjp, w)):
        wanted = product(frames, x)
        np.testing.assert_allclose(product(frames, x, device="cuda"), wanted, rtol=0, atol=1e-11 * abs(wanted).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)
    np.testing.assert_allclose(other.values, jacobian.values, rtol=0, atol=1e-11)
    fd.featurize(frames, tmp_path / "q.h5", p.descriptor, device="cuda", progress=False)
    np.testing.assert_array_equal(fd.read_features(tmp_path / "q.h5").features, found)
    fd.featurize(frames, tmp_path / "mean.h5", p.descriptor, device="cuda", pool="mean", progress=False)
    mean = [found[8 * k : 8 * k + 8].mean(0) for k in range(3)]
    np.testing.assert_allclose(fd.read_features(tmp_path / "mean.h5").features, mean, rtol=1e-12, atol=1e-13)
    fd.train(p, frames, frames[:1], epochs=1, device="cuda", progress=False)
    p.save(tmp_path / "p.h5")
    atoms, trained = frames[0], fd.load(tmp_path / "p.h5")
    atoms.calc = fd.FastdescCalculator(trained, device="cuda")
    for _ in range(2):
        atoms.positions += 0.01
        atoms.positions[0] += 0.02
        forces = trained.predict(atoms).forces
        np.testing.assert_allclose(atoms.get_forces(), forces, rtol=0, atol=1e-9 * max(1, abs(forces).max()))


def test_energies_alone_with_kept_features_wait_once_a_step(ledger, tmp_path):
    """From frames and from a file; the same numbers as on the host."""
    frames, results = alloy(3), []
    path = fd.featurize(frames, tmp_path / "q.h5", potential("gaussian moments").descriptor, progress=False)
    alone = {"descriptor_learning_rate": 0.0, "force_weight": 0.0, "stress_weight": 0.0}
    rows = open_feature_rows(path)
    for device, given in (("cpu", frames), ("cuda", frames), ("cpu", rows), ("cuda", rows)):
        settings = Settings.named(device=device, dtype="float64", epochs=1, batch_size=1, seed=1, **alone)
        trainer = Trainer(potential("gaussian moments"), given, None, settings, np.random.default_rng(0))
        ledger.clear()
        row = trainer._epoch()
        assert len(ledger.waits) == (4 if device == "cuda" else 0), ledger.waits
        results.append([row["train_loss"], *(to_host(a) for a in trainer.parameters.values())])
    for host, device in (results[:2], results[2:]):
        for one, other in zip(host, device, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)
