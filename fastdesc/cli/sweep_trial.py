"""One trial of a sweep: a training in a folder of its own.

    0007/values.json     what is tried: "section.key" -> value
    0007/task.json       error that is made small, and the curve that pruning goes by
    0007/trial.toml      the configuration; with the files that `fastdesc train` leaves
    0007/trial.json      what it came to; not there while it is at work
"""

import json
import sys
import time
from pathlib import Path

from fastdesc.cli.config import load_config
from fastdesc.cli.experiment import run
from fastdesc.errors import FastdescError
from fastdesc.hdf5.files import to_json, write_text
from fastdesc.potential.loading import load

PARTS = 20
"""Points of a curve: the best error so far at each of these fractions of the epochs."""
FIRST = 4
"""Point before which nothing is pruned."""
WORSE = 1e300
"""An error that is not finite."""


class Watch:
    """Callback of training that notes the best error so far and ends a trial that is worse than most.

    Parameters
    ----------
    objective : str
        Column of the history, without "valid_".
    limits : list of float or None
        For each of the PARTS fractions the error above which a trial ends; None where there is none.
    """

    def __init__(self, objective, limits):
        self.column, self.limits = f"valid_{objective}", limits
        self.curve, self.pruned = [None] * PARTS, False

    def __call__(self, epoch):
        done = len(epoch.history)
        values = [row[self.column] for row in epoch.history.rows if row.get(self.column) is not None]
        part = min(PARTS * done // epoch.epochs, PARTS) - 1
        if not values or part < 0:
            return False
        best = min(value if value == value and value < WORSE else WORSE for value in values)
        for k in range(part + 1):
            if self.curve[k] is None:
                self.curve[k] = best
        limit = self.limits[part]
        self.pruned = part + 1 >= FIRST and part + 1 < PARTS and limit is not None and best > limit
        return self.pruned


def run_trial(folder, say=lambda text: None):
    """Train what a folder describes, going on where a checkpoint is, and write trial.json.

    Parameters
    ----------
    folder : path
    say : callable
        Takes what the training tells.
    """
    folder, start = Path(folder), time.monotonic()
    task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    watch = Watch(task["objective"], task["limits"])
    found = {"state": "failed"}
    try:
        resume = (folder / "checkpoint.h5").exists()
        run(load_config(folder / "trial.toml"), resume, not resume, False, say, callback=watch)
        kept = load(folder / "model.h5").training.get("errors", {})
        value = kept.get(watch.column)
        if value is None:
            found["reason"] = f"no {watch.column} was found"
        else:
            found = {"state": "pruned" if watch.pruned else "done", "value": value, "epoch": kept["epoch"]}
    except (FastdescError, OSError, MemoryError) as error:
        found["reason"] = " ".join(str(error).split()) or type(error).__name__
    found |= {"curve": watch.curve, "seconds": round(time.monotonic() - start, 2)}
    write_text(folder / "trial.json", to_json(found) + "\n")


def main(words):
    """Run the trial of a folder in a process of its own, which ends with the sweep."""
    from fastdesc.backend.process import keep_freed_memory, prefer_avx512
    from fastdesc.learn.orphans import end_with_the_loop

    end_with_the_loop()
    prefer_avx512()
    keep_freed_memory()
    run_trial(words[0], print)


if __name__ == "__main__":
    main(sys.argv[1:])
