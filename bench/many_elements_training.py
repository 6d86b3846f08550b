"""Training on 30 elements, with a table of coefficients and with factors: `python -m bench.many_elements_training`.

Crystals of four elements of thirty each, rattled and strained, labelled by a Lennard-Jones potential whose sizes and
depths are means of those of two elements: a model that learns what an element is knows pairs that no frame has. Told
are root mean square errors of forces on other crystals: on those whose pairs of elements training has seen, and on
those that have a pair which it has not.
"""

import argparse
import json
import time
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

import fastdesc as fd
from fastdesc.geometry import forces, pair_vectors

ELEMENTS, OF_A_FRAME, CUTOFF = 30, 4, 5.0
DESCRIPTOR = {"cutoff": CUTOFF, "n_radial": 4, "n_basis": 8}


def labelled(n, seed):
    """Frames with energies and forces."""
    rng, own = np.random.default_rng(seed), np.random.default_rng(0)
    sigma, depth = own.uniform(2.3, 2.7, 1 + ELEMENTS), own.uniform(0.1, 0.4, 1 + ELEMENTS)
    frames = []
    for _ in range(n):
        atoms = bulk("Cu", "fcc", a=rng.uniform(4.0, 4.4), cubic=True) * (2, 2, 2)
        atoms.numbers[:] = rng.choice(rng.choice(np.arange(1, 1 + ELEMENTS), OF_A_FRAME, replace=False), len(atoms))
        atoms.set_cell(atoms.cell @ (np.eye(3) + 0.02 * rng.standard_normal((3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
        structures = fd.Structures.from_ase(atoms)
        pairs = fd.Pairs.find(structures, CUTOFF)
        rij = pair_vectors(structures.positions, structures.cells, pairs, np.float64)
        zi, zj = atoms.numbers[pairs.i], atoms.numbers[pairs.j]
        energy, slope = lennard_jones(
            np.sqrt((rij**2).sum(axis=0)), (sigma[zi] + sigma[zj]) / 2, np.sqrt(depth[zi] * depth[zj])
        )
        found = forces(rij * slope / 2, pairs)
        atoms.calc = SinglePointCalculator(atoms, energy=energy.sum() / 2, forces=found)
        frames.append(atoms)
    return frames


def lennard_jones(d, sigma, depth):
    """Energy of pairs, cut off smoothly, and its derivative divided by the distance."""
    x6, fc = (sigma / d) ** 6, (1 - (d / CUTOFF) ** 2) ** 2
    value, slope = 4 * depth * (x6 * x6 - x6), 4 * depth * (6 * x6 - 12 * x6 * x6) / d**2
    return value * fc, slope * fc - value * 4 * (1 - (d / CUTOFF) ** 2) / CUTOFF**2


def pairs_of(atoms):
    """Pairs of elements that a frame has."""
    return set(combinations_with_replacement(sorted(set(atoms.numbers.tolist())), 2))


def run(mixing, frames, seed, steps):
    train, valid, test = frames
    d = fd.GaussianMoments(species=range(1, 1 + ELEMENTS), species_mixing=mixing, seed=seed, **DESCRIPTOR)
    potential = fd.Potential(d, hidden=(32, 32), network="shared", seed=seed)
    start = time.process_time()
    fd.train(potential, train, valid, steps=steps, batch_size=8, seed=seed, dtype="float32", progress=False)
    seconds = time.process_time() - start
    seen = set().union(*map(pairs_of, train))
    errors = {"known pairs": [], "a pair unseen": []}
    for atoms in test:
        wrong = potential.predict(atoms).forces - atoms.get_forces()
        errors["known pairs" if pairs_of(atoms) <= seen else "a pair unseen"].append(wrong.ravel())
    rmse = {name: 1e3 * float(np.sqrt(np.mean(np.concatenate(e) ** 2))) for name, e in errors.items() if e}
    frames_of = {name: len(e) for name, e in errors.items()}
    return {"mixing": mixing, "seed": seed, "parameters": potential.n_parameters, "train_cpu_s": seconds,
            "frames": frames_of, "forces_meV_per_A": rmse}  # fmt: skip


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(words)
    found = []
    for n in given.frames:
        sets = labelled(n, 1), labelled(30, 2), labelled(100, 3)
        for mixing in ("pairs", "factorised"):
            for seed in range(given.seeds):
                found.append({"training_frames": n, "steps": given.steps, **run(mixing, sets, seed, given.steps)})
                print(json.dumps(found[-1]), flush=True)
    if given.out:
        given.out.write_text(json.dumps({"version": fd.__version__, "runs": found}, indent=1) + "\n")
    return found


if __name__ == "__main__":
    main()
