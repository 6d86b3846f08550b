"""Whether uncertainties are right: coverage, calibration error and rank correlation on 3BPA and water.

    python -m bench.uncertainty FOLDER --sets 3bpa water --steps 4000
    python -m bench.uncertainty FOLDER --sets 3bpa --model 3bpa.h5      one that was trained on the set before

FOLDER holds the files that bench/accuracy_sets.py names. A potential with default settings but for the number of steps
is trained on each set; its uncertainties are calibrated on the tenth of the training frames that training sets aside.
3BPA is trained at 300 K, and its frames of 600 K are extrapolation. The metric of the last layer (which labels enter
it, and with which weights) was compared on the 3BPA test frames when it was chosen: figures of 3BPA are optimistic.
Those of bench/extrapolation.py are of training frames alone.
Results are added to OUT.json, one for each set. Times are those of the processor, shortest of several; members of
forces cost a pullback each.
"""

import argparse
import json
import time
from pathlib import Path

import fastdesc as fd
from bench.accuracy_sets import SETS
from fastdesc.analysis.accuracy import compare
from fastdesc.backend.threads import n_threads
from fastdesc.io.sources import elements

MOST_FRAMES = 500
"""Test frames, spread over a set."""


def run(folder, name, steps, seed, progress, model=None, members=0):
    """Train on one set, or take a model; return reliability on its tests, and times."""
    data = SETS[name]
    train = [atoms for atoms in fd.read_frames(file_of(folder, data.train)) if len(atoms) > 1]
    cpu = time.process_time()
    if model is None:
        potential = fd.Potential(fd.GaussianMoments(species=elements(train), seed=seed), seed=seed)
        fd.train(potential, train, seed=seed, steps=steps, progress=progress, uncertainty=False)
    else:
        potential = fd.load(model)
    trained = time.process_time()
    fd.fit_uncertainty(potential, train)
    out = {
        "set": name,
        "trained": {k: potential.training[k] for k in ("frames", "errors", "time")},
        "settings": {k: potential.training["settings"][k] for k in ("epochs", "seed", "batch_atoms", "dtype")},
        "train_cpu_s": trained - cpu if model is None else None,
        "fit_cpu_s": time.process_time() - trained,
        "told": potential.uncertainty.told,
        "version": fd.__version__,
        "threads": n_threads(),
        "tests": {},
    }
    for test, frames in tests_of(folder, data):
        found = compare(potential, frames)
        out["tests"][test] = found.summary()
        print(f"{name}, {test}\n{found.table()}\n", flush=True)
        local = compare(potential, frames, uncertainty="local")
        out["tests"][test]["local"] = local.summary()["uncertainty"]["forces"]
        print(f"{name}, {test}, local\n{local.table()}\n", flush=True)
        out.setdefault("us_per_atom", speed(potential, frames))
    if members:
        out["shallow_ensembles"] = shallow(potential, folder, data, train, members)
    return out


def shallow(potential, folder, data, train, members):
    """Reliability and times of shallow ensembles of a potential, by likelihood, beside the Gaussian."""
    out = {}
    for likelihood in ("nll", "crps"):
        cpu = time.process_time()
        fd.shallow_ensemble(potential, train, members=members, likelihood=likelihood)
        found = {"fit_cpu_s": time.process_time() - cpu, "told": potential.uncertainty.told, "tests": {}}
        for test, frames in tests_of(folder, data):
            reliability = compare(potential, frames)
            found["tests"][test] = reliability.summary()
            print(f"{members} members, {likelihood}, {test}\n{reliability.table()}\n", flush=True)
            found.setdefault("us_per_atom", speed(potential, frames))
        out[likelihood] = found
    return out


def tests_of(folder, data):
    """Names of the tests of a set, and their frames, MOST_FRAMES at most."""
    for test, file in data.tests.items():
        frames = fd.read_frames(file_of(folder, file))
        yield test, frames[:: -(-len(frames) // MOST_FRAMES)]


def speed(potential, frames, n_atoms=1000, repeats=10):
    """Shortest times of some frames in float32 without and with uncertainties, microseconds per atom."""
    some = frames[: max(1, round(n_atoms / len(frames[0])))]
    cases = {
        "energies": {"forces": False, "stress": False},
        "energies, uncertainty": {"forces": False, "stress": False, "uncertainty": True},
        "forces": {},
        "forces, energy uncertainty": {"uncertainty": "energy"},
        "forces, local uncertainties": {"uncertainty": "local"},
        "forces, all uncertainties": {"uncertainty": True},
    }
    best = dict.fromkeys(cases, float("inf"))
    for _ in range(repeats):
        for name, given in cases.items():
            start = time.process_time()
            potential.predict(some, dtype="float32", **given)
            best[name] = min(best[name], time.process_time() - start)
    return {name: 1e6 * seconds / sum(map(len, some)) for name, seconds in best.items()}


def file_of(folder, name):
    found = [path for path in (Path(folder) / f"{name}{end}" for end in (".extxyz.gz", ".extxyz")) if path.exists()]
    if not found:
        raise SystemExit(f"{Path(folder) / name}.extxyz.gz is not there")
    return found[0]


def main(words=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    p.add_argument("--sets", nargs="+", default=["3bpa", "water"], choices=["3bpa", "water"])
    p.add_argument("--steps", type=int, default=4000)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--model", help="a model trained on the one set, instead of training")
    p.add_argument("--members", type=int, default=0, help="also shallow ensembles of so many members")
    p.add_argument("--out", default="bench/results/uncertainty.json")
    p.add_argument("--progress", action="store_true")
    args = p.parse_args(words)
    out = Path(args.out)
    results = {r["set"]: r for r in json.loads(out.read_text(encoding="utf-8"))} if out.exists() else {}
    for name in args.sets:
        results[name] = run(args.folder, name, args.steps, args.seed, args.progress, args.model, args.members)
        text = json.dumps(list(results.values()), indent=1, ensure_ascii=False)
        out.write_text(text + "\n", encoding="utf-8")
    print(out)


if __name__ == "__main__":
    main()
