"""The benchmark of the recursion runs, on very little."""

import json

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

# The benchmark is not installed: it runs from the checkout.
from bench import recursion
from bench.harness import systems


@pytest.fixture
def folder(tmp_path):
    """Labelled frames of molecules, with labels at random."""
    rng = np.random.default_rng(0)
    for name in ("train", "valid"):
        frames = systems.ethanol(5)
        for atoms in frames:
            atoms.calc = SinglePointCalculator(atoms, energy=rng.normal(), forces=rng.normal(size=(9, 3)))
        write(tmp_path / f"{name}.extxyz.gz", frames)
    return tmp_path


def test_curves(folder, capsys):
    pytest.importorskip("matplotlib")
    out = folder / "deep" / "curves"
    sizes = "--iterations 0 1 --seeds 3 4 --train 4 --test 2 --epochs 2 --width 4"
    recursion.main(["curves", "--data", str(folder), "--out", str(out), *sizes.split()])
    record = json.loads(out.with_suffix(".json").read_text())
    assert (record["train_frames"], record["test_frames"], record["species"]) == (4, 2, ["C", "H", "O"])
    assert [(run["seed"], run["iterations"]) for run in record["runs"]] == [(3, 0), (3, 1), (4, 0), (4, 1)]
    for run in record["runs"]:
        assert run["epoch"] == [1, 2]
        assert run["forces_mae"] == run["forces_mae_by_epoch"][-1] > 0
        assert run["forces_rmse"] >= run["forces_mae"]
    assert record["runs"][1]["parameters"] > record["runs"][0]["parameters"]
    assert out.with_suffix(".png").stat().st_size > 1000
    one, two = (run["forces_mae"] for run in record["runs"][1::2])
    mean, deviation = recursion.summary(record)[1]["forces_mae"]
    assert one != two
    assert (mean, deviation) == (pytest.approx((one + two) / 2), pytest.approx(abs(one - two) / 2**0.5))
    out = capsys.readouterr().out
    assert "T = 1, seed 4:" in out and f"| 1 | {mean:.3g} ± {deviation:.1g} |" in out


def test_degenerate_pair(tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "pair.png"
    differences = recursion.main(["degenerate", "--out", str(out)])
    assert differences[0] < 1e-13 and differences[1] > 1e-2
    assert out.stat().st_size > 1000
