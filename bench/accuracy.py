"""Accuracy with default settings on data sets that others have published errors for.

    python -m bench.accuracy FOLDER --sets Li ethanol --seeds 3

FOLDER holds the files that bench/accuracy_sets.py names (mlearn/Li_train.extxyz.gz, ...). Every seed trains anew with
nothing set but the seed, and the cutoff that `fastdesc train` would choose; --set changes settings of training,
--descriptor arguments of the descriptor, --potential those of the potential, and --label tells such runs apart. With
--members the mean of several potentials is judged, each trained with a seed of its own; times are those of all. Runs
that OUT.json holds are not repeated, unless --anew is given, so that a command which was stopped goes on. Written are
OUT.json after every run, OUT.md, a table beside the published errors, and OUT.png, errors against seconds of training
and against microseconds per atom.

Times are those of the processor (one thread: NUMBA_NUM_THREADS=1), so that others on the machine disturb them little.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import fastdesc as fd
from bench.accuracy_sets import SETS
from fastdesc.analysis.plots import new_figure, save_figure
from fastdesc.backend.threads import n_threads
from fastdesc.cli.commands import _setting
from fastdesc.io.sources import elements

SOME = 100
"""Training frames, spread over the set, whose errors tell what is left to generalisation."""

GIVEN = {"settings": {}, "descriptor": {}, "potential": {}, "members": 1}
"""What is told of a run, with the defaults."""
AXES = {"train_cpu_s": (10.0, 1000.0), "us_per_atom": (1.0, 100.0)}
"""Least range of the axes of the picture."""


def run(folder, name, seed, settings, descriptor, arguments, members, progress):
    """Train on one set with one seed; return errors on its tests and on some training frames, and times.

    With several members these are the errors of an Ensemble; member k of M begins with the seed M seed + k.
    """
    data = SETS[name]
    train = fd.read_frames(_file(folder, data.train))
    given = {"species": elements(train), "cutoff": fd.choose_cutoff(train), **descriptor}
    cpu, wall = time.process_time(), time.perf_counter()
    potentials, histories = [], []
    for own in range(members * seed, members * (seed + 1)):
        potential = fd.Potential(fd.GaussianMoments(**{"seed": own, **given}), seed=own, **arguments)
        histories.append(fd.train(potential, train, seed=own, progress=progress, **settings))
        potentials.append(potential)
    times = {"train_cpu_s": time.process_time() - cpu, "train_wall_s": time.perf_counter() - wall}
    judged = fd.Ensemble(potentials) if members > 1 else potential
    out = {
        "set": name,
        "seed": seed,
        **times,
        "threads": n_threads(),
        "epochs": max(len(history) for history in histories),
        "kept_epoch": max(history.best()["epoch"] for history in histories),
        "parameters": sum(potential.n_parameters for potential in potentials),
        "cutoff": potential.descriptor.cutoff,
        "train": errors(judged, train[:: -(-len(train) // SOME)], data),
        "version": fd.__version__,
        "tests": {},
    }
    for test, file in data.tests.items():
        frames = fd.read_frames(_file(folder, file))
        out["tests"][test] = errors(judged, frames, data)
        out.setdefault("us_per_atom", speed(judged, frames))
    return out


def errors(potential, frames, data):
    """Errors of energy, as the set's literature counts it, and forces, in meV and meV/Å."""
    found = potential.predict(frames)
    counts = np.array([len(a) if data.per_atom else 1 for a in frames])
    energy = (found.energy - [a.get_potential_energy() for a in frames]) / counts
    forces = found.forces - np.concatenate([a.get_forces() for a in frames])
    size = {"mae": lambda e: abs(e).mean(), "rmse": lambda e: np.sqrt((e**2).mean())}[data.measure]
    return {"energy": 1e3 * float(size(energy)), "forces": 1e3 * float(size(forces))}


def speed(potential, frames, n_atoms=1000, repeats=3):
    """Shortest time of energies and forces of some frames, in microseconds per atom."""
    some = frames[: max(1, round(n_atoms / len(frames[0])))]
    times = []
    for _ in range(repeats + 1):
        start = time.process_time()
        potential.predict(some, dtype="float32")
        times.append(time.process_time() - start)
    return 1e6 * min(times[1:]) / sum(map(len, some))


def table(results):
    """Markdown: means over seeds, with the standard deviation where there are several, beside published errors."""
    lines = ["| set, test | model | energy | forces, meV/Å | training, s | µs/atom |", "|---|---|---|---|---|---|"]
    for name, data in SETS.items():
        labels = dict.fromkeys(r["label"] for r in results if r["set"] == name)
        unit = "meV/atom" if data.per_atom else "meV"
        for test in data.tests if labels else ():
            for label in labels:
                own = [r for r in results if (r["set"], r["label"]) == (name, label)]
                e, f = (spread([r["tests"][test][kind] for r in own]) for kind in ("energy", "forces"))
                seconds, speed = (np.mean([r[key] for r in own]) for key in ("train_cpu_s", "us_per_atom"))
                lines.append(
                    f"| {name}, {test} ({data.measure.upper()}) | **fastdesc**, {label}, {len(own)} "
                    f"seed{'s'[: len(own) != 1]} | {e} {unit} | {f} | {seconds:.0f} | {speed:.1f} |"
                )
            for method, rows in data.published.items():
                energy, forces = rows[test]
                lines.append(f"| {name}, {test} | {method} | {energy:g} {unit} | {forces:g} | | |")
    sources = {data.source for name, data in SETS.items() if data.source and any(r["set"] == name for r in results)}
    return "\n".join([*lines, "", *(f"Published: {source}." for source in sorted(sources))])


def spread(values):
    """Mean, and standard deviation of several values, as text."""
    text = f"{np.mean(values):.3g}"
    return text if len(values) == 1 else f"{text} ± {np.std(values, ddof=1):.2g}"


def draw(results, out):
    """Force errors of every set against seconds of training and microseconds per atom; lines are published errors."""
    there = {r["set"] for r in results}
    panels = [(name, test) for name, data in SETS.items() if name in there for test in data.tests]
    fig = new_figure(6.4, 2.3 * len(panels))
    axes = fig.subplots(len(panels), 2, squeeze=False, sharey="row")
    labels = list(dict.fromkeys(r["label"] for r in results))
    for (name, test), row in zip(panels, axes, strict=True):
        for ax, key, words in zip(row, ("train_cpu_s", "us_per_atom"), ("training, s", "µs/atom"), strict=True):
            for k, label in enumerate(labels):
                own = [r for r in results if (r["set"], r["label"]) == (name, label)]
                points = [(r[key], r["tests"][test]["forces"]) for r in own]
                ax.plot(*np.array(points).reshape(-1, 2).T, "o", color=f"C{k}", label=label, markersize=4)
            for method, rows in SETS[name].published.items():
                ax.axhline(rows[test][1], color="#999999", lw=0.7)
                ax.annotate(method, (1, rows[test][1]), xycoords=("axes fraction", "data"), fontsize=6, ha="right")
            found = [r[key] for r in results]
            low, high = AXES[key]
            ax.set(xscale="log", yscale="log", xlabel=words, xlim=(min(low, *found), max(high, *found)))
        row[0].set_ylabel(f"{name}, {test}: forces\n({SETS[name].measure.upper()}, meV/Å)", fontsize=8)
    axes[0, 0].legend(frameon=False, fontsize=7)
    save_figure(fig, out)


def _file(folder, name):
    for ending in (".extxyz", ".extxyz.gz"):
        path = Path(folder) / (name + ending)
        if path.exists():
            return path
    raise SystemExit(f"{Path(folder) / name}.extxyz.gz is not there; give the folder of the data sets")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--sets", nargs="+", default=["Li", "Si", "Ni", "ethanol", "3bpa", "water"], choices=list(SETS))
    parser.add_argument("--seeds", type=int, default=3, help="0, 1, .. (default 3 of them)")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of training")
    parser.add_argument("--descriptor", nargs="+", default=[], metavar="NAME=VALUE", help="its arguments")
    parser.add_argument("--potential", nargs="+", default=[], metavar="NAME=VALUE", help="its arguments")
    parser.add_argument("--members", type=int, default=1, help="potentials whose mean is judged (default 1)")
    parser.add_argument("--anew", action="store_true", help="repeat runs of this label that are there")
    parser.add_argument("--label", default="defaults", help="of these runs")
    parser.add_argument("--out", default="bench/results/accuracy", help="without an ending")
    parser.add_argument("--quiet", action="store_true", help="no lines for epochs")
    args = parser.parse_args(arguments)
    given = [dict(map(_setting, words)) for words in (args.set, args.descriptor, args.potential)]
    given.append(args.members)
    if args.members < 1:
        parser.error(f"--members came as {args.members}; give at least 1")
    if given != list(GIVEN.values()) and args.label == "defaults":
        parser.error("these are not the defaults; give the runs another --label")
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.with_name(out.name + ".json")
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    for seed in range(args.seeds):    # first one seed of each set
        for name in args.sets:
            same = [args.label, name, seed]
            there = [r for r in results if [r["label"], r["set"], r["seed"]] == same]
            if there and not args.anew:
                if there[0]["version"] != fd.__version__ or [there[0].get(k, v) for k, v in GIVEN.items()] != given:
                    parser.error(f"{path} has a run {same} with other settings; give another --label, or --anew")
                continue
            new = {"label": args.label, **run(args.folder, name, seed, *given, not args.quiet)}
            results = [r for r in results if r not in there] + [new | dict(zip(GIVEN, given, strict=True))]
            # A run that is stopped leaves what is done.
            path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            out.with_name(out.name + ".md").write_text(table(results) + "\n", encoding="utf-8")
            draw(results, out.with_name(out.name + ".png"))
    print(table(results))


if __name__ == "__main__":
    main()
