"""The table of families and messages, on a small set of its own: every row once, the budget, who is best."""

import json

import pytest
from ase.io import write
from helpers.training import alloy

import fastdesc as fd
from bench import combinations
from bench.accuracy_sets import SETS

TINY = {"cutoff": 4.0, "n_radial": 2}


def test_rows_train_once(tmp_path, capsys, monkeypatch):
    (tmp_path / "mlearn").mkdir()
    for name, frames in (("train", alloy(6)), ("test", alloy(2, seed=1))):
        write(tmp_path / f"mlearn/Li_{name}.extxyz", frames)
    monkeypatch.setattr(combinations, "cost", lambda make, reference, train, seed: 0.5)
    rows = {"plain": (fd.GaussianMoments, TINY)}
    monkeypatch.setitem(combinations.ROWS, "families", rows)
    out = tmp_path / "new" / "table"
    words = ["families", str(tmp_path), "--sets", "Li", "--out", str(out)]
    combinations.main([*words, "--steps", "3"])
    (first,) = json.loads(out.with_suffix(".json").read_text())
    rows["other"] = fd.GaussianMoments, {**TINY, "contractions": [1, 2]}
    combinations.main([*words, "--steps", "3"])
    again, second = json.loads(out.with_suffix(".json").read_text())
    assert again == first and first["cutoff"] == 4.0 and first["us_per_atom"] > 0
    assert [(r["steps"], r["cost_of_step"]) for r in (first, second)] == [(3, 1.0), (6, 0.5)]
    assert second["tests"] != first["tests"] and second["parameters"] < first["parameters"]
    assert "| Li, test (MAE) | other | 1 |" in capsys.readouterr().out
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit):    # runs of another length in one table
        combinations.main(words)
    combinations.main([*words, "--steps", "3", "--rows", "plain", "--seeds", "2"])
    runs = json.loads(out.with_suffix(".json").read_text())
    assert [(r["label"], r["seed"]) for r in runs] == [("plain", 0), ("other", 0), ("plain", 1)]
    with pytest.raises(SystemExit):
        combinations.main([*words, "--steps", "3", "--rows", "plane"])


def test_cost_of_a_step(monkeypatch):
    """What comes before the first step, 5 and 7 s here, and a first turn that compiles, do not count."""
    before, step, calls = {"first": 5.0, "other": 7.0}, {"first": 1.0, "other": 1.5}, []

    def trained(make, train, seed, epochs, batch_atoms):
        calls.append((make, epochs))
        late = 0.0 if len(calls) > 8 else 0.1 * len(calls)
        return None, None, (50.0 if len(calls) <= 4 else 0.0) + before[make] + epochs * step[make] + late

    monkeypatch.setattr(combinations, "trained", trained)
    assert combinations.cost("other", "first", alloy(3), 0) == pytest.approx(1.5, rel=1e-12)


def test_best_of_each_cost():
    points = [(3.0, 20.0), (1.0, 50.0), (2.0, 50.0), (4.0, 30.0), (5.0, 10.0)]
    assert combinations.best(points) == [(1.0, 50.0), (3.0, 20.0), (5.0, 10.0)]


@pytest.mark.parametrize("what", combinations.ROWS)
def test_every_row_can_be_made_for_every_set(what):
    frames = alloy(2)
    for family, arguments in combinations.ROWS[what].values():
        for name in SETS:
            d = combinations.descriptor(family, arguments, name, frames, 3)
            assert type(d) is family and d.seed == 3 and 4.0 <= d.cutoff <= 6.0
            assert getattr(d, "iterations", 0) == arguments.get("iterations", 0)
