"""Blocks of the Jacobian of Gaussian moments, in SIMD lanes: formula (1) of jacobian.py, without its zeros.

A feature depends on few moments: D is nonzero in a sixth of its places, the same ones for every atom. Lanes are the
pairs of an atom, and behind them the atom itself, whose slopes are minus their sum. A tile of features is turned in
registers, so that blocks are written in runs of features, once.
"""

import numpy as np

from fastdesc.backend.jit import inner, kernel
from fastdesc.descriptors.gaussian_moments.channels import combined
from fastdesc.descriptors.gaussian_moments.contractions import gm_contraction_slopes
from fastdesc.descriptors.gaussian_moments.moments import ROW, pair_geometry
from fastdesc.numerics.monomials import TEN, monomials_0_to_2, monomials_3
from fastdesc.simd import kind_of, lanes, load, peek, rows_of, scratch, splat, store
from fastdesc.simd.functions import dual
from fastdesc.simd.transpose import transpose
from fastdesc.simd.tuples import axpy, load_tuple, store_tuple, zeros

TILES = 4
"""Vectors of features that are written together: pieces of blocks are runs of so many cache lines."""


@inner
def _pairs_in_lanes(kind, rij, first, n, tiles, cutoff, vectors):
    """Vectors of n pairs from pair `first` on, three values a tile; lanes without a pair are beyond the cutoff."""
    for t in range(tiles):
        store(vectors, 3 * t, splat(kind, 2.0 * cutoff))
        store(vectors, 3 * t + 1, splat(kind, 0.0))
        store(vectors, 3 * t + 2, splat(kind, 0.0))
        here = min(lanes(kind), n - t * lanes(kind))
        if here > 0:
            for c in range(3):
                store(vectors, 3 * t + c, 0, here, load(kind, rij, c, first + t * lanes(kind), here))


@inner
def _coefficients(kind, beta, own, first, n, j, species, coefficients):
    """Coefficients of n pairs from pair `first` on, of a centre of element `own`, one value per (s, b)."""
    at = 0
    for s in range(beta.shape[2]):
        for b in range(beta.shape[3]):
            for lane in range(n):
                coefficients[at + lane] = beta[own, species[j[first + lane]], s, b]
            at += lanes(kind)


@inner
def _moment_slopes(kind, dual_kind, c, t, units, channels, rises, monomials, n_radial, n_moments, longest, columns):
    """G of (1) along component c, of the pairs of tile t: R'_s u_c m + R_s dm/dr_c, with dm in dual numbers."""
    x, y, z, inverse = load_tuple(kind, units, 4 * t, 4)
    along = load(kind, units, 4 * t + c)
    turn = along * inverse
    u = dual(x, (1.0 if c == 0 else 0.0) * inverse - x * turn)
    v = dual(y, (1.0 if c == 1 else 0.0) * inverse - y * turn)
    w = dual(z, (1.0 if c == 2 else 0.0) * inverse - z * turn)
    store_tuple(monomials, 0, monomials_0_to_2(dual_kind, u, v, w))
    if n_moments > TEN:
        store_tuple(monomials, TEN, monomials_3(u, v, w))
    for s in range(n_radial):
        channel, rise = load(kind, channels, t * n_radial + s), along * load(kind, rises, t * n_radial + s)
        for m in range(n_moments):    # in memory a value is followed by its tangent
            slope = rise * load(kind, monomials, 2 * m) + channel * load(kind, monomials, 2 * m + 1)
            store(columns, (s * n_moments + m) * longest + t, slope)


@kernel
def gm_jacobian_blocks(
    kind, dual_kind, first, last, row, j, species, rij, beta, other, own, D, starts, which, written, values, n_moments,
    basis, cutoff,
):  # fmt: skip
    """Write the blocks of the atoms first .. last-1.

    in   row (n_atoms + 1,), j (n_pairs,), species (n_atoms,), Rows rij (3, n_pairs) Å
         beta (n_species, n_species, n_radial, n_basis)
         other (n_pairs,), own (n_atoms,): the blocks of pairs and of atoms
         D: Rows (len(which), last - first), what is not zero
         starts (n_features + 1,), which (..): moments that each feature depends on
         written (n_blocks,): False
    out  values: Rows (3 n_blocks, n_features)
    """
    width, n_features = lanes(kind), len(starts) - 1
    n_radial, n_basis = beta.shape[2], beta.shape[3]
    n = n_radial * n_moments
    longest = np.int64(1)
    for i in range(first, last):
        longest = max(longest, (row[i + 1] - row[i] + width) // width)
    columns, turned = scratch(kind, n * longest), scratch(kind, TILES * width)
    slopes = scratch(kind, TILES * width * longest)
    vectors, units, monomials = scratch(kind, 3 * longest), scratch(kind, 4 * longest), scratch(dual_kind, ROW)
    bases, steps = scratch(kind, longest * n_basis), scratch(kind, longest * n_basis)
    channels, rises = scratch(kind, longest * n_radial), scratch(kind, longest * n_radial)
    coefficients = scratch(kind, n_radial * n_basis)
    coefficients[:] = 0
    place_of = which * longest
    factor, fresh, block = np.empty(len(which), columns.dtype), np.empty(0, np.bool_), np.empty(0, np.int64)
    for i in range(first, last):
        m, begin_pairs = row[i + 1] - row[i], row[i]
        tiles = (m + width) // width
        fresh, block = np.empty(m + 1, np.bool_), np.empty(m + 1, np.int64)
        for p in range(m + 1):    # images of one neighbour share a block: the first writes, the others add
            block[p] = other[begin_pairs + p] if p < m else own[i]
            fresh[p] = not written[block[p]]
            written[block[p]] = True
        for k in range(len(which)):
            factor[k] = peek(kind, D, 0, k, i - first)
        _pairs_in_lanes(kind, rij, begin_pairs, m, tiles, cutoff, vectors)
        pair_geometry(kind, vectors, 0, tiles, n_basis, basis, cutoff, units, bases, steps)
        for t in range(tiles):
            here = min(width, m - t * width)
            _coefficients(kind, beta, species[i], begin_pairs + t * width, here, j, species, coefficients)
            combined(kind, coefficients, bases, t, n_radial, n_basis, channels, t * n_radial)
            combined(kind, coefficients, steps, t, n_radial, n_basis, rises, t * n_radial)
        for c in range(3):
            for t in range(tiles):
                _moment_slopes(
                    kind, dual_kind, c, t, units, channels, rises, monomials, n_radial, n_moments, longest, columns
                )
            for s in range(n):
                total, place = splat(kind, 0.0), s * longest
                for t in range(tiles):
                    total = total - load(kind, columns, place + t)
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


def supports(family, dtype):
    """Which moments the features of a descriptor depend on, starts (n_features + 1,) and which (..), int64."""
    n, n_features = family.n_radial * family.n_moments, family.n_features
    some = np.random.default_rng(0).normal(size=(n, 1)).astype(dtype)    # no special ones
    slopes = np.empty((n_features * n, 1), dtype)
    starts, which = np.arange(n_features + 1) * n, np.tile(np.arange(n), n_features)
    contraction_slopes(family, some, 0, 1, starts, which, slopes)
    feature, which = np.nonzero(slopes.reshape(n_features, n))
    starts = np.zeros(n_features + 1, np.int64)
    np.cumsum(np.bincount(feature, minlength=n_features), out=starts[1:])
    return starts, which.astype(np.int64)


def contraction_slopes(family, moments, first, n, starts, which, slopes):
    """Write D of (1) of n atoms, where it is not zero: (len(which), n); moments are rows (.., n_atoms) of all."""
    sizes = family.n_radial, family.n_moments, family.offsets
    rows = rows_of(moments, False), *sizes, starts, which, rows_of(slopes, False)
    gm_contraction_slopes(kind_of(moments.dtype, False), first, n, *rows)
