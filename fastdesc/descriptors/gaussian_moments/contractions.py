"""Gaussian moments, the part that runs over atoms: invariants from moments, and their pullback.

Indices i, j, k, l run over x, y, z; r, s, t over radial channels; only symmetry-unique tuples are features.

    1  M0_r                               5  M2_rij M2_sik M2_tjk     r <= s <= t
    2  M1_ri M1_si         r <= s         6  M1_ri M1_sj M2_tij       r <= s
    3  M2_rij M2_sij       r <= s         7  M3_rijk M3_sijl M2_tkl   r <= s
    4  M3_rijk M3_sijk     r <= s         8  M3_rijk M2_sij M1_tk

2 to 4 are pairs a : b of one rank; 5 to 8 have the form P(a, b) : c, where P is a symmetric product of two moments and
formed once for all t. What differs from one to the next, ranks, products and tuples, are functions handed to one loop.
"""

import numpy as np

from fastdesc.backend.jit import inner, kernel
from fastdesc.descriptors.gaussian_moments.tensor_products import (
    matrices_product,
    matrices_product_pullback,
    tensor_matrix_product,
    tensor_matrix_pullback_matrix,
    tensor_matrix_pullback_tensor,
    tensors_product,
    tensors_product_pullback,
    vectors_product,
    vectors_product_pullback,
    weighted6,
    weighted10,
)
from fastdesc.simd import lanes, load, scratch, splat, store
from fastdesc.simd.tuples import add_tuple, axpy, dot, load_tuple, store_tuple, zeros

ROW = 20  # slots per radial channel: ranks 0, 1, 2, 3 begin at
RANK1, RANK2, RANK3 = 1, 4, 10


@inner
def _vector(kind, m, r):
    return load_tuple(kind, m, r * ROW + RANK1, 3)


@inner
def _matrix(kind, m, r):
    return load_tuple(kind, m, r * ROW + RANK2, 6)


@inner
def _tensor(kind, m, r):
    return load_tuple(kind, m, r * ROW + RANK3, 10)


@inner
def _weighted3(a):
    """All entries of a vector stand for themselves."""
    return a


@inner
def _any(r):
    """First partner of channel r where the order counts."""
    return 0


@inner
def _later(r):
    """First partner of channel r where it does not."""
    return r


@inner
def _load_channels(kind, array, i, n, n_radial, n_moments, memory):
    """Rows (n_radial, n_moments) of an outside array into scratch rows of twenty."""
    for s in range(n_radial):
        for c in range(n_moments):
            store(memory, s * ROW + c, load(kind, array, s * n_moments + c, i, n))


# --------------------------------------------------------------------------------------------------------- features


@inner
def _pairs(kind, m, q, f, i, n, n_radial, rank, weighted):
    """Contractions 2, 3 and 4, features from number f on; left out where f is negative."""
    for r in range(n_radial if f >= 0 else 0):
        a = weighted(rank(kind, m, r))
        for s in range(r, n_radial):
            store(q, f, i, n, dot(a, rank(kind, m, s)))
            f += 1


@inner
def _triples(kind, m, q, f, i, n, n_radial, first, second, third, product, s_from, t_from):
    """Contractions 5 to 8, features from number f on; left out where f is negative."""
    for r in range(n_radial if f >= 0 else 0):
        a = first(kind, m, r)
        for s in range(s_from(r), n_radial):
            P = product(a, second(kind, m, s))
            for t in range(t_from(s), n_radial):
                store(q, f, i, n, dot(P, third(kind, m, t)))
                f += 1


@inner
def contract_block(kind, m, q, i, n, n_radial, offsets):
    """Features of atoms i .. i+n-1 into Rows q, of moments in scratch rows of twenty; offsets int64 (8,)."""
    o = offsets
    for r in range(n_radial if o[0] >= 0 else 0):
        store(q, o[0] + r, i, n, load(kind, m, r * ROW))
    _pairs(kind, m, q, o[1], i, n, n_radial, _vector, _weighted3)
    _pairs(kind, m, q, o[2], i, n, n_radial, _matrix, weighted6)
    _pairs(kind, m, q, o[3], i, n, n_radial, _tensor, weighted10)
    _triples(kind, m, q, o[4], i, n, n_radial, _matrix, _matrix, _matrix, matrices_product, _later, _later)
    _triples(kind, m, q, o[5], i, n, n_radial, _vector, _vector, _matrix, vectors_product, _later, _any)
    _triples(kind, m, q, o[6], i, n, n_radial, _tensor, _tensor, _matrix, tensors_product, _later, _any)
    _triples(kind, m, q, o[7], i, n, n_radial, _tensor, _matrix, _vector, tensor_matrix_product, _any, _any)


@kernel
def gm_contract(kind, first, last, moments, q, n_radial, n_moments, offsets):
    """Invariants of atoms first .. last-1.

    in   Rows moments (planes, n_radial, n_moments, n_atoms)
         offsets (8,) first feature of each contraction, -1 for those left out
    out  Rows q (planes, n_features, n_atoms)
    """
    width = lanes(kind)
    m = scratch(kind, n_radial * ROW)
    o = offsets.astype(np.int64)
    for i in range(first, last, width):
        n = min(width, last - i)
        _load_channels(kind, moments, i, n, n_radial, n_moments, m)
        contract_block(kind, m, q, i, n, n_radial, o)


# --------------------------------------------------------------------------------------------------------- pullback


@inner
def _pull_pairs(kind, m, dm, dq, f, i, n, n_radial, rank, at, weighted):
    """Contractions 2, 3 and 4: dM_r += dq w M_s and dM_s += dq w M_r, moments of a rank that begins at slot `at`."""
    for r in range(n_radial if f >= 0 else 0):
        for s in range(r, n_radial):
            g = load(kind, dq, f, i, n)
            f += 1
            for a, b in ((r, s), (s, r)):
                store_tuple(dm, a * ROW + at, axpy(g, weighted(rank(kind, m, b)), rank(kind, dm, a)))


@inner
def _pull_third(kind, m, dm, dq, f, i, n, n_radial, P, no_cotangent, third, at, t_from):
    """dP = sum_t dq_t c_t and dc_t += dq_t P for features P : c_t."""
    dP = no_cotangent
    for t in range(t_from, n_radial):
        g = load(kind, dq, f + t - t_from, i, n)
        dP = axpy(g, third(kind, m, t), dP)
        store_tuple(dm, t * ROW + at, axpy(g, P, third(kind, dm, t)))
    return dP


@inner
def _pull_triples(kind, m, dm, dq, f, i, n, n_radial, rank, at, product, product_pullback, t_from):
    """Contractions 5, 6 and 7: products of two moments of one rank with a matrix."""
    none = zeros(splat(kind, 0.0), 6)
    for r in range(n_radial if f >= 0 else 0):
        for s in range(r, n_radial):
            a, b = rank(kind, m, r), rank(kind, m, s)
            begin = t_from(s)
            d = _pull_third(kind, m, dm, dq, f, i, n, n_radial, product(a, b), none, _matrix, RANK2, begin)
            f += n_radial - begin
            add_tuple(dm, r * ROW + at, product_pullback(d, b))
            add_tuple(dm, s * ROW + at, product_pullback(d, a))


@inner
def _pull_tensor_matrix(kind, m, dm, dq, f, i, n, n_radial):
    """Contraction 8."""
    none = zeros(splat(kind, 0.0), 3)
    for r in range(n_radial if f >= 0 else 0):
        a = _tensor(kind, m, r)
        for s in range(n_radial):
            b = _matrix(kind, m, s)
            v = tensor_matrix_product(a, b)
            d = _pull_third(kind, m, dm, dq, f, i, n, n_radial, v, none, _vector, RANK1, 0)
            f += n_radial
            add_tuple(dm, s * ROW + RANK2, tensor_matrix_pullback_matrix(d, a))
            add_tuple(dm, r * ROW + RANK3, tensor_matrix_pullback_tensor(d, b))


@inner
def contract_pullback_block(kind, m, dq, i, n, n_radial, offsets, dm):
    """Pullback of contract_block: cotangents dm, in scratch rows of twenty, of Rows dq."""
    o = offsets
    for k in range(len(dm)):
        dm[k] = 0
    for r in range(n_radial if o[0] >= 0 else 0):
        store(dm, r * ROW, load(kind, dq, o[0] + r, i, n))
    _pull_pairs(kind, m, dm, dq, o[1], i, n, n_radial, _vector, RANK1, _weighted3)
    _pull_pairs(kind, m, dm, dq, o[2], i, n, n_radial, _matrix, RANK2, weighted6)
    _pull_pairs(kind, m, dm, dq, o[3], i, n, n_radial, _tensor, RANK3, weighted10)
    _pull_triples(
        kind, m, dm, dq, o[4], i, n, n_radial, _matrix, RANK2, matrices_product, matrices_product_pullback, _later
    )
    _pull_triples(
        kind, m, dm, dq, o[5], i, n, n_radial, _vector, RANK1, vectors_product, vectors_product_pullback, _any
    )
    _pull_triples(
        kind, m, dm, dq, o[6], i, n, n_radial, _tensor, RANK3, tensors_product, tensors_product_pullback, _any
    )
    _pull_tensor_matrix(kind, m, dm, dq, o[7], i, n, n_radial)


@kernel
def gm_contract_pullback(kind, first, last, moments, dq, dmoments, n_radial, n_moments, offsets):
    """Pullback of gm_contract.

    in   Rows moments (planes, n_radial, n_moments, n_atoms), dq (planes, n_features, n_atoms); offsets (8,)
    out  Rows dmoments like moments
    """
    width = lanes(kind)
    m = scratch(kind, n_radial * ROW)
    dm = scratch(kind, n_radial * ROW)
    o = offsets.astype(np.int64)
    for i in range(first, last, width):
        n = min(width, last - i)
        _load_channels(kind, moments, i, n, n_radial, n_moments, m)
        contract_pullback_block(kind, m, dq, i, n, n_radial, o, dm)
        for s in range(n_radial):
            for c in range(n_moments):
                store(dmoments, s * n_moments + c, i, n, load(kind, dm, s * ROW + c))


# ----------------------------------------------------------------------------------------------------------- slopes
#
# Of one feature after the other: cotangents of its moments are those of `contract_pullback_block` with dq = 1. They lie
# in scratch rows of twenty, zero but for the feature at work.


@inner
def _emit(kind, dm, slots, starts, f, n, slopes):
    """Write what feature f depends on, and leave zeros."""
    for k in range(starts[f], starts[f + 1]):
        store(slopes, k, 0, n, load(kind, dm, slots[k]))
        store(dm, slots[k], splat(kind, 0.0))


@inner
def _pair_slopes(kind, m, dm, f, emitted, n_radial, rank, at, weighted):
    """Contractions 2, 3 and 4."""
    slots, starts, n, slopes = emitted
    for r in range(n_radial if f >= 0 else 0):
        for s in range(r, n_radial):
            add_tuple(dm, r * ROW + at, weighted(rank(kind, m, s)))
            add_tuple(dm, s * ROW + at, weighted(rank(kind, m, r)))
            _emit(kind, dm, slots, starts, f, n, slopes)
            f += 1


@inner
def _triple_slopes(kind, m, dm, f, emitted, n_radial, rank, at, product, product_pullback, t_from):
    """Contractions 5, 6 and 7."""
    slots, starts, n, slopes = emitted
    for r in range(n_radial if f >= 0 else 0):
        a = rank(kind, m, r)
        for s in range(r, n_radial):
            b = rank(kind, m, s)
            P = product(a, b)
            for t in range(t_from(s), n_radial):
                c = _matrix(kind, m, t)
                add_tuple(dm, r * ROW + at, product_pullback(c, b))
                add_tuple(dm, s * ROW + at, product_pullback(c, a))
                add_tuple(dm, t * ROW + RANK2, P)
                _emit(kind, dm, slots, starts, f, n, slopes)
                f += 1


@inner
def _tensor_matrix_slopes(kind, m, dm, f, emitted, n_radial):
    """Contraction 8."""
    slots, starts, n, slopes = emitted
    for r in range(n_radial if f >= 0 else 0):
        a = _tensor(kind, m, r)
        for s in range(n_radial):
            b = _matrix(kind, m, s)
            v = tensor_matrix_product(a, b)
            for t in range(n_radial):
                c = _vector(kind, m, t)
                add_tuple(dm, t * ROW + RANK1, v)
                add_tuple(dm, s * ROW + RANK2, tensor_matrix_pullback_matrix(c, a))
                add_tuple(dm, r * ROW + RANK3, tensor_matrix_pullback_tensor(c, b))
                _emit(kind, dm, slots, starts, f, n, slopes)
                f += 1


@kernel
def gm_contraction_slopes(kind, first, n, moments, n_radial, n_moments, offsets, starts, which, slopes):
    """Derivatives of all features of atoms first .. first+n-1, of one vector or less, by the moments they depend on.

    in   Rows moments (n_radial, n_moments, n_atoms); offsets (8,)
         starts (n_features + 1,), which (..): moments that each feature depends on
    out  Rows slopes (len(which), n)
    """
    m, dm = scratch(kind, n_radial * ROW), scratch(kind, n_radial * ROW)
    dm[:] = 0
    o, slots = offsets.astype(np.int64), which // n_moments * ROW + which % n_moments
    _load_channels(kind, moments, first, n, n_radial, n_moments, m)
    emitted = slots, starts, n, slopes
    for r in range(n_radial if o[0] >= 0 else 0):
        store(dm, r * ROW, splat(kind, 1.0))
        _emit(kind, dm, slots, starts, o[0] + r, n, slopes)
    _pair_slopes(kind, m, dm, o[1], emitted, n_radial, _vector, RANK1, _weighted3)
    _pair_slopes(kind, m, dm, o[2], emitted, n_radial, _matrix, RANK2, weighted6)
    _pair_slopes(kind, m, dm, o[3], emitted, n_radial, _tensor, RANK3, weighted10)
    _triple_slopes(
        kind, m, dm, o[4], emitted, n_radial, _matrix, RANK2, matrices_product, matrices_product_pullback, _later
    )
    _triple_slopes(
        kind, m, dm, o[5], emitted, n_radial, _vector, RANK1, vectors_product, vectors_product_pullback, _any
    )
    _triple_slopes(
        kind, m, dm, o[6], emitted, n_radial, _tensor, RANK3, tensors_product, tensors_product_pullback, _any
    )
    _tensor_matrix_slopes(kind, m, dm, o[7], emitted, n_radial)
