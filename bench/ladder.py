"""The ladder from classical potentials to networks of spline filters, on the mlearn sets, official split.

    python -m bench.ladder FOLDER --elements Li Si --time-limit 150
    python -m bench.ladder FOLDER --elements Si --rungs pair s-nnp      # others keep what they had in OUT.json
    python -m bench.ladder --draw                                       # the table and the figure again

FOLDER holds <element>_train.extxyz.gz and <element>_test.extxyz.gz. Every rung trains for about as many seconds of
processor time, from the best pair potential (start = "linear"); epochs follow from a few that are timed. Writes
OUT.json after each rung, then prints a table and draws OUT.png: errors on the test frames against the number of
parameters, and against the time that energies and forces take (one thread, float32, neighbour list given).
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import fastdesc as fd
from fastdesc.backend import threads as parallel
from fastdesc.geometry import pair_vectors
from fastdesc.hdf5.files import write_text

CUTOFFS = {"cutoff": 5.5, "triplet_cutoff": 4.5, "r_min": 1.5}
RUNGS = {    # name: (pair filters, triplet filters, arguments of Potential)
    "pair": (1, 0, {"network": "none", "direct": True}),
    "eam": (2, 0, {"network": "spline", "direct": ["pair_0"], "bias": False}),
    "s-meam": (2, 1, {"network": "spline", "direct": ["pair_0"], "bias": False}),
    "s-meam x4": (3, 4, {"network": "spline", "hidden": (4,), "direct": ["pair_0"], "bias": False}),
    "s-nnp small": (3, 4, {"hidden": (16, 16), "direct": ["pair_0"], "bias": False}),
    "s-nnp": (4, 8, {"hidden": (32, 32), "direct": True, "bias": False}),
}
WORDS = {
    "pair": "pair potential",
    "eam": "EAM: φ + U(ρ)",
    "s-meam": "s-MEAM: φ + U(ρ + f f g)",
    "s-meam x4": "four embeddings U of 2 + 4 filters",
    "s-nnp small": "s-NNP, 3 + 4 filters, net 16-16",
    "s-nnp": "s-NNP, 4 + 8 filters, net 32-32",
}
PUBLISHED = {    # mean absolute errors, meV/atom and eV/Å
    "Li": {"MTP": (0.49, 0.0101), "linear 2+3-body splines": (0.55, 0.0109), "NNP": (0.77, 0.0168),
           "s-MEAM 2021": (1.08, 0.0394)},
    "Si": {"MTP": (2.31, 0.0560), "linear 2+3-body splines": (5.35, 0.0983), "NNP": (5.60, 0.1086),
           "s-MEAM 2021": (5.22, 0.1717)},
}  # fmt: skip
COLOURS = ("#999999", "#56B4E9", "#0072B2", "#009E73", "#E69F00", "#D55E00")
TIMED_ATOMS = 256


def model(element, rung, seed=0):
    """Return the untrained potential of a rung."""
    n_pair, n_triplet, arguments = RUNGS[rung]
    d = fd.SplineFilters(species=[element], n_pair=n_pair, n_triplet=n_triplet, seed=seed, **CUTOFFS)
    return fd.Potential(d, seed=seed, **arguments)


def train(element, rung, frames, limit, settings):
    """Train one rung for about `limit` seconds of processor time; return the potential and its history.

    The schedule ends with the epochs, so a busy machine makes a run longer and not another one.
    """
    used = []
    for epochs in (1, 1, 6):    # the first compiles
        begin = time.process_time()
        fd.train(model(element, rung), frames, epochs=epochs, progress=False, **settings)
        used.append((time.process_time() - begin) / parallel.n_threads())
    each = max((used[2] - used[1]) / 5, 1e-3)
    potential = model(element, rung)
    settings = {"epochs": max(3, int(limit / each)), "time_limit": 4 * limit, **settings}
    return potential, fd.train(potential, frames, progress=False, **settings)


def errors(potential, frames):
    """Return mean absolute and root mean square errors: meV/atom and eV/Å."""
    out = potential.predict(frames)
    counts = np.array([len(a) for a in frames])
    energy = 1e3 * (out.energy - np.array([a.get_potential_energy() for a in frames])) / counts
    force = out.forces - np.concatenate([a.get_forces() for a in frames])
    return {
        "energy_mae": float(abs(energy).mean()), "energy_rmse": float((energy**2).mean() ** 0.5),
        "forces_mae": float(abs(force).mean()), "forces_rmse": float((force**2).mean() ** 0.5),
    }  # fmt: skip


def microseconds_per_atom(potential, atoms, seconds=1.0):
    """Return the time of energies and forces of a periodic structure of TIMED_ATOMS atoms or more; one thread."""
    atoms = atoms.copy()
    while len(atoms) < TIMED_ATOMS:
        atoms = atoms.repeat(np.eye(3, dtype=int)[int(np.argmin(atoms.cell.lengths()))] + 1)
    structures = fd.Structures.from_ase(atoms)
    pairs = fd.Pairs.find(structures, potential.descriptor.cutoff)
    potential_in = potential.model("float32")
    threads = parallel.n_threads()
    parallel.set_threads(1)
    try:
        best, end = np.inf, time.perf_counter() + seconds
        potential.evaluate(structures, pairs, potential_in)
        while time.perf_counter() < end:
            begin = time.perf_counter()
            potential.evaluate(structures, pairs, potential_in)
            best = min(best, time.perf_counter() - begin)
    finally:
        parallel.set_threads(threads)
    rij = pair_vectors(structures.positions, structures.cells, pairs, np.float32)
    neighbours = [int(((rij**2).sum(0) < r**2).sum()) / len(atoms) for r in (CUTOFFS["cutoff"],
                                                                         CUTOFFS["triplet_cutoff"])]  # fmt: skip
    return {"us_per_atom": 1e6 * best / len(atoms), "atoms": len(atoms), "neighbours": neighbours}


def climb(options):
    """Train the rungs asked for, on top of what OUT.json holds; return all of it."""
    path = Path(f"{options.out}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = json.loads(path.read_text()) if path.exists() else []
    settings = {"start": options.start, "seed": options.seed, "curvature": options.curvature}
    for element in options.elements:
        frames = {s: fd.read_frames(Path(options.folder) / f"{element}_{s}.extxyz.gz") for s in ("train", "test")}
        for rung in options.rungs:
            potential, history = train(element, rung, frames["train"], options.time_limit, settings)
            row = {
                "element": element, "rung": rung, "parameters": potential.n_parameters, "epochs": len(history),
                "seconds": history.rows[-1]["seconds"], "threads": parallel.n_threads(), **settings,
                **errors(potential, frames["test"]), **microseconds_per_atom(potential, frames["test"][0]),
            }  # fmt: skip
            rows = [r for r in rows if (r["element"], r["rung"]) != (element, rung)] + [row]
            rows.sort(key=lambda r: (r["element"], list(RUNGS).index(r["rung"])))
            write_text(path, json.dumps(rows, indent=1) + "\n")
            print(f"{element} {rung}: {row['forces_mae']:.4f} eV/Å, {row['energy_mae']:.2f} meV/atom", flush=True)
            if options.models:
                Path(options.models).mkdir(parents=True, exist_ok=True)
                potential.save(Path(options.models) / f"{element}-{rung.replace(' ', '-')}.h5")
    return rows


def table(rows):
    """Return rows and published errors as Markdown."""
    lines = ["| element | rung | parameters | µs/atom | energy MAE, RMSE, meV/atom | force MAE, RMSE, eV/Å | epochs |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for element in dict.fromkeys(r["element"] for r in rows):
        lines += [
            f"| {element} | {WORDS[r['rung']]} | {r['parameters']} | {r['us_per_atom']:.2f} | {r['energy_mae']:.2f} "
            f"{r['energy_rmse']:.2f} | {r['forces_mae']:.4f} {r['forces_rmse']:.4f} | {r['epochs']} |"
            for r in rows
            if r["element"] == element
        ]
        lines += [
            f"| {element} | {name}, published | | | {energy:.2f} | {force:.4f} | |"
            for name, (energy, force) in PUBLISHED.get(element, {}).items()
        ]
    return "\n".join(lines)


def draw(rows, path):
    """Draw the force error against parameters and against time, a row of panels per element."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    elements = list(dict.fromkeys(r["element"] for r in rows))
    fig = Figure(figsize=(8.4, 2.9 * len(elements) + 0.5), layout="constrained", dpi=140)
    for axes, element in zip(fig.subplots(len(elements), 2, squeeze=False), elements, strict=True):
        own = [r for r in rows if r["element"] == element]
        for ax, key, label in zip(axes, ("parameters", "us_per_atom"), ("parameters", "µs/atom"), strict=True):
            x, y = [r[key] for r in own], [1e3 * r["forces_mae"] for r in own]
            ax.plot(x, y, "-", color="#cccccc", lw=1, zorder=1)
            for r, a, b in zip(own, x, y, strict=True):
                colour = COLOURS[list(RUNGS).index(r["rung"])]
                ax.plot(a, b, "o", color=colour, ms=6, label=WORDS[r["rung"]], zorder=3)
            ax.set(xscale="log", yscale="log")
            for name, (_, force) in PUBLISHED.get(element, {}).items():
                ax.axhline(1e3 * force, color="#888888", lw=0.7, ls=":", zorder=0)
                ax.text(1.0, 1e3 * force, name, transform=ax.get_yaxis_transform(), fontsize=6.5, color="#666666",
                        ha="right", va="bottom")  # fmt: skip
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_major_formatter(StrMethodFormatter("{x:g}"))
                axis.set_minor_formatter(NullFormatter() if axis is ax.xaxis else StrMethodFormatter("{x:g}"))
            ax.tick_params(labelsize=8, which="both")
            ax.grid(True, which="major", lw=0.3, color="#dddddd")
            for side in ("top", "right"):
                ax.spines[side].set_visible(False)
            ax.set_xlabel(label, fontsize=9)
        axes[0].set_ylabel(f"{element}: test force MAE (meV/Å)", fontsize=9)
    handles, labels = fig.axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    fig.savefig(path)


def arguments(argv=None):
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="folder of the mlearn sets")
    parser.add_argument("--elements", nargs="+", default=["Li", "Si"])
    parser.add_argument("--rungs", nargs="+", default=list(RUNGS), choices=list(RUNGS), metavar="RUNG",
                        help=f"of {', '.join(RUNGS)}")  # fmt: skip
    parser.add_argument("--time-limit", type=float, default=150, help="seconds of training per rung")
    parser.add_argument("--start", choices=("linear", "random"), default="linear")
    parser.add_argument("--curvature", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="bench/results/ladder", help="without suffix")
    parser.add_argument("--models", metavar="FOLDER", help="also keep the models")
    parser.add_argument("--draw", action="store_true", help="train nothing")
    options = parser.parse_args(argv)
    if not options.draw and options.folder is None:
        parser.error("name the folder of the mlearn sets")
    return options


def main(argv=None):
    """Train, print and draw."""
    options = arguments(argv)
    rows = json.loads(Path(f"{options.out}.json").read_text()) if options.draw else climb(options)
    print(table(rows))
    draw(rows, f"{options.out}.png")
    return rows


if __name__ == "__main__":
    main()
