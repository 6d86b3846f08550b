"""Training from a features file: the numbers of training from frames, at any size; and what it refuses."""

import copy
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase.io import write
from rungs import RUNGS, rung
from test_training import alloy, small_potential

import fastdesc as fd
from fastdesc import feature_set
from fastdesc.checkpoint import read_checkpoint
from fastdesc.cli import main
from fastdesc.errors import InputError
from fastdesc.feature_set import FeatureSet, blocks_of
from fastdesc.gradient import initialise
from fastdesc.settings import Settings
from fastdesc.stored import feature_set as stored_set
from fastdesc.stored import open_stored, settings_for_features
from fastdesc.training_set import TrainingSet

ENERGIES = {"force_weight": 0.0, "stress_weight": 0.0, "descriptor_learning_rate": 0.0}


def settings(**more):
    return {"epochs": 4, "batch_atoms": 24, "seed": 5, "dtype": "float64", "progress": False, **more}


@pytest.fixture(scope="module")
def frames():
    """Frames of two sizes; one without energy, one that weighs 3."""
    found = alloy(8) + alloy(4, seed=1, size=(1, 1, 1))
    del found[3].calc.results["energy"]
    found[5].info["weight"] = 3.0
    return found


@pytest.fixture(scope="module")
def path(frames, tmp_path_factory):
    """Their features."""
    out = tmp_path_factory.mktemp("stored") / "features.h5"
    return fd.featurize(frames, out, small_potential().descriptor, progress=False)


@pytest.fixture
def small_window(monkeypatch):
    """Little memory: one or two frames in a block, three blocks at a time."""
    per_frame = 8 * small_potential().descriptor.n_features * 8
    monkeypatch.setattr(feature_set, "BLOCK_BYTES", per_frame)
    monkeypatch.setattr(feature_set, "KEPT_BYTES", 4 * per_frame)


def fitted(frames):
    """A potential whose reference, scaler and scale are set: what is fitted differs without positions."""
    potential = small_potential()
    initialise(potential, TrainingSet(frames, potential.descriptor, np.float64))
    return potential


def assert_same(one, two):
    for name, a in one.parameters.items():
        np.testing.assert_array_equal(two.parameters[name], a, err_msg=name)


# ------------------------------------------------------------------------------------------------- same numbers


@pytest.mark.parametrize("batch", [{}, {"batch_size": 3}])
def test_the_bits_of_training_from_frames(frames, path, batch):
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
        patch.setattr(feature_set, "KEPT_BYTES", 1)
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
    three = fitted(frames)
    history = fd.train(three, path, **settings(dtype="float32"))
    assert history["train_loss"] == pytest.approx(fd.train(fitted(frames), path, **settings())["train_loss"], rel=1e-3)


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
    from fastdesc.gradient import initialise_from_features

    potential = small_potential()
    data = stored_set(open_stored(path), potential.descriptor, np.float64, "cpu")
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
        patch.setattr(feature_set, "BLOCK_BYTES", 40)
        patch.setattr(feature_set, "KEPT_BYTES", 3000)
        bounds, window = blocks_of(n_atoms, 10)
    assert bounds[0] == 0 and bounds[-1] == 8 and (np.diff(bounds) > 0).all()
    largest = max(n_atoms[a:b].sum() for a, b in pairwise(bounds)) * 10
    assert window == 3000 // largest
    assert blocks_of(n_atoms, 10)[0].tolist() == [0, 8]


def test_little_memory_is_kept_to(path, small_window):
    """Every frame comes once in an epoch, blocks are read about once, and never more than the window is held."""
    potential = small_potential()
    data = stored_set(open_stored(path), potential.descriptor, np.float64, "cpu")
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
            assert sum(rows.nbytes for rows, _ in data._kept.values()) <= feature_set.KEPT_BYTES
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
from fastdesc import feature_set
feature_set.KEPT_BYTES, feature_set.BLOCK_BYTES = 1 << 23, 1 << 20
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
    peaks, frames = [], alloy(20, size=(2, 2, 1))
    for repeats in (40, 160):
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
    other = fd.Potential(fd.GaussianMoments(species=["Cu", "Au"], cutoff=4.5, n_radial=3, n_basis=5, seed=7), (12, 8))
    with pytest.raises(InputError, match="made with another descriptor/beta, of which the features at hand are not"):
        fd.train(other, frames, checkpoint=c, resume=True, **settings(**ENERGIES))


# ----------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cutoff": 4.0}, r"the descriptor has cutoff 4.0, that of .* 4.5; take that of the file"),
        ({"n_radial": 2}, "has n_radial 2, that of .* 3"),
        ({"species": ("Cu", "Au", "Ag")}, r"has species \[29, 47, 79\], that of .* \[29, 79\]"),
        ({"seed": 1}, "has other parameters beta than that of .*features.h5; take that of the file"),
    ],
)
def test_another_descriptor_is_refused(path, changed, message):
    with pytest.raises(InputError, match=message):
        fd.train(small_potential(**changed), path, **settings())


def test_another_family_is_refused(path):
    potential = fd.Potential(fd.EmbeddedDensity(species=["Cu", "Au"], cutoff=4.5))
    with pytest.raises(InputError, match=r"descriptor is embedded_density, that of .* gaussian_moments; take that"):
        fd.train(potential, path, **settings())


def test_the_same_descriptor_in_other_words(path, frames):
    """Elements by number; another seed, but the same parameters."""
    potential = small_potential(species=(29, 79), seed=4)
    with fd.open_features(path) as f:
        potential.descriptor.set_parameters(**f.descriptor().parameters)
    assert len(fd.train(potential, path, **settings(epochs=1))) == 1


def test_pooled_features_are_refused(frames, tmp_path):
    out = fd.featurize(frames, tmp_path / "p.h5", small_potential().descriptor, pool="mean", progress=False)
    with pytest.raises(InputError, match=r"holds the mean of each structure, and a potential needs .* without pool"):
        fd.train(small_potential(), out, **settings())


def test_files_without_energies_are_refused(frames, tmp_path):
    bare = [a.copy() for a in frames]
    out = fd.featurize(bare, tmp_path / "bare.h5", small_potential().descriptor, progress=False)
    with pytest.raises(InputError, match=r"none of the 12 training frames in .*bare.h5 carries an energy"):
        fd.train(small_potential(), out, **settings())
    with pytest.raises(InputError, match="none of the 12 validation frames"):
        fd.train(small_potential(), frames, out, **settings())
    bare[0].calc = frames[0].calc
    out = fd.featurize(bare, tmp_path / "few.h5", small_potential().descriptor, progress=False)
    with pytest.raises(InputError, match=r"none of the \d+ (training|validation) frames of .*few.h5 carries an energy"):
        fd.train(small_potential(), out, **settings())


def test_skipped_frames_are_not_there(frames, path, tmp_path):
    wrong = frames[0].copy()
    wrong.numbers[0] = 47
    mixed = [frames[0], wrong, *frames[1:]]
    out = fd.featurize(mixed, tmp_path / "s.h5", small_potential().descriptor, progress=False, on_error="skip")
    one, two = fitted(frames), fitted(frames)
    fd.train(one, path, **settings())
    fd.train(two, out, **settings())
    assert_same(one, two)


@pytest.mark.parametrize("name", [*ENERGIES, "curvature", "magnitude"])
def test_what_needs_positions_is_refused(path, name):
    with pytest.raises(InputError, match=f"{name} is 3, but the training frames are .* Leave {name} out"):
        fd.train(small_potential(), path, **settings(**{name: 3.0}))
    assert getattr(settings_for_features(Settings()), name) == 0


def test_energies_must_count(path):
    with pytest.raises(InputError, match="energy_weight is 0, and energies are all"):
        fd.train(small_potential(), path, **settings(energy_weight=0.0))


def test_features_for_validation_alone_are_refused(frames, path):
    with pytest.raises(InputError, match=r"validation frames are a features file, .*, and the training frames"):
        fd.train(small_potential(), frames, path, **settings())


def test_an_unfinished_file_is_named(path, tmp_path):
    part = tmp_path / "new.h5.part"
    part.write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"new\.h5 is not finished"):
        fd.train(small_potential(), tmp_path / "new.h5", **settings())


@pytest.mark.parametrize("weight", [-1.0, "heavy"])
def test_weights_in_a_file_are_checked(frames, tmp_path, weight):
    bad = [a.copy() for a in frames[:4]]
    for a, b in zip(bad, frames, strict=False):
        a.calc = b.calc
    bad[1].info["weight"] = weight
    out = fd.featurize(bad, tmp_path / "w.h5", small_potential().descriptor, progress=False)
    with pytest.raises(InputError, match=r"weight.* must be .* at least 0"):
        fd.train(small_potential(), out, valid_fraction=0, **settings())


def test_elements_that_do_not_belong(path, tmp_path):
    copied = tmp_path / "c.h5"
    copied.write_bytes(path.read_bytes())
    with h5py.File(copied, "r+") as f:
        f["numbers"][0] = 13
    with pytest.raises(fd.errors.FileFormatError, match="elements its descriptor does not know"):
        fd.train(small_potential(), copied, **settings())


def test_the_report_says_what_is_not_trained(path):
    report = open_stored(path).report
    assert re.match(r"12 frames \(80 atoms\) of the features in .*, 1 without energy; on energies alone", report)


def test_features_of_frames_are_kept_or_not(frames, path):
    potential = small_potential()
    data = TrainingSet(frames, potential.descriptor, np.float64)
    kept = feature_set.with_features(data, potential.descriptor)
    assert isinstance(kept, FeatureSet) and feature_set.with_features(kept, potential.descriptor) is kept
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_set, "KEPT_BYTES", 1000)
        assert feature_set.with_features(data, potential.descriptor) is data


# ------------------------------------------------------------------------------------------------- command line


@pytest.fixture
def folder(frames, tmp_path):
    known = [a for a in frames if "energy" in a.calc.results]
    write(tmp_path / "train.extxyz", known)
    write(tmp_path / "test.extxyz", known[:4])
    words = ["--cutoff", "4.5", "--set", "n_radial=3", "--set", "n_basis=5", "--quiet"]
    assert main(["featurize", str(tmp_path / "train.extxyz"), str(tmp_path / "features.h5"), *words]) == 0
    return tmp_path


def configured(folder, more="", data=""):
    path = folder / "c.toml"
    path.write_text(
        f'[data]\ntrain = "features.h5"\n{data}\n[potential]\nhidden = [12, 8]\n'
        f"[training]\nepochs = 60\nlearning_rate = 0.01\n{more}\n[output]\nplots = false\n"
    )
    return str(path)


def test_from_features_to_a_model_on_the_command_line(folder, capsys):
    assert main(["train", configured(folder, data='test = "test.extxyz"'), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "train: 11 frames (" in said and "on energies alone, the descriptor as it is" in said
    assert "MAE on valid: energy" in said and "forces" in said.split("errors on test")[1]
    model = folder / "fastdesc-run" / "model.h5"
    assert main(["evaluate", str(model), str(folder / "test.extxyz")]) == 0
    assert "4 frames" in capsys.readouterr().out
    assert main(["train", str(folder / "fastdesc-run" / "config.toml"), "--resume", "--quiet"]) == 0
    atoms = fd.read_frames(folder / "test.extxyz")[0]
    atoms.calc = fd.FastdescCalculator(fd.load(model))
    assert np.isfinite(atoms.get_forces()).all()


@pytest.mark.parametrize(
    ("more", "data", "message"),
    [
        ("force_weight = 2.0", "", "force_weight is 2, but the training frames are a features file"),
        ("", 'test = "features.h5"', "data.test is a features file"),
        ("[descriptor]\ncutoff = 5.0", "", "descriptor has cutoff 5.0, that of"),
        ('[descriptor]\nfamily = "spline_filters"', "", "descriptor is spline_filters, that of"),
    ],
)
def test_the_command_line_refuses(folder, capsys, more, data, message):
    assert main(["train", configured(folder, more, data), "--quiet"]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "fastdesc-run").exists()


def test_a_descriptor_that_agrees_may_be_configured(folder):
    more = "[descriptor]\ncutoff = 4.5\nn_radial = 3\nn_basis = 5"
    assert main(["train", configured(folder, more), "--quiet"]) == 0
