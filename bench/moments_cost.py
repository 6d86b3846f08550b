"""What an iteration of Gaussian moments costs, and uncertainties of forces: `python -m bench.moments_cost`.

Energies and forces of copper on a given list, float32, networks of 64-64, one thread; the least processor time of many
turns, in which all cases follow each other. Told are µs an atom, and ratios to no iteration without uncertainties.
"""

import argparse
import time

import numpy as np
from ase.build import bulk

import fastdesc as fd
from fastdesc.backend import threads
from fastdesc.pairs import find_on
from fastdesc.potential.uncertainty import MEMBERS, Uncertainty, evaluate_with_spread
from fastdesc.structures import Structures

CUTOFF = 6.0


def unfitted(potential):
    """An Uncertainty of the right shapes; numbers do not matter to its cost."""
    n = potential.networks[0].n_last + 1
    return Uncertainty(np.eye(n), np.ones(1), local=np.eye(n)[None], local_forces=np.ones(1))


def cases(structures, pairs):
    """Functions without arguments, by what they evaluate."""
    out = {}
    for iterations in (0, 1):
        potential = fd.Potential(fd.GaussianMoments(species=["Cu"], cutoff=CUTOFF, iterations=iterations))
        model = potential.model("float32")
        out[f"T = {iterations}"] = lambda p=potential, m=model: p.evaluate(structures, pairs, m)
        if iterations == 0:
            known = unfitted(potential)
            for name, members in (("local", 0), (f"{MEMBERS} members", MEMBERS)):
                given = potential, structures, model, known, True, members, pairs
                out[f"T = 0, {name}"] = lambda given=given: evaluate_with_spread(*given)
    return out


def least(functions, turns):
    """Least seconds of the processor of each."""
    best = dict.fromkeys(functions, np.inf)
    for _ in range(turns + 1):    # the first compiles
        for name, function in functions.items():
            start = time.process_time()
            function()
            best[name] = min(best[name], time.process_time() - start)
    return best


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=4, help="cells of four atoms along each side")
    parser.add_argument("--turns", type=int, default=150)
    options = parser.parse_args(argv)
    threads.set_threads(1)
    atoms = bulk("Cu", "fcc", a=3.61, cubic=True) * options.repeat
    atoms.rattle(0.1, seed=1)
    structures, pairs = find_on(Structures.from_ase([atoms]), CUTOFF, "cpu")
    best = least(cases(structures, pairs), options.turns)
    print(f"{len(atoms)} Cu, {pairs.n_pairs / len(atoms):.0f} neighbours, float32, µs an atom")
    for name, seconds in best.items():
        print(f"{name:18s} {1e6 * seconds / len(atoms):6.2f}   {seconds / best['T = 0']:5.2f}")


if __name__ == "__main__":
    main()
