"""`fastdesc evaluate`, `info` and `plot`: what a trained model and the files of its run tell."""

import json
import subprocess
import sys

import h5py
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from helpers.command_line import names

import fastdesc as fd


def test_evaluate(trained, run, tmp_path):
    model, frames = trained / "run" / "model.h5", trained / "test.extxyz"
    code, table, _ = run("evaluate", model, frames)
    assert code == 0 and table.startswith("4 frames, 96 atoms") and "meV/Å^3" in table
    out = tmp_path / "p.h5", tmp_path / "p.png"
    code, text, _ = run("evaluate", model, frames, "--json", "--predictions", out[0], "--plot", out[1])
    errors = json.loads(text)
    assert errors["energy"]["unit"] == "eV/atom" and errors["stress"]["n"] == 24
    images = read(frames, ":")
    forces = np.concatenate([a.get_forces() for a in images]) - fd.load(model).predict(images).forces
    assert abs(errors["forces"]["mae"] - np.abs(forces).mean()) < 1e-12
    assert f"{1000 * errors['energy']['mae']:.3g}"[:3] in table
    assert names(tmp_path) == ["p.h5", "p.png"]


def test_evaluate_other_label_names(trained, run, fails, tmp_path):
    model = trained / "run" / "model.h5"
    atoms = bulk("Cu", cubic=True)
    atoms.info["dft"] = fd.load(model).predict(atoms).energy[0] + 0.4
    write(tmp_path / "f.extxyz", atoms)
    code, text, _ = run("evaluate", model, tmp_path / "f.extxyz", "--energy-key", "dft", "--json")
    assert code == 0 and abs(json.loads(text)["energy"]["mae"] - 0.1) < 1e-6
    assert "none of the 1 frames carries an energy" in fails("evaluate", model, tmp_path / "f.extxyz")


def test_evaluate_errors(trained, fails, tmp_path):
    model, frames = trained / "run" / "model.h5", trained / "test.extxyz"
    assert "nowhere.h5 does not exist" in fails("evaluate", tmp_path / "nowhere.h5", frames)
    cut, newer = tmp_path / "cut.h5", tmp_path / "newer.h5"
    cut.write_bytes(model.read_bytes()[:5000])
    assert "cut.h5" in fails("evaluate", cut, frames)
    newer.write_bytes(model.read_bytes())
    with h5py.File(newer, "r+") as f:
        f.attrs["format_version"] = 99
    assert "version 99" in fails("evaluate", newer, frames)
    assert "expected is 'fastdesc-model'" in fails("evaluate", trained / "run" / "predictions.h5", frames)
    xenon = Atoms("Xe")
    xenon.calc = SinglePointCalculator(xenon, energy=0.0)
    write(tmp_path / "xe.extxyz", xenon)
    assert "Xe, which the model does not know; it knows Cu, Au" in fails("evaluate", model, tmp_path / "xe.extxyz")
    # Before the work, so before the model is looked for.
    assert ".png" in fails("evaluate", "no.h5", frames, "--plot", tmp_path / "p.gif")
    assert "there is no folder" in fails("evaluate", "no.h5", frames, "--predictions", tmp_path / "no" / "p.h5")
    assert "is not a file of the kind 'fastdesc-predictions'" in fails("evaluate", model, frames, "--predictions", cut)


def test_info(trained, run, tmp_path):
    run("featurize", trained / "test.extxyz", tmp_path / "f.h5", "--cutoff", 4)
    versions = {tmp_path / "f.h5": 1, trained / "run" / "model.h5": 3, trained / "run" / "predictions.h5": 1}
    for path, version in versions.items():
        code, text, _ = run("info", path)
        assert code == 0 and f"format version {version}," in text and fd.__version__ in text
        recipe = text.split("read it without fastdesc:")[1]
        lines = [line[4:] for line in recipe.splitlines() if line.strip()]
        assert len(lines) <= 5
        subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, cwd=path.parent)
    code, text, _ = run("info", tmp_path / "f.h5")
    assert "4 frames (4 with energy, 4 with forces, 4 with stress), 96 atoms of Cu, Au, 360 features per atom" in text
    assert "cutoff = 4" in text and "eV/Å^3" in text
    energies = [a.get_potential_energy() for a in read(trained / "test.extxyz", ":")]
    assert f"{min(energies):.5g} .. {max(energies):.5g}" in text
    code, text, _ = run("info", trained / "run" / "checkpoint.h5")
    assert code == 0 and "checkpoint file" in text


def test_info_errors(trained, fails, tmp_path):
    assert "does not exist" in fails("info", tmp_path / "x.h5")
    (tmp_path / "x.h5").write_text("words")
    assert "is not an HDF5 file" in fails("info", tmp_path / "x.h5")
    with h5py.File(tmp_path / "y.h5", "w") as f:
        f["a"] = 1
    assert "none that fastdesc wrote" in fails("info", tmp_path / "y.h5")


def test_plot(trained, run, fails, tmp_path):
    for what, file in (("learning", "history.csv"), ("parity", "predictions.h5")):
        out = tmp_path / f"{what}.pdf"
        code, text, _ = run("plot", what, trained / "run" / file, "--out", out)
        assert code == 0 and text == f"{out}\n" and out.read_bytes().startswith(b"%PDF")
    copy = tmp_path / "h.csv"
    copy.write_bytes((trained / "run" / "history.csv").read_bytes())
    assert run("plot", "learning", copy)[0] == 0 and (tmp_path / "h.png").exists()
    assert "is not a history" in fails("plot", "learning", trained / "run" / "predictions.h5")
    assert "not an HDF5 file" in fails("plot", "parity", copy)
    assert "is a folder" in fails("plot", "learning", tmp_path)
    assert "is a folder" in fails("info", tmp_path)


def test_only_histories_are_followed(trained, fails):
    words = fails("plot", "parity", trained / "run" / "predictions.h5", "--follow")
    assert "--follow is for `plot learning HISTORY`" in words


def test_a_model_tells_how_it_was_trained(trained, run):
    model = trained / "run" / "model.h5"
    code, text, _ = run("info", model)
    history = fd.training.history.History.load(trained / "run" / "history.csv")
    assert code == 0
    told = fd.load(model).training
    assert told["errors"]["valid_loss"] == history.best()["valid_loss"] and told["settings"]["optimizer"] == "soap"
    assert f"valid_loss = {told['errors']['valid_loss']!r}" in text and f"epochs_trained = {len(history)}" in text
    versions = f'numpy = "{np.__version__}"'
    for words in ("training\n    frames = ", "training_seconds = ", 'optimizer = "soap"', versions):
        assert words in text


def test_evaluate_tells_of_uncertainties(trained, run, fails, tmp_path):
    model, frames = trained / "run" / "model.h5", trained / "test.extxyz"
    code, table, _ = run("evaluate", model, frames)
    assert code == 0 and "calib. error" in table
    code, table, _ = run("evaluate", model, frames, "--no-uncertainty")
    assert code == 0 and "calib. error" not in table
    picture, predictions = tmp_path / "r.png", tmp_path / "p.h5"
    code, text, _ = run("evaluate", model, frames, "--json", "--reliability", picture, "--predictions", predictions)
    told = json.loads(text)["uncertainty"]
    assert told["energy"]["n"] == 4 and told["forces"]["n"] == 288 and 0 <= told["forces"]["coverage_90"] <= 1
    assert run("plot", "reliability", predictions)[0] == 0
    assert names(tmp_path) == ["p.h5", "p.png", "r.png"]
    old = fd.load(model)
    old.uncertainty = None
    old.save(tmp_path / "old.h5")
    assert "fd.fit_uncertainty" in fails("evaluate", tmp_path / "old.h5", frames, "--reliability", picture)
    assert run("evaluate", tmp_path / "old.h5", frames)[0] == 0
