"""Frames with the energies, forces and stresses of EMT."""

from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator


def labelled(seed=0, n=3):
    frames = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True) * (1, 1, k % 2 + 1)
        atoms.rattle(0.1, seed=seed + k)
        atoms.calc = EMT()
        results = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames
