"""Lists of neighbours of one large periodic cell: atoms sorted along a curve, rows transposed within slices.

32 atoms that follow one another along the curve are a slice. Neighbour k of the atom a is slot start[a // 32] + 32 k +
a % 32, so the threads of a warp, an atom each, read side by side, and no row is cut: a slice is as long as its longest.
Places are int32 numbers of 2^-32 of the cell. A difference wraps around to that of the nearest image, the only one
within the cutoff where the cell is thicker than twice that.

A list is made of one that is there (`sliced`), or searched for on the device (`searched`). For the latter space is cut
into bins at least as thick as the cutoff. Atoms come in the order of the bins, and bins around one in the order of the
curve, so that rows ascend and the mirror of a pair is found by halving. A pair and its mirror have opposite vectors to
the last bit: both are in the list or neither.

Functions are named as the kernels of kernels/gaussian_moments/large_list.cu and take their arrays, which lie on a
device, or on the host while tests emulate one.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastdesc.backend import cuda
from fastdesc.backend.arrays import namespace

FILE = "gaussian_moments/large_list.cu"
THREADS, SLICE, AROUND = 128, 32, 27
"""Of the kernels: threads a block, atoms whose rows lie side by side, a bin and those around it."""
BINS = 1024
"""Along each vector of a cell at most."""
MOST_SLOTS = 2**32 - 1
"""For slots are numbered in uint32."""


@dataclass
class SlicedList:
    """Neighbours of one cell.

    Attributes
    ----------
    order, rank : int32 (n_atoms,)
        Which atom is where on the curve, and where an atom is; `rank` None for a list that was searched for.
    count : int32 (n_atoms,)
        Neighbours of the atoms along the curve.
    start : int64 (n_slices + 1,)
        First slot of each slice.
    neighbour : int32 (n_slots,)
        Place of the neighbour on the curve; not set where an atom has fewer neighbours.
    opposite : uint32 (n_slots,)
        Slot of the mirror, likewise.
    cutoff, shortest : float
        Within which pairs are listed, and the distance of the closest when the list was made, Å.
    kept : dict
        What others made of the list and keep with it.
    """

    order: Any
    rank: Any
    count: Any
    start: Any
    neighbour: Any
    opposite: Any
    cutoff: float
    shortest: float
    kept: dict = field(default_factory=dict)

    @property
    def n_atoms(self):
        return len(self.order)

    @property
    def n_slots(self):
        return len(self.neighbour)


def sliced(pairs, positions, cell, species, widths):
    """The list of one periodic cell, made of its pairs.

    Parameters
    ----------
    pairs : Pairs
        Of one frame.
    positions : float64 (n_atoms, 3), Å
    cell : float64 (3, 3), Å
    species : int32 (n_atoms,)
    widths : 3 floats
        Thickness of the cell along each of its vectors, Å.

    Returns
    -------
    SlicedList, or None where there are more slots than can be numbered
    """
    xp, n = namespace(pairs.j), pairs.n_atoms
    order, _, _ = along_curve(positions, cell, species, bins_of(widths, pairs.cutoff / 2, n))
    rank = xp.empty(n, np.int32)
    rank[order] = xp.arange(n, dtype=np.int32)
    count = (pairs.row[1:] - pairs.row[:-1]).astype(np.int32)[order]
    start = starts(count)
    n_slots = int(start[-1])    # the wait of a new list
    if n_slots > MOST_SLOTS:
        return None
    neighbour, opposite = xp.empty(n_slots, np.int32), xp.empty(n_slots, np.uint32)
    gm_large_list(pairs.row, pairs.j, pairs.mirror, order, rank, start, neighbour, opposite)
    return SlicedList(order, rank, count, start, neighbour, opposite, pairs.cutoff, pairs.shortest)


def searched(positions, cell, species, widths, cutoff):
    """All pairs of one periodic cell closer than the cutoff, on its device; parameters as of `sliced`.

    Returns
    -------
    SlicedList, or None where there are more slots than can be numbered
        Its shortest distance is right to float32, and the cutoff where there are no pairs.
    """
    xp, n, bins = namespace(positions), len(positions), bins_of(widths, cutoff, len(positions))
    order, places, keys = along_curve(positions, cell, species, bins)
    ranges = xp.empty((int(np.prod(bins)), AROUND, 2), np.int32)
    gm_large_ranges(keys, ranges, n, *bins)
    count, nearest = xp.empty(n, np.int32), xp.empty(n, np.float32)
    gm_large_count(places, cell, ranges, count, nearest, *bins, cutoff)
    start, shortest = starts(count), float(nearest.min())
    n_slots = int(start[-1])
    if n_slots > MOST_SLOTS:
        return None
    neighbour, opposite = xp.empty(n_slots, np.int32), xp.empty(n_slots, np.uint32)
    gm_large_search(places, cell, ranges, start, neighbour, *bins, cutoff)
    gm_large_mirrors(count, start, neighbour, opposite)
    return SlicedList(order, None, count, start, neighbour, opposite, cutoff, shortest)


def bins_of(widths, thickness, n_atoms):
    """Bins along each vector of a cell, none of them thinner, and not more of them than atoms."""
    thickness = max(thickness, float(np.prod(widths) / max(n_atoms, 1)) ** (1 / 3))
    return [int(min(max(w / thickness, 1), BINS)) for w in widths]


def along_curve(positions, cell, species, bins):
    """Atoms in the order of their bins on a Z-order curve, int32, their places and bins in this order."""
    xp, n = namespace(positions), len(positions)
    places, keys = xp.empty((n, 4), np.int32), xp.empty(n, np.int32)
    gm_large_places(xp.arange(n, dtype=np.int32), species, positions, cell, places)
    gm_large_keys(places, keys, *bins)
    order = xp.argsort(keys).astype(np.int32)
    return order, places[order], keys[order]


def starts(count):
    """First slot of each slice, and their number, int64."""
    xp, n = namespace(count), len(count)
    slices = xp.zeros(-(-n // SLICE) * SLICE, np.int32)
    slices[:n] = count
    start = xp.zeros(len(slices) // SLICE + 1, np.int64)
    start[1:] = xp.cumsum(slices.reshape(-1, SLICE).max(axis=1).astype(np.int64) * SLICE)
    return start


def places_of(listed, positions, cell, species):
    """int32 (n_atoms, 4): where atoms are, along the curve, in parts of the cell, and their elements."""
    places = namespace(positions).empty((listed.n_atoms, 4), np.int32)
    gm_large_places(listed.order, species, positions, cell, places)
    return places


# ------------------------------------------------------------------------------------------------------------ launches


def gm_large_keys(places, keys, bins_a, bins_b, bins_c):
    """Numbers of bins along the curve, so many bins along each vector of the cell."""
    _launch("gm_large_keys", len(places), places, keys, bins_a=bins_a, bins_b=bins_b, bins_c=bins_c)


def gm_large_places(order, species, positions, cell, places):
    """Places in the order of the list."""
    _launch("gm_large_places", len(order), order, species, positions, cell, places)


def gm_large_list(row, j, mirror, order, rank, start, neighbour, opposite):
    """A list of pairs, transposed within slices."""
    _launch("gm_large_list", len(order), row, j, mirror, order, rank, start, neighbour, opposite)


def gm_large_ranges(keys, ranges, n_keys, bins_a, bins_b, bins_c):
    """The atoms of each bin and of those around it, in the order of the curve."""
    scalars = {"n_bins": len(ranges), "n_keys": n_keys, "bins_a": bins_a, "bins_b": bins_b, "bins_c": bins_c}
    cuda.launch(FILE, "gm_large_ranges", len(ranges), THREADS, THREADS, (keys, ranges), **scalars)


def gm_large_count(places, cell, ranges, count, nearest, bins_a, bins_b, bins_c, cutoff):
    """Numbers of neighbours, and the distance of the nearest."""
    scalars = {"bins_a": bins_a, "bins_b": bins_b, "bins_c": bins_c, "cutoff": cutoff}
    _launch("gm_large_count", len(count), places, cell, ranges, count, nearest, **scalars)


def gm_large_search(places, cell, ranges, start, neighbour, bins_a, bins_b, bins_c, cutoff):
    """Neighbours, ascending."""
    scalars = {"bins_a": bins_a, "bins_b": bins_b, "bins_c": bins_c, "cutoff": cutoff}
    _launch("gm_large_search", len(places), places, cell, ranges, start, neighbour, **scalars)


def gm_large_mirrors(count, start, neighbour, opposite):
    """Slots of mirrors of a list whose rows ascend."""
    _launch("gm_large_mirrors", len(count), count, start, neighbour, opposite)


def _launch(name, n_atoms, *arrays, **scalars):
    cuda.launch(FILE, name, n_atoms, THREADS, THREADS, arrays, n_atoms=n_atoms, **scalars)
