"""From labelled frames to molecular dynamics: train a potential for copper, judge it, and run it.

    python examples/first_potential.py

Labels come from ASE's EMT potential, so everything needed is here. With labels of your own, replace `crystals` by
`fd.read_frames("train.extxyz")`.
"""

import tempfile
from pathlib import Path

import numpy as np
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.verlet import VelocityVerlet

import fastdesc as fd


def crystals(n, seed):
    """Copper cells of 4 to 16 atoms, strained and shaken, labelled by EMT."""
    rng, frames = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = bulk("Cu", cubic=True) * rng.integers(1, 3, 3).clip(1, 2)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.03, (3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(0, rng.uniform(0.02, 0.2), atoms.positions.shape)
        atoms.calc = EMT()
        labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    return frames


def errors(potential, frames):
    """Mean absolute errors: meV per atom, meV/Å."""
    out = potential.predict(frames)
    per_atom = [(e - a.get_potential_energy()) / len(a) for e, a in zip(out.energy, frames, strict=True)]
    forces = np.concatenate([a.get_forces() for a in frames])
    return 1e3 * float(np.abs(per_atom).mean()), 1e3 * float(np.abs(out.forces - forces).mean())


def main(n_train=100, n_test=30, epochs=100, steps=200):
    """Train, judge, run; return the errors and the drift of the energy in meV per atom."""
    # 1. A descriptor says what the potential sees; the potential is a network on top of it.
    descriptor = fd.GaussianMoments(species=["Cu"], cutoff=5.0, n_radial=4, max_rank=2)
    potential = fd.Potential(descriptor, hidden=(32, 32))

    # 2. Training on energies, forces and stresses; a tenth of the frames is set aside to validate.
    history = fd.train(potential, crystals(n_train, 0), epochs=epochs, batch_atoms=128, progress=False)
    print(history)

    # 3. What it is worth on frames that it has not seen.
    energy, force = errors(potential, crystals(n_test, 1))
    print(f"test: {energy:.2f} meV/atom, {force:.1f} meV/Å")

    # 4. One file holds all of it.
    with tempfile.TemporaryDirectory() as folder:
        potential.save(Path(folder) / "cu.h5")
        potential = fd.load(Path(folder) / "cu.h5")

    # 5. Dynamics with ASE, in float32: the total energy should stay where it is.
    atoms = bulk("Cu", cubic=True) * (3, 3, 3)
    atoms.calc = fd.FastdescCalculator(potential, dtype="float32")
    speeds = np.sqrt(units.kB * 600 / atoms.get_masses())[:, None]    # half of it goes into potential energy
    atoms.set_velocities(speeds * np.random.default_rng(2).normal(size=(len(atoms), 3)))
    before = atoms.get_total_energy()
    VelocityVerlet(atoms, 2 * units.fs).run(steps)
    drift = 1e3 * abs(atoms.get_total_energy() - before) / len(atoms)
    print(f"{steps} steps of MD: the total energy moved by {drift:.3f} meV/atom at {atoms.get_temperature():.0f} K")
    return energy, force, drift


if __name__ == "__main__":
    main()
