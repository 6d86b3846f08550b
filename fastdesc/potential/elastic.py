"""Elastic constants, exact: second derivatives by strain and positions, by the evaluation in dual numbers.

With strain e, positions x that follow it, virial W(x, e) = dE/de and H = d²E/dx², a crystal at rest answers to a strain
with displacements u = H^-1 dF/de, F the forces, and its stress W / V with the slope

    C = (d_e W + d_x W u) / V - (W / V) tr(e)                                                                  (1)

without u for clamped ions. Translations, along which H is zero, are left out.
"""

from typing import NamedTuple

import numpy as np
from ase import Atoms

from fastdesc.backend.memory import check_memory
from fastdesc.checks import brief
from fastdesc.errors import InputError
from fastdesc.geometry import VOIGT
from fastdesc.potential import Potential
from fastdesc.potential.hessian import HessianProducts
from fastdesc.types import Device, Float64

AXES = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""Of Voigt's notation."""
AT_REST = 0.01
"""eV/Å: larger forces are refused."""
SOFT = 1e-8
"""Of the largest eigenvalue: H has none that is smaller but those of translations."""


class ElasticConstants(NamedTuple):
    """Slopes of the stress by strain, in Voigt's notation: xx, yy, zz, yz, xz, xy; shear strains count twice.

    Attributes
    ----------
    relaxed : (6, 6) float64, eV/Å^3
        Ions follow the strain to where they are at rest. Divide by ase.units.GPa for GPa.
    clamped : (6, 6) float64, eV/Å^3
        Ions keep their place in the cell.
    """

    relaxed: Float64
    clamped: Float64


def elastic_constants(potential: Potential, atoms: Atoms, device: Device = "cpu") -> ElasticConstants:
    """Elastic constants of a crystal with relaxed and with clamped ions; no differences are taken.

    Parameters
    ----------
    potential : Potential
    atoms : ase.Atoms
        Periodic in all directions, at rest; relax the cell too: without stress these slopes are symmetric and are the
        elastic constants.
    device : {"cpu", "cuda", "auto"}

    Returns
    -------
    ElasticConstants

    Raises
    ------
    InputError
        For structures that are not periodic, not at rest, or at no minimum, and as Potential.hessian.

    Examples
    --------
    >>> C = fd.elastic_constants(potential, atoms).relaxed / ase.units.GPa    # doctest: +SKIP
    """
    if not isinstance(atoms, Atoms):
        raise InputError(f"atoms came as {brief(atoms)}; give one ase.Atoms")
    product = HessianProducts(potential, atoms, device)
    if not atoms.pbc.all():
        raise InputError(f"pbc is {atoms.pbc.tolist()}; elastic constants are of crystals, periodic in all directions")
    found = potential.predict(atoms)
    stress, largest = np.asarray(found.stress)[0], float(np.abs(np.asarray(found.forces)).max())
    if largest > AT_REST:
        raise InputError(f"a force of {largest:.3g} eV/Å is left, and at most {AT_REST} are allowed; relax first")
    n, volume = len(atoms), atoms.get_volume()
    still, clamped, moves = np.zeros((n, 3)), np.empty((6, 6)), np.empty((6, n, 3))
    for b, (i, j) in enumerate(AXES):
        strain = np.zeros((3, 3))
        strain[i, j] = strain[j, i] = 1.0 if i == j else 0.5
        moves[b], virial = product.strained(still, strain)
        clamped[:, b] = virial.reshape(9)[VOIGT] / volume - stress * np.trace(strain)
    relaxed = clamped.copy()
    if n > 1:
        for b, move in enumerate(_at_rest(_hessian(product, n), moves)):
            relaxed[:, b] += product.strained(move, np.zeros((3, 3)))[1].reshape(9)[VOIGT] / volume
    return ElasticConstants(relaxed, clamped)


def _hessian(product, n):
    """(3 n, 3 n)."""
    check_memory(3 * 72.0 * n**2, f"second derivatives of {n} atoms", "take a smaller cell")
    out, v = np.empty((3 * n, 3 * n)), np.zeros((n, 3))
    for k in range(3 * n):
        v.flat[k] = 1.0
        out[:, k] = product(v).reshape(-1)
        v.flat[k] = 0.0
    return (out + out.T) / 2


def _at_rest(h, forces):
    """u with H u = F without translations, for several F (m, n, 3)."""
    n = len(h) // 3
    values, vectors = np.linalg.eigh(h)
    translations = np.tile(np.eye(3), (n, 1)) / np.sqrt(n)
    inside = ((vectors.T @ translations) ** 2).sum(axis=1)
    order = np.argsort(inside)
    kept = np.sort(order[:-3])
    lowest = values[kept].min()
    if lowest <= SOFT * np.abs(values).max():
        raise InputError(
            f"a mode has the stiffness {lowest:.3g} eV/Å², and the structure is at no minimum; displace its atoms a "
            "little and relax it again"
        )
    rows = forces.reshape(len(forces), -1) @ vectors[:, kept] / values[kept]
    return (rows @ vectors[:, kept].T).reshape(forces.shape)
