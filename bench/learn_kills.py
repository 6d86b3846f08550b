"""A learning loop that is killed at random moments, and goes on: does it end as if it had not been?

    python -m bench.learn_kills --kills 50 --seed 0

A small loop on Cu-Au, labelled by EMT in worker processes, runs once undisturbed. Then loops run whose processes are
killed (SIGKILL) after random times, and started again with --resume until they end; each must have the structures,
labels, tables and models of the first one, to the last bit. Ends with an error where one has not.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from ase.io import write

import fastdesc as fd
from bench.learn import frames

LOOP = """
[data]
train = "train.extxyz"
test = "test.extxyz"
valid_fraction = 0.2
[explore]
temperatures = [300, 900]
trajectories = 2
steps = 20
every = 10
rattle = 0.05
[select]
number = 4
[label]
calculator = "ase.calculators.emt:EMT"
workers = 1
[stop]
rounds = 2
grade = 0.01
[descriptor]
cutoff = 3.5
n_radial = 2
n_basis = 3
max_rank = 1
[potential]
hidden = [6]
[training]
epochs = 20
batch_size = 4
checkpoint_every = 2
[output]
plots = false
"""
LOOK = 0.02
"""Seconds between looks at a process that is to be killed."""


def begin(folder):
    """Write a configuration and its structures; return the command."""
    folder.mkdir()
    cold = frames(1, 0, (300,))
    write(folder / "train.extxyz", cold[:6])
    write(folder / "test.extxyz", cold[6:])
    (folder / "loop.toml").write_text(LOOP)
    return [sys.executable, "-m", "fastdesc", "learn", str(folder / "loop.toml"), "--quiet"]


def content(folder):
    """What a loop ends with: its texts, and the numbers of its models."""
    out = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        text = path.suffix in (".extxyz", ".json", ".md", ".csv") and "labels" not in path.parts
        if text and path.name not in ("loop.json", "history.csv"):    # these tell of the folder, and of times
            out[name] = path.read_bytes()
        elif path.name == "model.h5":
            p = fd.load(path)
            arrays = {**p.parameters, "reference": p.reference, "factor": p.uncertainty.factor, "a": p.scaler.scale}
            out[name] = {key: array.tobytes() for key, array in arrays.items()}
    return out


def difference(found, expected):
    """Name of the first thing that is not the same, in the order of the rounds; None where all is."""
    names = sorted({*found, *expected}, key=lambda name: (not name.startswith("round-"), name))
    return next((name for name in names if found.get(name) != expected.get(name)), None)


def ended(command, folder, seconds):
    """Start or go on, and kill after so many seconds; return whether it came to its end by itself."""
    begun = (folder / "fastdesc-learn" / "loop.json").exists()
    process = subprocess.Popen([*command, "--resume"] if begun else command, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)    # fmt: skip
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(LOOK)
    process.kill()
    told = process.communicate()[0]
    if process.returncode < 0 and folder.joinpath("fastdesc-learn").exists():
        files = sorted(folder.joinpath("fastdesc-learn").rglob("*"), key=lambda path: path.stat().st_mtime)
        print("  killed after", ", ".join(str(path.relative_to(folder)) for path in files[-2:]), flush=True)
    if process.returncode > 0:
        raise SystemExit(f"the loop ended with code {process.returncode}: {told[-1000:]}")
    return process.returncode == 0


def main(words=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--kills", type=int, default=50)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--folder", help="where loops are kept (default: a temporary one)")
    args = p.parse_args(words)
    rng, kills, loops = np.random.default_rng(args.seed), 0, 0
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(args.folder or temporary)
        place.mkdir(parents=True, exist_ok=True)
        whole = place / "whole"
        command = begin(whole)
        ended(command, whole, np.inf)    # compiles what is to be compiled
        start = time.monotonic()
        again = place / "again"
        ended(begin(again), again, np.inf)
        took = time.monotonic() - start
        expected = content(whole / "fastdesc-learn")
        if (name := difference(content(again / "fastdesc-learn"), expected)) is not None:
            raise SystemExit(f"two undisturbed loops differ in {name}")
        print(f"an undisturbed loop takes {took:.1f} s", flush=True)
        while kills < args.kills:
            folder = place / f"{loops}"
            command = begin(folder)
            own = 0
            while not ended(command, folder, rng.uniform(0, took) if kills < args.kills else np.inf):
                kills, own = kills + 1, own + 1
            loops += 1
            found = content(folder / "fastdesc-learn")
            print(f"loop {loops}: killed {own} times, {kills} in all", flush=True)
            if (name := difference(found, expected)) is not None:
                raise SystemExit(f"loop {loops} was killed {own} times, and {name} is not that of an undisturbed one")
    print(f"{kills} kills in {loops} loops: all ended as the undisturbed one did")


if __name__ == "__main__":
    main()
