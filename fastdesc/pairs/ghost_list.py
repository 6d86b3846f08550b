"""Pairs of one domain of many: centres that are ours, neighbours that may be ghosts.

A domain's list has rows of its own atoms i, with neighbours j of which some are ghosts: copies of atoms that other
domains, or periodic images, own. From it `GhostList` makes a list with one more property of ours, that every pair has a
mirror: each ghost gets a row of those of our atoms that see it. So what is gathered from mirrors elsewhere, forces
and cotangents of coefficients, is gathered by the same kernels, ghosts included, in an order that is always the same.

The domain's list serves for many steps and may reach much further than the cutoff: `near` takes from it what is within
a shorter reach, now and then, and steps evaluate that.
"""

from functools import cached_property

import numpy as np

from fastdesc.backend.arrays import empty
from fastdesc.backend.jit import contracting_kernel, kernel
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

    def vectors(self, positions, dtype):
        """Vectors of all pairs at present positions, ghosts' rows too.

        Parameters
        ----------
        positions : float64 (n_all, 3) array, Å
            Of all atoms that the domain knows.
        dtype : dtype

        Returns
        -------
        (3, n_pairs) array, Å
        """
        x, rij = positions[self.atoms], empty((3, len(self._j)), dtype)
        for_chunks(ghost_list_vectors, len(x), ROWS, after=(self._row, self._j, x, rij))
        return rij


def near(centres, row, j, positions, reach):
    """The pairs of a domain's list that are within a reach.

    Parameters
    ----------
    centres, row, j : arrays
        As for GhostList.
    positions : float64 (n_all, 3) array, Å
    reach : float
        Å.

    Returns
    -------
    row, j : arrays
        As they came, with fewer pairs.
    """
    kept, limit = np.zeros(len(row), np.int64), float(reach) ** 2
    for_chunks(ghost_list_count, len(centres), ROWS, after=(centres, row, j, positions, limit, kept))
    np.cumsum(kept, out=kept)
    out = np.empty(kept[-1], np.int32)
    for_chunks(ghost_list_near, len(centres), ROWS, after=(centres, row, j, positions, limit, kept, out))
    return kept, out


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
def ghost_list_count(first, last, centres, row, j, x, limit, kept):
    """How many pairs of rows first .. last-1 are within the square of the reach; kept[r + 1] of row r."""
    for r in range(first, last):
        a, n = centres[r], 0
        for p in range(row[r], row[r + 1]):
            b = j[p]
            u, v, w = x[b, 0] - x[a, 0], x[b, 1] - x[a, 1], x[b, 2] - x[a, 2]
            n += u * u + v * v + w * w <= limit
        kept[r + 1] = n


@kernel
def ghost_list_near(first, last, centres, row, j, x, limit, kept, out):
    """Those pairs. A pair and its mirror have the same square to the bit."""
    for r in range(first, last):
        a, at = centres[r], kept[r]
        for p in range(row[r], row[r + 1]):
            b = j[p]
            u, v, w = x[b, 0] - x[a, 0], x[b, 1] - x[a, 1], x[b, 2] - x[a, 2]
            if u * u + v * v + w * w <= limit:
                out[at] = b
                at += 1


@contracting_kernel
def ghost_list_vectors(first, last, start, j, x, rij):
    """Vectors of the pairs of rows first .. last-1; those of a pair and its mirror are opposite to the bit."""
    for a in range(first, last):
        u, v, w = x[a, 0], x[a, 1], x[a, 2]
        for p in range(np.uint64(start[a]), np.uint64(start[a + 1])):
            b = np.uint32(j[p])
            rij[0, p], rij[1, p], rij[2, p] = x[b, 0] - u, x[b, 1] - v, x[b, 2] - w
