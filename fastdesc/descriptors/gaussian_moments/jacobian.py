"""Gaussian moments: the Jacobian, as a matrix product for each atom.

Features depend on positions through the moments M of their own atom alone, and M is a sum over pairs m(r_p):

    d q_f / d r_p = sum_m  D_fm G_mp,      D = dq/dM of the atom,   G = dm/dr of the pair                  (1)

Both factors are tangents: of contractions whose moments move one at a time, and of atoms with a single neighbour that
moves along x, y or z. On the host kernels write both down, without the zeros of D (jacobian_blocks.py).
"""

from types import SimpleNamespace

import numpy as np

from fastdesc.backend import cuda
from fastdesc.backend.arrays import empty, namespace, padded, to_host
from fastdesc.backend.threads import for_chunks
from fastdesc.backend.workspace import fresh_lines, kept_memory
from fastdesc.descriptors.gaussian_moments.elements import BETA, table
from fastdesc.descriptors.gaussian_moments.jacobian_blocks import (
    contraction_slopes,
    gm_jacobian_blocks,
    supports,
)
from fastdesc.descriptors.jacobian import RowBlocks, zeros_in
from fastdesc.numerics.radial import BASES
from fastdesc.simd import kind_of, rows_of, width

ATOMS_AT_ONCE = 8
"""No more than the lanes of a vector. Their slopes D stay in the second-level cache, or nearly so."""


def moments_jacobian(family, rij, pairs, species, theta, moments, memory=None):
    """Return the Jacobian; the arguments are those of the family's maps, the moments of all atoms, and memory."""
    if not cuda.active_for(rij):
        return _on_the_host(family, rij, pairs, species, theta, moments, memory or fresh_lines)
    blocks = RowBlocks(pairs, family.n_features, rij.dtype, zeros_in(memory))
    beta = table(theta)
    theta = {BETA: namespace(rij).stack([beta, 0 * beta])}
    row, xp = blocks.row, namespace(rij)

    def task(a, b):
        D = _contraction_slopes(family, moments[..., a:b])
        G = _moment_slopes(family, rij, pairs, species, theta, slice(int(row[a]), int(row[b])))
        for k in range(a, b):
            mine = slice(row[k] - row[a], row[k + 1] - row[a])
            slopes = xp.swapaxes(G[:, :, mine], 1, 2) @ D[:, k - a].T
            blocks.add(k, k + 1, 0, to_host(slopes))

    for a in range(0, pairs.n_atoms, ATOMS_AT_ONCE):
        task(a, min(a + ATOMS_AT_ONCE, pairs.n_atoms))
    return blocks.jacobian()


def _on_the_host(family, rij, pairs, species, theta, moments, memory):
    """The Jacobian where kernels write its blocks."""
    dtype, kind = rij.dtype, kind_of(rij.dtype, False)
    blocks = RowBlocks(pairs, family.n_features, dtype, memory)
    beta, (starts, which) = np.ascontiguousarray(table(theta), dtype), supports(family, dtype)
    radial = family.n_moments, BASES.index(family.basis), float(family.cutoff)
    written, rows = np.zeros(len(blocks.values), bool), rows_of(blocks.values, False)
    given = blocks.row, pairs.j, species, rows_of(rij, False), beta, blocks.other, blocks.own

    def task(a, b):
        with kept_memory():
            D = empty((len(which), width(dtype)), dtype)
            contraction_slopes(family, moments, a, b - a, starts, which, D)
            known = rows_of(D, False), starts, which, written, rows
            gm_jacobian_blocks(kind, kind_of(dtype, True), a, b, *given, *known, *radial)

    for_chunks(task, pairs.n_atoms, ATOMS_AT_ONCE)
    return blocks.jacobian()


def _contraction_slopes(family, moments):
    """D of (1), (n_features, n_atoms, n): each atom once for each of its n moments, which moves by one."""
    xp, n_atoms = namespace(moments), moments.shape[2]
    flat = moments.reshape(-1, n_atoms)
    n, copies = len(flat), n_atoms * len(flat)
    moving = padded((2, *moments.shape[:2], copies), moments.dtype, moments)
    moving[0] = xp.repeat(moments, n, axis=2)
    moving[1] = xp.tile(xp.eye(n, dtype=moments.dtype), n_atoms).reshape(moving.shape[1:])
    q = padded((2, family.n_features, copies), moments.dtype, moments)
    lonely = SimpleNamespace(n_atoms=copies, row=xp.zeros(copies + 1, np.int64), j=xp.zeros(0, np.int32))
    family.kernels(xp.zeros((2, 3, 0), moments.dtype), lonely, xp.zeros(copies, np.int32)).gm_contract(moving, q)
    return q[1].reshape(family.n_features, n_atoms, n)


def _moment_slopes(family, rij, pairs, species, theta, mine):
    """G of (1), (3, n, pairs): each pair three times, as the only one of its centre, moving along x, y and z."""
    xp, n = namespace(rij), mine.stop - mine.start
    moving = xp.zeros((2, 3, 3, n), rij.dtype)
    moving[0] = rij[:, None, mine]
    for c in range(3):
        moving[1, c, c] = 1
    one_each = xp.arange(3 * n + 1, dtype=np.int64)
    single = SimpleNamespace(n_atoms=3 * n, row=one_each, j=one_each[:-1].astype(np.int32) + 3 * n)
    elements = xp.concatenate([xp.tile(species[pairs.i[mine]], 3), xp.tile(species[pairs.j[mine]], 3)])
    moments = padded((2, family.n_radial, family.n_moments, 3 * n), rij.dtype, rij)
    family.kernels(moving.reshape(2, 3, -1), single, elements).gm_moments(theta[BETA], moments)
    return xp.moveaxis(moments[1].reshape(family.n_radial * family.n_moments, 3, n), 1, 0)
