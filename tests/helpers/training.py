"""Labelled frames and a potential that train in no time, and a difference quotient to hold gradients against."""

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

import fastdesc as fd


def alloy(n, seed=0, size=(2, 1, 1)):
    """Rattled and strained two-element cells, labelled by EMT; smaller than the cutoff, so with self images."""
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(n):
        atoms = bulk("Cu", "fcc", a=3.75, cubic=True) * size
        atoms.numbers[rng.permutation(len(atoms))[: len(atoms) // 2]] = 79
        atoms.set_cell(atoms.cell @ (np.eye(3) + 0.05 * rng.standard_normal((3, 3))), scale_atoms=True)
        atoms.rattle(0.1, seed=seed * 1000 + k)
        atoms.calc = EMT()
        results = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames


def small_potential(network="per_species", species=("Cu", "Au"), **descriptor):
    arguments = {"cutoff": 4.5, "n_radial": 3, "n_basis": 5} | descriptor
    d = fd.GaussianMoments(species=species, **arguments)
    return fd.Potential(d, hidden=(12, 8), network=network, seed=3)


def five_point(f, h=3e-4):
    """Fourth-order difference quotient of f at 0."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)
