"""What a run shows while it goes on: lines, rows of a file, and a callback that can end it."""

import numpy as np
import pytest
from helpers.training import alloy, small_potential

import fastdesc as fd
from fastdesc.errors import InputError
from fastdesc.training.history import History
from fastdesc.training.progress import duration

SETTINGS = {"epochs": 6, "batch_atoms": 24, "valid_every": 2}


def test_every_epoch_is_a_line_and_a_row_at_once(tmp_path, capsys):
    path, seen = tmp_path / "history.csv", []

    def look(epoch):
        rows = History.load(path).rows
        seen.append(len(rows))
        assert rows[-1] == {k: float(v) for k, v in epoch.row.items()}
        assert f"epoch {len(rows)}/6: loss " in capsys.readouterr().out.splitlines()[-1]
        assert epoch.history.rows[-1] == epoch.row and epoch.epochs == 6
        assert epoch.seconds_left >= 0 and (epoch.seconds_left == 0) == (len(rows) == 6)

    history = fd.train(small_potential(), alloy(10), history=path, callback=look, **SETTINGS)
    assert seen == [1, 2, 3, 4, 5, 6]
    assert History.load(path).rows == [{k: float(v) for k, v in row.items()} for row in history.rows]
    assert "valid_loss" not in history.rows[0] and "valid_loss" in history.rows[1]


def test_what_was_chosen_is_told(capsys):
    fd.train(small_potential(), alloy(6), steps=3, batch_atoms=24)
    out = capsys.readouterr().out
    assert "chosen: 2 epochs of 2 steps" in out and "left" in out


def test_without_progress_nothing_is_said(capfd):
    fd.train(small_potential(), alloy(6), epochs=2, progress=False)
    assert capfd.readouterr() == ("", "")


def test_a_callback_ends_the_run_and_the_best_is_kept():
    frames, potential = alloy(10), small_potential()
    history = fd.train(
        potential, frames[:8], frames[8:], callback=lambda epoch: epoch.row["epoch"] == 3, epochs=9, progress=False
    )
    assert len(history) == 3
    forces = np.concatenate([a.get_forces() for a in frames[8:]])
    mae = abs(potential.predict(frames[8:], dtype="float32").forces - forces).mean()
    assert mae == pytest.approx(history.best()["valid_forces_mae"], rel=1e-3)


def test_a_callback_that_raises_leaves_the_best_and_the_checkpoint(tmp_path):
    class PrunedError(Exception):
        pass

    def prune(epoch):
        if epoch.row["epoch"] == 4:
            raise PrunedError

    frames, potential, path = alloy(6), small_potential(), tmp_path / "c.h5"
    with pytest.raises(PrunedError):
        fd.train(potential, frames, epochs=9, callback=prune, checkpoint=path, progress=False)
    assert potential.fitted
    history = fd.train(small_potential(), frames, epochs=9, checkpoint=path, resume=True, progress=False)
    assert len(history) == 9


def test_a_run_that_goes_on_appends_to_its_file(tmp_path):
    path, frames = tmp_path / "h.csv", alloy(6)
    given = {"checkpoint": tmp_path / "c.h5", "history": path, "progress": False}
    fd.train(small_potential(), frames, epochs=5, callback=lambda epoch: epoch.row["epoch"] == 2, **given)
    path.write_text("something else\n")
    fd.train(small_potential(), frames, epochs=5, resume=True, **given)
    assert History.load(path)["epoch"] == [1, 2, 3, 4, 5]


def test_what_cannot_be_called():
    with pytest.raises(InputError, match="callback came as 3"):
        fd.train(small_potential(), alloy(6), epochs=1, callback=3, progress=False)


@pytest.mark.parametrize(("seconds", "text"), [(42, "42 s"), (89.6, "90 s"), (210, "3.5 min"), (7560, "2.1 h")])
def test_times_in_words(seconds, text):
    assert duration(seconds) == text
