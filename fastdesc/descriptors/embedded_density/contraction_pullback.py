"""Embedded density, the part that runs over atoms: pullbacks of the features to densities and to hyper.

With P_m[c] and w_c of contraction.py,

    dA[k, c] = sum_m h_{l,k,m} g_m[c],   g_m[c] = 2 w_c dq_m P_m[c]                                    (1)
    dh_{l,k,m} = 2 sum_k' h_{l,k',m} sum_atoms dq_m G_{l,k,k'}                                         (2)
    G_{l,k,k'} = sum_{c of degree l} w_c A[k, c] A[k', c]                                              (3)

and without h, with one feature for each (l, k),

    dA[k, c] = 2 w_c dq_{l,k} A[k, c]                                                                  (4)

(2) is a matrix product over atoms, of as many operations as forming P and summing would take, but BLAS does it. In (1)
P is formed anew: cheaper than keeping n_features x n_moments numbers per atom.
"""

import numpy as np

from fastdesc.backend.arrays import namespace
from fastdesc.backend.jit import inner, kernel
from fastdesc.descriptors.embedded_density.contraction import (
    DEGREE_STARTS,
    FEATURES,
    LAST_WEIGHT,
    N_TRIPLES,
    ORDER,
    TRIPLE_DEGREE,
    TRIPLE_WEIGHT,
    WEIGHTS,
    group_at,
    load_groups,
    project1,
    project3,
)
from fastdesc.simd import lanes, load, scratch, splat, store
from fastdesc.simd.gather import add_scaled, coefficient
from fastdesc.simd.tuples import load_tuple, store_tuple


@inner
def store_groups(density, i, n, n_radial, n_moments, kind, a):
    """Inverse of load_groups."""
    for place in range(n_moments):
        group_start, size = group_at(place)
        for k in range(n_radial):
            x = load(kind, a, group_start * n_radial + k * size + place - group_start)
            store(density, k * n_moments + ORDER[place], i, n, x)


@inner
def _load_features(kind, dq, m, i, n, n_features):
    """Twice the cotangents of four features; zero beyond the last."""
    zero = splat(kind, 0.0)
    d0, d1, d2, d3 = load(kind, dq, m, i, n) * 2.0, zero, zero, zero
    if m + 1 < n_features:
        d1 = load(kind, dq, m + 1, i, n) * 2.0
    if m + 2 < n_features:
        d2 = load(kind, dq, m + 2, i, n) * 2.0
    if m + 3 < n_features:
        d3 = load(kind, dq, m + 3, i, n) * 2.0
    return d0, d1, d2, d3


@inner
def _scale1(x, w, p):
    s = x * w
    return (s * p[0],)


@inner
def _scale3(x, w, p):
    s = x * w
    return s * p[0], s * p[1], s * p[2]


@inner
def _weighted1(w, d, p):
    return _scale1(d[0], w, p[0]), _scale1(d[1], w, p[1]), _scale1(d[2], w, p[2]), _scale1(d[3], w, p[3])


@inner
def _weighted3(w, d, p):
    return _scale3(d[0], w, p[0]), _scale3(d[1], w, p[1]), _scale3(d[2], w, p[2]), _scale3(d[3], w, p[3])


@inner
def _back1(kind, hyper, at, g, da, slot, n_radial):
    """Formula (1) for four features and one monomial, added to da."""
    for k in range(n_radial):
        x = load_tuple(kind, da, slot + k, 1)
        x = add_scaled(coefficient(kind, hyper, at + 4 * k), g[0], x)
        x = add_scaled(coefficient(kind, hyper, at + 4 * k + 1), g[1], x)
        x = add_scaled(coefficient(kind, hyper, at + 4 * k + 2), g[2], x)
        x = add_scaled(coefficient(kind, hyper, at + 4 * k + 3), g[3], x)
        store_tuple(da, slot + k, x)


@inner
def _back3(kind, hyper, at, g, da, slot, n_radial):
    """Formula (1) for four features and three monomials, added to da."""
    for k in range(n_radial):
        x = load_tuple(kind, da, slot + 3 * k, 3)
        x = add_scaled(coefficient(kind, hyper, at + 4 * k), g[0], x)
        x = add_scaled(coefficient(kind, hyper, at + 4 * k + 1), g[1], x)
        x = add_scaled(coefficient(kind, hyper, at + 4 * k + 2), g[2], x)
        x = add_scaled(coefficient(kind, hyper, at + 4 * k + 3), g[3], x)
        store_tuple(da, slot + 3 * k, x)


@kernel
def ed_contract_pullback(kind, first, last, hyper, density, dq, ddensity, n_radial, l_max, n_features):
    """Pullback (1) of ed_contract to the densities of atoms first .. last-1.

    in   hyper, density as for ed_contract; Rows dq (planes, n_features, n_atoms)
    out  Rows ddensity like density
    """
    width, n_moments = lanes(kind), DEGREE_STARTS[l_max + 1]
    a = scratch(kind, n_radial * n_moments)
    da = scratch(kind, n_radial * n_moments)
    for i in range(first, last, width):
        n = min(width, last - i)
        load_groups(kind, density, i, n, n_radial, n_moments, a)
        da[:] = 0
        for m in range(0, n_features, FEATURES):
            at = m * (l_max + 1) * n_radial
            d = _load_features(kind, dq, m, i, n, n_features)
            g1 = _weighted1(1.0, d, project1(kind, hyper, at, a, 0, n_radial))
            _back1(kind, hyper, at, g1, da, 0, n_radial)
            for t in range(N_TRIPLES[l_max]):
                here, slot = at + TRIPLE_DEGREE[t] * n_radial * FEATURES, (1 + 3 * t) * n_radial
                g3 = _weighted3(TRIPLE_WEIGHT[t], d, project3(kind, hyper, here, a, slot, n_radial))
                _back3(kind, hyper, here, g3, da, slot, n_radial)
            if l_max == 3:
                here = at + 3 * n_radial * FEATURES
                g1 = _weighted1(LAST_WEIGHT, d, project1(kind, hyper, here, a, 19 * n_radial, n_radial))
                _back1(kind, hyper, here, g1, da, 19 * n_radial, n_radial)
        store_groups(ddensity, i, n, n_radial, n_moments, kind, da)


@kernel
def ed_gram(kind, first, last, density, gram, n_radial, l_max):
    """Products (3) of atoms first .. last-1.

    in   Rows density (planes, n_radial, n_moments, n_atoms)
    out  Rows gram (planes, (l_max+1) n_radial (n_radial+1) / 2, n_atoms)
    """
    width, n_moments = lanes(kind), DEGREE_STARTS[l_max + 1]
    a = scratch(kind, n_radial * n_moments)
    for i in range(first, last, width):
        n = min(width, last - i)
        for x in range(n_radial * n_moments):
            store(a, x, load(kind, density, x, i, n))
        row = 0
        for l in range(l_max + 1):
            for k in range(n_radial):
                for k2 in range(k, n_radial):
                    total = splat(kind, 0.0)
                    for c in range(DEGREE_STARTS[l], DEGREE_STARTS[l + 1]):
                        x, y = load(kind, a, k * n_moments + c), load(kind, a, k2 * n_moments + c)
                        total = total + WEIGHTS[c] * (x * y)
                    store(gram, row, i, n, total)
                    row += 1


@kernel
def ed_squares_pullback(kind, first, last, density, dq, ddensity, n_radial, l_max):
    """Pullback (4) of ed_squares.

    in   Rows density (planes, n_radial, n_moments, n_atoms), dq (planes, (l_max+1) n_radial, n_atoms)
    out  Rows ddensity like density
    """
    width, n_moments = lanes(kind), DEGREE_STARTS[l_max + 1]
    for i in range(first, last, width):
        n = min(width, last - i)
        for l in range(l_max + 1):
            for k in range(n_radial):
                d = load(kind, dq, l * n_radial + k, i, n) * 2.0
                for c in range(DEGREE_STARTS[l], DEGREE_STARTS[l + 1]):
                    x = load(kind, density, k * n_moments + c, i, n)
                    store(ddensity, k * n_moments + c, i, n, WEIGHTS[c] * (d * x))


def gram_products(gram, dq):
    """Sum over atoms of G dq_m in formula (2), for a block of atoms.

    Parameters
    ----------
    gram : array ((2,) (l_max+1) n_radial (n_radial+1) / 2, n_atoms)
        Plain, or dual.
    dq : array ((2,) n_features, n_atoms)

    Returns
    -------
    array ((2,) rows of gram, n_features), float64
    """
    if gram.ndim == 2:
        return (gram @ dq.T).astype(np.float64)
    value, tangent = gram[0] @ dq[0].T, gram[1] @ dq[0].T
    tangent += gram[0] @ dq[1].T
    return namespace(gram).stack([value, tangent]).astype(np.float64)


def hyper_pullback(hyper, total):
    """Formula (2).

    Parameters
    ----------
    hyper : array ((2,) l_max+1, n_radial, n_features)
        Plain, or dual.
    total : array ((2,) rows of gram, n_features)
        Sum of `gram_products` over blocks of atoms and iterations.

    Returns
    -------
    array ((2,) l_max+1, n_radial, n_features), dual as `total` is
    """
    if total.ndim == 2:
        return _times_hyper(hyper, total)
    h, th = hyper if hyper.ndim == 4 else (hyper, None)
    value, tangent = _times_hyper(h, total[0]), _times_hyper(h, total[1])
    return namespace(h).stack([value, tangent if th is None else tangent + _times_hyper(th, total[0])])


def _times_hyper(h, sums):
    """2 sum_k' h_{l,k',m} sums_{(l,k,k'),m}."""
    xp = namespace(h)
    n_l, n_radial, n_features = h.shape
    k, k2 = np.triu_indices(n_radial)
    at = np.empty((n_radial, n_radial), np.int64)
    at[k, k2] = at[k2, k] = np.arange(len(k))
    square = sums.reshape(n_l, len(k), n_features)[:, xp.asarray(at)]
    return 2 * (square * h[:, None]).sum(axis=2)
