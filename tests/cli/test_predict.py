"""`fastdesc predict`: the numbers of Potential.predict, in every form of file, group by group."""

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from helpers.potentials import potential

import fastdesc as fd
from fastdesc.cli import main, predict


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    potential().save("model.h5")
    frames = [bulk("C", "diamond", a=3.6, cubic=True) * (k + 1, 1, 1) for k in range(3)] + [molecule("CH3OH")]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=k)
        atoms.info["name"] = f"frame{k}"
        atoms.new_array("site", np.arange(len(atoms)) / 8)
    ase.io.write("frames.extxyz", frames)
    return tmp_path


@pytest.mark.parametrize("out", ["out.extxyz", "out.xyz.gz", "out.h5"])
def test_what_is_written_is_what_predict_says(folder, out, monkeypatch, capsys):
    monkeypatch.setattr(predict, "ATOMS_AT_ONCE", 20)    # three groups
    assert main(["predict", "model.h5", "frames.extxyz", out, "--quiet"]) == 0
    assert capsys.readouterr().out == f"{out}: 4 frames\n"
    found, frames = fd.read_frames(out), fd.read_frames("frames.extxyz")
    expected = fd.load("model.h5").predict(frames)
    places = 1e-8 if "xyz" in out else 1e-12    # text has eight places
    forces = np.concatenate([atoms.get_forces() for atoms in found])
    assert abs(forces - expected.forces).max() < places
    for atoms, frame, energy, stress in zip(found, frames, expected.energy, expected.stress, strict=True):
        assert abs(atoms.get_potential_energy() - energy) < places * max(1, abs(energy))
        assert atoms.info["name"] == frame.info["name"] and np.array_equal(atoms.numbers, frame.numbers)
        assert np.array_equal(atoms.arrays["site"], frame.arrays["site"])
        assert ("stress" in atoms.calc.results) == np.isfinite(stress).all()
        if np.isfinite(stress).all():
            assert abs(atoms.get_stress() - stress).max() < 1e-8


def test_frames_are_not_held_all_at_once(monkeypatch):
    """A group is evaluated as soon as it is full, before the next frames are read."""
    monkeypatch.setattr(predict, "ATOMS_AT_ONCE", 8)
    read = []

    def frames():
        for k in range(5):
            read.append(k)
            yield bulk("C", "diamond", a=3.6, cubic=True)

    groups = predict.predicted(potential(), frames())
    assert len(next(groups)) == 1 and len(read) == 2


def test_bad_names_and_unknown_elements_leave_nothing(folder, capsys):
    ase.io.write("gold.extxyz", bulk("Au"))
    for words, told in (
        (["model.h5", "frames.extxyz", "out.txt"], "out.txt"),
        (["model.h5", "frames.extxyz", "frames.extxyz"], "would be written over"),
        (["model.h5", "gold.extxyz", "out.extxyz"], "Au"),
    ):
        assert main(["predict", *words, "--quiet"]) == 2
        err = capsys.readouterr().err
        assert told in err and err.count("\n") == 1
    assert not any(folder.glob("out*"))


def test_uncertainties_are_written(trained, run, fails, tmp_path):
    model, frames = trained / "run" / "model.h5", trained / "test.extxyz"
    expected = fd.load(model).predict(str(frames), uncertainty=True)
    frame, atom, grade = expected.farthest(np.cumsum([0, *map(len, fd.read_frames(frames))]))
    for name in ("out.extxyz", "out.h5"):
        code, text, _ = run("predict", model, frames, tmp_path / name, "--uncertainty", "--quiet")
        assert code == 0 and f"highest grade {grade:.3g}: frame {frame}, atom {atom}" in text
        found = fd.read_frames(tmp_path / name)
        energy = [a.info["energy_uncertainty"] for a in found]
        np.testing.assert_allclose(energy, expected.energy_uncertainty, rtol=1e-6)
        for key in ("energies_uncertainty", "forces_uncertainty", "grade"):
            values = np.concatenate([a.arrays[key] for a in found])
            # Extended XYZ has eight digits.
            np.testing.assert_allclose(values, getattr(expected, key), rtol=1e-7, atol=1e-8)
    old = fd.load(model)
    old.uncertainty = None
    old.save(tmp_path / "old.h5")
    told = fails("predict", tmp_path / "old.h5", frames, tmp_path / "no.extxyz", "--uncertainty")
    assert "fd.fit_uncertainty" in told and not (tmp_path / "no.extxyz").exists()
