"""Where time goes with 1, 10 and 89 elements: `python -m bench.many_elements [--atoms N] [--out FILE]`.

The same rattled crystal, elements given out at random, Gaussian moments with factorised elements and a network for each
element, float32. Told are microseconds of the processor per atom, minima of several calls: of an evaluation (energies,
forces, virials), of one step of training, and of what the step is made of. NUMBA_NUM_THREADS=1 makes them comparable.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from ase.build import bulk

import fastdesc as fd
from fastdesc.backend.threads import n_threads
from fastdesc.descriptors.gaussian_moments import elements
from fastdesc.geometry import pair_vectors
from fastdesc.potential.evaluation import energies_and_gradient, network_and_gradient
from fastdesc.training.dual_pass import loss_gradient

CUTOFF = 5.0


def crystal(n_atoms, n_elements):
    """About n_atoms atoms of the first elements."""
    side = max(1, round((n_atoms / 4) ** (1 / 3)))
    atoms = bulk("Cu", "fcc", a=3.7, cubic=True) * (side, side, side)
    rng = np.random.default_rng(0)
    atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
    atoms.numbers[:] = rng.integers(1, 1 + n_elements, len(atoms))
    return atoms


def least(call, repeats):
    """Least seconds of the processor of several calls, after one that does not count."""
    call()
    found = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


def measure(n_elements, n_atoms, repeats):
    """Microseconds per atom by part, and numbers of parameters."""
    species = range(1, 1 + n_elements)
    d = fd.GaussianMoments(species=species, cutoff=CUTOFF, species_mixing="factorised")
    potential = fd.Potential(d)
    model = potential.model("float32")
    structures = fd.Structures.from_ase(crystal(n_atoms, n_elements))
    pairs, indices = fd.Pairs.find(structures, CUTOFF), structures.species(d.species_numbers)
    rij = pair_vectors(structures.positions, structures.cells, pairs, np.float32)
    q, saved = d.forward(rij, pairs, indices, model.theta)
    _, _, tape = energies_and_gradient(model, rij, pairs, indices, keep=True)
    duals, dq, de = np.stack([rij, rij]), np.stack([q, q]), np.ones(len(indices))
    two = d.forward(duals, pairs, indices, model.theta)[1]
    parts = {
        "evaluation": lambda: potential.evaluate(structures, pairs, model),
        "features": lambda: d.forward(rij, pairs, indices, model.theta),
        "pullback": lambda: d.pullback(rij, pairs, indices, model.theta, saved, q),
        "networks": lambda: network_and_gradient(model, q, pairs, indices, keep=True),
        "features, dual": lambda: d.forward(duals, pairs, indices, model.theta),
        "parameters, dual": lambda: d.pullback_parameters(duals, pairs, indices, model.theta, two, dq),
        "gradient of the loss": lambda: loss_gradient(model, rij, rij, pairs, indices, tape, de),
    }
    n = structures.n_atoms
    found = {name: 1e6 * least(call, repeats) / n for name, call in parts.items()}
    found["step of training"] = sum(found[x] for x in ("features", "pullback", "networks", "gradient of the loss"))
    table = elements.initial("pairs", n_elements, 1, d.n_radial, d.n_basis, np.random.default_rng(0))
    counts = {"factorised": sum(a.size for a in d.parameters.values()), "pairs": sum(a.size for a in table.values())}
    return {"elements": n_elements, "atoms": n, "us_per_atom": found, "descriptor_parameters": counts}


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, nargs="+", default=[1, 10, 89])
    parser.add_argument("--atoms", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(words)
    cases = [measure(n, given.atoms, given.repeats) for n in given.elements]
    print(f"{'us/atom':>22}" + "".join(f"{c['elements']:>8}" for c in cases))
    for part in cases[0]["us_per_atom"]:
        print(f"{part:>22}" + "".join(f"{c['us_per_atom'][part]:8.2f}" for c in cases))
    if given.out:
        found = {"version": fd.__version__, "threads": n_threads(), "dtype": "float32", "cases": cases}
        given.out.write_text(json.dumps(found, indent=1) + "\n")
    return cases


if __name__ == "__main__":
    main()
