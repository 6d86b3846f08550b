"""The pairs of consecutive atoms out of a list, as a list of their own: work that does not fit goes by such pieces."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fastdesc.backend.arrays import namespace, to_host
from fastdesc.pairs import Pairs
from fastdesc.types import Array


class Piece(NamedTuple):
    """Rows of a list, for maps that look at nothing but the pairs of their own row.

    Attributes
    ----------
    atoms, of_pairs : slice
        Which atoms and pairs of the whole list they are.
    positions : (n_piece + n_atoms, 3) float64 array, Å
        The centres first, then all atoms: neighbours are numbered among the latter.
    pairs : Pairs
        Without mirrors.
    species : (n_piece + n_atoms,) int32 array
    """

    atoms: slice
    of_pairs: slice
    positions: Array
    pairs: Pairs
    species: Array


def pieces(positions: Array, pairs: Pairs, species: Array, bounds: list[tuple[int, int]]) -> Iterator[Piece]:
    """Yield the pieces with these bounds; a single one is the list itself.

    Parameters
    ----------
    positions : (n_atoms, 3) float64 array, Å
    pairs : Pairs
    species : (n_atoms,) int32 array
    bounds : list of (first, last)
        Of atoms, in order, without gaps.
    """
    if len(bounds) == 1:
        yield Piece(slice(0, pairs.n_atoms), slice(0, pairs.n_pairs), positions, pairs, species)
        return
    xp = namespace(pairs.j)
    ends = to_host(pairs.row[xp.asarray(np.array([a for a, _ in bounds] + [bounds[-1][1]]))])
    for (a, b), p, q in zip(bounds, ends[:-1], ends[1:], strict=True):
        p, q = int(p), int(q)
        j = pairs.j[p:q] + np.int32(b - a)
        own = Pairs(pairs.row[a : b + 1] - p, j, pairs.shift[p:q], j[:0], pairs.cutoff, np.array([0, b - a]))
        own.frame, own.names = pairs.frame[a:b], np.arange(b, b + b - a)
        if pairs.noted is not None:
            own.note_species(pairs.noted[0][a:b], pairs.noted[1])
        both = (xp.concatenate([x[a:b], x]) for x in (positions, species))
        placed, named = both
        yield Piece(slice(a, b), slice(p, q), placed, own, named)
