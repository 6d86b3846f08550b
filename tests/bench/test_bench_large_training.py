"""The bench of training beyond memory runs, and what it says is there."""

import json

from bench import large_training


def test_small(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.json"
    monkeypatch.setattr("sys.argv", ["large_training", "--frames", "40", "--out", str(out)])
    large_training.main()
    found = json.loads(out.read_text())
    kept, anew = found["rows"].values()
    assert kept["pairs"] == anew["pairs"] > 0 and kept["atoms"] == 40 * 48
    assert capsys.readouterr().out.startswith(out.with_suffix(".md").read_text())
