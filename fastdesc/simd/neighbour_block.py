"""The neighbours of a block of atoms, transposed: one SIMD lane per atom, neighbours sorted by element.

A block is as many consecutive atoms as a vector has lanes. Slot k of the block holds the k-th neighbour of
every atom at once; slots of one neighbour element are consecutive, so no kernel looks an element up in its inner
loop. Lanes with fewer neighbours are filled with one beyond the cutoff, which contributes nothing.
"""

from fastdesc.backend.jit import inner
from fastdesc.simd import lanes, peek, planes_of, poke

FAR = 2.0  # distance of a filler, in cutoffs


@inner
def _find_slots(row, j, species, i, n, counts, starts):
    """Find the slots that each neighbour element needs for atoms i .. i+n-1."""
    n_species = len(starts) - 1
    starts[:] = 0
    for lane in range(n):
        counts[:] = 0
        if n_species == 1:
            counts[0] = row[i + lane + 1] - row[i + lane]
        else:
            for p in range(row[i + lane], row[i + lane + 1]):
                counts[species[j[p]]] += 1
        for z in range(n_species):
            starts[z + 1] = max(starts[z + 1], counts[z])
    for z in range(n_species):
        starts[z + 1] += starts[z]


@inner
def fill_block(kind, row, j, species, rij, i, n, cutoff, counts, starts, vectors, pairs):
    """Give the pairs of atoms i .. i+n-1 their slots, and copy their vectors there.

    Parameters
    ----------
    counts : (n_species,) int64, memory
    starts : (n_species + 1,) int64, written: slots starts[z] .. starts[z+1]-1 belong to element z
    rij : Rows of (planes, 3, n_pairs)
    vectors : scratch; x, y, z of slot k are the values number 3k, 3k+1, 3k+2
    pairs : (slots, lanes) pair in each slot and lane, -1 for a filler
    """
    width, planes = lanes(kind), planes_of(kind)
    size = planes * width
    n_species = len(starts) - 1
    _find_slots(row, j, species, i, n, counts, starts)
    for k in range(starts[n_species]):
        for x in range(3 * k * size, (3 * k + 3) * size):
            vectors[x] = 0
        for lane in range(width):
            vectors[3 * k * size + lane] = FAR * cutoff
            pairs[k, lane] = -1
    for lane in range(n):
        counts[:] = starts[:n_species]
        for p in range(row[i + lane], row[i + lane + 1]):
            z = species[j[p]] if n_species > 1 else 0
            k = counts[z]
            counts[z] = k + 1
            pairs[k, lane] = p
            at = 3 * k * size + lane
            for plane in range(planes):
                vectors[at] = peek(kind, rij, plane, 0, p)
                vectors[at + size] = peek(kind, rij, plane, 1, p)
                vectors[at + 2 * size] = peek(kind, rij, plane, 2, p)
                at += width


@inner
def scatter_block(kind, pairs, n_slots, n, vectors, rij):
    """Copy three values per slot back to the pairs they belong to: the inverse of fill_block."""
    width, planes = lanes(kind), planes_of(kind)
    size = planes * width
    for lane in range(n):
        for k in range(n_slots):
            p = pairs[k, lane]
            if p >= 0:
                at = 3 * k * size + lane
                for plane in range(planes):
                    poke(rij, plane, 0, p, vectors[at])
                    poke(rij, plane, 1, p, vectors[at + size])
                    poke(rij, plane, 2, p, vectors[at + 2 * size])
                    at += width


@inner
def longest_row(row, first, last):
    """Largest number of neighbours of atoms first .. last-1, at least one."""
    longest = 1
    for i in range(first, last):
        longest = max(longest, row[i + 1] - row[i])
    return longest
