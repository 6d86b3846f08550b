"""Families with and without iterations on published sets, and choices of messages, each trained for the same time.

    python -m bench.combinations families FOLDER
    python -m bench.combinations messages FOLDER

FOLDER and the sets are those of bench.accuracy. The first row of a table trains for --steps, with default settings;
every other trains as long: its number of steps follows from how long its steps take, measured in turns with those of
the first row on some of the frames, in seconds of the processor. So a busy machine disturbs both alike. One thread
(NUMBA_NUM_THREADS=1). Runs that OUT.json holds are not repeated, so that a command which was stopped goes on. Written
are OUT.json after every run, OUT.md, and OUT.png: errors of forces against microseconds per atom, with the rows that
no other is better than in both joined by a line.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import fastdesc as fd
from bench.accuracy import _file, errors, speed, spread
from bench.accuracy_sets import SETS
from fastdesc.analysis.plots import new_figure, save_figure
from fastdesc.io.sources import elements
from fastdesc.pairs.choose_cutoff import choose_cutoff

MOMENTS, DENSITY, FILTERS = fd.GaussianMoments, fd.EmbeddedDensity, fd.SplineFilters
T0, T1 = {"iterations": 0}, {"iterations": 1}
ROWS = {
    "families": {
        "Gaussian moments": (MOMENTS, T0),
        "Gaussian moments, T = 1": (MOMENTS, T1),
        "embedded density": (DENSITY, T0),
        "embedded density, T = 1": (DENSITY, T1),
        "spline filters": (FILTERS, {}),
    },
    "messages": {
        "none": (MOMENTS, T0),
        "contractions 1 to 4, hidden 32": (MOMENTS, T1),
        "contractions 1 and 2, hidden 16": (MOMENTS, {**T1, "message_contractions": [1, 2], "hidden": [16]}),
        "contractions 1 to 4, hidden 64": (MOMENTS, {**T1, "hidden": [64]}),
        "all contractions, hidden 32": (MOMENTS, {**T1, "message_contractions": [1, 2, 3, 4, 5, 6, 7, 8]}),
        "contractions 1 to 4, hidden 32, one network": (MOMENTS, {**T1, "networks": "shared"}),
    },
}
SETS_OF = {"families": ["3bpa", "ethanol", "water", "Ni", "Li", "Si"], "messages": ["3bpa", "water"]}
SHORTEST = {"3bpa": 0.8, "ethanol": 0.8, "water": 0.8}
"""First knot of spline filters, Å, where it is not the family's: bonds with hydrogen are shorter."""
LONGEST_TRIPLETS = 4.5
"""Å, of spline filters."""
TRIED, STEP, TURNS = 5000, 128, 2
"""Atoms of a trial, and of a step, as of these sets by default; how often trials are repeated."""


def descriptor(family, arguments, name, train, seed):
    """Return an untrained descriptor for a set, with the cutoff that `fastdesc train` would choose."""
    cutoff = choose_cutoff(train)
    given = {"species": elements(train), "cutoff": cutoff, "seed": seed, **arguments}
    if family is FILTERS:
        given["triplet_cutoff"] = min(cutoff, LONGEST_TRIPLETS)
        given |= {"r_min": SHORTEST[name]} if name in SHORTEST else {}
    return family(**given)


def trained(make, train, seed, **budget):
    """Train a new potential; return it, the history, and seconds of the processor."""
    potential = make()
    start = time.process_time()
    history = fd.train(potential, train, seed=seed, progress=False, uncertainty=False, **budget)
    return potential, history, time.process_time() - start


def cost(make, reference, train, seed):
    """Return how long a step takes, in units of a step of another potential: least times of some turns of both."""
    some = train[:: max(1, sum(map(len, train)) // TRIED)]
    least = {}
    for turn in range(1 + TURNS):
        for k, one in enumerate((reference, make)):
            for epochs in (1, 3):    # what comes before the first step takes as long for both
                taken = trained(one, some, seed, epochs=epochs, batch_atoms=STEP)[2]
                if turn > 0:    # the first compiles
                    least[k, epochs] = min(taken, least.get((k, epochs), taken))
    return (least[1, 3] - least[1, 1]) / (least[0, 3] - least[0, 1])


def run(folder, rows, label, name, seed, steps):
    """Train one row on one set as long as the first takes for so many steps; return errors on its tests and times."""
    data, first = SETS[name], next(iter(rows))
    train = fd.read_frames(_file(folder, data.train))

    def maker(label):
        return lambda: fd.Potential(descriptor(*rows[label], name, train, seed), seed=seed)

    ratio = 1.0 if label == first else cost(maker(label), maker(first), train, seed)
    potential, _, taken = trained(maker(label), train, seed, steps=max(1, round(steps / ratio)))
    out = {
        "set": name, "label": label, "seed": seed, "steps_of_first": steps, "cost_of_step": ratio,
        "steps": round(steps / ratio), "train_cpu_s": taken, "parameters": potential.n_parameters,
        "cutoff": potential.descriptor.cutoff, "version": fd.__version__, "tests": {},
    }  # fmt: skip
    for test, file in data.tests.items():
        frames = fd.read_frames(_file(folder, file))
        out["tests"][test] = errors(potential, frames, data)
        out.setdefault("us_per_atom", speed(potential, frames))
    return out


def best(points):
    """Return the points (cost, error) that no other equals or betters in both, by rising cost."""
    kept = []
    for cost, error in sorted(points):
        if not kept or error < kept[-1][1]:
            kept.append((cost, error))
    return kept


def table(results, rows):
    """Markdown: means over seeds, with standard deviations where there are several."""
    lines = ["| set, test | model | seeds | energy | forces, meV/Å | steps | cost of a step | µs/atom |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for name, data in SETS.items():
        unit = "meV/atom" if data.per_atom else "meV"
        for test in data.tests:
            for label in rows:
                own = [r for r in results if (r["set"], r["label"]) == (name, label)]
                if own:
                    e, f = (spread([r["tests"][test][kind] for r in own]) for kind in ("energy", "forces"))
                    means = [np.mean([r[key] for r in own]) for key in ("steps", "cost_of_step", "us_per_atom")]
                    lines.append(
                        f"| {name}, {test} ({data.measure.upper()}) | {label} | {len(own)} | {e} {unit} | {f} "
                        f"| {means[0]:.0f} | {means[1]:.2f} | {means[2]:.1f} |"
                    )
    return "\n".join(lines) + "\n"


def draw(results, rows, path):
    """Errors of forces against microseconds per atom, a panel for each test; the best of each cost are joined."""
    there = {r["set"] for r in results}
    panels = [(name, test) for name, data in SETS.items() if name in there for test in data.tests]
    fig = new_figure(9.6, 2.9 * -(-len(panels) // 3))
    axes = fig.subplots(-(-len(panels) // 3), min(3, len(panels)), squeeze=False).ravel()
    for ax, (name, test) in zip(axes, panels, strict=False):
        own = [r for r in results if r["set"] == name]
        points = [(r["us_per_atom"], r["tests"][test]["forces"]) for r in own]
        ax.plot(*np.array(best(points)).T, color="#bbbbbb", lw=1, zorder=0)
        for k, label in enumerate(rows):
            of_label = [p for p, r in zip(points, own, strict=True) if r["label"] == label]
            ax.plot(*np.array(of_label).reshape(-1, 2).T, "os^vDP"[k % 6], color=f"C{k}", markersize=5, label=label)
        ax.set(xscale="log", yscale="log", xlabel="µs/atom", title=f"{name}, {test}")
        ax.set_ylabel(f"forces, {SETS[name].measure.upper()}, meV/Å", fontsize=8)
    for ax in axes[len(panels) :]:
        ax.axis("off")
    axes[0].legend(frameon=False, fontsize=6)
    save_figure(fig, path)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(ROWS))
    parser.add_argument("folder")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), help="all six, or 3bpa and water for messages")
    parser.add_argument("--rows", nargs="+", metavar="LABEL", help="some of the table's (default all)")
    parser.add_argument("--seeds", type=int, default=1, help="0, 1, .. (default 1 of them)")
    parser.add_argument("--steps", type=int, default=2000, help="of the first row (default 2000)")
    parser.add_argument("--out", help="without an ending; bench/results/combinations-WHAT")
    args = parser.parse_args(arguments)
    out = Path(args.out or f"bench/results/combinations-{args.what}")
    out.parent.mkdir(parents=True, exist_ok=True)
    path, rows = out.with_name(out.name + ".json"), ROWS[args.what]
    if unknown := [label for label in args.rows or () if label not in rows]:
        parser.error(f"there is no row {unknown[0]!r}; there are {', '.join(rows)}")
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    if any(r["steps_of_first"] != args.steps for r in results):
        parser.error(f"{path} has runs of other --steps; give another --out")
    for seed in range(args.seeds):
        for name in args.sets or SETS_OF[args.what]:
            for label in args.rows or rows:
                if any((r["set"], r["label"], r["seed"]) == (name, label, seed) for r in results):
                    continue
                results.append(run(args.folder, rows, label, name, seed, args.steps))
                # A run that is stopped leaves what is done.
                path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
                out.with_name(out.name + ".md").write_text(table(results, rows), encoding="utf-8")
    draw(results, rows, out.with_name(out.name + ".png"))
    print(table(results, rows))


if __name__ == "__main__":
    main()
