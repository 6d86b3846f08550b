"""The benchmark of many elements runs, and tells what it measured."""

import json

from bench.many_elements import main


def test_small(tmp_path, capsys):
    main(["--elements", "1", "5", "--atoms", "32", "--repeats", "1", "--out", str(tmp_path / "out.json")])
    assert "step of training" in capsys.readouterr().out
    found = json.loads((tmp_path / "out.json").read_text())["cases"]
    assert [case["elements"] for case in found] == [1, 5]
    assert all(time > 0 for case in found for time in case["us_per_atom"].values())
    assert found[1]["descriptor_parameters"] == {"factorised": 2 * 5 * 8 + 8 * 40, "pairs": 25 * 40}
