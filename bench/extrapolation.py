"""Whether uncertainties hold outside of what was trained on: trained on frames of low energy, looked at on high ones.

    python -m bench.extrapolation FOLDER --sets ethanol 3bpa --seeds 0 1

FOLDER holds the files that bench/accuracy_sets.py names. Of the training frames of a set the three fifths of lowest
energy (per atom, above what their composition alone gives) train a potential and, every tenth of them, calibrate its
uncertainties; the fifths above are looked at: "middle" and "high". Each is told with the uncertainties as they are and
without what frames outside add (fastdesc/potential/extrapolation.py), whose powers were chosen on figures of seed 0.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

import fastdesc as fd
from bench.accuracy_sets import SETS
from bench.uncertainty import file_of
from fastdesc.analysis.accuracy import compare
from fastdesc.io.sources import elements

LOW = 0.6


def fifths(frames):
    """Frames of low, middle and high energy: three fifths, one and one."""
    numbers = [atomic_numbers[symbol] for symbol in elements(frames)]
    shares = np.array([[np.mean(atoms.numbers == z) for z in numbers] for atoms in frames])
    energies = np.array([atoms.get_potential_energy() / len(atoms) for atoms in frames])
    order = np.argsort(energies - shares @ np.linalg.lstsq(shares, energies, rcond=None)[0], kind="stable")
    first, second = round(LOW * len(frames)), round((1 + LOW) / 2 * len(frames))
    return [[frames[k] for k in np.sort(some)] for some in np.split(order, [first, second])]


def run(folder, name, steps, seed):
    """Reliability on the middle and the high fifth, with and without growth."""
    frames = [atoms for atoms in fd.read_frames(file_of(folder, SETS[name].train)) if len(atoms) > 1]
    low, middle, high = fifths(frames)
    valid = low[::10]
    train = [atoms for k, atoms in enumerate(low) if k % 10]
    potential = fd.Potential(fd.GaussianMoments(species=elements(train), seed=seed), seed=seed)
    fd.train(potential, train, valid, seed=seed, steps=steps, progress=False)
    known = potential.uncertainty
    out = {"set": name, "seed": seed, "steps": steps, "trained_on": len(train)}
    for kind, given in (("as_told", known), ("without_growth", without_growth(potential, valid))):
        potential.uncertainty = given
        for part, some in (("middle", middle), ("high", high)):
            found = compare(potential, some)
            out.setdefault(kind, {})[part] = found.summary()
            local = compare(potential, some, uncertainty="local").summary()["uncertainty"]["forces"]
            out[kind][part]["local"] = local
            print(f"{name}, seed {seed}, {part}, {kind}: local within 90 %: {local['coverage_90']:.3f}")
            print(found.table(), flush=True)
    return out


def without_growth(potential, valid):
    """The potential's Uncertainty without growth, calibrated anew on the same validation frames."""
    known = potential.uncertainty
    potential.uncertainty = found = replace(known, reach=None)
    by_members, by_grades = (compare(potential, valid, uncertainty=kind).reliability() for kind in (True, "local"))
    energy, forces, local = (
        float(np.sqrt(((one.error / one.width)[one.width > 0] ** 2).mean()))
        for one in (by_members["energy"], by_members["forces"], by_grades["forces"])
    )
    potential.uncertainty = known
    return replace(
        found, energy_factor=energy * known.energy_factor, forces_factor=forces * known.forces_factor,
        local_forces=local * known.local_forces,
    )  # fmt: skip


def main(words=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    p.add_argument("--sets", nargs="+", default=["ethanol", "3bpa"], choices=sorted(SETS))
    p.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    p.add_argument("--steps", type=int, default=2000)
    p.add_argument("--out", default="bench/results/extrapolation.json")
    args = p.parse_args(words)
    found = [run(args.folder, name, args.steps, seed) for name in args.sets for seed in args.seeds]
    Path(args.out).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(args.out)


if __name__ == "__main__":
    main()
