"""OpenMM with a potential as its PythonForce, held against the potential itself; needs OpenMM 8.4 or later."""

import numpy as np
import pytest
from ase.build import bulk
from helpers.training import small_potential

from fastdesc.errors import FastdescError
from fastdesc.openmm import python_force

openmm = pytest.importorskip("openmm", reason="OpenMM is not installed: pip install openmm")
if not hasattr(openmm, "PythonForce"):
    pytest.skip(f"OpenMM {openmm.__version__} has no PythonForce; 8.4 has", allow_module_level=True)
from openmm import unit  # noqa: E402


def alloy(periodic=True):
    atoms = bulk("Cu", cubic=True)
    atoms.numbers[0] = 79
    atoms.rattle(0.05, seed=1)
    atoms.pbc = periodic
    return atoms


def context(atoms, force, extra=0):
    """A context of the atoms after `extra` more particles."""
    system = openmm.System()
    for mass in [1.0] * extra + atoms.get_masses().tolist():
        system.addParticle(mass)
    if atoms.pbc.all():
        system.setDefaultPeriodicBoxVectors(*(atoms.cell.array / 10))
    system.addForce(force)
    platform = openmm.Platform.getPlatformByName("Reference")
    found = openmm.Context(system, openmm.VerletIntegrator(0.001 * unit.picoseconds), platform)
    found.setPositions(np.concatenate([np.zeros((extra, 3)), atoms.positions / 10]))
    return found


def compare(state, potential, atoms, skipped=0):
    here = atoms.copy()
    here.positions = state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)[skipped:]
    expected = potential.predict(here)
    energy, forces = state.getPotentialEnergy(), state.getForces(asNumpy=True)
    per = unit.AVOGADRO_CONSTANT_NA
    electronvolt = 1.602176634e-19 * unit.joule
    assert (energy / per) / electronvolt == pytest.approx(expected.energy[0], rel=1e-7)
    found = (forces / per).value_in_unit(unit.joule / unit.angstrom) / 1.602176634e-19
    np.testing.assert_allclose(found[skipped:], expected.forces, rtol=1e-7, atol=1e-9)
    assert (found[:skipped] == 0).all()


@pytest.mark.parametrize("periodic", [True, False])
def test_energies_and_forces_in_dynamics(periodic):
    potential, atoms = small_potential(), alloy(periodic)
    own = context(atoms, python_force(potential, atoms, skin=0.3))
    what = {"energy": True, "forces": True, "positions": True}
    own.setVelocitiesToTemperature(300, 3)
    compare(own.getState(**what), potential, atoms)
    own.getIntegrator().step(20)
    compare(own.getState(**what), potential, atoms)
    if periodic:    # a barostat does this
        own.setPeriodicBoxVectors(*(atoms.cell.array / 10 * 1.02))
        atoms.set_cell(atoms.cell.array * 1.02)
        compare(own.getState(**what), potential, atoms)


def test_some_particles_of_a_system():
    potential, atoms = small_potential(), alloy()
    own = context(atoms, python_force(potential, atoms, range(3, 7)), extra=3)
    compare(own.getState(energy=True, forces=True, positions=True), potential, atoms, 3)


def test_bad_input():
    potential, atoms = small_potential(), alloy()
    slab, unknown, near = alloy([True, True, False]), bulk("Al"), alloy()
    near.positions[1] = near.positions[0]
    given = {"potential": potential, "atoms": atoms}
    for name, value, told in (
        ("atoms", slab, "OpenMM knows all or none"), ("atoms", unknown, "Al"), ("atoms", near, "atom"),
        ("atoms", [atoms], "give one ase.Atoms"), ("atoms", atoms[:0], "give one ase.Atoms"),
        ("potential", 3, "Potential"),
        ("potential", "missing.h5", "missing.h5"), ("particles", [0, 1], "give 4 different numbers"),
        ("particles", [0, 1, 1, 2], "different numbers"), ("particles", "abcd", "different"), ("skin", -1, "skin came"),
        ("particles", [[1], [2, 3]], "different"), ("particles", [0.5] * 4, "different"), ("dtype", "x", "dtype"),
    ):  # fmt: skip
        with pytest.raises(FastdescError, match=told):
            python_force(**{**given, name: value})
    own = context(atoms, python_force(potential, atoms), extra=1)
    with pytest.raises(openmm.OpenMMException, match="OpenMM has 5 particles, and the force was made for 4 atoms"):
        own.getState(energy=True)
