"""A potential as a force of OpenMM, by OpenMM's PythonForce (OpenMM 8.4 and later)."""

import numpy as np
from ase import Atoms
from ase.units import kJ, mol

from fastdesc.calculator import FastdescCalculator, load_potential
from fastdesc.checks import brief
from fastdesc.errors import InputError
from fastdesc.potential import Potential
from fastdesc.types import Device, DType, FilePath

NM = 10.0
"""Å"""
KJ_PER_MOL = kJ / mol
"""eV"""


def python_force(
    potential: Potential | FilePath,
    atoms: Atoms,
    particles: object = None,
    *,
    skin: float = 0.5,
    device: Device = "cpu",
    dtype: DType = "float64",
) -> object:
    """Make an openmm.PythonForce of a potential; `system.addForce(force)` takes it.

    Parameters
    ----------
    potential : Potential, str or Path
        A potential, or a model file.
    atoms : ase.Atoms
        Elements in the order of the particles. Periodic in all directions or in none, as OpenMM's systems are;
        positions and box come from OpenMM.
    particles : sequence of int, optional
        Numbers of the particles that these atoms are, where they are some of the system.
    skin : float
        Å, see FastdescCalculator.
    device : {"cpu", "cuda", "auto"}
    dtype : {"float64", "float32"}

    Returns
    -------
    openmm.PythonForce
        It cannot be serialised by OpenMM.

    Raises
    ------
    InputError
        Without OpenMM 8.4; for structures periodic in some directions, elements the potential does not know, and
        numbers of particles that do not fit. In dynamics OpenMM passes on what FastdescCalculator refuses.
    """
    try:
        import openmm
    except ImportError as error:
        raise InputError("the Python package openmm is not there; pip install openmm") from error
    if not hasattr(openmm, "PythonForce"):
        raise InputError(f"OpenMM {openmm.__version__} has no PythonForce; pip install -U openmm brings 8.4 or later")
    if not isinstance(atoms, Atoms) or not len(atoms):
        raise InputError(f"atoms came as {brief(atoms)}; give one ase.Atoms")
    if atoms.pbc.any() and not atoms.pbc.all():
        raise InputError("atoms is periodic in some directions, and OpenMM knows all or none; set pbc to True or False")
    own = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    own.calc = FastdescCalculator(load_potential(potential), skin, device, dtype)
    own.get_potential_energy()    # what cannot be evaluated is told here
    force = openmm.PythonForce(_Evaluation(own))
    force.setUsesPeriodicBoundaryConditions(bool(atoms.pbc.all()))
    if particles is not None:
        force.setParticles(_numbers(particles, len(atoms)))
    return force


class _Evaluation:
    """Energy and forces of a state of OpenMM, in its units."""

    def __init__(self, atoms):
        self.atoms = atoms

    def __call__(self, state):
        """(kJ/mol, kJ/mol/nm)."""
        atoms = self.atoms
        positions = np.asarray(state.getPositions(asNumpy=True)._value) * NM
        if len(positions) != len(atoms):
            raise InputError(
                f"OpenMM has {len(positions)} particles, and the force was made for {len(atoms)} atoms; give atoms of "
                "all particles, or their numbers as particles"
            )
        if atoms.pbc.all():
            atoms.set_cell(np.asarray(state.getPeriodicBoxVectors(asNumpy=True)._value) * NM)
        atoms.positions = positions
        return atoms.get_potential_energy() / KJ_PER_MOL, atoms.get_forces() / (KJ_PER_MOL / NM)


def _numbers(particles, n):
    try:
        found = np.asarray(particles)
    except ValueError:
        found = np.empty(0)
    whole = found.ndim == 1 and found.dtype.kind in "iu" and len(found) == n
    if not whole or found.min() < 0 or found.max() >= 2**31 or len(np.unique(found)) < n:
        raise InputError(f"particles came as {brief(particles)}; give {n} different numbers, one for each atom")
    return found.tolist()
