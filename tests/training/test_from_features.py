"""Training from a features file: the numbers of training from frames, at any size."""

import copy
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers.features_training import ENERGIES, assert_same, fitted, settings
from helpers.ladder_models import RUNGS, rung
from helpers.training import alloy, small_potential

import fastdesc as fd
from fastdesc.errors import InputError
from fastdesc.training import feature_dataset
from fastdesc.training.checkpoint import read_checkpoint
from fastdesc.training.dataset import TrainingSet
from fastdesc.training.feature_dataset import blocks_of
from fastdesc.training.from_features import feature_set as stored_set
from fastdesc.training.from_features import open_feature_rows
from fastdesc.training.initialise import initialise


@pytest.fixture
def frames(stored):
    return stored[0]


@pytest.fixture
def path(stored):
    return stored[1]


@pytest.fixture
def small_window(monkeypatch):
    """Little memory: one or two frames in a block, three blocks at a time."""
    per_frame = 8 * small_potential().descriptor.n_features * 8
    monkeypatch.setattr(feature_dataset, "BLOCK_BYTES", per_frame)
    monkeypatch.setattr(feature_dataset, "KEPT_BYTES", 4 * per_frame)


# ------------------------------------------------------------------------------------------------- same numbers


@pytest.mark.parametrize("batch", [{}, {"batch_size": 3}])
def test_the_bits_of_training_from_frames(frames, path, batch):
    batch = {**batch, "epochs": 10, "learning_rate": 1e-2}    # enough to be better than the start, which else is kept
    one = fitted(frames)
    two, three = copy.deepcopy(one), copy.deepcopy(one)
    from_frames = fd.train(one, frames, **settings(**ENERGIES, **batch))
    from_file = fd.train(two, path, **settings(**batch))
    assert from_file.columns() == from_frames.columns()
    for name in from_file.columns():
        if name != "seconds":
            assert from_file[name] == from_frames[name], name
    assert_same(one, two)
    assert not np.array_equal(two.parameters["network/0/0/weight"], three.parameters["network/0/0/weight"])
    # Also where the frames' features are too many to be kept, and are computed at each step.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_dataset, "KEPT_BYTES", 1)
        fd.train(three, frames, **settings(**ENERGIES, **batch))
    for name, a in one.parameters.items():
        np.testing.assert_allclose(three.parameters[name], a, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("name", RUNGS)
def test_every_kind_of_head(frames, name, tmp_path):
    """Those of the ladder: the bits of training from frames, and from scratch errors fall."""
    one = rung(name)
    path = fd.featurize(frames, tmp_path / "q.h5", one.descriptor, progress=False)
    initialise(one, TrainingSet(frames, one.descriptor, np.float64))
    two = copy.deepcopy(one)
    fd.train(one, frames, **settings(**ENERGIES))
    fd.train(two, path, **settings())
    assert_same(one, two)
    history = fd.train(rung(name), path, valid_fraction=0, **settings(epochs=40, learning_rate=1e-2))
    # One fixed filter under two direct weights, the lowest rung, has not much to learn.
    assert history["train_loss"][-1] < (0.8 if name == "pair" else 0.7) * history["train_loss"][0]


def test_validation_frames_of_either_kind(frames, path, tmp_path):
    other = fd.featurize(frames[:5], tmp_path / "valid.h5", small_potential().descriptor, progress=False)
    one = fitted(frames)
    two, three = copy.deepcopy(one), copy.deepcopy(one)
    histories = [
        fd.train(one, frames, frames[:5], **settings(**ENERGIES)),
        fd.train(two, path, frames[:5], **settings()),
        fd.train(three, path, fd.open_features(other), **settings()),
    ]
    assert histories[0]["valid_loss"] == histories[1]["valid_loss"] == histories[2]["valid_loss"]
    assert_same(one, two)
    assert_same(one, three)


def test_features_of_either_precision(frames, path, tmp_path):
    single = fd.featurize(frames, tmp_path / "f4.h5", small_potential().descriptor, dtype="float32", progress=False)
    one = fitted(frames)
    two = copy.deepcopy(one)
    fd.train(one, frames, **settings(**ENERGIES, dtype="float32"))
    fd.train(two, single, **settings(dtype="float32"))
    assert_same(one, two)
    # SOAP steps as far along directions that hardly have a gradient, which rounding changes.
    losses = [
        fd.train(fitted(frames), path, **settings(dtype=dtype, optimizer="adamw"))["train_loss"]
        for dtype in ("float32", "float64")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_from_scratch_it_learns(frames, path):
    """Nothing is fitted beforehand: reference energies, scaler and scale come from the file."""
    with fd.open_features(path) as f:
        potential = fd.Potential(f.descriptor(), hidden=(12, 8), seed=3)
    before = potential.descriptor.parameters["beta"].copy()
    history = fd.train(potential, path, valid_fraction=0, **settings(epochs=150, learning_rate=1e-2))
    assert history["train_energy_mae"][-1] < 0.2 * history["train_energy_mae"][0]
    assert "train_forces_mae" not in history.columns()
    np.testing.assert_array_equal(potential.descriptor.parameters["beta"], before)
    known = [a for a in frames if "energy" in a.calc.results]
    error = potential.predict(known).energy - [a.get_potential_energy() for a in known]
    assert abs(error / [len(a) for a in known]).mean() < 0.2 * history["train_energy_mae"][0]
    calculated = known[0].copy()
    calculated.calc = fd.FastdescCalculator(potential)
    assert calculated.get_potential_energy() == pytest.approx(potential.predict(known[0]).energy[0], abs=1e-5)


def test_the_energy_scale_matches_spreads(frames, path):
    """Energies per atom of untrained networks spread as the reference energies do."""
    from fastdesc.training.initialise import initialise_from_features

    potential = small_potential()
    data = stored_set(open_feature_rows(path), potential.descriptor, np.float64, "cpu")
    initialise_from_features(potential, data)
    q = potential.descriptor.compute(frames)
    np.testing.assert_allclose(potential.scaler.mean, q.mean(axis=0), rtol=1e-12, atol=1e-14)
    n = np.array([len(a) for a in frames])
    known = np.arange(len(frames)) != 3
    reference = np.array([a.calc.results.get("energy", np.nan) for a in frames])
    composition = np.stack([[(a.numbers == z).sum() for z in (29, 79)] for a in frames])
    wanted = ((reference - composition @ potential.reference) / n)[known].std()
    found = ((potential.predict(frames).energy - composition @ potential.reference) / n)[known].std()
    assert found == pytest.approx(wanted, rel=1e-10)


# ------------------------------------------------------------------------------------------------------- memory


def test_blocks_cover_all_frames_once():
    n_atoms = np.array([3, 1, 200, 2, 2, 5, 1, 1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_dataset, "BLOCK_BYTES", 40)
        patch.setattr(feature_dataset, "KEPT_BYTES", 3000)
        bounds, window = blocks_of(n_atoms, 10)
    assert bounds[0] == 0 and bounds[-1] == 8 and (np.diff(bounds) > 0).all()
    largest = max(n_atoms[a:b].sum() for a, b in pairwise(bounds)) * 10
    assert window == 3000 // largest
    assert blocks_of(n_atoms, 10)[0].tolist() == [0, 8]


def test_little_memory_is_kept_to(path, small_window):
    """Every frame comes once in an epoch, blocks are read about once, and never more than the window is held."""
    potential = small_potential()
    data = stored_set(open_feature_rows(path), potential.descriptor, np.float64, "cpu")
    assert len(data.blocks) - 1 > data.window > 1
    read, load = [], data._load
    data._load = lambda k: read.append(k) or load(k)
    orders = []
    rng = np.random.default_rng(0)
    for _ in range(2):
        read.clear()
        order = data.order(rng)
        assert sorted(order) == list(range(data.n_frames))
        for group in data.batches(24, order):
            batch = data.batch(group, np.zeros(2))
            with fd.open_features(path) as f:
                np.testing.assert_array_equal(batch.q.T, f[group])
            assert sum(rows.nbytes for rows, _ in data._kept.values()) <= feature_dataset.KEPT_BYTES
        # A window begins with what the last one left.
        assert set(read) <= set(range(len(data.blocks) - 1)) and len(read) <= len(data.blocks) - 1
        orders.append(order.tolist())
    assert orders[0] != orders[1]


def test_training_with_little_memory(frames, path, small_window):
    potential = fitted(frames)
    history = fd.train(potential, path, **settings(epochs=40, learning_rate=1e-2))
    assert history["train_loss"][-1] < 0.5 * history["train_loss"][0]


MEMORY = """
import sys
from pathlib import Path
import fastdesc as fd
from fastdesc.training import feature_dataset
feature_dataset.KEPT_BYTES, feature_dataset.BLOCK_BYTES = 1 << 23, 1 << 20
with fd.open_features(sys.argv[1]) as f:
    potential = fd.Potential(f.descriptor(), hidden=(4,))
fd.train(potential, sys.argv[1], epochs=1, progress=False)
words = Path("/proc/self/status").read_text().split()
print(words[words.index("VmHWM:") + 1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc, which is not here")
def test_memory_does_not_grow_with_the_file(tmp_path):
    """Peak resident memory of fresh processes that train on files of 20 and of 77 MB, 8 MB of features at a time."""
    descriptor = fd.GaussianMoments(species=["Cu", "Au"], cutoff=4.0, n_radial=5, n_basis=5)
    peaks, frames = [], alloy(20, size=(4, 4, 1))
    for repeats in (10, 40):
        path = fd.featurize(frames * repeats, tmp_path / f"{repeats}.h5", descriptor, progress=False, dtype="float32")
        words = [sys.executable, "-c", MEMORY, str(path)]
        environment = {**os.environ, "NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(words, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        peaks.append((int(done.stdout) * 1024, path.stat().st_size))
    grown, larger = peaks[1][0] - peaks[0][0], peaks[1][1] - peaks[0][1]
    assert larger > 50e6
    # Two windows, training and validation, and what the allocator does not give back.
    assert grown < 0.3 * larger, peaks


# ------------------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize("window", ["whole", "small"])
def test_resumed_training_gives_the_numbers_of_an_uninterrupted_run(path, frames, tmp_path, window, request):
    if window == "small":
        request.getfixturevalue("small_window")
    whole = small_potential()
    full = fd.train(whole, path, **settings())
    c = tmp_path / "c.h5"
    fd.train(small_potential(), path, checkpoint=c, **settings(time_limit=1e-9))
    assert read_checkpoint(c)["epoch"] == 1
    again = small_potential()
    resumed = fd.train(again, path, checkpoint=c, resume=True, **settings())
    for name in full.columns():
        if name != "seconds":
            assert resumed[name] == full[name], name
    assert_same(whole, again)


def test_a_checkpoint_of_another_descriptor_is_refused(frames, tmp_path):
    """Kept features would not be those of its parameters."""
    c = tmp_path / "c.h5"
    fd.train(small_potential(), frames, checkpoint=c, **settings(epochs=1, **ENERGIES))
    other = small_potential()
    other.descriptor.set_parameters(beta=1.5 * other.descriptor.parameters["beta"])
    with pytest.raises(InputError, match="made with another descriptor/beta, of which the features at hand are not"):
        fd.train(other, frames, checkpoint=c, resume=True, **settings(**ENERGIES))
