"""Damaged files, read one after the other in a process that may die of them."""

import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from bench.fuzz.damage import damaged
from bench.fuzz.files import FAULTS, KINDS
from bench.fuzz.worker import number_of

ROOT = Path(__file__).parents[2]
IN_A_PROCESS = 5000
SECONDS = 20.0
"""A file that takes longer hangs."""
WRONG = ("exception", "hang", "crash", "memory", "outside")


class Fuzz:
    """Damaged files of chosen kinds, in a folder of their own.

    Parameters
    ----------
    folder : Path
        Must exist; sound files of every kind are made there.
    seed : int
    kinds : list of str, optional
        Of KINDS, or FAULTS.
    seconds : float
        A file that takes longer hangs.

    Attributes
    ----------
    counts : Counter
        By (kind, outcome): "read", "refused", or one of `WRONG`.
    wrong : list of str
        One line of each file that went wrong.
    """

    def __init__(self, folder, seed=0, kinds=None, seconds=SECONDS):
        self.folder, self.seed, self.kinds, self.seconds = Path(folder), seed, list(kinds or KINDS), seconds
        self.counts, self.wrong = Counter(), []
        for name in ("sound", "outside/joined.h5.shards"):
            (self.folder / name).mkdir(parents=True)
        with self._worker(self.folder / "sound", "make", 0) as maker:
            _, words = maker.communicate()
        if maker.returncode:
            raise RuntimeError(words.decode(errors="replace"))
        for shard in (self.folder / "sound" / "joined.h5.shards").iterdir():
            shutil.copyfile(shard, self.folder / "outside" / shard.name)

    def _worker(self, folder, first, last):
        words = [folder, first, last, self.seed, ",".join(self.kinds), self.seconds]
        command = [sys.executable, "-m", "bench.fuzz.worker", *map(str, words)]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, first, last, tell=lambda: None):
        """Read the files first .. last."""
        while first < last:
            first = self._in_a_process(first, min(last, first + IN_A_PROCESS), tell)

    def _in_a_process(self, first, last, tell):
        """Read the files first .. last until one of them ends the process; return the first that was not tried."""
        at = first
        with self._worker(self.folder, first, last) as worker:
            worker.stderr.close()
            for line in worker.stdout:
                self._note(at, line.decode("utf-8", "replace").rstrip("\n"))
                at += 1
                tell()
        if worker.returncode < 0:
            name = signal.Signals(-worker.returncode).name
            stack = (self.folder / "stack").read_text().partition("Current thread")[2].splitlines()
            where = " < ".join(line.strip() for line in stack[1:5])
            self._note(at, f"hang more than {self.seconds:g} s" if name == "SIGALRM" else f"crash {name} at {where}")
            return at + 1
        if at < last:
            raise RuntimeError(f"the process that reads ended before file {at}, with code {worker.returncode}")
        return at

    def _note(self, number, line):
        outcome, _, words = line.partition(" ")
        kind = self.kinds[number % len(self.kinds)]
        self.counts[kind, outcome] += 1
        if outcome in WRONG:
            self.wrong.append(f"{number} {kind}: {outcome} {words}")

    def keep(self, number, folder):
        """Make a damaged file again, with the files beside it."""
        kind = self.kinds[number % len(self.kinds)]
        place = Path(folder, f"{number}-{kind}")
        shutil.copytree(self.folder / "sound", place, dirs_exist_ok=True)
        name = (KINDS | FAULTS)[kind].target
        target, sound = place / name, (self.folder / "sound" / name).read_bytes()
        target.write_bytes(damaged(sound, number_of(self.seed, number), target.suffix.endswith("xyz")))

    def table(self):
        """Counts by kind, as text."""
        rows = [f"{'kind':<12}{'read':>9}{'refused':>9}{'wrong':>7}"]
        for kind in self.kinds:
            wrong = sum(self.counts[kind, what] for what in WRONG)
            rows.append(f"{kind:<12}{self.counts[kind, 'read']:>9}{self.counts[kind, 'refused']:>9}{wrong:>7}")
        what = Counter()
        for (_, outcome), n in self.counts.items():
            what[outcome] += n
        return "\n".join([*rows, ", ".join(f"{n} {outcome}" for outcome, n in sorted(what.items()))])
