"""A list of pairs in blocks of atoms, one SIMD lane each: what depends on the list alone, found once for many steps.

A block is as many atoms of one element as a vector has lanes. Slot k of a block holds the k-th neighbour of every atom;
slots of one neighbour element are consecutive. Lanes with fewer neighbours, or without an atom, hold -1.
"""

from dataclasses import dataclass

import numpy as np

from fastdesc.backend.jit import kernel
from fastdesc.backend.threads import for_chunks, unrecorded
from fastdesc.simd import kind_of, lanes
from fastdesc.simd.arithmetic import width as width_of
from fastdesc.simd.block_tiles import fill_tile
from fastdesc.types import Array

CHUNK = 16
"""Blocks that a thread takes at a time."""
FURTHEST_SHIFT, MOST_PLACES = 127, 2**31 - 1
"""The first is one less than a power of two: `_fill` compares bits."""


KINDS = {width_of(name): kind_of(name, False) for name in ("float32", "float64")}
"""What kernels call so many lanes."""


@dataclass(eq=False)
class PairBlocks:
    """Pairs by block, slot and lane.

    Attributes
    ----------
    atom : int32 (n_blocks, lanes)
        -1 where a lane is empty.
    element : int32 (n_blocks,)
        Of all atoms of a block.
    first_slot : int64 (n_blocks + 1,)
    starts : int32 (n_blocks, n_species + 1)
        Slots starts[z] .. starts[z + 1] - 1 of a block, counted from its first, hold neighbours of element z; or
        (n_blocks, 2), where slots hold neighbours in any order.
    shifted : bool (n_blocks,)
        Whether a neighbour is an image in another cell.
    neighbour : int32 (n_slots, lanes)
    shift : int8 (n_slots, 3, lanes)
    mirror : int32 (n_pairs,)
        Where in an array (n_slots + 1, 3, lanes), seen as flat, x of the mirror of each pair is; in the last slot where
        the mirror belongs to a ghost, whose row has no block.
    """

    atom: Array
    element: Array
    first_slot: Array
    starts: Array
    shifted: Array
    neighbour: Array
    shift: Array
    mirror: Array

    @property
    def n_blocks(self) -> int:
        return len(self.element)

    @property
    def n_slots(self) -> int:
        return len(self.neighbour)


def pair_blocks(pairs, species, n_species, width, by_element=True):
    """Return the PairBlocks of a list; the list keeps them for the next call with the same arguments.

    Parameters
    ----------
    pairs : Pairs
        On the host; or the `centres` of a list with ghosts.
    species : int32 (n_atoms,)
    n_species : int
    width : int
        Number of lanes.
    by_element : bool
        Whether slots are sorted by the element of the neighbours: with many elements most of them would be empty.

    Returns
    -------
    PairBlocks, or None
        None where atoms have neighbours further than 127 cells away, and where there are too many slots for an index.
    """
    key = n_species, width, by_element, species.tobytes()
    known = pairs._blocks
    if known is None or known[0] != key:
        with unrecorded():
            known = pairs._blocks = key, made_blocks(pairs, species, n_species, width, by_element)
    return known[1]


def made_blocks(pairs, species, n_species, width, by_element=True):
    """Return new PairBlocks; arguments and result as of `pair_blocks`."""
    shifts = np.zeros((pairs.n_pairs, 3), np.int32) if pairs.shift is None else pairs.shift
    n_atoms = pairs.n_atoms
    element, atom = _atoms(species[:n_atoms], n_species, width)
    starts = np.zeros((len(element), (n_species if by_element else 1) + 1), np.int32)
    for_chunks(_count, len(element), CHUNK, after=(pairs.row, pairs.j, species, atom, starts))
    first_slot = np.zeros(len(element) + 1, np.int64)
    np.cumsum(starts[:, -1], out=first_slot[1:])
    n_slots = int(first_slot[-1])
    if (n_slots + 1) * 3 * width > MOST_PLACES:
        return None
    new = pairs.memory
    neighbour, shift = new((n_slots, width), np.int32), new((n_slots, 3, width), np.int8)
    place, mirror = new((pairs.n_pairs,), np.int32), new((pairs.n_pairs,), np.int32)
    place[int(pairs.row[-1]) :] = n_slots * 3 * width    # of ghosts' rows
    shifted = np.zeros(len(element), np.bool_)
    given, out = (pairs.row, pairs.j, shifts, species, atom, first_slot, starts), (neighbour, shift, place, shifted)
    if starts.shape[1] == 2 and width in KINDS:
        fit = for_chunks(_fill_in_tiles, len(element), CHUNK, before=(KINDS[width],), after=given + out)
    else:
        fit = for_chunks(_fill, len(element), CHUNK, after=given + out)
    if not all(fit):
        return None
    for_chunks(_mirrored, pairs.n_pairs, 1 << 16, after=(pairs.mirror, place, mirror))
    return PairBlocks(atom, element, first_slot, starts, shifted, neighbour, shift, mirror)


@kernel
def _atoms(species, n_species, width):
    """Elements of blocks, and their atoms: those of an element in order, as many blocks as they need."""
    counts = np.zeros(n_species, np.int64)
    for z in species:
        counts[z] += 1
    n_blocks, place = 0, np.empty(n_species, np.int64)
    for z in range(n_species):
        place[z] = n_blocks * width
        n_blocks += (counts[z] + width - 1) // width
    element, atom = np.empty(n_blocks, np.int32), np.full((n_blocks, width), np.int32(-1), np.int32)
    for i in range(len(species)):
        z = species[i]
        block = place[z] // width
        element[block] = z
        atom[block, place[z] - block * width] = i
        place[z] += 1
    return element, atom


@kernel
def _count(first, last, row, j, species, atom, starts):
    """Slots that each neighbour element needs in each block."""
    n_species = starts.shape[1] - 1
    counts = np.empty(n_species, np.int64)
    for block in range(first, last):
        for lane in range(atom.shape[1]):
            i = atom[block, lane]
            if i < 0:
                continue
            counts[:] = 0
            if n_species == 1:
                counts[0] = row[i + 1] - row[i]
            else:
                for p in range(row[i], row[i + 1]):
                    counts[species[j[p]]] += 1
            for z in range(n_species):
                starts[block, z + 1] = max(starts[block, z + 1], counts[z])
        for z in range(n_species):
            starts[block, z + 1] += starts[block, z]


@kernel
def _fill(first, last, row, j, shifts, species, atom, first_slot, starts, neighbour, shift, place, shifted):
    """Slots and lanes of all pairs of these blocks; returns whether all shifts fit."""
    n_species, width = starts.shape[1] - 1, np.uint64(atom.shape[1])
    counts, zero, one, two = np.empty(n_species, np.uint64), np.uint64(0), np.uint64(1), np.uint64(2)
    furthest = 0
    for block in range(first, last):
        begin, end = first_slot[block], first_slot[block + 1]
        neighbour[begin:end] = -1
        shift[begin:end] = 0
        bits = 0    # of all distances in cells: none is set in a block without images
        for lane in range(width):
            i = atom[block, lane]
            if i < 0:
                continue
            for z in range(n_species):
                counts[z] = begin + starts[block, z]
            for p in range(np.uint64(row[i]), np.uint64(row[i + 1])):
                n = np.uint32(j[p])
                z = np.uint64(species[n]) if n_species > 1 else zero
                k = counts[z]
                counts[z] = k + one
                u, v, w = shifts[p, zero], shifts[p, one], shifts[p, two]
                bits |= abs(u) | abs(v) | abs(w)
                neighbour[k, lane] = n
                shift[k, zero, lane], shift[k, one, lane], shift[k, two, lane] = u, v, w
                place[p] = np.uint64(3) * width * k + lane
        shifted[block] = bits != 0
        furthest |= bits
    return furthest <= FURTHEST_SHIFT


@kernel
def _fill_in_tiles(
    kind, first, last, row, j, shifts, species, atom, first_slot, starts, neighbour, shift, place, shifted
):
    """As `_fill`, where the slots of a block hold neighbours in any order."""
    width = lanes(kind)
    begins, counts, furthest = np.empty(width, np.int64), np.empty(width, np.int64), 0
    for block in range(first, last):
        for lane in range(width):
            i = atom[block, lane]
            begins[lane], counts[lane] = (row[i], row[i + 1] - row[i]) if i >= 0 else (0, 0)
        bits, end = 0, first_slot[block + 1]
        for slot in range(first_slot[block], end, width):
            n, k = min(width, end - slot), slot - first_slot[block]
            bits |= fill_tile(kind, j, shifts, begins, counts, k, slot, n, neighbour, shift, place)
        shifted[block] = bits != 0
        furthest |= bits
    return furthest <= FURTHEST_SHIFT


@kernel
def _mirrored(first, last, mirror, place, out):
    for p in range(np.uint64(first), np.uint64(last)):
        out[p] = place[np.uint32(mirror[p])]
