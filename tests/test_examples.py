"""The examples run and show what they say."""

import runpy
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "examples"


def test_structure_regression(capsys):
    errors = runpy.run_path(str(FOLDER / "structure_regression.py"))["main"](n_train=200, n_test=50)
    assert "meV/atom" in capsys.readouterr().out
    trivial = errors.pop("mean of the training set")
    assert all(error < 0.5 * trivial for error in errors.values()) and errors["ridge, cutoff searched"] < 0.1 * trivial
    assert len(errors) == 4
