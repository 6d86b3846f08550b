"""The Jacobian of any number of atoms, some centres at a time, in memory that is used again."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fastdesc.backend.arrays import to_host
from fastdesc.backend.device_memory import enough_for
from fastdesc.backend.workspace import fresh_lines
from fastdesc.descriptors import frame_chunks
from fastdesc.descriptors.jacobian import Jacobian, check_jacobian_memory
from fastdesc.geometry import pair_vectors
from fastdesc.pairs.pieces import pieces
from fastdesc.structures import Structures
from fastdesc.types import Array, Device, DType


class JacobianBlock(NamedTuple):
    """Features of consecutive atoms, and their derivatives.

    Attributes
    ----------
    atoms : slice
        Which atoms of all frames they are.
    features : (n, n_features) ndarray
    jacobian : Jacobian
        Of these centres; centres and atoms are numbered among all atoms of all frames. Its values are overwritten when
        the next block is asked for: copy what is to be kept.
    """

    atoms: slice
    features: Array
    jacobian: Jacobian


def blocks(family: Any, structures: Structures, n_atoms: int, dtype: DType, device: Device) -> Iterator[JacobianBlock]:
    """Yield the JacobianBlocks of all atoms, in order; arguments as of Descriptor.jacobian_blocks, judged before."""
    theta, memory = family.prepared(family.theta(dtype, device), dtype), _kept()
    # With iterations features depend on more than the pairs of their row: then frames are not cut.
    for part in frame_chunks.pieces(structures, frame_chunks.PIECE if family.own_row else 1):
        n = part.structures.n_atoms
        with frame_chunks.numbered(part, structures):
            placed, pairs, species = family.placed(part.structures, device)
        step = n_atoms if family.own_row else n
        bounds = [(a, min(a + step, n)) for a in range(0, n, step)]
        for piece in pieces(placed.positions, pairs, species, bounds):
            with enough_for(n, device):
                rij = pair_vectors(piece.positions, placed.cells, piece.pairs, dtype)
                check_jacobian_memory(part.structures, piece.pairs, family.n_features, dtype)
                q, saved = family.forward(rij, piece.pairs, piece.species, theta)
                found = family.jacobian(rij, piece.pairs, piece.species, theta, saved, part.structures, memory)
            first, before = part.atoms.start, part.atoms.start + piece.atoms.start
            neighbours_from = len(piece.species) - n    # names of neighbours begin behind those of the centres
            yield JacobianBlock(
                slice(before, before + piece.pairs.n_atoms),
                np.ascontiguousarray(to_host(q).T),
                Jacobian(
                    found.centre + before, found.atom + (first - neighbours_from), found.values, structures.n_atoms
                ),
            )


def _kept():
    """Function that makes uninitialised arrays like numpy.empty, all in the same memory, which grows."""
    held = {}

    def memory(shape, dtype):
        n = int(np.prod(shape))
        if dtype not in held or len(held[dtype]) < n:
            held[dtype] = fresh_lines((n + n // 4,), dtype)    # blocks vary in length
        return held[dtype][:n].reshape(shape)

    return memory
