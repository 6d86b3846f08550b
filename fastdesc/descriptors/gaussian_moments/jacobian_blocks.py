"""Blocks of the Jacobian of Gaussian moments, in SIMD lanes: formula (1) of jacobian.py, without its zeros.

A feature depends on few moments: D is nonzero in a sixth of its places, the same ones for every atom. Lanes are the
pairs of an atom, and behind them the atom itself, whose slopes are minus their sum. A tile of features is turned in
registers, so that blocks are written in runs of features, once.
"""

import numpy as np

from fastdesc.backend.jit import kernel
from fastdesc.simd import lanes, load, peek, scratch, splat, store
from fastdesc.simd.transpose import transpose
from fastdesc.simd.tuples import axpy, load_tuple, store_tuple, zeros

TILES = 4
"""Vectors of features that are written together: pieces of blocks are runs of so many cache lines."""


@kernel
def gm_jacobian_blocks(kind, first, last, row, other, own, D, G, n_pairs, starts, which, n, written, values):
    """Write the blocks of the atoms first .. last-1.

    in   row (n_atoms + 1,), other (n_all_pairs,), own (n_atoms,): the blocks of pairs and of atoms
         D: Rows (n_features, (last - first) n), G: Rows (n, 3 n_pairs) of the n_pairs pairs of these atoms
         starts (n_features + 1,), which (..): moments that each feature depends on; n: number of all
         written (n_blocks,): False
    out  values: Rows (3 n_blocks, n_features)
    """
    width, n_features, base = lanes(kind), len(starts) - 1, row[first]
    longest = np.int64(1)
    for i in range(first, last):
        longest = max(longest, (row[i + 1] - row[i] + width) // width)
    columns, turned = scratch(kind, n * longest), scratch(kind, TILES * width)
    slopes = scratch(kind, TILES * width * longest)
    place_of = which * longest
    factor, fresh, block = np.empty(len(which), columns.dtype), np.empty(0, np.bool_), np.empty(0, np.int64)
    for i in range(first, last):
        m, at = row[i + 1] - row[i], row[i] - base
        tiles = (m + width) // width
        fresh, block = np.empty(m + 1, np.bool_), np.empty(m + 1, np.int64)
        for p in range(m + 1):    # images of one neighbour share a block: the first writes, the others add
            block[p] = other[row[i] + p] if p < m else own[i]
            fresh[p] = not written[block[p]]
            written[block[p]] = True
        for f in range(n_features):
            for k in range(starts[f], starts[f + 1]):
                factor[k] = peek(kind, D, 0, f, (i - first) * n + which[k])
        for c in range(3):
            for s in range(n):
                total, place = splat(kind, 0.0), s * longest
                for t in range(tiles):
                    x = load(kind, G, s, c * n_pairs + at + t * width, max(0, min(width, m - t * width)))
                    store(columns, place + t, x)
                    total = total - x
                store(turned, 0, total)
                columns[place * width + m] = turned[:width].sum()
            for begin in range(0, n_features, TILES * width):
                n_own = min(TILES * width, n_features - begin)
                for f in range(n_own):
                    t = 0
                    while t + 4 <= tiles:
                        four = zeros(splat(kind, 0.0), 4)
                        for k in range(starts[begin + f], starts[begin + f + 1]):
                            x = load_tuple(kind, columns, place_of[k] + t, 4)
                            four = axpy(splat(kind, factor[k]), x, four)
                        store_tuple(slopes, f * longest + t, four)
                        t += 4
                    while t < tiles:
                        one = splat(kind, 0.0)
                        for k in range(starts[begin + f], starts[begin + f + 1]):
                            one = one + factor[k] * load(kind, columns, place_of[k] + t)
                        store(slopes, f * longest + t, one)
                        t += 1
                for t in range(tiles):
                    for u in range((n_own + width - 1) // width):
                        transpose(kind, slopes, u * width * longest + t, longest, turned, u * width)
                    for p in range(t * width, min((t + 1) * width, m + 1)):
                        target = 3 * block[p] + c
                        for u in range((n_own + width - 1) // width):
                            f, n_here = begin + u * width, min(width, n_own - u * width)
                            x = load(kind, turned, u * width + p - t * width)
                            if not fresh[p]:
                                x = x + load(kind, values, target, f, n_here)
                            store(values, target, f, n_here, x)


def supports(slopes):
    """Which moments the features depend on, starts (n_features + 1,) and which (..), int64.

    Parameters
    ----------
    slopes : (n_features, n_in) array
        D of an atom whose moments are no special ones.
    """
    feature, which = np.nonzero(slopes)
    starts = np.zeros(len(slopes) + 1, np.int64)
    np.cumsum(np.bincount(feature, minlength=len(slopes)), out=starts[1:])
    return starts, which.astype(np.int64)
