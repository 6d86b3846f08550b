"""The benchmark of the loop's selection runs, on very little."""

import json

import pytest

# The benchmark is not installed: it runs from the checkout.
from bench import learn


def test_curves(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(learn, "KINDS", ("bulk", "vacancy"))
    monkeypatch.setattr(learn, "COMPOSITIONS", (0.5,))
    monkeypatch.setattr(learn, "TEMPERATURES", (300, 900))
    monkeypatch.setattr(learn, "BETWEEN", 2)
    sizes = "--start 4 --number 2 --rounds 1 --steps 2 --further 2 --per-trajectory 2 --folder"
    learn.main([*sizes.split(), str(tmp_path / "runs"), "--out", str(tmp_path / "learn.json")])
    record = json.loads((tmp_path / "learn.json").read_text())
    assert (record["candidates"], record["test"]) == (8, 8)
    assert [(r["method"], r["labels"]) for r in record["results"]] == [("uncertain", [4, 6]), ("random", [4, 6])]
    first, second = record["results"]
    assert first["forces_mae"][0] == second["forces_mae"][0] > 0, "both begin with the same model"
    assert set(record["share_of_labels"]["forces_mae"]) == {"uncertain"}
    assert (tmp_path / "learn.png").stat().st_size > 10_000
    assert "of the labels of random selection" in capsys.readouterr().out


def test_labels_that_are_needed():
    labels, errors = [10, 20, 30], [1.0, 0.1, 0.01]
    assert learn.needed(labels, errors, 0.1) == 20
    assert learn.needed(labels, errors, 10**-1.5) == pytest.approx(25)
    assert learn.needed(labels, errors, 2.0) == 10
    assert learn.needed(labels, errors, 0.001) is None
