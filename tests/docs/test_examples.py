"""The examples run and show what they say."""

import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples"


def test_structure_regression(capsys):
    errors = runpy.run_path(str(FOLDER / "structure_regression.py"))["main"](n_train=200, n_test=50)
    assert "meV/atom" in capsys.readouterr().out
    trivial = errors.pop("mean of the training set")
    assert all(error < 0.5 * trivial for error in errors.values()) and errors["ridge, cutoff searched"] < 0.1 * trivial
    assert len(errors) == 4


def test_filters_across_elements(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    run = runpy.run_path(str(FOLDER / "filters_across_elements.py"))["main"]
    errors = run(n_silver=20, n_gold=6, n_test=10, epochs=20, picture=tmp_path / "f.png")
    assert list(errors) == ["from nothing", "on filters of silver", "on filters of silver, triplets kept"]
    assert errors["on filters of silver"] < errors["from nothing"]
    assert "pair_0" in capsys.readouterr().out and (tmp_path / "f.png").stat().st_size > 5000


def test_first_potential(capsys):
    run = runpy.run_path(str(FOLDER / "first_potential.py"))["main"]
    energy, force, drift = run(n_train=40, n_test=10, epochs=40, steps=50)
    assert energy < 15 and force < 150 and drift < 1    # of energies spread over 100 meV/atom, forces over 700 meV/Å
    assert "test:" in capsys.readouterr().out


def test_elastic_and_phonons(capsys):
    run = runpy.run_path(str(FOLDER / "elastic_and_phonons.py"))["main"]
    rows = run(n_train=60, epochs=50, supercell=(3, 3, 3))
    assert "C44" in capsys.readouterr().out and len(rows) == 8
    for name, (ours, theirs) in rows.items():
        assert abs(ours - theirs) < 0.15 * abs(theirs), name
