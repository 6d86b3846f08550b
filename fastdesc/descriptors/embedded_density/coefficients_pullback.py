"""Embedded density, the part that runs over pairs: the pullback to the coefficients of the neighbours.

    dc_jk = sum_{i sees j} P_k(r_ij; Z_j) sum_c dA_i[k, c] m_c(r_ij),     P_k = f_c R_k                       (1)

belongs to the neighbour j, and one atom has one owner: j finds the terms in its own row, whose pairs are the mirrors of
those in (1). They have the same distance and the opposite vector, so m_c changes sign with its degree.

Here lanes are radial functions, not atoms: the cotangents dA of a neighbour are read as they lie, atom by atom,
(n_atoms, n_moments, columns), instead of from as many places as there are lanes.
"""

import numpy as np

from fastdesc.backend.jit import inner, kernel
from fastdesc.descriptors.embedded_density.orbitals import orbital_geometry
from fastdesc.numerics.monomials import TEN, monomials_0_to_2, monomials_3
from fastdesc.simd import broadcast, lanes, load, peek, poke, scratch, splat, store
from fastdesc.simd.functions import exp
from fastdesc.simd.tuples import axpy, store_tuple, zeros


@inner
def _mirrored_terms(kind, rij, p, n, halves, normalized, cutoff, terms):
    """f_c m_c(-r) for ten or twenty c, then r, of pairs p .. p+n-1, one in each lane."""
    zero = splat(kind, 0.0)
    x, y, z = load(kind, rij, 0, p, n), load(kind, rij, 1, p, n), load(kind, rij, 2, p, n)
    store_tuple(terms, 0, (zero - x, zero - y, zero - z))
    u, d, fc, _ = orbital_geometry(kind, terms, 0, normalized, cutoff)
    store_tuple(terms, 0, axpy(fc, monomials_0_to_2(kind, u[0], u[1], u[2]), zeros(zero, 10)))
    if halves == 2:
        store_tuple(terms, TEN, axpy(fc, monomials_3(u[0], u[1], u[2]), zeros(zero, 10)))
    store(terms, halves * TEN, d)


@inner
def _products(kind, terms, first, lane, table, row, k):
    """Sum of ten terms, each times a row of the table; two sums, because one would wait for itself."""
    one = broadcast(kind, terms, first, lane) * load(kind, table, row, k)
    two = broadcast(kind, terms, first + 1, lane) * load(kind, table, row + 1, k)
    for c in range(2, 10, 2):
        one = one + broadcast(kind, terms, first + c, lane) * load(kind, table, row + c, k)
        two = two + broadcast(kind, terms, first + c + 1, lane) * load(kind, table, row + c + 1, k)
    return one + two


@kernel
def ed_coefficients_pullback(
    kind, first, last, row, j, species, rij, alpha, r_s, ddensity, dc, n_moments, normalized, cutoff
):
    """Pullback (1) of the densities to the coefficients of atoms first .. last-1; lanes are radial functions.

    in   row, j, species, rij, alpha, r_s as for ed_density
         Rows ddensity (planes, n_atoms + 1, 10 or 20, columns) as ed_rows writes it; the last atom is only read past
    out  Rows dc (planes, n_radial, n_atoms)
    """
    planes, _, n_radial = alpha.shape
    width, halves = lanes(kind), 2 if n_moments > TEN else 1
    terms = scratch(kind, halves * TEN + 1)
    constants, total = scratch(kind, 2), scratch(kind, 1)
    for i in range(first, last):
        for k in range(0, n_radial, width):
            m = min(width, n_radial - k)
            constants[:] = 0
            for lane in range(m):
                for plane in range(planes):
                    constants[plane * width + lane] = alpha[plane, species[i], k + lane]
                    constants[(planes + plane) * width + lane] = r_s[plane, species[i], k + lane]
            minus_alpha, centre = splat(kind, 0.0) - load(kind, constants, 0), load(kind, constants, 1)
            dck = splat(kind, 0.0)
            for p in range(row[i], row[i + 1], width):
                n = min(width, row[i + 1] - p)
                _mirrored_terms(kind, rij, p, n, halves, normalized, cutoff, terms)
                for lane in range(n):
                    atom = np.int64(j[p + lane]) * halves * TEN
                    u = _products(kind, terms, 0, lane, ddensity, atom, k)
                    if halves == 2:
                        u = u + _products(kind, terms, TEN, lane, ddensity, atom + TEN, k)
                    x = broadcast(kind, terms, halves * TEN, lane) - centre
                    dck = dck + exp(x * x * minus_alpha) * u
            store(total, 0, dck)
            for lane in range(m):
                for plane in range(planes):
                    poke(dc, plane, k + lane, i, total[plane * width + lane])


@kernel
def ed_rows(kind, first, last, density, rows, n_radial, n_moments):
    """Turn an array like `density` into one that lies atom by atom, atoms first .. last-1.

    in   Rows density (planes, n_radial, n_moments, n_atoms)
    out  rows (planes, n_atoms + 1, 10 or 20, columns); what no density fills is zero
    """
    planes = rows.shape[0]
    for i in range(first, last, 16):
        for plane in range(planes):
            for c in range(n_moments):
                for k in range(n_radial):
                    for a in range(i, min(i + 16, last)):
                        rows[plane, a, c, k] = peek(kind, density, plane, k * n_moments + c, a)
            for a in range(i, min(i + 16, last)):
                rows[plane, a, n_moments:] = 0
                rows[plane, a, :, n_radial:] = 0
