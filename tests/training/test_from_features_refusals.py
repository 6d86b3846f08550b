"""Training from a features file: what does not fit together is refused, also on the command line."""

import re

import h5py
import numpy as np
import pytest
from ase.io import write
from helpers.features_training import ENERGIES, assert_same, fitted, settings
from helpers.training import small_potential

import fastdesc as fd
from fastdesc.cli import main
from fastdesc.errors import InputError
from fastdesc.training import feature_dataset
from fastdesc.training.dataset import TrainingSet
from fastdesc.training.feature_dataset import FeatureSet
from fastdesc.training.from_features import open_feature_rows, settings_for_features
from fastdesc.training.settings import Settings


@pytest.fixture
def frames(stored):
    return stored[0]


@pytest.fixture
def path(stored):
    return stored[1]


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
    report = open_feature_rows(path).report
    assert re.match(r"12 frames \(80 atoms\) of the features in .*, 1 without energy; on energies alone", report)


def test_features_of_frames_are_kept_or_not(frames, path):
    potential = small_potential()
    data = TrainingSet(frames, potential.descriptor, np.float64)
    kept = feature_dataset.with_features(data, potential.descriptor)
    assert isinstance(kept, FeatureSet) and feature_dataset.with_features(kept, potential.descriptor) is kept
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_dataset, "KEPT_BYTES", 1000)
        assert feature_dataset.with_features(data, potential.descriptor) is data


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
