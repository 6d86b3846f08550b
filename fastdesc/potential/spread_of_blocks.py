"""Spread of energies after one pass, formulas (2) and (3) of fastdesc/potential/uncertainty.py: on the host, in blocks.

The rows R of an element are like one more layer of its network, linear and as wide as both spreads need. They come from
QR factorisations: most tiles of them begin with zeros, which are left out.
"""

import numpy as np

from fastdesc.backend.jit import inner, kernel
from fastdesc.backend.threads import for_chunks
from fastdesc.networks.blocks import TILE, products, tiles
from fastdesc.pairs.blocks import CHUNK
from fastdesc.simd import kind_of, lanes, load, scratch, slots, splat, store

FRAMES = 64
"""Frames whose atoms a thread sums up at a time."""


class SpreadOfBlocks:
    """The rows of all elements, packed for one model.

    Parameters
    ----------
    layer : LastLayer
        Without a direct term.
    model : Model
    uncertainty : Uncertainty

    Attributes
    ----------
    uncertainty : Uncertainty
    """

    def __init__(self, layer, model, uncertainty):
        self.layer, self.uncertainty, self.kind = layer, uncertainty, kind_of(model.scale.dtype, False)
        scale, parts, dtype = np.asarray(model.scale, np.float64), [], model.scale.dtype
        for (rows, n), by in zip(uncertainty.rows(layer, np.float64), scale, strict=True):
            both = [_whole_tiles(by * part) for part in (rows[:n], rows[n:])]
            parts.append(np.concatenate(both))
            self.n_energy = len(both[0])    # rows of the spread of energies; those of distances follow
        rows = np.stack(parts)    # (n_species, n_rows, 1 or 0 + n_last)
        constant = int(layer.constant)
        weights, bias = rows[:, :, constant:], rows[:, :, :constant].sum(axis=2)
        flat = [np.concatenate([tiles(w), b]) for w, b in zip(weights, bias, strict=True)]
        self.weights = np.stack(flat).astype(dtype)
        used = (weights.reshape(len(rows), -1, TILE, weights.shape[2]) != 0).any(axis=(0, 2))
        self.starts = np.where(used.any(axis=1), used.argmax(axis=1), weights.shape[2])
        factor = np.stack([uncertainty.factor[place] for place in layer.places]) * scale[:, None, None]
        blank = np.zeros((len(scale), 1 - constant, factor.shape[2]))    # where last layers have no constant
        self.factor = np.ascontiguousarray(np.concatenate([blank, factor], axis=1))

    def __call__(self, last, pairs, species, blocks):
        """Spread of energies of frames and of atoms, and distances, float64.

        Parameters
        ----------
        last : (n_atoms, n_last) array
            What the last layers multiply.
        pairs : Pairs
        species : (n_atoms,) int32 array
        blocks : PairBlocks
        """
        of_atoms = np.empty((2, pairs.n_atoms))
        given = blocks.atom, blocks.element, last, self.weights, self.starts, self.n_energy, of_atoms
        for_chunks(lambda a, b: spread_of_blocks(self.kind, a, b, *given), blocks.n_blocks, CHUNK)
        of_frames = np.empty(pairs.n_frames)
        given = pairs.first, species, last, self.factor, of_frames
        for_chunks(lambda a, b: spread_of_frames(a, b, *given), pairs.n_frames, FRAMES)
        return [of_frames, *of_atoms]


def _whole_tiles(rows):
    """Rows, with rows of zeros up to a multiple of TILE."""
    return np.concatenate([rows, np.zeros((-len(rows) % TILE, rows.shape[1]))])


@inner
def sum_of_squares(kind, source, first, last):
    total = splat(kind, 0.0)
    for r in range(first, last):
        x = load(kind, source, r)
        total = total + x * x
    return total


@kernel
def spread_of_blocks(kind, first, last_block, atom, element, last, weights, starts, n_energy, out):
    """out[0, i] = |R_E phi_i|, out[1, i] = |R_Z phi_i| of the atoms of these blocks."""
    n_last, n_rows, width = last.shape[1], len(starts) * TILE, lanes(kind)
    x, y, squares = scratch(kind, n_last), scratch(kind, n_rows), scratch(kind, 2)
    flat, n_slots = weights.reshape(-1), slots(kind)
    for block in range(first, last_block):
        for lane in range(width):
            i = max(atom[block, lane], 0)
            for h in range(n_last):
                x[h * n_slots + lane] = last[i, h]
        begin = element[block] * weights.shape[1]
        bias = begin + n_rows * n_last
        for t in range(len(starts)):
            s = starts[t]
            products(kind, flat, begin + (t * n_last + s) * TILE, bias + t * TILE, n_last - s, TILE, x, s, y, t * TILE)
        store(squares, 0, sum_of_squares(kind, y, 0, n_energy))
        store(squares, 1, sum_of_squares(kind, y, n_energy, n_rows))
        for lane in range(width):
            i = atom[block, lane]
            if i >= 0:
                out[0, i], out[1, i] = np.sqrt(squares[lane]), np.sqrt(squares[n_slots + lane])


@kernel
def spread_of_frames(first_frame, last_frame, first, species, last, factor, out):
    """out[f] = |sum of L^T phi_i over the atoms of frame f|: atoms in order, then what they share.

    factor : float64 (n_species, 1 + n_last, n) rows of L times the scale, that of the constant first.
    """
    n_species, n_rows, n = factor.shape
    sums, total = np.empty((n_species, n_rows)), np.empty(n)
    for f in range(first_frame, last_frame):
        sums[:] = 0
        for i in range(first[f], first[f + 1]):
            own = sums[species[i]]
            own[0] += 1
            for h in range(n_rows - 1):
                own[h + 1] += last[i, h]
        total[:] = 0
        for z in range(n_species):
            for h in range(n_rows if sums[z, 0] > 0 else 0):
                s = sums[z, h]
                for k in range(n):
                    total[k] += s * factor[z, h, k]
        square = 0.0
        for k in range(n):
            square += total[k] * total[k]
        out[f] = np.sqrt(square)
