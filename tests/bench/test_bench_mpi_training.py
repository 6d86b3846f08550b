"""The benchmark of training on ranks measures what it says."""

import json

from bench import mpi_training


def test_one_rank_and_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(mpi_training, "STEP_ATOMS", (96,))
    mpi_training.worker(4, 1, tmp_path / "out.json")
    (rate,) = json.loads((tmp_path / "out.json").read_text()).values()
    assert rate > 0
    rows = {1: {96: 2.0}, 4: {96: 6.0}}
    assert mpi_training.table(rows).splitlines()[2:] == ["| 1 | 2 | 100 % |", "| 4 | 6 | 75 % |"]
