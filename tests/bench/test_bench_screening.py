"""The table of what was tried, on a small set of its own; that of the results which are kept has every row once."""

import json

from ase.io import write
from helpers.training import alloy

from bench import screening

TINY = {"cutoff": 4.0, "n_radial": 2}
QUICK = {"epochs": 2, "batch_size": 3, "steps": None}


def test_rows_train_once(tmp_path, capsys, monkeypatch):
    (tmp_path / "mlearn").mkdir()
    for name, frames in (("train", alloy(6)), ("test", alloy(2, seed=1))):
        write(tmp_path / f"mlearn/Li_{name}.extxyz", frames)
    rows = [("Li", "as it is", TINY, QUICK), ("Li", "faster", TINY, {**QUICK, "learning_rate": 0.1})]
    monkeypatch.setattr(screening, "ROWS", rows[:1])
    out = tmp_path / "table"
    words = [str(tmp_path), "--out", str(out)]
    screening.main(words)
    (first,) = json.loads(out.with_suffix(".json").read_text())
    monkeypatch.setattr(screening, "ROWS", rows)
    screening.main(words)
    again, second = json.loads(out.with_suffix(".json").read_text())
    assert again == first and second["tests"] != first["tests"] and second["train"]["forces"] > 0
    assert "| Li, test (MAE) | faster | 1 |" in capsys.readouterr().out


def test_a_part_held_out_replaces_the_test(tmp_path, monkeypatch):
    """The file of the test is not even there; a set of ten frames trains on eight."""
    (tmp_path / "mlearn").mkdir()
    write(tmp_path / "mlearn/Li_train.extxyz", alloy(10))
    monkeypatch.setattr(screening, "ROWS", [("Li", "no biases", TINY, QUICK, {"bias": False}, True)])
    judged, told = [], screening.errors
    monkeypatch.setattr(screening, "errors", lambda *given: judged.append(given) or told(*given))
    screening.main([str(tmp_path), "--out", str(tmp_path / "table")])
    (potential, trained, _), (_, held, _) = judged
    assert (len(trained), len(held), potential.bias) == (8, 2, False)
    assert not {a.positions.tobytes() for a in trained} & {a.positions.tobytes() for a in held}
    assert "| Li, held out (MAE) | no biases | 1 |" in (tmp_path / "table.md").read_text()


def test_labels_are_unique():
    assert len({row[:2] for row in screening.ROWS}) == len(screening.ROWS)
