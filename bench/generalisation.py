"""What closes the gap between errors on training frames and on others: late averages, decay, smoothness, noise.

    NUMBA_NUM_THREADS=1 python -m bench.generalisation FOLDER --sets Si Ni 3bpa --seeds 3

FOLDER is that of bench.accuracy. Every run trains with defaults but for one thing:

    weight decay x     the setting, on the weights of networks
    smooth radial x    beta of Gaussian moments decays, decoupled, by x (n / n_max)^4 times its rate: basis function n
                       bends as n^2
    feature noise x    one draw of x times a Gaussian is added to the scaled features of all atoms in each step

and what is kept of a run is looked at four ways: the running average (ema) of the best epoch, that of the last epoch,
the mean over the late epochs, and what training chooses among the first and the third by validation. Written are
OUT.json, which a run that is stopped leaves as far as it came, and OUT.md.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import fastdesc as fd
from bench.accuracy import _file, errors, spread
from bench.accuracy_sets import SETS
from fastdesc.backend.arrays import to_host
from fastdesc.cli.commands import _setting
from fastdesc.io.sources import elements
from fastdesc.networks.scaler import FeatureScaler
from fastdesc.training import trainer as loop
from fastdesc.training import trainer_for

VARIANTS = {
    "defaults": {},
    "weight decay 0.1": {"weight_decay": 0.1},
    "weight decay 1": {"weight_decay": 1.0},
    "smooth radial 1": {"smooth": 1.0},
    "feature noise 0.1": {"noise": 0.1},
}
KEPT = ("chosen", "best epoch", "last epoch", "late mean")


def run(folder, name, seed, steps, descriptor, smooth=0.0, noise=0.0, **settings):
    """Train on one set; return errors on its tests by what is kept."""
    data = SETS[name]
    train = fd.read_frames(_file(folder, data.train))
    potential = fd.Potential(fd.GaussianMoments(species=elements(train), seed=seed, **descriptor), seed=seed)
    start = time.process_time()
    trainer = trainer_for(potential, train, None, seed=seed, steps=steps, uncertainty=False, **settings)
    if smooth:
        _smooth(trainer, smooth)
    kept, choose = {}, trainer._try_mean

    def try_mean():
        kept["best epoch"], kept["last epoch"] = trainer.best, trainer._averaged()
        kept["late mean"] = (trainer.mean or trainer.average).value()
        kept.update({name: {key: a.copy() for key, a in given.items()} for name, given in kept.items()})
        choose()
        kept["chosen"] = trainer.best

    trainer._try_mean = try_mean
    plain = loop.batch_gradient
    if noise:
        loop.batch_gradient = _noisy(trainer, noise, np.random.default_rng(seed), plain)
    try:
        trainer.run(progress=False)
    finally:
        loop.batch_gradient = plain
    out = {"set": name, "seed": seed, "train_cpu_s": time.process_time() - start, "tests": {}}
    for what in KEPT:
        potential.set_parameters({key: to_host(a) for key, a in kept[what].items()})
        out["tests"][what] = {
            test: errors(potential, fd.read_frames(_file(folder, file)), data) for test, file in data.tests.items()
        }
    return out


def _smooth(trainer, amount):
    """Let beta decay, the more the more its basis function bends."""
    step, beta = trainer.optimizer.step, trainer.parameters["descriptor/beta"]
    group = trainer.optimizer.groups["descriptor/beta"]
    n = np.arange(beta.shape[-1])
    bends = (n / n[-1]) ** 4

    def smoothed(parameters, gradient, factor, **given):
        step(parameters, gradient, factor, **given)
        parameters["descriptor/beta"] *= 1 - amount * factor * group.rate * bends

    trainer.optimizer.step = smoothed


def _noisy(trainer, amount, rng, plain):
    """`batch_gradient` of networks whose inputs are shifted at random."""

    def noisy(potential, model, *given):
        scaler = potential.scaler
        shift = amount * scaler.scale * rng.standard_normal(len(scaler.scale))
        potential.scaler = FeatureScaler(scaler.mean + shift, scaler.scale)
        try:
            return plain(potential, potential.model(trainer.dtype, parameters=trainer.parameters), *given)
        finally:
            potential.scaler = scaler

    return noisy


def table(results):
    """Markdown: means over seeds and their standard deviations."""
    lines = ["| set, test | | seeds | energy | forces, meV/Å |", "|---|---|---|---|---|"]
    for name in dict.fromkeys(r["set"] for r in results):
        unit = "meV/atom" if SETS[name].per_atom else "meV"
        for test in SETS[name].tests:
            rows = [("defaults", what) for what in KEPT] + [(v, "chosen") for v in VARIANTS if v != "defaults"]
            for variant, what in rows:
                own = [r["tests"][what][test] for r in results if (r["variant"], r["set"]) == (variant, name)]
                if own:
                    e, f = (spread([x[kind] for x in own]) for kind in ("energy", "forces"))
                    label = f"defaults, {what}" if variant == "defaults" else variant
                    of = f"{name}, {test} ({SETS[name].measure.upper()})"
                    lines.append(f"| {of} | {label} | {len(own)} | {e} {unit} | {f} |")
    return "\n".join(lines) + "\n"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--sets", nargs="+", default=["Si", "Ni", "3bpa"], choices=list(SETS))
    parser.add_argument("--seeds", type=int, default=3, help="0, 1, .. (default 3 of them)")
    parser.add_argument("--steps", type=int, default=4000, help="default 4000, half a minute to one on a core")
    parser.add_argument("--descriptor", nargs="+", default=[], metavar="NAME=VALUE", help="its arguments")
    parser.add_argument("--out", default="bench/results/generalisation", help="without an ending")
    args = parser.parse_args(arguments)
    out = Path(args.out)
    path = out.with_name(out.name + ".json")
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    for seed in range(args.seeds):
        for variant, given in VARIANTS.items():
            for name in args.sets:
                if any((r["variant"], r["set"], r["seed"]) == (variant, name, seed) for r in results):
                    continue
                found = run(args.folder, name, seed, args.steps, dict(map(_setting, args.descriptor)), **given)
                results.append({"variant": variant, "steps": args.steps, **found})
                path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
                out.with_name(out.name + ".md").write_text(table(results), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
