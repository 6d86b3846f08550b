"""Where a potential goes by itself: strained, rattled and heated structures, looked at as they move."""

from functools import partial

import numpy as np
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from fastdesc.calculator import FastdescCalculator
from fastdesc.dynamics import langevin, thermal_momenta
from fastdesc.errors import InputError

THERMOSTAT, BAROSTAT = 100.0, 1000.0
"""fs"""


def trajectory(potential, start, temperature, explore, seed, device="cpu"):
    """Structures that dynamics visits.

    Parameters
    ----------
    potential : Potential
    start : ase.Atoms
    temperature : float
        K
    explore : Explore
    seed : int or sequence of int
    device : {"cpu", "cuda", "auto"}

    Returns
    -------
    list of ase.Atoms
        One for each look; their info says step, temperature (K), grade and farthest atom, and of the last one why it
        ended early: "grade", "closest" (that structure is left out) or "unstable". May be empty.
    """
    rng = np.random.default_rng(seed)
    atoms = _deformed(start.repeat(explore.repeat), explore, rng)
    atoms.calc = FastdescCalculator(potential, device=device)
    thermal_momenta(atoms, temperature, rng)
    barostat = (explore.pressure, BAROSTAT) if explore.pressure is not None else ()
    begin = partial(langevin, atoms, explore.timestep, temperature, THERMOSTAT, rng, *barostat)
    seen, step, dynamics = [], 0, None
    while True:
        if too_close(atoms, explore.closest):
            return _ended(seen, "closest")
        try:
            grade = atoms.calc.get_property("grade", atoms)
            seen.append(_look(atoms, step, temperature, grade))
            if grade.max() > explore.stop_above:
                return _ended(seen, "grade")
            if step >= explore.steps:
                return seen
            dynamics = begin() if dynamics is None else dynamics
            n = min(explore.every, explore.steps - step)
            with np.errstate(over="ignore", invalid="ignore"):    # what is not finite is refused by the calculator
                dynamics.run(n)
        except InputError:    # of a structure that cannot be evaluated
            return _ended(seen, "unstable")
        step += n


def too_close(atoms, closest):
    """Whether two atoms are nearer than `closest` times the sum of their covalent radii."""
    if not closest or not np.isfinite(atoms.positions).all():    # the calculator refuses the latter
        return False
    return len(neighbor_list("i", atoms, closest * covalent_radii[atoms.numbers])) > 0


def _deformed(atoms, explore, rng):
    """A structure without constraints, calculator and momenta, strained and rattled at random."""
    out = atoms.copy()
    out.set_constraint()
    out.set_momenta(np.zeros((len(out), 3)))
    out.info = {}
    if explore.strain and out.pbc.any():
        strain = rng.normal(scale=explore.strain, size=(3, 3))
        strain[~out.pbc] = strain[:, ~out.pbc] = 0.0
        out.set_cell(out.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    if explore.rattle:
        out.positions += rng.normal(scale=explore.rattle, size=out.positions.shape)
    return out


def _look(atoms, step, temperature, grade):
    """A copy of what is known of a structure."""
    k = int(np.argmax(grade))
    out = type(atoms)(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    out.info = {"step": step, "temperature": float(temperature), "grade": float(grade[k]), "farthest": k}
    return out


def _ended(seen, why):
    if seen:
        seen[-1].info["ended"] = why
    return seen
