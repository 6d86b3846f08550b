"""Recursion, what pairs read of their neighbours: a row of weights of each atom, gathered into slots and lanes."""

from fastdesc.backend.jit import inner
from fastdesc.simd.gather import columns_at_once, gather_columns
from fastdesc.simd.tuples import store_tuple


@inner
def rows_of_neighbours(j, pairs, n_slots, i, n, columns, where):
    """Where the rows of the neighbours in each slot and lane start in a table; a filler reads its own atom's."""
    for slot in range(n_slots):
        for lane in range(pairs.shape[1]):
            p = pairs[slot, lane]
            atom = i + min(lane, n - 1)
            where[slot, lane] = columns * (j[p] if p >= 0 else atom)


@inner
def slot_coefficients(kind, c, where, slot, t, memory, at):
    """Coefficients c (planes, iterations, n_atoms, columns) of the neighbours in one slot, iteration t."""
    _, _, n_atoms, columns = c.shape
    for k in range(0, columns, columns_at_once(kind)):
        store_tuple(memory, at + k, gather_columns(kind, c, where, slot, t * n_atoms * columns + k))
