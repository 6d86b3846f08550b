"""What was tried before the defaults of training were chosen: one thing changed at a time, in short runs.

    NUMBA_NUM_THREADS=1 python -m bench.screening FOLDER --seeds 1

FOLDER is that of bench.accuracy. Of the large tests of 3BPA every fourth frame is looked at. Rows that are "held out"
train on four fifths of the training frames and are judged by the others: what is chosen by them has not seen the test.
Runs that OUT.json holds are not repeated; OUT.md is the table, with errors on some training frames: where they are near
those of the test, more steps or parameters help, where they are far below, more data would. Seconds are those of the
processor; the first run of a descriptor of a new size includes compilation.
"""

import argparse
import json
import time
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

import fastdesc as fd
from bench.accuracy import _file, errors, speed, spread
from bench.accuracy_sets import SETS
from fastdesc.io.sources import elements


class Row(NamedTuple):
    """A set, what is told of it in the table, arguments of GaussianMoments, settings of training, arguments of
    Potential, and whether a part of the training frames is held out instead of a look at the test."""

    set: str
    label: str
    descriptor: dict
    settings: dict
    potential: dict = MappingProxyType({})
    held_out: bool = False


PARTS = 5
"""One of so many is held out."""
SQUARES = {"stress_weight": 0.1}
"""How stresses counted before there was a limit."""
LIMITED = {"stress_weight": 0.02, "stress_limit": 0.02}
"""How they count by default."""
STEPS = {"water": 3000}
"""4000 elsewhere."""
SLOW = {"descriptor_learning_rate": 3e-3}
TRAINED, EVERY = 60, {"3bpa": 4}
"""Training frames whose errors are told; one of so many test frames is looked at."""
ROWS = [
    *(("Ni", f"cutoff {r}, stress 0.1", {"cutoff": r}, SQUARES) for r in (4.0, 4.5, 5.0, 6.0)),
    ("Ni", "cutoff 4.5, stress 0.1, 20 000 steps", {"cutoff": 4.5}, {**SQUARES, "steps": 20_000}),
    ("Ni", "cutoff 4.5, stress 0.1, n_radial 7", {"cutoff": 4.5, "n_radial": 7}, SQUARES),
    ("Ni", "cutoff 4.5, stress 0.1, rate 4e-3", {"cutoff": 4.5}, {**SQUARES, "learning_rate": 4e-3}),
    ("Ni", "cutoff 4.5, stress 0.1, rate 1e-3", {"cutoff": 4.5}, {**SQUARES, "learning_rate": 1e-3}),
    ("Ni", "cutoff 4.5, stress 0.1, rate of beta 3e-2", {"cutoff": 4.5}, {**SQUARES, "descriptor_learning_rate": 3e-2}),
    ("Ni", "cutoff 4.5, stress 0.1, rate of beta 3e-3", {"cutoff": 4.5}, {**SQUARES, **SLOW}),
    ("Ni", "cutoff 4.5, stress 0.1, 512 atoms a step", {"cutoff": 4.5}, {**SQUARES, "batch_atoms": 512, "steps": 1600}),
    ("Ni", "cutoff 4.5, stress 0.1, energy weight 100, late 3", {"cutoff": 4.5},
     {**SQUARES, "energy_weight": 100, "late_energy_factor": 3}),
    ("Ni", "cutoff 4.5, stress 0.01", {"cutoff": 4.5}, {"stress_weight": 0.01}),
    ("Ni", "cutoff 4.5, stress 0", {"cutoff": 4.5}, {"stress_weight": 0}),
    ("Ni", "cutoff 5, stress 0, rate of beta 3e-3", {"cutoff": 5.0}, {"stress_weight": 0, **SLOW}),
    *((name, f"cutoff 5, rate of beta 3e-3, stress {weight:g}" + (f", limit {limit:g}" if limit else ""),
       {"cutoff": 5.0}, {"stress_weight": weight, "stress_limit": limit, **SLOW})
      for name in ("Ni", "Si")
      for weight, limit in ((0.1, None), (0.02, None), (0.1, 0.02), (0.1, 0.01), (0.02, 0.02))),
    ("Ni", "cutoff 5, stress 0.02, limit 0.02", {"cutoff": 5.0}, LIMITED),
    ("Ni", "cutoff 5, stress 0.02, limit 0.02, rate 4e-3", {"cutoff": 5.0}, {**LIMITED, "learning_rate": 4e-3}),
    *(("Si", f"cutoff {r}, stress 0.1", {"cutoff": r}, SQUARES) for r in (4.5, 5.0)),
    ("Si", "cutoff 5, stress 0", {"cutoff": 5.0}, {"stress_weight": 0}),
    ("Si", "cutoff 6, stress 0.02, limit 0.02", {}, LIMITED),
    ("Si", "cutoff 6, stress 0.02, limit 0.02, rate of beta 3e-3", {}, {**LIMITED, **SLOW}),
    *(("Li", f"cutoff {r}, stress 0.1", {"cutoff": r}, SQUARES) for r in (5.0, 6.0)),
    ("Li", "cutoff 5, stress 0", {"cutoff": 5.0}, {"stress_weight": 0}),
    ("Li", "cutoff 6, stress 0.02, limit 0.02", {}, LIMITED),
    ("Li", "cutoff 6, stress 0.02, limit 0.02, rate of beta 3e-3", {}, {**LIMITED, **SLOW}),
    *(("3bpa", f"cutoff {r}", {"cutoff": r}, {}) for r in (4.5, 5.0)),
    ("3bpa", "cutoff 5, rate of beta 3e-3", {"cutoff": 5.0}, SLOW),
    ("3bpa", "cutoff 5, one iteration (message_contractions 1 and 2, hidden 16), 2000 steps",
     {"cutoff": 5.0, "iterations": 1, "message_contractions": [1, 2], "hidden": [16]}, {"steps": 2000}),
    *((name, "cutoff 5" + told, {"cutoff": 5.0}, given) for name in ("ethanol", "water")
      for told, given in (("", {}), (", rate of beta 3e-3", SLOW))),
    *(Row("Si", told, {}, settings, potential, True) for told, settings, potential in (
        ("defaults", {}, {}), ("hidden 16-16", {}, {"hidden": (16, 16)}),
        ("a linear model of the features", {}, {"hidden": ()}), ("network and linear model", {}, {"direct": True}),
        ("weight decay 1", {"weight_decay": 1.0}, {}))),
    *(Row("Ni", told, {}, {}, potential, True)
      for told, potential in (("defaults", {}), ("hidden 128-128", {"hidden": (128, 128)}))),
]  # fmt: skip


def run(folder, seed, name, _, descriptor, settings, potential, held_out):
    """Train with a seed as a Row says; return errors and times."""
    data = SETS[name]
    train = fd.read_frames(_file(folder, data.train))
    if held_out:
        order = np.random.default_rng(7).permutation(len(train))
        n = len(train) // PARTS
        train, held = [train[k] for k in order[n:]], [train[k] for k in order[:n]]
        descriptor = {"cutoff": fd.choose_cutoff(train), **descriptor}
    descriptor = fd.GaussianMoments(species=elements(train), seed=seed, **descriptor)
    potential = fd.Potential(descriptor, seed=seed, **potential)
    start = time.process_time()
    settings = {"steps": STEPS.get(name, 4000), "uncertainty": False, **settings}
    fd.train(potential, train, seed=seed, progress=False, **settings)
    out = {"train_cpu_s": time.process_time() - start, "tests": {}}
    some = np.random.default_rng(0).permutation(len(train))[:TRAINED]
    out["train"] = errors(potential, [train[k] for k in some], data)
    tests = {"held out": held} if held_out else _tests(folder, name)
    for test, frames in tests.items():
        out["tests"][test] = errors(potential, frames, data)
        out.setdefault("us_per_atom", speed(potential, frames))
    return out


def _tests(folder, name):
    every = EVERY.get(name, 1)
    return {test: fd.read_frames(_file(folder, file))[::every] for test, file in SETS[name].tests.items()}


def table(results):
    """Markdown: means over seeds, with standard deviations where there are several."""
    lines = ["| set, test | tried | seeds | energy | forces, meV/Å | on training frames | training, s | µs/atom |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for name, label, *_ in ROWS:
        own = [r for r in results if (r["set"], r["label"]) == (name, label)]
        for test in own[0]["tests"] if own else ():
            e, f = (spread([r["tests"][test][kind] for r in own]) for kind in ("energy", "forces"))
            trained = ", ".join(spread([r["train"][kind] for r in own]) for kind in ("energy", "forces"))
            seconds, speed = (np.mean([r[key] for r in own]) for key in ("train_cpu_s", "us_per_atom"))
            unit = "meV/atom" if SETS[name].per_atom else "meV"
            of = f"{name}, {test} ({SETS[name].measure.upper()})"
            lines.append(
                f"| {of} | {label} | {len(own)} | {e} {unit} | {f} | {trained} | {seconds:.0f} | {speed:.1f} |"
            )
    return "\n".join(lines) + "\n"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", type=int, default=1, help="0, 1, .. (default 1 of them)")
    parser.add_argument("--out", default="bench/results/screening", help="without an ending")
    args = parser.parse_args(arguments)
    out = Path(args.out)
    path = out.with_name(out.name + ".json")
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    there = {(r["set"], r["label"], r["seed"]) for r in results}
    for seed in range(args.seeds):
        for row in (Row(*given) for given in ROWS):
            if row.set in args.sets and (row.set, row.label, seed) not in there:
                found = run(args.folder, seed, *row)
                results.append({"set": row.set, "label": row.label, "seed": seed, **found})
                path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    out.with_name(out.name + ".md").write_text(table(results), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
