"""What a run shows while it goes on: a bar, a line and a row of a file after every epoch, and a callback."""

import csv
import sys
import time
from dataclasses import dataclass

from tqdm import tqdm

from fastdesc.checks import flag
from fastdesc.errors import InputError
from fastdesc.training.history import History, summary


@dataclass(frozen=True)
class Epoch:
    """What a callback of `fastdesc.train` is given after every epoch.

    Attributes
    ----------
    row : dict
        The epoch's row of the history: epoch, learning_rate, train_loss, valid_loss, ...
    history : History
        All rows so far.
    epochs : int
        How many there will be.
    seconds_left : float
        At the speed so far.
    """

    row: dict
    history: History
    epochs: int
    seconds_left: float


class Progress:
    """Reports to a terminal or pipe, a CSV file and a callback.

    Parameters
    ----------
    history : History
        That grows; rows of a run that goes on are there already.
    epochs : int
    n_atoms : int
        Of all training frames.
    show : bool
        A bar on a terminal, and a line for each epoch wherever the output goes.
    path : path, optional
        CSV file that has every row as soon as its epoch is over.
    callback : callable, optional
        Takes an Epoch; training ends where it returns True.

    Raises
    ------
    InputError
        For a callback that cannot be called.
    """

    def __init__(self, history, epochs, n_atoms, show=True, path=None, callback=None):
        if callback is not None and not callable(callback):
            raise InputError(f"callback came as {callback!r}; give a function that takes an Epoch")
        flag("progress", show)
        self.history, self.epochs, self.n_atoms = history, epochs, n_atoms
        self.show, self.path, self.callback = show, path, callback
        self.begun, self.start, self.last = len(history), time.monotonic(), time.monotonic()
        self.bar = tqdm(
            total=epochs,
            initial=self.begun,
            disable=None if show else True,    # None: off a terminal
            unit="epoch",
            dynamic_ncols=True,
        )
        self.columns = []
        if path is not None and len(history):
            history.save(path)
            self.columns = history.columns()

    def say(self, text):
        """Show a line at once."""
        if self.show:
            tqdm.write(text)
            sys.stdout.flush()

    def within(self, here, done, steps):
        """Say how far an epoch has come that takes long: `done` of its steps, of them `here` in this run."""
        left = (steps - done) * (time.monotonic() - self.last) / here
        self.say(f"epoch {len(self.history) + 1}/{self.epochs}: step {done} of {steps}, {duration(left)} left in it")

    def after(self, row):
        """Report the epoch that is over, whose row is the last of the history; return whether to stop."""
        now, done = time.monotonic(), len(self.history)
        left = (self.epochs - done) * (now - self.start) / (done - self.begun)
        rate, self.last = self.n_atoms / max(now - self.last, 1e-9), now
        self.bar.set_postfix_str(summary(row))
        self.bar.update()
        self.say(
            f"epoch {done}/{self.epochs}: {summary(row)}, rate {row['learning_rate']:.1e}, {rate:.3g} atoms/s, "
            f"{duration(left)} left"
        )
        if self.path is not None:
            self._append(row)
        return self.callback is not None and bool(self.callback(Epoch(dict(row), self.history, self.epochs, left)))

    def _append(self, row):
        """Append a row; a column that is new makes the file anew."""
        if set(row) - set(self.columns):
            self.history.save(self.path)
            self.columns = self.history.columns()
            return
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self.columns, lineterminator="\n").writerow(row)

    def close(self):
        """Leave the terminal to others."""
        self.bar.close()


def duration(seconds):
    """Return a time in words: 42 s, 3.5 min, 2.1 h."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
