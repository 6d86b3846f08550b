"""Gaussian moments of many elements, the part that runs over pairs: channels formed for each pair.

Formulas are those of moments.py. There neighbours are sorted by element, and (4) is for all of an element at once; with
dozens of elements most slots and most of (4) would be for a neighbour or two. Here slots are neighbours in any order,
and each lane reads the row of beta of its own pair of elements:

    R_s, R'_s by (1);   M_i[s, c] = sum_j R_s m_c;   dr by (5) with R_s for g_b and dM for dB               (7)
    dbeta_{Z_i,Z_j,s,b} += g_b(r_ij) sum_c dM_i[s, c] m_c(u_ij)                                         (8)
"""

import numpy as np

from fastdesc.backend.jit import inner, kernel
from fastdesc.descriptors.gaussian_moments.moments import (
    ROW,
    block_scratch,
    clear,
    load_moments,
    pair_geometry,
    pull_slot,
)
from fastdesc.numerics.monomials import TEN, monomials_0_to_2, monomials_3
from fastdesc.simd import borrowed, lanes, load, planes_of, scratch, splat, store
from fastdesc.simd.neighbour_block import block_slots, fill_block, scatter_block
from fastdesc.simd.tuples import axpy, dot, load_tuple, store_tuple, zeros


@inner
def copy_rows(kind, numbers, begins, length, target, at, step):
    """Rows of `length` numbers from `begins` on, one for each lane; the x-th of all to target[at + x step ..]."""
    width = np.uint64(lanes(kind))
    for x in range(np.uint64(length)):
        for lane in range(width):
            target[at + lane] = numbers[begins[lane] + x]
        at += step


@inner
def _rows_of_beta(kind, beta, sizes, j, species, pairs, k, i, n, begins, coefficients):
    """Coefficients of each lane's pair of elements in slot k, one value per (s, b).

    beta is flat, `sizes` are planes, elements and numbers of a row; begins (lanes,) uint64 is memory. Lanes without a
    pair take any row.
    """
    planes, n_species, length = sizes
    for lane in range(len(begins)):
        p = pairs[k, lane] if lane < n else -1
        begins[lane] = np.uint64(0 if p < 0 else (species[i + lane] * n_species + species[j[p]]) * length)
    step = np.uint64(planes * lanes(kind))
    copy_rows(kind, beta, begins, length, coefficients, np.uint64(0), step)
    if planes > 1:
        begins += np.uint64(n_species * n_species * length)
        copy_rows(kind, beta, begins, length, coefficients, np.uint64(lanes(kind)), step)


@inner
def _combined(kind, coefficients, source, k, n_radial, n_basis, target):
    """Formula (1) of one slot, of basis functions or of their slopes."""
    for s in range(n_radial):
        total = load(kind, coefficients, s * n_basis) * load(kind, source, k * n_basis)
        for b in range(1, n_basis):
            total = total + load(kind, coefficients, s * n_basis + b) * load(kind, source, k * n_basis + b)
        store(target, k * n_radial + s, total)


@inner
def _add(kind, units, channels, n_slots, n_radial, degree_3, mixed):
    """Moments (7), ten monomials; two channels at a time fill the registers."""
    at = TEN if degree_3 else 0
    for s in range(0, n_radial, 2):
        t = min(s + 1, n_radial - 1)
        one = zeros(splat(kind, 0.0), 10)
        two = one
        for k in range(n_slots):
            x, y, z = load_tuple(kind, units, 4 * k, 3)
            m = monomials_3(x, y, z) if degree_3 else monomials_0_to_2(kind, x, y, z)
            one = axpy(load(kind, channels, k * n_radial + s), m, one)
            two = axpy(load(kind, channels, k * n_radial + t), m, two)
        store_tuple(mixed, s * ROW + at, one)
        store_tuple(mixed, t * ROW + at, two)


@kernel
def gm_moments_of_many(kind, first, last, row, j, species, rij, beta, moments, n_moments, basis, cutoff):
    """Moments (7) of atoms first .. last-1; arguments as for gm_moments."""
    row, j, species = borrowed(row), borrowed(j), borrowed(species)
    n_radial, n_basis = beta.shape[3], beta.shape[4]
    sizes, beta = (beta.shape[0], beta.shape[1], n_radial * n_basis), borrowed(beta.reshape(-1))
    width = lanes(kind)
    counts, starts, pairs, vectors, units, values, slopes = block_scratch(kind, row, first, last, 1, n_basis)
    channels = scratch(kind, len(pairs) * n_radial)
    mixed = scratch(kind, n_radial * ROW)
    coefficients = scratch(kind, n_radial * n_basis)
    begins = np.zeros(width, np.uint64)
    for i in range(first, last, width):
        n = min(width, last - i)
        block_slots(row, j, species, 1, i, n, counts, starts)
        fill_block(kind, row, j, species, rij, i, n, cutoff, counts, starts, vectors, pairs)
        pair_geometry(kind, vectors, 0, starts[1], n_basis, basis, cutoff, units, values, slopes)
        for k in range(starts[1]):
            _rows_of_beta(kind, beta, sizes, j, species, pairs, k, i, n, begins, coefficients)
            _combined(kind, coefficients, values, k, n_radial, n_basis, channels)
        _add(kind, units, channels, starts[1], n_radial, False, mixed)
        if n_moments > TEN:
            _add(kind, units, channels, starts[1], n_radial, True, mixed)
        for s in range(n_radial):
            for c in range(n_moments):
                store(moments, s * n_moments + c, i, n, load(kind, mixed, s * ROW + c))


@kernel
def gm_moments_of_many_pullback(
    kind, first, last, row, j, species, rij, beta, dmoments, drij, n_moments, basis, cutoff
):
    """Pullback (7) of the moments of atoms first .. last-1 to pair vectors; arguments as for gm_moments_pullback."""
    row, j, species = borrowed(row), borrowed(j), borrowed(species)
    n_radial, n_basis = beta.shape[3], beta.shape[4]
    sizes, beta = (beta.shape[0], beta.shape[1], n_radial * n_basis), borrowed(beta.reshape(-1))
    width = lanes(kind)
    counts, starts, pairs, vectors, units, values, slopes = block_scratch(kind, row, first, last, 1, n_basis)
    channels, rises = scratch(kind, len(pairs) * n_radial), scratch(kind, len(pairs) * n_radial)
    dmixed = scratch(kind, n_radial * ROW)
    clear(dmixed)
    coefficients = scratch(kind, n_radial * n_basis)
    begins = np.zeros(width, np.uint64)
    for i in range(first, last, width):
        n = min(width, last - i)
        block_slots(row, j, species, 1, i, n, counts, starts)
        fill_block(kind, row, j, species, rij, i, n, cutoff, counts, starts, vectors, pairs)
        pair_geometry(kind, vectors, 0, starts[1], n_basis, basis, cutoff, units, values, slopes)
        load_moments(kind, dmoments, i, n, n_radial, n_moments, dmixed)
        for k in range(starts[1]):
            _rows_of_beta(kind, beta, sizes, j, species, pairs, k, i, n, begins, coefficients)
            _combined(kind, coefficients, values, k, n_radial, n_basis, channels)
            _combined(kind, coefficients, slopes, k, n_radial, n_basis, rises)
            pull_slot(kind, units, channels, rises, dmixed, k, n_radial, n_moments > TEN, vectors)
        scatter_block(kind, pairs, starts[1], n, vectors, drij)


@kernel
def gm_beta_of_many_pullback(kind, first, last, row, j, species, rij, dmoments, dbeta, n_moments, basis, cutoff):
    """Pullback (8) of the moments of atoms first .. last-1 to beta; arguments as for gm_beta_pullback."""
    row, j, species = borrowed(row), borrowed(j), borrowed(species)
    n_species, n_radial, n_basis = dbeta.shape[2:]
    flat, length = borrowed(dbeta.reshape(-1)), n_radial * n_basis
    width, planes = lanes(kind), planes_of(kind)
    counts, starts, pairs, vectors, units, values, slopes = block_scratch(kind, row, first, last, 1, n_basis)
    dmixed = scratch(kind, n_radial * ROW)
    clear(dmixed)
    products = scratch(kind, n_radial * n_basis)
    for i in range(first, last, width):
        n = min(width, last - i)
        block_slots(row, j, species, 1, i, n, counts, starts)
        fill_block(kind, row, j, species, rij, i, n, cutoff, counts, starts, vectors, pairs)
        pair_geometry(kind, vectors, 0, starts[1], n_basis, basis, cutoff, units, values, slopes)
        load_moments(kind, dmoments, i, n, n_radial, n_moments, dmixed)
        for k in range(starts[1]):
            x, y, z = load_tuple(kind, units, 4 * k, 3)
            for s in range(n_radial):
                total = dot(load_tuple(kind, dmixed, s * ROW, 10), monomials_0_to_2(kind, x, y, z))
                if n_moments > TEN:
                    total = total + dot(load_tuple(kind, dmixed, s * ROW + TEN, 10), monomials_3(x, y, z))
                for b in range(n_basis):
                    store(products, s * n_basis + b, total * load(kind, values, k * n_basis + b))
            for lane in range(n):
                p = pairs[k, lane]
                if p < 0:
                    continue
                begin = (species[i + lane] * n_species + species[j[p]]) * length
                for plane in range(planes):
                    to = np.uint64(plane * n_species * n_species * length + begin)
                    at, step = np.uint64(plane * width + lane), np.uint64(planes * width)
                    for m in range(np.uint64(length)):
                        flat[to + m] += np.float64(products[at])
                        at += step
