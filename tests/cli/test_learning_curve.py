"""`fastdesc learning-curve`: nested subsets, sizes that are done once, and errors that are those of the runs."""

import csv
import json

import numpy as np
import pytest
from ase.io import read, write
from helpers.command_line import CONFIG

import fastdesc as fd
from fastdesc.analysis.accuracy import compare
from fastdesc.analysis.size_plots import exponent
from fastdesc.cli import learning_curve as module
from fastdesc.cli.demo import crystals


@pytest.fixture
def config(tmp_path):
    write(tmp_path / "train.extxyz", crystals(10, 0))
    write(tmp_path / "test.extxyz", crystals(4, 1))
    (tmp_path / "run.toml").write_text(CONFIG)
    return tmp_path / "run.toml"


def rows(out):
    with open(out / "curve.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def positions(path):
    return {a.positions.tobytes() for a in fd.read_frames(path)}


def test_sizes_are_done_once_and_go_on(config, tmp_path, run, monkeypatch):
    out, train, ended = tmp_path / "curve", module.run, []

    def interrupted(given, *rest):
        if given.output.folder.endswith("00006"):
            ended.append(given.output.folder)
            raise KeyboardInterrupt
        return train(given, *rest)

    monkeypatch.setattr(module, "run", interrupted)
    words = ("learning-curve", config, "--sizes", "6,3", "--out", out, "--quiet")
    assert run(*words)[0] == 130 and ended
    assert [row["size"] for row in rows(out)] == ["3"], "what is done is there"
    monkeypatch.setattr(module, "run", train)
    before = (out / "00003" / "model.h5").stat().st_mtime_ns
    code, told, err = run(*words)
    assert code == 0, err
    assert "3 structures: done before" in told and (out / "00003" / "model.h5").stat().st_mtime_ns == before
    assert "exponent" in told and (out / "curve.png").stat().st_size > 10_000
    code, told, _ = run("learning-curve", config, "--sizes", "9", "--out", out, "--quiet")
    assert code == 0 and [row["size"] for row in rows(out)] == ["3", "6", "9"]
    subsets = [positions(out / f"0000{n}" / "train.h5") for n in (3, 6, 9)]
    assert subsets[0] < subsets[1] < subsets[2] and list(map(len, subsets)) == [3, 6, 9]
    assert not subsets[2] & positions(out / "valid.h5"), "validation frames are in no subset"
    for row in rows(out):
        place = out / f"{int(row['size']):05d}"
        found = compare(fd.load(place / "model.h5"), tmp_path / "test.extxyz").errors()
        assert float(row["forces_mae"]) == pytest.approx(found["forces"]["mae"], rel=1e-12) and row["set"] == "test"
        assert float(row["energy_rmse"]) == json.loads((place / "errors.json").read_text())["energy"]["rmse"]


def test_labels_of_other_names(config, tmp_path, run):
    for name in ("train", "test"):
        frames = read(tmp_path / f"{name}.extxyz", ":")
        for atoms in frames:
            atoms.info["REF_energy"], atoms.calc = atoms.get_potential_energy(), None
        write(tmp_path / f"{name}.extxyz", frames)
    config.write_text(config.read_text().replace("[data]", '[data]\nenergy_key = "REF_energy"'))
    code, _, err = run("learning-curve", config, "--sizes", "4", "--out", tmp_path / "curve", "--quiet")
    assert code == 0, err
    (row,) = rows(tmp_path / "curve")
    assert float(row["energy_mae"]) > 0 and row["forces_mae"] == ""


def test_mistakes_are_told_in_a_sentence(config, tmp_path, fails, run):
    out = tmp_path / "curve"
    words = ("learning-curve", config, "--out", out, "--quiet", "--sizes")
    assert "--sizes holds '1.5'" in fails(*words, "3,1.5")
    assert "--sizes holds '-3'" in fails(*words[:-1], "--sizes=-3")
    assert "without numbers" in fails(*words, ",")
    assert "there are 9 structures to train on" in fails(*words, "3,10")
    assert "a size of 0" in fails(*words, "0")
    (tmp_path / "file").write_text("")
    assert "is a file" in fails(*words[:2], "--sizes", "3", "--out", tmp_path / "file")
    text = config.read_text()
    config.write_text(text.replace("[data]", "[data]\nvalid_fraction = 0").replace('test = "test.extxyz"', ""))
    assert "neither test nor validation frames" in fails(*words, "3")
    assert not out.exists()
    config.write_text(text)
    assert run(*words, "3")[0] == 0
    config.write_text(text.replace("epochs = 3", "epochs = 4"))
    assert "[training] epochs = 3 and now it is 4" in fails(*words, "3")


def test_exponent():
    sizes = np.array([10, 20, 80])
    assert exponent(sizes, 3.0 * sizes**-0.5) == pytest.approx(-0.5, abs=1e-12)
    assert np.isnan(exponent([10], [1.0])) and np.isnan(exponent([1, 2], [1.0, 0.0]))
