"""`python -m bench.fuzz`: read damaged files, as many as you like, and say what goes wrong."""

import argparse
import sys
import tempfile
import time

from bench.fuzz.files import KINDS
from bench.fuzz.run import Fuzz

TELL_EVERY = 15.0    # seconds


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
