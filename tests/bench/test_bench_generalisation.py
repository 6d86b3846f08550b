"""The table of generalisation on a small set of its own: every variant trains, and differs from the others."""

import json

from ase.io import write
from helpers.training import alloy

from bench.generalisation import KEPT, VARIANTS, main


def test_every_variant_trains_and_a_stopped_table_goes_on(tmp_path, capsys):
    (tmp_path / "mlearn").mkdir()
    for name, frames in (("train", alloy(6)), ("test", alloy(2, seed=1))):
        write(tmp_path / f"mlearn/Li_{name}.extxyz", frames)
    out = tmp_path / "table"
    words = [str(tmp_path), "--sets", "Li", "--seeds", "1", "--steps", "20", "--out", str(out)]
    words += ["--descriptor", "cutoff=4.0", "n_radial=2"]
    main(words)
    results = json.loads(out.with_suffix(".json").read_text())
    assert [r["variant"] for r in results] == list(VARIANTS)
    assert all(set(r["tests"]) == set(KEPT) for r in results)
    forces = [r["tests"]["last epoch"]["test"]["forces"] for r in results]
    assert len(set(forces)) == len(forces), "each variant changes something"
    assert results[0]["tests"]["late mean"] != results[0]["tests"]["last epoch"]
    text = capsys.readouterr().out
    assert "| Li, test (MAE) | defaults, late mean | 1 |" in text and "| feature noise 0.1 | 1 |" in text
    out.with_suffix(".json").write_text(json.dumps(results[:-1]))
    main(words)
    assert json.loads(out.with_suffix(".json").read_text())[:-1] == results[:-1]
