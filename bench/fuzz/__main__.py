"""`python -m bench.fuzz`: read damaged files, as many as you like, and say what goes wrong."""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from bench.fuzz.damage import damaged
from bench.fuzz.files import KINDS
from bench.fuzz.worker import SECONDS, number_of

ROOT = Path(__file__).parents[2]
IN_A_PROCESS = 5000
WRONG = ("exception", "hang", "crash", "memory", "outside")
TELL_EVERY = 15.0    # seconds


class Fuzz:
    """Damaged files of chosen kinds, in a folder of their own.

    Parameters
    ----------
    folder : Path
        Must exist; sound files of every kind are made there.
    seed : int
    kinds : list of str, optional

    Attributes
    ----------
    counts : Counter
        By (kind, outcome): "read", "refused", or one of `WRONG`.
    wrong : list of str
        One line of each file that went wrong.
    """

    def __init__(self, folder, seed=0, kinds=None):
        self.folder, self.seed, self.kinds = Path(folder), seed, list(kinds or KINDS)
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
        words = [str(folder), str(first), str(last), str(self.seed), ",".join(self.kinds)]
        command = [sys.executable, "-m", "bench.fuzz.worker", *words]
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
            self._note(at, f"hang more than {SECONDS:g} s" if name == "SIGALRM" else f"crash {name} at {where}")
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
        target = place / KINDS[kind].target
        sound = (self.folder / "sound" / KINDS[kind].target).read_bytes()
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


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description="Read damaged files of every kind.")
    parser.add_argument("--n", type=int, default=10_000, help="damaged files")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other damage")
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds, separated by commas")
    parser.add_argument("--keep", metavar="DIR", help="folder for the files that go wrong")
    words = parser.parse_args(argv)
    kinds = words.kinds.split(",")
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        parser.error(f"unknown kind {unknown[0]!r}; there are {', '.join(KINDS)}")
    started = last = time.monotonic()
    told = 0
    with tempfile.TemporaryDirectory() as folder:
        fuzz = Fuzz(folder, words.seed, kinds)

        def tell():
            nonlocal last, told
            for line in fuzz.wrong[told:]:
                print(line, flush=True)
                if words.keep:
                    fuzz.keep(int(line.split()[0]), words.keep)
            told = len(fuzz.wrong)
            if time.monotonic() > last + TELL_EVERY:
                last = time.monotonic()
                print(f"{sum(fuzz.counts.values())} of {words.n} files, {last - started:.0f} s", flush=True)

        fuzz.run(words.first, words.first + words.n, tell)
        tell()
        print(fuzz.table())
    print(f"{words.n} files in {time.monotonic() - started:.0f} s")
    return 1 if fuzz.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
