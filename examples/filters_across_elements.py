"""Filters of silver serve gold: a potential for an element with few labels, on filters of one with many.

    python examples/filters_across_elements.py

Labels come from ASE's EMT potential. Three potentials for gold learn from the same few frames: one from nothing, one on
the filters of a silver potential, and one that keeps the triplet filters of silver and trains the others on. Prints the
force errors on other gold crystals and the share that each filter of silver has in the forces, and draws the filters.
"""

from pathlib import Path

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

import fastdesc as fd
from fastdesc.analysis.feature_contributions import contributions_table, feature_contributions
from fastdesc.analysis.filter_plots import plot_filters

KEYWORDS = {"cutoff": 5.5, "triplet_cutoff": 4.2, "r_min": 1.8, "n_pair": 2, "n_triplet": 3}


def crystals(element, n, seed):
    """Cells of 4 to 16 atoms, strained and shaken, labelled by EMT."""
    rng, frames = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = bulk(element, cubic=True) * rng.integers(1, 3, 3).clip(1, 2)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.03, (3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(0, rng.uniform(0.02, 0.2), atoms.positions.shape)
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    return frames


def potential(element):
    """An untrained potential: a pair potential in its first filter, and a small network of all filters."""
    d = fd.SplineFilters(species=[element], **KEYWORDS)
    return fd.Potential(d, hidden=(16,), direct=["pair_0"], bias=False)


def force_error(model, frames):
    """Mean absolute error, meV/Å."""
    forces = np.concatenate([a.get_forces() for a in frames])
    return 1e3 * float(abs(model.predict(frames).forces - forces).mean())


def main(n_silver=120, n_gold=6, n_test=40, epochs=150, picture="filters-of-silver.png"):
    """Train, compare, and return the errors."""
    settings = {"epochs": epochs, "batch_atoms": 128, "curvature": 1e-8, "valid_fraction": 0, "progress": False}
    silver = potential("Ag")
    fd.train(silver, crystals("Ag", n_silver, 0), start="linear", **settings)
    few, test = crystals("Au", n_gold, 1), crystals("Au", n_test, 2)
    errors = {}
    for name, filters, more in (
        ("from nothing", None, {}),
        ("on filters of silver", silver, {}),
        ("on filters of silver, triplets kept", silver, {"freeze": ["descriptor/triplet_*"]}),
    ):
        gold = potential("Au")
        if filters is not None:
            fd.load_filters(gold, filters, {"Ag": "Au"})
        fd.train(gold, few, **{**settings, **more, "epochs": 4 * epochs})
        errors[name] = force_error(gold, test)
        print(f"gold from {n_gold} frames, {name}: {errors[name]:.0f} meV/Å", flush=True)
    contributions = feature_contributions(silver, crystals("Ag", 10, 3))
    print("\nwhat silver makes of its filters:\n" + contributions_table(contributions))
    if picture is not None:
        plot_filters(silver, Path(picture), crystals("Ag", 10, 3))
    return errors


if __name__ == "__main__":
    main()
