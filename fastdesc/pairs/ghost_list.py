"""Pairs of one domain of many: centres that are ours, neighbours that may be ghosts.

A domain's list has rows of its own atoms i, with neighbours j of which some are ghosts: copies of atoms that other
domains, or periodic images, own. From it `GhostList` makes a list with one more property of ours, that every pair has a
mirror: each ghost gets a row of those of our atoms that see it. So what is gathered from mirrors elsewhere, forces
and cotangents of coefficients, is gathered by the same kernels, ghosts included, in an order that is always the same.

The domain's list reaches further than the cutoff, so that it serves for many steps; each step takes the pairs within.
"""

from functools import cached_property

import numpy as np

from fastdesc.backend.jit import kernel
from fastdesc.backend.threads import for_chunks
from fastdesc.errors import InputError
from fastdesc.pairs import Pairs

ROWS = 512
"""Rows a thread takes at a time."""


class GhostList:
    """The list of one domain.

    Parameters
    ----------
    centres : int32 (n_rows,) array
        The atoms whose rows are given, all of them the domain's own.
    row : int64 (n_rows + 1,) array
        Row r holds the neighbours j[row[r]] .. j[row[r + 1]] of centres[r].
    j : int32 array
        Neighbours: all atoms of the domain within a distance, and the ghosts.
    species : int32 (n_all,) array
        Index of the element of every atom, own and ghost; -1 for atoms that are left out.

    Attributes
    ----------
    atoms : int64 (n_atoms,) array
        Which atoms are in the list: own ones first, then those ghosts that they see.
    n_own : int
    species : int32 (n_atoms,) array

    Raises
    ------
    InputError
        When one of our atoms sees another that does not see it.
    """

    def __init__(self, centres, row, j, species):
        slot = np.full(len(species), -1, np.int32)
        self.n_own, n_atoms = ghost_list_slots(centres, row, j, species, slot)
        self.atoms = np.empty(n_atoms, np.int64)
        used = np.flatnonzero(slot >= 0)
        self.atoms[slot[used]] = used
        self.species = species[self.atoms]
        self._row = np.zeros(n_atoms + 1, np.int64)
        ghost_list_rows(centres, row, j, slot, self.n_own, self._row)
        self._j, self._mirror = (np.empty(self._row[-1], np.int32) for _ in range(2))
        if not ghost_list_fill(centres, row, j, slot, self.n_own, self._row, self._j, self._mirror):
            raise InputError(
                "the list of neighbours is not symmetric: an atom sees another that does not see it; "
                "exclude no pairs from it"
            )

    @cached_property
    def pairs(self):
        """All pairs of the list, ghosts' rows too: Pairs without shifts."""
        n = len(self.atoms)
        return Pairs(self._row, self._j, None, self._mirror, np.inf, np.array([0, n]))

    @cached_property
    def centres(self):
        """The rows of our own atoms."""
        return self.pairs.centres(self.n_own)

    def within(self, positions, cutoff, dtype):
        """Pairs within the cutoff, at present positions.

        Parameters
        ----------
        positions : float64 (n_all, 3) array, Å
            Of all atoms that the domain knows.
        cutoff : float
            Å.
        dtype : dtype

        Returns
        -------
        pairs : Pairs
            Of all atoms; `pairs.centres(n_own)` are the rows to evaluate.
        rij : (3, n_pairs) array, Å
        """
        n = len(self.atoms)
        x = positions[self.atoms]
        row, new = np.zeros(n + 1, np.int64), np.empty(len(self._j), np.int32)
        limit = float(cutoff) ** 2

        def each_row(kernel, *arrays):
            for_chunks(lambda a, b: kernel(a, b, self._row, *arrays), n, ROWS)

        each_row(ghost_list_count, self._j, x, limit, row)
        np.cumsum(row, out=row)
        j, mirror = (np.empty(row[-1], np.int32) for _ in range(2))
        rij = np.empty((3, row[-1]), dtype)
        each_row(ghost_list_within, self._j, x, limit, row, new, j, rij)
        each_row(ghost_list_mirrors, self._mirror, new, mirror)
        return Pairs(row, j, None, mirror, float(cutoff), np.array([0, n])), rij


@kernel
def ghost_list_slots(centres, row, j, species, slot):
    """Number the atoms that are used, own ones first; returns how many are own, and how many all are."""
    n = 0
    for r in range(len(centres)):
        if species[centres[r]] >= 0:
            slot[centres[r]] = n
            n += 1
    for r in range(len(centres)):
        if species[centres[r]] >= 0:
            for p in range(row[r], row[r + 1]):
                if slot[j[p]] == -1 and species[j[p]] >= 0:
                    slot[j[p]] = -2
    total = n
    for a in range(len(slot)):
        if slot[a] == -2:
            slot[a] = total
            total += 1
    return n, total


@kernel
def ghost_list_rows(centres, row, j, slot, n_own, out):
    """Where the rows of all atoms start; out (n_atoms + 1,) comes as zeros."""
    for r in range(len(centres)):
        i = slot[centres[r]]
        if i >= 0:
            for p in range(row[r], row[r + 1]):
                s = slot[j[p]]
                if s >= 0:
                    out[s + 1] += 1
                    if s >= n_own:
                        out[i + 1] += 1
    for a in range(len(out) - 1):
        out[a + 1] += out[a]


@kernel
def ghost_list_fill(centres, row, j, slot, n_own, start, out_j, out_mirror):
    """Neighbours, own ones first, both ascending, and mirrors; returns whether every pair of own atoms has one."""
    n = len(start) - 1
    filled = start[:n].copy()
    for r in range(len(centres)):    # the transposed list: rows come out ascending
        i = slot[centres[r]]
        if i >= 0:
            for p in range(row[r], row[r + 1]):
                s = slot[j[p]]
                if s >= 0:
                    out_j[filled[s]] = i
                    filled[s] += 1
    ends = filled.copy()
    for g in range(n_own, n):
        for p in range(start[g], start[g + 1]):
            i = out_j[p]
            if filled[i] == start[i + 1]:
                return False
            out_j[filled[i]] = g
            out_mirror[filled[i]] = p
            out_mirror[p] = filled[i]
            filled[i] += 1
    mirrors = start[:n].copy()
    for i in range(n_own):
        for p in range(start[i], ends[i]):
            s = out_j[p]
            if mirrors[s] >= ends[s] or out_j[mirrors[s]] != i:
                return False
            out_mirror[p] = mirrors[s]
            mirrors[s] += 1
    return True


@kernel
def ghost_list_count(first, last, start, j, x, limit, row):
    """How many pairs of rows first .. last-1 are within the square of the cutoff; row[a + 1] of atom a."""
    for a in range(first, last):
        n = 0
        for p in range(start[a], start[a + 1]):
            b = j[p]
            u, v, w = x[b, 0] - x[a, 0], x[b, 1] - x[a, 1], x[b, 2] - x[a, 2]
            n += u * u + v * v + w * w <= limit
        row[a + 1] = n


@kernel
def ghost_list_within(first, last, start, j, x, limit, row, new, out_j, rij):
    """Those pairs; new (n_pairs,) is where each went, or -1. A pair and its mirror have the same square to the bit."""
    for a in range(first, last):
        at = row[a]
        for p in range(start[a], start[a + 1]):
            b = j[p]
            u, v, w = x[b, 0] - x[a, 0], x[b, 1] - x[a, 1], x[b, 2] - x[a, 2]
            new[p] = -1
            if u * u + v * v + w * w <= limit:
                new[p] = at
                out_j[at] = b
                rij[0, at], rij[1, at], rij[2, at] = u, v, w
                at += 1


@kernel
def ghost_list_mirrors(first, last, start, mirror, new, out):
    """Mirrors of the pairs that are within."""
    for p in range(start[first], start[last]):
        if new[p] >= 0:
            out[new[p]] = new[mirror[p]]
