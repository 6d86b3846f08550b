"""Training on many elements: labels are what they say, and a small run tells its errors."""

import json

import numpy as np

from bench.many_elements_training import labelled, lennard_jones, main


def test_forces_are_minus_the_slope_of_the_energy():
    d, h = np.linspace(2.2, 4.9, 9), 1e-30
    value, slope = lennard_jones(d + 1j * h, 2.5, 0.3)
    np.testing.assert_allclose(value.imag / h, slope.real * d, rtol=1e-12)
    (atoms,) = labelled(1, 0)
    np.testing.assert_allclose(atoms.get_forces().sum(axis=0), 0, atol=1e-12)
    assert len(set(atoms.numbers)) <= 4


def test_small(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.many_elements_training.labelled", lambda n, seed: labelled(min(n, 3), seed))
    main(["--frames", "2", "--steps", "1", "--out", str(tmp_path / "out.json")])
    runs = json.loads((tmp_path / "out.json").read_text())["runs"]
    assert [run["mixing"] for run in runs] == ["pairs", "factorised"]
    assert runs[0]["parameters"] > 4 * runs[1]["parameters"]
    assert all(error > 0 for run in runs for error in run["forces_meV_per_A"].values())
