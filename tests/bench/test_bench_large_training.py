"""The benchmark of large sets on a few frames, in this process: what is in memory, and what streams."""

from bench import large_training
from bench.large_training import ROWS, epoch, table, write


def test_small(tmp_path, monkeypatch, capsys):
    def here(work, *given):
        return work(*given)

    monkeypatch.setattr(large_training, "_elsewhere", here)
    arguments = ["large_training", "--frames", "20", "--frame-memory", "0.00003", "--out", str(tmp_path / "out.json")]
    monkeypatch.setattr("sys.argv", arguments)
    large_training.main()
    assert capsys.readouterr().out.startswith((tmp_path / "out.md").read_text())
    write(9, tmp_path / "frames.h5")
    found = epoch(9, str(tmp_path / "frames.h5"), 0.0, 0.0)
    assert found["atoms"] == 9 * 48 and found["told"].startswith("streamed from")
    rows = {name: {**found, "frames": n * 9} for name, (n, _) in ROWS.items()}
    rows["frames stream, four times as many"] |= {"training_bytes": found["training_bytes"] + 27 * 250}
    assert "Each further structure that streams takes 250 bytes." in table({"rows": rows})
