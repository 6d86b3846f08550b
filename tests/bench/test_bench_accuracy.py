"""The accuracy benchmark on a small set of its own: errors, table, picture, and results that stay."""

import json

import numpy as np
import pytest
from ase.io import write
from helpers.training import alloy

import fastdesc as fd
from bench.accuracy import errors, main, spread, table
from bench.accuracy_sets import SETS

TINY = ["--set", "epochs=2", "batch_size=3", "--descriptor", "cutoff=4.0", "n_radial=2", "--quiet"]


@pytest.fixture
def folder(tmp_path):
    """A set that goes by the name of Li."""
    (tmp_path / "mlearn").mkdir()
    for name, frames in (("train", alloy(6)), ("test", alloy(2, seed=1))):
        write(tmp_path / f"mlearn/Li_{name}.extxyz", frames)
    return tmp_path


def test_it_trains_every_seed_and_writes_table_and_picture(folder, capsys):
    out = folder / "results/accuracy"
    main([str(folder), "--sets", "Li", "--seeds", "2", "--label", "tiny", "--out", str(out), *TINY])
    results = json.loads(out.with_suffix(".json").read_text())
    assert [(r["set"], r["seed"], r["label"], r["epochs"]) for r in results] == [("Li", k, "tiny", 2) for k in (0, 1)]
    assert results[0]["tests"]["test"] != results[1]["tests"]["test"]
    assert results[0]["train_cpu_s"] > 0 and results[0]["us_per_atom"] > 0
    text = capsys.readouterr().out
    assert out.with_suffix(".md").read_text() == text
    mean = np.mean([r["tests"]["test"]["forces"] for r in results])
    assert "**fastdesc**, tiny, 2 seeds | " in text and f"| {mean:.3g} ± " in text
    assert "| Li, test | MTP | 0.49 meV/atom | 10.1 | | |" in text and "Zuo" in text
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert results[0]["train"]["forces"] > 0 and results[0]["cutoff"] == 4.0


def test_what_is_there_is_not_repeated(folder, monkeypatch):
    monkeypatch.setattr("bench.accuracy.draw", lambda *given: None)    # pictures take most of the time
    out = folder / "accuracy"
    command = [str(folder), "--sets", "Li", "--out", str(out), *TINY]
    main([*command, "--seeds", "1", "--label", "tiny"])
    first = json.loads(out.with_suffix(".json").read_text())
    main([*command, "--seeds", "2", "--label", "tiny"])
    assert json.loads(out.with_suffix(".json").read_text())[:1] == first
    main([*command, "--seeds", "1", "--label", "other"])
    assert [r["label"] for r in json.loads(out.with_suffix(".json").read_text())] == ["tiny", "tiny", "other"]
    main([*command, "--seeds", "1", "--label", "tiny", "--anew"])
    assert json.loads(out.with_suffix(".json").read_text())[-1]["train_cpu_s"] != first[0]["train_cpu_s"]
    with pytest.raises(SystemExit):
        main([*command, "--seeds", "1", "--label", "tiny", "--potential", "hidden=[8]"])


def test_the_mean_of_several_members(folder, monkeypatch):
    monkeypatch.setattr("bench.accuracy.draw", lambda *given: None)
    out, judged = folder / "several", []

    def noted(potential, *given):
        judged.append(potential)
        return errors(potential, *given)

    monkeypatch.setattr("bench.accuracy.errors", noted)
    words = [str(folder), "--sets", "Li", "--seeds", "2", "--out", str(out), *TINY]
    main([*words, "--members", "2", "--label", "two"])
    results = json.loads(out.with_suffix(".json").read_text())
    assert [len(several.members) for several in judged] == [2] * 4
    first = [several.members[0].descriptor.seed for several in judged]
    assert first == [0, 0, 2, 2] and judged[0].members[1].descriptor.seed == 1
    assert [(r["seed"], r["members"]) for r in results] == [(0, 2), (1, 2)]
    assert results[0]["parameters"] == 2 * judged[0].members[0].n_parameters
    for count in ("1", "0"):    # others than those that are there, and none
        with pytest.raises(SystemExit):
            main([*words, "--members", count, "--label", "two"])


def test_changed_settings_are_not_the_defaults(folder):
    with pytest.raises(SystemExit):
        main([str(folder), "--sets", "Li", *TINY])


def test_a_folder_without_the_set(tmp_path):
    with pytest.raises(SystemExit, match=r"Li_train\.extxyz\.gz is not there"):
        main([str(tmp_path), "--sets", "Li", "--seeds", "1", "--out", str(tmp_path / "a")])


@pytest.mark.parametrize("name", ["Li", "3bpa"])
def test_errors_are_counted_as_in_the_literature(name):
    frames, data = alloy(3), SETS[name]
    potential = fd.Potential(fd.GaussianMoments(species=["Cu", "Au"], cutoff=4.0, n_radial=2), hidden=(4,))
    out, found = potential.predict(frames), errors(potential, frames, data)
    de = [e - a.get_potential_energy() for e, a in zip(out.energy, frames, strict=True)]
    df = [f for f in (out.forces - np.concatenate([a.get_forces() for a in frames])).flat]
    if name == "Li":
        expected = 1e3 * sum(abs(e) / len(a) for e, a in zip(de, frames, strict=True)) / 3
        assert found["forces"] == pytest.approx(1e3 * sum(map(abs, df)) / len(df))
    else:
        expected = 1e3 * (sum(e**2 for e in de) / 3) ** 0.5
        assert found["forces"] == pytest.approx(1e3 * (sum(f**2 for f in df) / len(df)) ** 0.5)
    assert found["energy"] == pytest.approx(expected)


def test_spreads_and_sets():
    assert spread([1.234567]) == "1.23" and spread([1.0, 3.0]) == "2 ± 1.4"
    assert table([]).count("|") == 14
    for data in SETS.values():
        assert all(set(rows) == set(data.tests) for rows in data.published.values())
