"""The benchmark of large sets on a few frames, in this process: what is in memory, and what streams."""

import json

from bench import large_training


def test_small(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(large_training, "_elsewhere", lambda work, *given: work(*given))
    monkeypatch.setattr(large_training, "FACTORS", (1, 2))
    monkeypatch.setattr(large_training, "IN_A_FILE", 8)
    out = tmp_path / "out.json"
    arguments = ["large_training", "--frames", "20", "--frame-memory", "0.00003", "--out", str(out)]
    monkeypatch.setattr("sys.argv", arguments)
    large_training.main()
    found = json.loads(out.read_text())
    kept, anew, stream = found["rows"].values()
    assert kept["atoms"] == anew["atoms"] == stream["atoms"] == 20 * 48 and found["bytes_of_further"] >= 0
    assert stream["told"].startswith("streamed from") and "and 2 more" in stream["told"]
    assert anew["told"].startswith("pairs are found anew") and kept["told"] == ""
    assert capsys.readouterr().out.startswith(out.with_suffix(".md").read_text())
