"""`fastdesc featurize`: from options, a configuration or a model; resumed; nothing half-written."""

import numpy as np
from ase.build import bulk
from ase.io import read, write
from helpers.command_line import names

import fastdesc as fd
from fastdesc.features.reader import read_features


def test_featurize(trained, run, tmp_path):
    out = tmp_path / "f.h5"
    settings = ("--cutoff", 4, "--set", "n_radial=2", "--set", "basis=gaussian")
    code, text, _ = run("featurize", trained / "train.extxyz", out, *settings)
    assert code == 0
    have = "12 frames (12 with energy, 12 with forces, 12 with stress)"
    assert text == f"{out}: {have}, 288 atoms of Cu, Au, 35 features per atom\n"
    got = read_features(out)
    d = fd.GaussianMoments(species=["Cu", "Au"], cutoff=4, n_radial=2, basis="gaussian")
    np.testing.assert_array_equal(got.features, d.compute(read(trained / "train.extxyz", ":")))
    assert got.parameters["species"] == ["Cu", "Au"] and got.features.dtype == np.float64


def test_featurize_with_a_file_that_says_how(trained, run, fails, tmp_path):
    frames, out, model = trained / "test.extxyz", tmp_path / "f.h5", trained / "run" / "model.h5"
    options = ("--descriptor", trained / "run.toml", "--dtype", "float32", "--workers", 1)
    assert run("featurize", frames, out, *options)[0] == 0
    got = read_features(out)
    assert got.parameters["n_basis"] == 4 and got.features.dtype == np.float32
    assert run("featurize", frames, out, "--descriptor", trained / "run.toml", "--set", "n_basis=5")[0] == 0
    assert read_features(out).parameters["n_basis"] == 5
    assert run("featurize", frames, out, "--descriptor", model)[0] == 0
    want = fd.load(model).descriptor.compute(read(frames, ":"))
    np.testing.assert_array_equal(read_features(out).features, want)
    assert "leave out family" in fails("featurize", frames, out, "--descriptor", model, "--cutoff", 5)


def test_featurize_resumes(trained, run, fails, tmp_path):
    frames, out, grown = read(trained / "train.extxyz", ":"), tmp_path / "f.h5", tmp_path / "grown.extxyz"
    write(grown, frames[:5])
    options = ("--cutoff", 4, "--species", "Cu,79", "--resume")
    assert run("featurize", grown, out, *options)[0] == 0
    write(grown, frames)
    assert run("featurize", grown, out, *options)[0] == 0
    assert len(read_features(out).energies) == 12
    assert "cutoff 4.0, now 5.0" in fails("featurize", grown, out, "--cutoff", 5, *options[2:])


def test_featurize_errors(trained, fails, tmp_path, monkeypatch):
    frames, out = trained / "train.extxyz", tmp_path / "f.h5"
    assert "nowhere.xyz does not exist" in fails("featurize", tmp_path / "nowhere.xyz", out)
    (tmp_path / "empty.xyz").touch()
    assert "empty.xyz is empty" in fails("featurize", tmp_path / "empty.xyz", out)
    assert "frame 1, atom 1 is Au, which the model does not know" in fails("featurize", frames, out, "--species", "Cu")
    assert "there is no folder" in fails("featurize", frames, tmp_path / "no" / "f.h5")
    assert "cutoff came as -1.0" in fails("featurize", frames, out, "--cutoff", -1)
    assert "did you mean 'n_radial'" in fails("featurize", frames, out, "--set", "n_radal=3")
    assert "is not of the form NAME=VALUE" in fails("featurize", frames, out, "--set", "n_radial")
    assert "n_radial" in fails("featurize", frames, out, "--set", "n_radial=many")
    assert "did you mean 'gaussian_moments'" in fails("featurize", frames, out, "--family", "gausian_moments")
    assert "workers" in fails("featurize", frames, out, "--workers", 0)
    assert "is not an HDF5 file" in fails("featurize", frames, out, "--descriptor", frames, "--cutoff", 4)
    (tmp_path / "empty.xyz").write_text("0\n\n")
    assert "the frames hold no atoms" in fails("featurize", tmp_path / "empty.xyz", out)
    atoms = bulk("Cu", cubic=True)
    atoms.positions[2, 1] = np.nan
    write(tmp_path / "nan.extxyz", [bulk("Cu"), atoms])
    assert "frame 1, atom 2 is at" in fails("featurize", tmp_path / "nan.extxyz", out)
    from fastdesc.backend import cuda

    monkeypatch.setattr(cuda, "gpu_status", lambda: (False, "no NVIDIA driver was found"))
    assert "'cuda' was asked for but no NVIDIA driver was found" in fails("featurize", frames, out, "--device", "cuda")
    assert names(tmp_path) == ["empty.xyz", "nan.extxyz"], "nothing half-written is left"
