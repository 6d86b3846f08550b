"""Structures that are the same, or nearly: which ones stand for which."""

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdesc.checks import brief, flag
from fastdesc.errors import InputError
from fastdesc.features.reader import FeaturesFile
from fastdesc.features.rows import Rows

BLOCK = 1024
"""Rows that are compared with the kept ones at a time."""


def find_duplicates(
    features: ArrayLike | FeaturesFile, tolerance: float, scale: bool = True
) -> NDArray[np.int64]:
    """Find structures whose features are nearly those of another.

    A part of the structures is kept such that no two kept ones are within the tolerance of each other, and all others
    are within the tolerance of the kept one that stands for them. Rows are sorted along the direction in which they
    vary most, and compared with the kept ones that are near in it; that is exact, and fast where the tolerance is
    small.

    Parameters
    ----------
    features : (n_structures, n_features) array, or FeaturesFile
        Features of a file that holds rows of atoms are averaged over each structure.
    tolerance : float
        Largest distance of duplicates, in units of the features, and with `scale` of their standard deviations.
    scale : bool
        Divide every feature by its standard deviation first.

    Returns
    -------
    (n_structures,) int64
        Number of the kept structure that stands for each; kept ones stand for themselves, so
        ``np.unique(found)`` are those to keep.

    Raises
    ------
    InputError
        For features that are not finite or no table, and a tolerance below 0.
    """
    if isinstance(tolerance, bool) or not isinstance(tolerance, Real) or not 0 <= tolerance < 1e300:
        raise InputError(f"tolerance came as {brief(tolerance)}; it must be a distance of at least 0")
    tolerance = float(tolerance)
    flag("scale", scale)
    rows = Rows(features, bool(scale))
    along = _projected(rows)
    order = np.argsort(along, kind="stable")
    found = np.arange(rows.n)
    kept, kept_rows, places = np.empty(0, int), np.empty((0, rows.n_features)), np.empty(0)
    margin = tolerance + 1e-9 * np.abs(along).max(initial=0.0)    # for round-off of the projection
    for a in range(0, rows.n, BLOCK):
        which = order[a : a + BLOCK]
        own = rows.take(which)
        near = places >= along[which[0]] - margin
        kept, kept_rows, places = kept[near], kept_rows[near], places[near]
        stands = _first_within(own, kept_rows, tolerance)
        had = stands >= 0
        found[which[had]] = kept[stands[had]]
        rest = np.flatnonzero(~had)
        within, free, new = _within(own[rest], own[rest], tolerance), np.ones(len(rest), bool), []
        for k in range(len(rest)):
            if free[k]:
                new.append(rest[k])
                like = within[k] & free
                found[which[rest[like]]] = which[rest[k]]
                free &= ~like
                free[k] = False
        kept = np.concatenate([kept, which[new]])
        kept_rows = np.concatenate([kept_rows, own[new]])
        places = np.concatenate([places, along[which[new]]])
    return found


def _projected(rows):
    """Rows along the direction of their largest variance, (n,)."""
    products = np.zeros((rows.n_features, rows.n_features))
    for _, block in rows.blocks():    # which are centred
        products += block.T @ block
    direction = np.linalg.eigh(products)[1][:, -1]
    return np.concatenate([block @ direction for _, block in rows.blocks()])


def _within(x, y, tolerance):
    """Whether each pair of rows is within the tolerance, (len(x), len(y)) bool; close calls from differences."""
    of_x, of_y = (np.einsum("ij,ij->i", z, z) for z in (x, y))
    lengths = of_x[:, None] + of_y
    squared = lengths - 2.0 * (x @ y.T)
    out = squared <= tolerance**2
    i, j = np.nonzero(np.abs(squared - tolerance**2) <= 1e-10 * lengths)
    size = max(1, 2**22 // max(1, x.shape[1]))
    for a in range(0, len(i), size):
        difference = x[i[a : a + size]] - y[j[a : a + size]]
        out[i[a : a + size], j[a : a + size]] = np.einsum("ij,ij->i", difference, difference) <= tolerance**2
    return out


def _first_within(x, y, tolerance):
    """Number of the first row of y within the tolerance of each row of x, -1 where there is none."""
    found = np.full(len(x), -1)
    for a in range(0, len(y), BLOCK):
        rest = np.flatnonzero(found < 0)
        within = _within(x[rest], y[a : a + BLOCK], tolerance)
        hit = within.any(axis=1)
        found[rest[hit]] = a + within[hit].argmax(axis=1)
    return found
