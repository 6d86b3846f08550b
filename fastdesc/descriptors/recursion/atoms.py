"""Recursion, what atoms do by themselves between two visits of the pairs: from moments to features and weights.

    q = contractions of the moments M, or of densities       a family's contraction: features, pullback, products (1)
    w^(t+1) - w^(t) = N_{t+1}(q)                             networks.py                                       (2)

Features and hidden values are dropped in the forward pass and made anew in the pullback, block by block, so that they
never exist for all atoms. With 108 features and networks 128-128 in float32 they are 2.5 kB per atom and iteration,
beside 0.7 kB of densities, their cotangents and weights; on duals 7 kB beside 1.4 kB.
"""

from functools import partial

import numpy as np

from fastdesc.backend.arrays import namespace, padded
from fastdesc.backend.threads import for_chunks, single_threaded_blas

BLOCK, GPU_BLOCK = 256, 32768
"""Atoms: layers of the networks then stay in the second-level cache of a CPU."""
AT_ONCE = 64
"""Blocks on the CPU whose sums may wait to be added up, in their order."""


def nothing(density, dq):
    """Products of a contraction when its parameters are not asked for."""
    return 0.0


def rows_like(density, n_rows):
    """Return an uninitialised array ((2,) n_rows, n_atoms) for densities ((2,) n_radial, n_moments, n_atoms)."""
    return padded((*density.shape[:-3], n_rows, density.shape[-1]), density.dtype, density)


def update(contraction, networks, density, elements):
    """Formula (2): what an iteration adds to the weights, ((2,) n_radial, n_atoms).

    `elements` are species and Pairs.columns.
    """
    y = rows_like(density, density.shape[-3])

    def block(first, last):
        q = contraction.features(density[..., first:last])
        y[..., first:last] = networks.forward(q, *_elements_of(elements, first, last))[0]

    for _ in _in_blocks(block, density):
        pass
    return y


def given(dq):
    """Cotangents of features that are the descriptor's own: see densities_pullback."""
    return lambda first, last, density: (dq[..., first:last], None)


def through(networks, back, contraction, elements, dc):
    """Cotangents of features that are known to networks alone, by `back`, one of their two pullbacks."""

    def cotangents(first, last, density):
        q = contraction.features(density)
        saved = networks.forward(q, *_elements_of(elements, first, last))[1]
        return back(networks, q, saved, dc[..., first:last])

    return cotangents


def densities_pullback(contraction, cotangents, products, density, ddensity):
    """Write ddensity, shaped as densities, from cotangents of their features.

    Parameters
    ----------
    cotangents : function
        (first, last, density) -> dq of these atoms, and what the networks' `add` takes, or None.
    products : function
        (density, dq) -> what is summed for the parameters of the contraction.

    Yields
    ------
    products, and the second of what `cotangents` returns
        Of each block, in order of atoms.
    """

    def block(first, last):
        here = density[..., first:last]
        dq, dlayers = cotangents(first, last, here)
        contraction.pullback(here, dq, ddensity[..., first:last])
        return products(here, dq), dlayers

    return _in_blocks(block, density)


def _elements_of(elements, first, last):
    """Species of a block, and the atoms of each where they are known: where the block is all there is."""
    species, columns = elements
    return species[first:last], columns if last - first == len(species) else None


def _in_blocks(task, density):
    """Yield task(first, last) for blocks of atoms, in order; on the CPU our threads instead of those of BLAS."""
    n = density.shape[-1]
    if namespace(density) is not np:
        for first in range(0, n, GPU_BLOCK):
            yield task(first, min(first + GPU_BLOCK, n))
        return
    together = BLOCK * AT_ONCE
    for first in range(0, n, together):
        with single_threaded_blas():
            results = for_chunks(partial(_shifted, task, first), min(together, n - first), BLOCK)
        yield from results


def _shifted(task, by, first, last):
    return task(by + first, by + last)
