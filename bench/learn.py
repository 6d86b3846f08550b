"""Labels that a potential needs: the loop's selection against random selection, on Cu-Au crystals labelled by EMT.

    python -m bench.learn --seeds 0 1 2 --methods uncertain random
    python -m bench.learn --folder runs        keeps the loops there, and goes on with them

The candidates are structures of EMT dynamics from 300 to 1200 K: copper, gold and an alloy of both, cells with a
vacancy, and slabs, half of them cold, and alike, as trajectories are. Every loop begins with 20 of them from 300 K and
chooses from the same set; the methods differ in nothing else. Errors are those of forces on structures of other
trajectories, as many of each kind and temperature. The answer is how many labels a method needs for the error
that random selection has at its end. OUT.json gets all of it, OUT.png the figure.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

import fastdesc as fd
from fastdesc.analysis.plots import new_figure, plain_ticks, save_figure, tidy
from fastdesc.dynamics import langevin, thermal_momenta
from fastdesc.learn.files import read_table
from fastdesc.learn.loop import Learner
from fastdesc.learn.settings import METHODS, Explore, Label, Loop, Select, Stop
from fastdesc.training.settings import Settings

COMPOSITIONS = (0.0, 0.5, 1.0)
"""Of gold."""
KINDS = ("bulk", "vacancy", "slab")
TEMPERATURES = (300, 300, 600, 1200)
"""K: of each kind and composition; most are cold."""
BETWEEN = 20
"""Steps of 5 fs between structures."""
COLOURS = {"uncertain": "#0072B2", "random": "#D55E00", "diverse": "#009E73", "typical": "#CC79A7"}


def structure(kind, gold, rng):
    """A crystal of about 32 atoms with a share of gold, at about its lattice constant."""
    a = 3.61 + 0.47 * gold
    if kind == "slab":
        atoms = fcc111("Cu", (3, 2, 4), a=a, vacuum=6.0, orthogonal=True)
        atoms.pbc = True
    else:
        atoms = bulk("Cu", "fcc", a=a, cubic=True) * 2
    chosen = rng.permutation(len(atoms))[: round(gold * len(atoms))]
    atoms.numbers[chosen] = 79
    if kind == "vacancy":
        del atoms[int(rng.integers(len(atoms)))]
    return atoms


def frames(per_trajectory, seed, temperatures=None):
    """Labelled structures of EMT dynamics: so many of each trajectory."""
    rng, found = np.random.default_rng(seed), []
    for kind in KINDS:
        for gold in COMPOSITIONS:
            for temperature in temperatures or TEMPERATURES:
                atoms = structure(kind, gold, rng)
                atoms.calc = EMT()
                thermal_momenta(atoms, 2 * temperature, rng)    # half of it becomes potential energy
                dynamics = langevin(atoms, 5.0, temperature, 100.0, rng)
                dynamics.run(2 * BETWEEN)
                for _ in range(per_trajectory):
                    dynamics.run(BETWEEN)
                    found.append(_labelled(atoms))
    return found


def _labelled(atoms):
    out = atoms.copy()
    out.set_momenta(np.zeros((len(out), 3)))
    out.calc = SinglePointCalculator(out, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
    return out


def loop(method, seed, sizes):
    """Settings of a loop."""
    common = {"seed": seed, "batch_atoms": 128, "stress_weight": 0.0}
    return Loop(
        Explore(frames="the candidates", capture_above=0.0), Select(sizes.number, method),
        Label("ase.calculators.emt:EMT", workers=0, largest_force=1e6),
        Stop(sizes.rounds, grade=0.0, force_uncertainty=0.0),
        Settings(steps=sizes.steps, **common).as_dict(), Settings(steps=sizes.further, **common).as_dict(),
        anew=sizes.anew, valid_fraction=0.1, seed=seed, device="cpu",
    )  # fmt: skip


def run(folder, method, seed, sizes, candidates, test, say=print):
    """Run a loop; return its labels and errors, round by round."""
    rng = np.random.default_rng(seed)
    start = frames(2, 1000 + seed, (300, 300))
    start = [start[k] for k in rng.permutation(len(start))[: sizes.start]]

    def begin(_):
        d = fd.GaussianMoments(species=["Cu", "Au"], cutoff=4.5, n_radial=4, n_basis=6, seed=seed)
        return fd.Potential(d, hidden=(32, 32), seed=seed)

    sets = {"train": start, "test": test, "pool": candidates}
    told = {"bench": {**vars(sizes), "method": method, "seed": seed}}
    cpu = time.process_time()
    Learner(folder, loop(method, seed, sizes), begin, sets, told, folder.parent, False, False, lambda text: None).run()
    rows = [read_table(path) for path in sorted(folder.glob("round-*/round.json"))]
    rows = [row for row in rows if "n_train" in row]
    out = {
        "method": method, "seed": seed, "labels": [row["n_train"] + row["n_valid"] for row in rows],
        **{f"{name}_{kind}": [row["errors"][name][kind] for row in rows]
           for name in ("energy", "forces") for kind in ("mae", "rmse")},
    }  # fmt: skip
    say(f"{method}, seed {seed}: forces MAE {1000 * out['forces_mae'][0]:.1f} meV/Å with {out['labels'][0]} labels, "
        f"{1000 * out['forces_mae'][-1]:.1f} with {out['labels'][-1]}; {time.process_time() - cpu:.0f} s of processor",
        flush=True)    # fmt: skip
    return out


def needed(labels, errors, target):
    """Labels at which errors first reach a target, between rounds by their logarithms; None where they do not."""
    for k in range(1, len(labels)):
        if errors[k] <= target:
            if errors[k - 1] <= target:
                return float(labels[k - 1])
            share = np.log(errors[k - 1] / target) / np.log(errors[k - 1] / errors[k])
            return float(labels[k - 1] + share * (labels[k] - labels[k - 1]))
    return None


def answers(results):
    """For each method: labels for the last error of random selection, over the labels which that needed, by seed."""
    out = {}
    for kind in ("forces_mae", "forces_rmse"):
        for r in results:
            random = next((o for o in results if o["method"] == "random" and o["seed"] == r["seed"]), None)
            if random is None or r is random:
                continue
            found = needed(r["labels"], r[kind], random[kind][-1])
            share = None if found is None else found / random["labels"][-1]
            out.setdefault(kind, {}).setdefault(r["method"], {})[str(r["seed"])] = share
    return out


def figure(results, out):
    """Draw the errors of forces against labels: each seed thin, the geometric mean thick."""
    fig = new_figure(7.2, 3.2)
    for ax, kind in zip(fig.subplots(1, 2), ("mae", "rmse"), strict=True):
        low, high = np.inf, 0.0
        for method in dict.fromkeys(r["method"] for r in results):
            own = [r for r in results if r["method"] == method]
            curves = 1000 * np.array([r[f"forces_{kind}"] for r in own])
            for r, curve in zip(own, curves, strict=True):
                ax.plot(r["labels"], curve, color=COLOURS[method], lw=0.6, alpha=0.5)
            ax.plot(own[0]["labels"], np.exp(np.log(curves).mean(0)), "o-", color=COLOURS[method], ms=3, label=method)
            low, high = min(low, curves.min()), max(high, curves.max())
        ax.set_yscale("log")
        plain_ticks(ax, low, high)
        ax.set_xlabel("labels", fontsize=9)
        ax.set_ylabel(f"force {kind.upper()} (meV/Å)", fontsize=9)
        ax.grid(True, which="both", lw=0.3, color="#dddddd")
        tidy(ax)
    ax.legend(frameon=False, fontsize=8)
    return save_figure(fig, out)


def main(words=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seeds", type=int, nargs="+", default=[0])
    p.add_argument("--methods", nargs="+", default=["uncertain", "random"], choices=METHODS)
    for name, default, words_ in (
        ("start", 20, "labels to begin with"), ("number", 10, "labels in a round"), ("rounds", 8, ""),
        ("steps", 2000, "of the first training"), ("further", 1000, "steps of training in a round"),
        ("per-trajectory", 8, "candidates of each trajectory"),
    ):  # fmt: skip
        p.add_argument(f"--{name}", type=int, default=default, help=f"{words_} (default: %(default)s)")
    p.add_argument("--anew", action="store_true", help="train an untrained potential in each round")
    p.add_argument("--folder", help="where loops are kept, and gone on with (default: a temporary one)")
    p.add_argument("--out", default="bench/results/learn.json")
    args = p.parse_args(words)
    out = Path(args.out)
    sizes = argparse.Namespace(**{k: vars(args)[k] for k in ("start", "number", "rounds", "steps", "further", "anew")})
    candidates, test = frames(args.per_trajectory, 0), frames(2, 1)
    print(f"{len(candidates)} candidates, {len(test)} test structures", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.folder or temporary)
        results = []
        for seed in args.seeds:
            for method in args.methods:
                place = folder / f"{method}-{seed}"
                place.mkdir(parents=True, exist_ok=True)
                results.append(run(place, method, seed, sizes, candidates, test))
                record = {"version": fd.__version__, "settings": vars(sizes), "candidates": len(candidates),
                          "test": len(test), "share_of_labels": answers(results), "results": results}    # fmt: skip
                out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    figure(results, out.with_suffix(".png"))
    for kind, methods in record["share_of_labels"].items():
        for method, shares in methods.items():
            told = ", ".join("more than all" if s is None else f"{100 * s:.0f} %" for s in shares.values())
            print(f"{kind}: {method} needs {told} of the labels of random selection")
    print(out)


if __name__ == "__main__":
    main()
