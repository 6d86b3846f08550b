"""The loop as a whole: what it writes, and that no moment of a kill changes how it ends."""

import csv
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from ase.io import read
from helpers.loops import LOOP, make_loop

import fastdesc as fd
from fastdesc.cli import main
from fastdesc.hdf5 import files

EVERY = 6
"""Files that each process of a loop may finish before it is killed."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A loop that nobody disturbed."""
    path = make_loop(tmp_path_factory.mktemp("loop"))
    assert main(["learn", str(path), "--quiet"]) == 0
    return path.parent / "fastdesc-learn"


def test_every_step_is_on_disk(whole):
    rows = list(csv.DictReader((whole / "rounds.csv").open(encoding="utf-8")))
    assert [int(row["labels"]) for row in rows] == [6, 9, 12]
    assert all(float(row["forces_mae"]) > 0 and row["failed"] == "0" for row in rows)
    assert rows[0]["largest_grade"] == "" and float(rows[2]["force_uncertainty"]) > 0
    train, valid = (read(whole / f"{name}.extxyz", ":") for name in ("train", "valid"))
    assert (len(train), len(valid)) == (10, 2), "a fifth of all labels validates"
    new = [a for a in train + valid if "trajectory" in a.info]
    assert {a.info["round"] for a in new} == {1, 2} and len(new) == 6
    for atoms in new:
        again = atoms.copy()
        from ase.calculators.emt import EMT

        again.calc = EMT()
        assert atoms.get_potential_energy() == pytest.approx(again.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(atoms.get_forces(), again.get_forces(), atol=1e-6)
        assert atoms.get_stress().shape == (6,)
    for r in (1, 2):
        looked = [read(path, ":") for path in sorted((whole / f"round-{r:03d}" / "explore").iterdir())]
        assert [[a.info["step"] for a in frames] for frames in looked] == [[0, 4, 8]] * 2
        assert [frames[0].info["temperature"] for frames in looked] == [300, 900]
        assert not (whole / f"round-{r:03d}" / "checkpoint.h5").exists()
    model = fd.load(whole / "model.h5")
    assert model.uncertainty is not None
    report = (whole / "report.md").read_text(encoding="utf-8")
    assert "2 rounds after the first training, 12 labels" in report and report.count("\n| ") == 4


def content(folder):
    """All that a loop ends with: text byte for byte, and the numbers of the models."""
    texts = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*"))
             if p.suffix in (".extxyz", ".json", ".md") and "labels" not in p.parts and p.name != "loop.json"}
    texts["rounds.csv"] = (folder / "rounds.csv").read_bytes()
    models = {}
    for path in sorted(folder.rglob("model.h5")):
        p = fd.load(path)
        arrays = {**p.parameters, "reference": p.reference, "factor": p.uncertainty.factor, "a": p.scaler.scale}
        models[str(path.relative_to(folder))] = {name: a.tobytes() for name, a in arrays.items()}
    return texts, models


def killed(words, after):
    """Run a command in a child that is killed when so many files are whole; return how it ended."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            left, rename = iter(range(after)), files.rename_whole

            def counted(*given):
                if next(left, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)    # the file is written and has not got its name
                rename(*given)

            files.rename_whole = counted
            code = main(words)
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def test_killed_at_any_moment_it_ends_as_if_it_had_not_been(whole, tmp_path, capfd):
    path = make_loop(tmp_path / "a")
    words, kills = ["learn", str(path), "--quiet"], 0
    while (status := killed(words, EVERY)) != 0:
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, capfd.readouterr().err
        kills += 1
        if (path.parent / "fastdesc-learn" / "loop.json").exists() and "--resume" not in words:
            words.append("--resume")
    assert kills >= 6
    found, expected = content(path.parent / "fastdesc-learn"), content(whole)
    assert found[0] == expected[0] and found[1] == expected[1]


def test_it_goes_on_with_more_rounds_and_refuses_another_loop(whole, tmp_path, run, fails):
    path = make_loop(tmp_path / "a", LOOP.replace("rounds = 2", "rounds = 1"))
    assert run("learn", path, "--quiet")[0] == 0
    assert "holds a loop; go on with it by --resume" in fails("learn", path)
    path.write_text(LOOP.replace("number = 3", "number = 4"))
    assert "[select] number = 3 and now it is 4" in fails("learn", path, "--resume")
    path.write_text(LOOP.replace("workers = 0", "workers = 1"))
    code, out, err = run("learn", path, "--quiet", "--resume")
    assert code == 0, err
    assert content(path.parent / "fastdesc-learn") == content(whole)
    reached = LOOP.replace("rounds = 2", "rounds = 5").replace("grade = 0.01", "grade = 1e8\nforce_uncertainty = 1e8")
    path.write_text(reached)
    code, out, err = run("learn", path, "--quiet", "--resume")
    assert code == 0 and "round 3: the target is reached" in out
    end = json.loads(Path(path.parent / "fastdesc-learn/round-003/round.json").read_text(encoding="utf-8"))
    assert "n_train" not in end and end["explored"]["looked_at"] == 6
