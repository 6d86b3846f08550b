"""The pair list of fcc copper in closed form, with NumPy alone: no compilation stands before the first figure.

Atoms sit on the perfect lattice for the choice of neighbours and are displaced by less than what keeps the set of
neighbours; `Pairs` made of it are those that a search finds (a test compares them).
"""

import numpy as np
from ase.build import bulk

import fastdesc as fd

LATTICE, NOISE = 3.61, 0.02
"""Å. The shells around 6 Å lie at 5.708 and 6.253 Å: displacements below 0.1 Å change no neighbour."""
OFFSETS = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]])
"""Of the four atoms of the cubic cell, in half lattice constants, in ASE's order."""


def copper(cells, cutoff=6.0, seed=0):
    """Fcc copper of cells**3 cubic cells, and its pairs.

    Parameters
    ----------
    cells : int
        At least twice the cutoff along each edge, so that no atom meets two images of another.
    cutoff : float
        Å, between two shells of neighbours.

    Returns
    -------
    frame : ase.Atoms
    pairs : fastdesc.Pairs
    """
    if cells * LATTICE <= 2 * cutoff:
        raise ValueError(f"{cells} cells are {cells * LATTICE:.1f} Å, not more than twice the cutoff {cutoff} Å")
    reach = int(2 * cutoff / LATTICE) + 1
    grid = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    length = LATTICE / 2 * np.sqrt((grid**2).sum(1))
    near = grid[(grid.sum(1) % 2 == 0) & (length > 0) & (length < cutoff)]
    opposite = np.array([int(np.flatnonzero((near == -v).all(1))[0]) for v in near])
    period = 2 * cells
    index = np.full((period,) * 3, -1, np.int32)
    cell = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    sites = (2 * cell + OFFSETS).reshape(-1, 3)
    index[tuple(sites.T)] = np.arange(len(sites), dtype=np.int32)
    target = sites[:, None] + near
    image, wrapped = np.divmod(target, period)
    j = index[wrapped[..., 0], wrapped[..., 1], wrapped[..., 2]]
    order = np.argsort(j, axis=1, kind="stable")
    place = np.argsort(order, axis=1)    # where neighbour k of an atom ended
    n, each = j.shape
    mirror = np.take_along_axis(j, order, 1).astype(np.int64) * each
    mirror += place[np.take_along_axis(j, order, 1), opposite[order]]
    shift = np.take_along_axis(image, order[..., None], 1).reshape(-1, 3).astype(np.int32)
    row = np.arange(n + 1, dtype=np.int64) * each
    frame = bulk("Cu", "fcc", a=LATTICE, cubic=True) * (cells, cells, cells)
    frame.positions += np.random.default_rng(seed).uniform(-NOISE, NOISE, frame.positions.shape)
    j = np.take_along_axis(j, order, 1).ravel()
    return frame, fd.Pairs(row, j, shift, mirror.ravel().astype(np.int32), cutoff, np.array([0, n]))
