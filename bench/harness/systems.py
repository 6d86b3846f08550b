"""The named systems that everybody is timed on: the same atoms, bit for bit, in every environment.

Imports NumPy and ASE alone, because the peers' environment has no fastdesc.
"""

from functools import cache

import numpy as np

COPPER = 3.61
"""Å, cubic lattice constant of fcc copper."""
NOISE = 0.07
"""Å, standard deviation of the displacement of every coordinate."""


def frames(name):
    """Return the list of ase.Atoms called `name`.

    Parameters
    ----------
    name : str
        "cu256" or any "cu<n>": periodic fcc copper with as nearly as possible n atoms; "cu256x4": four such cells;
        "mo2000": periodic bcc molybdenum, with the same noise;
        "water192": 64 periodic H2O in a 12.42 Å box; "ethanol1000" or any "ethanol<n>": n single molecules.
    """
    if name == "water192":
        return [water()]
    if name == "mo2000":
        return [molybdenum()]
    if name.startswith("ethanol"):
        return ethanol(int(name.removeprefix("ethanol")))
    n_atoms, _, n_frames = name.removeprefix("cu").partition("x")
    return [copper(int(n_atoms), seed) for seed in range(int(n_frames or 1))]


def n_atoms(name):
    """Number of atoms of all frames of a system."""
    return sum(len(atoms) for atoms in frames(name))


def species(name):
    """Chemical symbols of a system, sorted by atomic number."""
    from ase.data import chemical_symbols

    numbers = np.unique(np.concatenate([atoms.numbers for atoms in frames(name)[:1]]))
    return [chemical_symbols[z] for z in numbers]


def coefficients(n_species, n_radial, n_basis):
    """Radial coefficients (centre, neighbour, n_radial, n_basis) of everybody who computes Gaussian moments.

    In fastdesc's convention, where 1/sqrt(n_basis) stands before the sum over basis functions.
    """
    return np.random.default_rng(1).uniform(-1.0, 1.0, (n_species, n_species, n_radial, n_basis))


def fingerprint(features):
    """Mean and root mean square of all features: equal where two programs compute the same ones in any order."""
    features = np.asarray(features, np.float64)
    return {"feature_mean": float(features.mean()), "feature_rms": float(np.sqrt((features**2).mean()))}


@cache
def copper(n, seed=0):
    """Fcc copper of the nearly cubic number of cells whose atoms come closest to n, with noise."""
    from ase.build import bulk

    side = max(1, round((n / 4) ** (1 / 3)))
    near = range(max(1, side - 1), side + 2)
    cells = min(((a, b, c) for a in near for b in near for c in near), key=lambda k: (abs(4 * np.prod(k) - n), k))
    atoms = bulk("Cu", "fcc", a=COPPER, cubic=True) * cells
    atoms.positions += np.random.default_rng(seed).normal(0.0, NOISE, (len(atoms), 3))
    return atoms


@cache
def molybdenum():
    """Bcc molybdenum, 10 x 10 x 10 cubic cells, with noise."""
    from ase.build import bulk

    atoms = bulk("Mo", "bcc", a=3.147, cubic=True) * (10, 10, 10)
    atoms.positions += np.random.default_rng(0).normal(0.0, NOISE, atoms.positions.shape)
    return atoms


@cache
def water(n_side=4, box=12.42, seed=0):
    """Water molecules on a cubic lattice, turned at random so that no two atoms of different molecules clash."""
    from ase import Atoms

    bond, half_angle, closest = 0.9572, np.deg2rad(104.52) / 2, 1.6
    x, y = bond * np.sin(half_angle), bond * np.cos(half_angle)
    arms = np.array([[0.0, 0.0, 0.0], [x, y, 0.0], [-x, y, 0.0]])
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(n_side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    oxygens = (grid + 0.5) * (box / n_side) + rng.normal(0.0, 0.1, grid.shape)
    placed = np.empty((0, 3))
    for oxygen in oxygens:
        for _ in range(1000):
            molecule = oxygen + arms @ _rotation(rng).T
            away = placed[:, None] - molecule
            away -= box * np.round(away / box)
            if not len(placed) or np.linalg.norm(away, axis=2).min() > closest:
                break
        placed = np.concatenate([placed, molecule])
    return Atoms("OHH" * n_side**3, positions=placed, cell=[box] * 3, pbc=True)


@cache
def ethanol(n=1000, seed=0):
    """`n` single ethanol molecules with noise, no cell."""
    from ase.build import molecule

    rng = np.random.default_rng(seed)
    one = molecule("CH3CH2OH")
    copies = [one.copy() for _ in range(n)]
    for atoms in copies:
        atoms.positions += rng.normal(0.0, 0.05, (len(atoms), 3))
    return copies


def _rotation(rng):
    """Uniform random rotation, from a normal matrix by QR."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.linalg.det(q)
