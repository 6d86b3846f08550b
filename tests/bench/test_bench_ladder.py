"""The ladder and the linear start, as commands on very little."""

import json

import pytest
from ase.io import write
from helpers.training import alloy

# The benchmark is not installed: it runs from the checkout.
from bench import ladder, linear_start


@pytest.fixture
def folder(tmp_path):
    """Frames of copper, labelled by EMT."""
    pytest.importorskip("matplotlib")
    for seed, name in enumerate(("train", "test")):
        frames = alloy(4, seed)
        for atoms in frames:
            results = dict(atoms.calc.results)
            atoms.numbers[:] = 29
            atoms.calc.atoms = atoms.copy()
            atoms.calc.results = results
        write(tmp_path / f"Cu_{name}.extxyz.gz", frames)
    return tmp_path


def test_every_rung_climbs(folder, capsys):
    out = folder / "deep" / "ladder"
    words = [str(folder), "--elements", "Cu", "--time-limit", "0.02", "--out", str(out), "--models", str(folder / "m")]
    rows = ladder.main(words)
    assert [r["rung"] for r in rows] == list(ladder.RUNGS) and json.loads(out.with_suffix(".json").read_text()) == rows
    sizes = [r["parameters"] for r in rows]
    assert sizes == sorted(sizes) and len(set(sizes)) == len(sizes), "each rung has more parameters"
    for r in rows:
        assert r["forces_rmse"] >= r["forces_mae"] > 0 and r["us_per_atom"] > 0 and r["atoms"] >= 256
        assert r["neighbours"][0] > r["neighbours"][1] > 10
    assert out.with_suffix(".png").stat().st_size > 1000 and len(list((folder / "m").iterdir())) == len(rows)
    printed = capsys.readouterr().out
    assert all(words in printed for words in ladder.WORDS.values())
    again = ladder.main([str(folder), "--elements", "Cu", "--time-limit", "0.01", "--out", str(out), "--rungs", "eam"])
    assert [r for r in again if r["rung"] != "eam"] == [r for r in rows if r["rung"] != "eam"]
    assert ladder.main(["--draw", "--out", str(out)]) == again
    with pytest.raises(SystemExit):
        ladder.main([])


def test_curves_of_both_starts(folder):
    out = folder / "start"
    record = linear_start.main([str(folder), "--elements", "Cu", "--epochs", "2", "--rung", "eam", "--out", str(out)])
    assert [run["start"] for run in record["runs"]] == ["random", "linear"]
    random, linear = (run["forces_mae"] for run in record["runs"])
    assert len(random) == 2 and linear[0] < random[0]
    assert out.with_suffix(".png").stat().st_size > 1000
