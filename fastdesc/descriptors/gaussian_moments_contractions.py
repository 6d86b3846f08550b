"""Gaussian moments, the part that runs over atoms: invariants from moments, and their pullback.

Indices i, j, k, l run over x, y, z; r, s, t over radial channels; only symmetry-unique tuples are features.

    1  M0_r                               5  M2_rij M2_sik M2_tjk     r <= s <= t
    2  M1_ri M1_si         r <= s         6  M1_ri M1_sj M2_tij       r <= s
    3  M2_rij M2_sij       r <= s         7  M3_rijk M3_sijl M2_tkl   r <= s
    4  M3_rijk M3_sijk     r <= s         8  M3_rijk M2_sij M1_tk

5, 6 and 7 have the form S_kl M2_tkl, where S is a symmetric product of two moments; 8 the form v_k M1_tk. S and v
are formed once for all t. Symmetric tensors keep their unique entries, xx xy xz yy yz zz and so on; an entry that
stands for several carries their number as weight, which is folded into S.
"""

import numpy as np

from fastdesc.jit import inner, kernel
from fastdesc.simd import lanes, load, load_atoms, scratch, splat, store, store_atoms
from fastdesc.simd_math import add_tuple, axpy, dot, load_tuple, store_tuple, zeros

ROW = 20  # slots per radial channel: ranks 0, 1, 2, 3 begin at
RANK1, RANK2, RANK3 = 1, 4, 10


@inner
def _weighted6(a):
    return (a[0], a[1] + a[1], a[2] + a[2], a[3], a[4] + a[4], a[5])


@inner
def _weighted10(a):
    return (
        a[0], a[1] * 3.0, a[2] * 3.0, a[3] * 3.0, a[4] * 6.0, a[5] * 3.0, a[6], a[7] * 3.0, a[8] * 3.0, a[9],
    )  # fmt: skip


@inner
def _slices(a):
    """The symmetric matrices a_ijx, a_ijy, a_ijz of a rank-3 tensor."""
    x = (a[0], a[1], a[2], a[3], a[4], a[5])
    y = (a[1], a[3], a[4], a[6], a[7], a[8])
    z = (a[2], a[4], a[5], a[7], a[8], a[9])
    return x, y, z


@inner
def _unslice(x, y, z):
    """Adjoint of _slices."""
    return (
        x[0], x[1] + y[0], x[2] + z[0], x[3] + y[1], x[4] + y[2] + z[1], x[5] + z[2], y[3], y[4] + z[3],
        y[5] + z[4], z[5],
    )  # fmt: skip


@inner
def _vectors_product(a, b):
    """Weighted symmetric part of a_k b_l (contraction 6)."""
    return (
        a[0] * b[0], a[0] * b[1] + a[1] * b[0], a[0] * b[2] + a[2] * b[0],
        a[1] * b[1], a[1] * b[2] + a[2] * b[1], a[2] * b[2],
    )  # fmt: skip


@inner
def _vectors_product_pullback(d, b):
    """Cotangent of `a` in _vectors_product(a, b); it is symmetric, so also of b, given a."""
    return (
        d[0] * b[0] + d[1] * b[1] + d[2] * b[2],
        d[1] * b[0] + d[3] * b[1] + d[4] * b[2],
        d[2] * b[0] + d[4] * b[1] + d[5] * b[2],
    )


@inner
def _matrices_product(a, b):
    """Weighted symmetric part of a_jk b_jl (contraction 5)."""
    return (
        a[0] * b[0] + a[1] * b[1] + a[2] * b[2],
        a[0] * b[1] + a[1] * b[3] + a[2] * b[4] + b[0] * a[1] + b[1] * a[3] + b[2] * a[4],
        a[0] * b[2] + a[1] * b[4] + a[2] * b[5] + b[0] * a[2] + b[1] * a[4] + b[2] * a[5],
        a[1] * b[1] + a[3] * b[3] + a[4] * b[4],
        a[1] * b[2] + a[3] * b[4] + a[4] * b[5] + b[1] * a[2] + b[3] * a[4] + b[4] * a[5],
        a[2] * b[2] + a[4] * b[4] + a[5] * b[5],
    )


@inner
def _matrices_product_pullback(d, b):
    """Cotangent of `a` in _matrices_product(a, b); it is symmetric, so also of b, given a."""
    return (
        d[0] * b[0] + d[1] * b[1] + d[2] * b[2],
        (d[0] + d[3]) * b[1] + d[1] * (b[0] + b[3]) + d[2] * b[4] + d[4] * b[2],
        (d[0] + d[5]) * b[2] + d[1] * b[4] + d[2] * (b[0] + b[5]) + d[4] * b[1],
        d[3] * b[3] + d[1] * b[1] + d[4] * b[4],
        (d[3] + d[5]) * b[4] + d[1] * b[2] + d[2] * b[1] + d[4] * (b[3] + b[5]),
        d[5] * b[5] + d[2] * b[2] + d[4] * b[4],
    )


@inner
def _tensors_product(a, b):
    """Weighted symmetric part of a_ijk b_ijl (contraction 7)."""
    ax, ay, az = _slices(a)
    bx, by, bz = _slices(b)
    bx, by, bz = _weighted6(bx), _weighted6(by), _weighted6(bz)
    return (
        dot(ax, bx), dot(ax, by) + dot(ay, bx), dot(ax, bz) + dot(az, bx),
        dot(ay, by), dot(ay, bz) + dot(az, by), dot(az, bz),
    )  # fmt: skip


@inner
def _combine3(p, x, q, y, r, z):
    """The tuple p x + q y + r z."""
    return (
        p * x[0] + q * y[0] + r * z[0], p * x[1] + q * y[1] + r * z[1], p * x[2] + q * y[2] + r * z[2],
        p * x[3] + q * y[3] + r * z[3], p * x[4] + q * y[4] + r * z[4], p * x[5] + q * y[5] + r * z[5],
    )  # fmt: skip


@inner
def _tensors_product_pullback(d, b):
    """Cotangent of `a` in _tensors_product(a, b); it is symmetric, so also of b, given a."""
    bx, by, bz = _slices(b)
    bx, by, bz = _weighted6(bx), _weighted6(by), _weighted6(bz)
    return _unslice(
        _combine3(d[0], bx, d[1], by, d[2], bz),
        _combine3(d[1], bx, d[3], by, d[4], bz),
        _combine3(d[2], bx, d[4], by, d[5], bz),
    )


@inner
def _tensor_matrix_product(a, b):
    """Vector a_ijk b_ij (contraction 8)."""
    ax, ay, az = _slices(a)
    b = _weighted6(b)
    return dot(ax, b), dot(ay, b), dot(az, b)


@inner
def _load_channels(kind, array, i, n, n_radial, n_moments, memory):
    """Rows (n_radial, n_moments) of an outside array into scratch rows of twenty."""
    for s in range(n_radial):
        for c in range(n_moments):
            store(memory, s * ROW + c, load_atoms(kind, array, s * n_moments + c, i, n))


@kernel
def gm_contract(kind, first, last, moments, q, n_radial, n_moments, offsets):
    """Invariants of atoms first .. last-1.

    in   Rows moments (planes, n_radial, n_moments, n_atoms)
         offsets (8,) first feature of each contraction, -1 for those left out
    out  Rows q (planes, n_features, n_atoms)
    """
    width = lanes(kind)
    m = scratch(kind, n_radial * ROW)
    for i in range(first, last, width):
        n = min(width, last - i)
        _load_channels(kind, moments, i, n, n_radial, n_moments, m)
        f = np.int64(offsets[0])
        if f >= 0:
            for r in range(n_radial):
                store_atoms(q, f + r, i, n, load(kind, m, r * ROW))
        f = np.int64(offsets[1])
        if f >= 0:
            for r in range(n_radial):
                a = load_tuple(kind, m, r * ROW + RANK1, 3)
                for s in range(r, n_radial):
                    store_atoms(q, f, i, n, dot(a, load_tuple(kind, m, s * ROW + RANK1, 3)))
                    f += 1
        f = np.int64(offsets[2])
        if f >= 0:
            for r in range(n_radial):
                a = _weighted6(load_tuple(kind, m, r * ROW + RANK2, 6))
                for s in range(r, n_radial):
                    store_atoms(q, f, i, n, dot(a, load_tuple(kind, m, s * ROW + RANK2, 6)))
                    f += 1
        f = np.int64(offsets[3])
        if f >= 0:
            for r in range(n_radial):
                a = _weighted10(load_tuple(kind, m, r * ROW + RANK3, 10))
                for s in range(r, n_radial):
                    store_atoms(q, f, i, n, dot(a, load_tuple(kind, m, s * ROW + RANK3, 10)))
                    f += 1
        f = np.int64(offsets[4])
        if f >= 0:
            for r in range(n_radial):
                a = load_tuple(kind, m, r * ROW + RANK2, 6)
                for s in range(r, n_radial):
                    S = _matrices_product(a, load_tuple(kind, m, s * ROW + RANK2, 6))
                    for t in range(s, n_radial):
                        store_atoms(q, f, i, n, dot(S, load_tuple(kind, m, t * ROW + RANK2, 6)))
                        f += 1
        f = np.int64(offsets[5])
        if f >= 0:
            for r in range(n_radial):
                a = load_tuple(kind, m, r * ROW + RANK1, 3)
                for s in range(r, n_radial):
                    S = _vectors_product(a, load_tuple(kind, m, s * ROW + RANK1, 3))
                    for t in range(n_radial):
                        store_atoms(q, f, i, n, dot(S, load_tuple(kind, m, t * ROW + RANK2, 6)))
                        f += 1
        f = np.int64(offsets[6])
        if f >= 0:
            for r in range(n_radial):
                a = load_tuple(kind, m, r * ROW + RANK3, 10)
                for s in range(r, n_radial):
                    S = _tensors_product(a, load_tuple(kind, m, s * ROW + RANK3, 10))
                    for t in range(n_radial):
                        store_atoms(q, f, i, n, dot(S, load_tuple(kind, m, t * ROW + RANK2, 6)))
                        f += 1
        f = np.int64(offsets[7])
        if f >= 0:
            for r in range(n_radial):
                a = load_tuple(kind, m, r * ROW + RANK3, 10)
                for s in range(n_radial):
                    v = _tensor_matrix_product(a, load_tuple(kind, m, s * ROW + RANK2, 6))
                    for t in range(n_radial):
                        store_atoms(q, f, i, n, dot(v, load_tuple(kind, m, t * ROW + RANK1, 3)))
                        f += 1


@inner
def _pull_symmetric(kind, m, dm, dq, f, i, n, S, t_first, n_radial):
    """dS = sum_t dq_t M2_t and dM2_t += dq_t S for features S : M2_t (contractions 5, 6, 7)."""
    dS = zeros(splat(kind, 0.0), 6)
    for t in range(t_first, n_radial):
        g = load_atoms(kind, dq, f + t - t_first, i, n)
        dS = axpy(g, load_tuple(kind, m, t * ROW + RANK2, 6), dS)
        store_tuple(dm, t * ROW + RANK2, axpy(g, S, load_tuple(kind, dm, t * ROW + RANK2, 6)))
    return dS


@inner
def _pull_bilinear(kind, m, dm, dq, f, i, n, n_radial):
    """Contractions 2, 3 and 4: dM_r += dq w M_s and dM_s += dq w M_r; f holds their first features."""
    at = np.int64(f[1])
    if at >= 0:
        for r in range(n_radial):
            for s in range(r, n_radial):
                g = load_atoms(kind, dq, at, i, n)
                at += 1
                for a, b in ((r, s), (s, r)):
                    x = load_tuple(kind, m, b * ROW + RANK1, 3)
                    store_tuple(dm, a * ROW + RANK1, axpy(g, x, load_tuple(kind, dm, a * ROW + RANK1, 3)))
    at = np.int64(f[2])
    if at >= 0:
        for r in range(n_radial):
            for s in range(r, n_radial):
                g = load_atoms(kind, dq, at, i, n)
                at += 1
                for a, b in ((r, s), (s, r)):
                    x = _weighted6(load_tuple(kind, m, b * ROW + RANK2, 6))
                    store_tuple(dm, a * ROW + RANK2, axpy(g, x, load_tuple(kind, dm, a * ROW + RANK2, 6)))
    at = np.int64(f[3])
    if at >= 0:
        for r in range(n_radial):
            for s in range(r, n_radial):
                g = load_atoms(kind, dq, at, i, n)
                at += 1
                for a, b in ((r, s), (s, r)):
                    x = _weighted10(load_tuple(kind, m, b * ROW + RANK3, 10))
                    store_tuple(dm, a * ROW + RANK3, axpy(g, x, load_tuple(kind, dm, a * ROW + RANK3, 10)))


@inner
def _pull_tensor_matrix(kind, m, dm, dq, f, i, n, n_radial):
    """Contraction 8."""
    for r in range(n_radial):
        a = load_tuple(kind, m, r * ROW + RANK3, 10)
        ax, ay, az = _slices(a)
        for s in range(n_radial):
            b = load_tuple(kind, m, s * ROW + RANK2, 6)
            v = _tensor_matrix_product(a, b)
            dv = zeros(splat(kind, 0.0), 3)
            for t in range(n_radial):
                g = load_atoms(kind, dq, f, i, n)
                f += 1
                dv = axpy(g, load_tuple(kind, m, t * ROW + RANK1, 3), dv)
                store_tuple(dm, t * ROW + RANK1, axpy(g, v, load_tuple(kind, dm, t * ROW + RANK1, 3)))
            add_tuple(dm, s * ROW + RANK2, _weighted6(_combine3(dv[0], ax, dv[1], ay, dv[2], az)))
            b = _weighted6(b)
            o = zeros(splat(kind, 0.0), 6)
            da = _unslice(axpy(dv[0], b, o), axpy(dv[1], b, o), axpy(dv[2], b, o))
            add_tuple(dm, r * ROW + RANK3, da)


@kernel
def gm_contract_pullback(kind, first, last, moments, dq, dmoments, n_radial, n_moments, offsets):
    """Pullback of gm_contract.

    in   Rows moments (planes, n_radial, n_moments, n_atoms), dq (planes, n_features, n_atoms); offsets (8,)
    out  Rows dmoments like moments
    """
    width = lanes(kind)
    m = scratch(kind, n_radial * ROW)
    dm = scratch(kind, n_radial * ROW)
    for i in range(first, last, width):
        n = min(width, last - i)
        _load_channels(kind, moments, i, n, n_radial, n_moments, m)
        for k in range(len(dm)):
            dm[k] = 0
        f = np.int64(offsets[0])
        if f >= 0:
            for r in range(n_radial):
                store(dm, r * ROW, load_atoms(kind, dq, f + r, i, n))
        _pull_bilinear(kind, m, dm, dq, offsets, i, n, n_radial)
        f = np.int64(offsets[4])
        if f >= 0:
            for r in range(n_radial):
                for s in range(r, n_radial):
                    a = load_tuple(kind, m, r * ROW + RANK2, 6)
                    b = load_tuple(kind, m, s * ROW + RANK2, 6)
                    d = _pull_symmetric(kind, m, dm, dq, f, i, n, _matrices_product(a, b), s, n_radial)
                    f += n_radial - s
                    add_tuple(dm, r * ROW + RANK2, _matrices_product_pullback(d, b))
                    add_tuple(dm, s * ROW + RANK2, _matrices_product_pullback(d, a))
        f = np.int64(offsets[5])
        if f >= 0:
            for r in range(n_radial):
                for s in range(r, n_radial):
                    a = load_tuple(kind, m, r * ROW + RANK1, 3)
                    b = load_tuple(kind, m, s * ROW + RANK1, 3)
                    d = _pull_symmetric(kind, m, dm, dq, f, i, n, _vectors_product(a, b), 0, n_radial)
                    f += n_radial
                    add_tuple(dm, r * ROW + RANK1, _vectors_product_pullback(d, b))
                    add_tuple(dm, s * ROW + RANK1, _vectors_product_pullback(d, a))
        f = np.int64(offsets[6])
        if f >= 0:
            for r in range(n_radial):
                for s in range(r, n_radial):
                    a = load_tuple(kind, m, r * ROW + RANK3, 10)
                    b = load_tuple(kind, m, s * ROW + RANK3, 10)
                    d = _pull_symmetric(kind, m, dm, dq, f, i, n, _tensors_product(a, b), 0, n_radial)
                    f += n_radial
                    add_tuple(dm, r * ROW + RANK3, _tensors_product_pullback(d, b))
                    add_tuple(dm, s * ROW + RANK3, _tensors_product_pullback(d, a))
        f = np.int64(offsets[7])
        if f >= 0:
            _pull_tensor_matrix(kind, m, dm, dq, f, i, n, n_radial)
        for s in range(n_radial):
            for c in range(n_moments):
                store_atoms(dmoments, s * n_moments + c, i, n, load(kind, dm, s * ROW + c))
