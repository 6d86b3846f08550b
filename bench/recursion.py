"""What the recursion of embedded densities buys: learning curves, and environments that three bodies cannot tell apart.

    python -m bench.recursion curves --data FOLDER --out bench/results/recursion
    python -m bench.recursion degenerate --out docs/guides/recursion-degenerate.png

`curves` trains T = 0, 1, 2, 3 with the same settings on part of FOLDER/train.extxyz.gz, and tests on frames of
FOLDER/valid.extxyz.gz that training has not seen; it writes OUT.png, the force error on the test frames against the
epoch, OUT.json, and a table of means over seeds with the standard deviation of one run. `degenerate` draws two
environments of C with the same distances and angles, and their features.
"""

import argparse
import json
from itertools import product
from pathlib import Path

import numpy as np
from ase import Atoms

import fastdesc as fd
from fastdesc.backend.threads import n_threads

COLOURS = ("#555555", "#0072B2", "#009E73", "#D55E00")
STYLES = ("--", "-", "-.", ":")
CORNERS = ((0, 1, 3, 4), (0, 1, 2, 5))
RADIUS = 1.3  # Å
ERRORS = ("forces_mae", "forces_rmse", "energy_mae")


def model(species, iterations, options, seed):
    """Return an untrained potential: the same for every T but for the networks of the iterations."""
    d = fd.EmbeddedDensity(
        species=species, cutoff=options.cutoff, iterations=iterations, hidden=(options.width,) * 2, seed=seed
    )
    return fd.Potential(d, hidden=(options.width,) * 2, seed=seed)


def spread(frames, n):
    """Return n frames, evenly spaced."""
    return [frames[k] for k in np.linspace(0, len(frames) - 1, min(n, len(frames))).astype(int)]


def curves(options):
    """Train every T with every seed, return the record that OUT.json gets: errors in meV/Å and meV/atom."""
    train = spread(fd.read_frames(Path(options.data) / "train.extxyz.gz"), options.train)
    test = spread(fd.read_frames(Path(options.data) / "valid.extxyz.gz"), options.test)
    species = sorted(set(np.concatenate([a.get_chemical_symbols() for a in train])))
    settings = {"epochs": options.epochs, "dtype": "float32"}
    settings |= {name: getattr(options, name) for name in ("batch_atoms",) if getattr(options, name)}
    record = {
        "data": Path(options.data).name, "train_frames": len(train), "test_frames": len(test), "species": species,
        "cutoff": options.cutoff, "width": options.width, "settings": settings, "threads": n_threads(), "runs": [],
    }  # fmt: skip
    # Seeds outside: what is done when time runs out is a fair comparison.
    for seed, iterations in product(options.seeds, options.iterations):
        potential = model(species, iterations, options, seed)
        # Test frames are looked at in every epoch and decide nothing: what counts is the last epoch, not the best.
        history = fd.train(potential, train, test, progress=False, seed=seed, **settings)
        run = {
            "iterations": iterations, "seed": seed, "parameters": potential.n_parameters,
            "seconds": history.rows[-1]["seconds"], "epoch": history["epoch"],
            "forces_mae_by_epoch": [1e3 * x for x in history["valid_forces_mae"]],
            "train_forces_mae": 1e3 * history["train_forces_mae"][-1],
            **{name: 1e3 * history[f"valid_{name}"][-1] for name in ERRORS},
        }  # fmt: skip
        record["runs"].append(run)
        print(
            f"T = {iterations}, seed {seed}: {run['forces_mae']:.1f} meV/Å mean, {run['forces_rmse']:.1f} RMS; "
            f"{run['energy_mae']:.2f} meV/atom; {run['seconds']:.0f} s",
            flush=True,
        )
    return record


def summary(record):
    """Return {T: {error: (mean over seeds, standard deviation of one)}}; the deviation is None for one seed."""
    found = {}
    for t in sorted({run["iterations"] for run in record["runs"]}):
        of_t = [[run[name] for name in ERRORS] for run in record["runs"] if run["iterations"] == t]
        spreads = np.std(of_t, axis=0, ddof=1).tolist() if len(of_t) > 1 else [None] * len(ERRORS)
        found[t] = dict(zip(ERRORS, zip(np.mean(of_t, axis=0).tolist(), spreads, strict=True), strict=True))
    return found


def table(record):
    """Return the summary as a table in Markdown."""
    lines = ["| T | forces, mean absolute, meV/Å | root mean square | energies, meV/atom |", "|---|---|---|---|"]
    for t, errors in summary(record).items():
        cells = [f"{mean:.3g}" + (f" ± {s:.1g}" if s is not None else "") for mean, s in errors.values()]
        lines.append(f"| {t} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw_curves(record, path):
    """Draw the force error on the test frames against the epoch: a line for each T and seed."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    fig = Figure(figsize=(5.2, 3.6), layout="constrained", dpi=130)
    ax = fig.subplots()
    means, named = summary(record), set()
    for run in record["runs"]:
        t = run["iterations"]
        label = None if t in named else f"T = {t}: {means[t]['forces_mae'][0]:.0f} meV/Å at the end"
        named.add(t)
        ax.plot(run["epoch"], run["forces_mae_by_epoch"], STYLES[t % 4], color=COLOURS[t % 4], label=label, lw=1.2)
    ax.set(xlabel="epoch", ylabel="test force error, mean absolute (meV/Å)", yscale="log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_title(f"{record['data']}, {record['train_frames']} training frames", fontsize=10)
    ax.grid(True, which="both", lw=0.3, color="#dddddd")
    ax.legend(frameon=False, fontsize=9)
    fig.savefig(path)


def pair():
    """Return the two environments: C in the middle of four H at corners of an octagon."""
    out = []
    for corners in CORNERS:
        angle = np.array(corners) * np.pi / 4
        ring = RADIUS * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
        out.append(Atoms("CH4", positions=[(0, 0, 0), *ring]))
    return out


def centre_features(iterations, n=24):
    """Features of C in both environments; networks of iterations are moved from the start, where they add nothing."""
    d = fd.EmbeddedDensity(species=["C", "H"], cutoff=3.0, n_radial=4, n_features=n, iterations=iterations)
    rng = np.random.default_rng(1)
    changed = {k: 0.02 * rng.standard_normal(x.shape) for k, x in d.parameters.items() if k.startswith("network")}
    d.set_parameters(**{k: x + changed.get(k, 0) for k, x in d.parameters.items()})
    return [d.compute(atoms)[0] for atoms in pair()]


def draw_degenerate(path):
    """Draw both environments and the features of C without and with one iteration; return the largest differences."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(9.2, 2.7), layout="constrained", dpi=130)
    axes = fig.subplots(1, 4, width_ratios=(1, 1, 1.7, 1.7))
    for ax, atoms, colour in zip(axes, pair(), COLOURS[1::2], strict=False):
        x, y = atoms.positions[:, 0], atoms.positions[:, 1]
        ring = np.linspace(0, 2 * np.pi, 9)
        ax.plot(RADIUS * np.cos(ring), RADIUS * np.sin(ring), ":", color="#bbbbbb", lw=1)
        for k in range(1, 5):
            ax.plot([0, x[k]], [0, y[k]], color="#999999", lw=1)
        ax.scatter(x[1:], y[1:], s=90, color=colour, zorder=3)
        ax.scatter(0, 0, s=160, color="black", zorder=3)
        ax.set(xlim=(-1.8, 1.8), ylim=(-1.8, 1.8), aspect="equal")
        ax.axis("off")
    differences = {}
    for ax, t in zip(axes[2:], (0, 1), strict=True):
        one, two = centre_features(t)
        differences[t] = float(abs(one - two).max() / abs(one).max())
        at = np.arange(len(one))
        ax.bar(at - 0.2, one, 0.4, color=COLOURS[1])
        ax.bar(at + 0.2, two, 0.4, color=COLOURS[3])
        ax.set_title(f"features of C, T = {t}: differ by {differences[t]:.0e}", fontsize=9)
        ax.set_xlabel("feature", fontsize=9)
        ax.tick_params(labelsize=8)
    fig.savefig(path)
    return differences


def arguments(argv=None):
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    c = commands.add_parser("curves")
    c.add_argument("--data", required=True, help="folder with train.extxyz.gz and valid.extxyz.gz")
    c.add_argument("--out", default="bench/results/recursion", help="without suffix")
    c.add_argument("--iterations", type=int, nargs="+", default=[0, 1, 2, 3])
    c.add_argument("--train", type=int, default=60, help="frames")
    c.add_argument("--test", type=int, default=20, help="frames")
    c.add_argument("--epochs", type=int, default=40)
    c.add_argument("--batch-atoms", type=int, help="atoms per step, instead of the default")
    c.add_argument("--cutoff", type=float, default=5.0, help="Å")
    c.add_argument("--width", type=int, default=64, help="of the two hidden layers of all networks")
    c.add_argument("--seeds", type=int, nargs="+", default=[0])
    g = commands.add_parser("degenerate")
    g.add_argument("--out", default="bench/results/recursion-degenerate.png")
    return parser.parse_args(argv)


def main(argv=None):
    """Run one of the two commands."""
    options = arguments(argv)
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    if options.command == "degenerate":
        differences = draw_degenerate(options.out)
        for t, difference in differences.items():
            print(f"T = {t}: features of C differ by {difference:.1e} of the largest")
        return differences
    record = curves(options)
    Path(f"{options.out}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    draw_curves(record, f"{options.out}.png")
    print(table(record))
    print(f"written to {options.out}.json and .png")
    return record


if __name__ == "__main__":
    main()
