"""What the linear start of spline filters saves: learning curves with and without it, on the mlearn sets.

    python -m bench.linear_start FOLDER --elements Li Si --epochs 60

The two runs of an element differ in `start` alone. Writes OUT.json, and OUT.png: the force error on the official test
frames against the epoch. The test frames are looked at in every epoch and decide nothing.
"""

import argparse
import json
from pathlib import Path

import fastdesc as fd
from bench.ladder import RUNGS, model
from fastdesc.backend.threads import n_threads

STYLES = {"random": ("--", "#555555"), "linear": ("-", "#0072B2")}


def curves(options):
    """Train both ways; return the record that OUT.json gets, forces in meV/Å and energies in meV/atom."""
    record = {"rung": options.rung, "epochs": options.epochs, "threads": n_threads(), "seed": options.seed, "runs": []}
    for element in options.elements:
        train, test = (fd.read_frames(Path(options.folder) / f"{element}_{s}.extxyz.gz") for s in ("train", "test"))
        for start in STYLES:
            potential = model(element, options.rung, options.seed)
            history = fd.train(
                potential, train, test, epochs=options.epochs, start=start, seed=options.seed, progress=False
            )
            run = {"element": element, "start": start, "epoch": history["epoch"]}
            run |= {f"{name}_mae": [1e3 * x for x in history[f"valid_{name}_mae"]] for name in ("forces", "energy")}
            record["runs"].append(run)
            at = [run["forces_mae"][k - 1] for k in (1, 1 + options.epochs // 4, options.epochs)]
            words = ", ".join(f"{x:.1f}" for x in at)
            print(f"{element}, {start} start: {words} meV/Å after the first epoch, a quarter and all", flush=True)
    return record


def draw(record, path):
    """Draw the force errors, a panel per element."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    elements = list(dict.fromkeys(run["element"] for run in record["runs"]))
    fig = Figure(figsize=(3.9 * len(elements), 3.2), layout="constrained", dpi=140)
    for ax, element in zip(fig.subplots(1, len(elements), squeeze=False)[0], elements, strict=True):
        for run in record["runs"]:
            if run["element"] == element:
                style, colour = STYLES[run["start"]]
                ax.plot(run["epoch"], run["forces_mae"], style, color=colour, lw=1.5, label=f"{run['start']} start")
        ax.set(xlabel="epoch", yscale="log", title=f"{element}, {record['rung']}")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.grid(True, which="both", lw=0.3, color="#dddddd")
    fig.axes[0].set_ylabel("test force MAE (meV/Å)")
    fig.axes[0].legend(frameon=False, fontsize=9)
    fig.savefig(path)


def main(argv=None):
    """Train, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--elements", nargs="+", default=["Li", "Si"])
    parser.add_argument("--rung", default="s-nnp", choices=list(RUNGS), help="of bench.ladder")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="bench/results/linear-start", help="without suffix")
    options = parser.parse_args(argv)
    record = curves(options)
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    Path(f"{options.out}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    draw(record, f"{options.out}.png")
    return record


if __name__ == "__main__":
    main()
