"""Gaussian moments with channels formed for each pair: of many elements, and of neighbours that have weights.

Formulas are those of moments.py. There (4) is for all neighbours of an element at once. With dozens of elements most
slots and most of (4) would be for a neighbour or two: then slots are neighbours in any order, and each lane reads the
row of beta of its own pair of elements. With weights w_j of the neighbours' own (recursion.py) a channel is another
for each pair anyway; of few elements, neighbours are sorted then, and a block reads beta once for each.

    R_s, R'_s by (1);   M_i[s, c] = sum_j w_j[s] R_s m_c;   dr by (5) with w_j R_s for g_b and dM for dB  (7)
    dbeta_{Z_i,Z_j,s,b} += g_b(r_ij) w_j[s] sum_c dM_i[s, c] m_c(u_ij)                                  (8)

With several sets of weights w^(t), the first of which is one, (7) is for as many times the channels, and the right-hand
side of (8) is summed over t.
"""

import numpy as np

from fastdesc.backend.jit import inner, kernel
from fastdesc.descriptors.gaussian_moments.moments import (
    ROW,
    beta_in_lanes,
    block_scratch,
    clear,
    load_moments,
    pair_geometry,
    pull_slot,
)
from fastdesc.descriptors.recursion.neighbours import rows_of_neighbours, slot_coefficients
from fastdesc.numerics.monomials import TEN, monomials_0_to_2, monomials_3
from fastdesc.simd import borrowed, lanes, load, planes_of, scratch, splat, store
from fastdesc.simd.neighbour_block import fill_block, scatter_block
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
def rows_of_beta(kind, beta, sizes, j, species, pairs, k, i, n, begins, coefficients):
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
def combined(kind, coefficients, source, k, n_radial, n_basis, target, at):
    """Formula (1) of one slot, of basis functions or of their slopes."""
    for s in range(n_radial):
        total = load(kind, coefficients, s * n_basis) * load(kind, source, k * n_basis)
        for b in range(1, n_basis):
            total = total + load(kind, coefficients, s * n_basis + b) * load(kind, source, k * n_basis + b)
        store(target, at + s, total)


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
def gm_moments_by_channels(
    kind, first, last, row, j, species, rij, beta, weights, iteration, moments, n_moments, by_element, basis, cutoff
):
    """Moments (7) of atoms first .. last-1; other arguments as for gm_moments.

    in   weights (planes, iterations, n_atoms, columns), of which number iteration - 1 are taken; none for iteration 0
         by_element: whether neighbours are sorted
    """
    row, j, species = borrowed(row), borrowed(j), borrowed(species)
    table, n_species, n_radial, n_basis = beta, beta.shape[1], beta.shape[3], beta.shape[4]
    sizes, flat = (beta.shape[0], n_species, n_radial * n_basis), borrowed(beta.reshape(-1))
    width, columns, n_groups = lanes(kind), weights.shape[3], n_species if by_element else 1
    counts, starts, pairs, vectors, units, values, slopes = block_scratch(kind, row, first, last, n_groups, n_basis)
    channels = scratch(kind, len(pairs) * n_radial)
    mixed = scratch(kind, n_radial * ROW)
    coefficients = scratch(kind, n_radial * n_basis)
    begins = np.zeros(width, np.uint64)
    own, where = scratch(kind, columns + n_radial), np.empty(pairs.shape, np.int64)
    for i in range(first, last, width):
        n = min(width, last - i)
        fill_block(kind, row, j, species, rij, i, n, cutoff, counts, starts, vectors, pairs)
        if iteration > 0:
            rows_of_neighbours(j, pairs, starts[n_groups], i, n, columns, where)
        pair_geometry(kind, vectors, 0, starts[n_groups], n_basis, basis, cutoff, units, values, slopes)
        for z in range(n_groups):
            if by_element and starts[z] < starts[z + 1]:
                beta_in_lanes(table, z, species, i, n, width, coefficients)
            for k in range(starts[z], starts[z + 1]):
                if not by_element:
                    rows_of_beta(kind, flat, sizes, j, species, pairs, k, i, n, begins, coefficients)
                combined(kind, coefficients, values, k, n_radial, n_basis, channels, k * n_radial)
                if iteration > 0:
                    slot_coefficients(kind, weights, where, k, iteration - 1, own, 0)
                    for s in range(n_radial):
                        at = k * n_radial + s
                        store(channels, at, load(kind, channels, at) * load(kind, own, s))
        _add(kind, units, channels, starts[n_groups], n_radial, False, mixed)
        if n_moments > TEN:
            _add(kind, units, channels, starts[n_groups], n_radial, True, mixed)
        for s in range(n_radial):
            for c in range(n_moments):
                store(moments, s * n_moments + c, i, n, load(kind, mixed, s * ROW + c))


@kernel
def gm_moments_by_channels_pullback(
    kind, first, last, row, j, species, rij, beta, weights, dmoments, drij, n_moments, by_element, basis, cutoff
):
    """Pullback (7) of the moments of atoms first .. last-1 to pair vectors; arguments as for gm_moments_pullback.

    in   weights, by_element as for gm_moments_by_channels
         Rows dmoments (planes, 1 + iterations, n_radial, n_moments, n_atoms); the first are those without weights
    """
    row, j, species = borrowed(row), borrowed(j), borrowed(species)
    table, n_species, n_radial, n_basis = beta, beta.shape[1], beta.shape[3], beta.shape[4]
    sizes, flat = (beta.shape[0], n_species, n_radial * n_basis), borrowed(beta.reshape(-1))
    width, columns, n_groups = lanes(kind), weights.shape[3], n_species if by_element else 1
    n_later = weights.shape[1]
    n_all = (1 + n_later) * n_radial
    counts, starts, pairs, vectors, units, values, slopes = block_scratch(kind, row, first, last, n_groups, n_basis)
    channels, rises = scratch(kind, len(pairs) * n_all), scratch(kind, len(pairs) * n_all)
    dmixed = scratch(kind, n_all * ROW)
    clear(dmixed)
    coefficients = scratch(kind, n_radial * n_basis)
    begins = np.zeros(width, np.uint64)
    own, where = scratch(kind, columns + n_radial), np.empty(pairs.shape, np.int64)
    for i in range(first, last, width):
        n = min(width, last - i)
        fill_block(kind, row, j, species, rij, i, n, cutoff, counts, starts, vectors, pairs)
        if n_later > 0:
            rows_of_neighbours(j, pairs, starts[n_groups], i, n, columns, where)
        pair_geometry(kind, vectors, 0, starts[n_groups], n_basis, basis, cutoff, units, values, slopes)
        load_moments(kind, dmoments, i, n, n_all, n_moments, dmixed)
        for z in range(n_groups):
            if by_element and starts[z] < starts[z + 1]:
                beta_in_lanes(table, z, species, i, n, width, coefficients)
            for k in range(starts[z], starts[z + 1]):
                if not by_element:
                    rows_of_beta(kind, flat, sizes, j, species, pairs, k, i, n, begins, coefficients)
                combined(kind, coefficients, values, k, n_radial, n_basis, channels, k * n_all)
                combined(kind, coefficients, slopes, k, n_radial, n_basis, rises, k * n_all)
                for t in range(n_later):
                    slot_coefficients(kind, weights, where, k, t, own, 0)
                    for s in range(n_radial):
                        a, at = load(kind, own, s), k * n_all + s
                        store(channels, at + (t + 1) * n_radial, a * load(kind, channels, at))
                        store(rises, at + (t + 1) * n_radial, a * load(kind, rises, at))
                pull_slot(kind, units, channels, rises, dmixed, k, n_all, n_moments > TEN, vectors)
        scatter_block(kind, pairs, starts[n_groups], n, vectors, drij)


@inner
def _add_products(kind, products, to, lane, plane, length, flat):
    """Add one lane's products to a row of dbeta."""
    at, step = np.uint64(plane * lanes(kind) + lane), np.uint64(planes_of(kind) * lanes(kind))
    for m in range(np.uint64(length)):
        flat[to + m] += np.float64(products[at])
        at += step


@kernel
def gm_beta_by_channels_pullback(
    kind, first, last, row, j, species, rij, weights, dmoments, dbeta, n_moments, by_element, basis, cutoff
):
    """Pullback (8) of the moments of atoms first .. last-1 to beta; arguments as for gm_beta_pullback.

    in   weights, by_element, dmoments as for gm_moments_by_channels_pullback
    """
    row, j, species = borrowed(row), borrowed(j), borrowed(species)
    n_species, n_radial, n_basis = dbeta.shape[2:]
    flat, length = borrowed(dbeta.reshape(-1)), n_radial * n_basis
    width, planes, columns = lanes(kind), planes_of(kind), weights.shape[3]
    n_groups, n_later = n_species if by_element else 1, weights.shape[1]
    n_all, whole = (1 + n_later) * n_radial, n_species * n_species * length
    counts, starts, pairs, vectors, units, values, slopes = block_scratch(kind, row, first, last, n_groups, n_basis)
    dmixed = scratch(kind, n_all * ROW)
    clear(dmixed)
    products = scratch(kind, length)
    own, where = scratch(kind, columns + n_radial), np.empty(pairs.shape, np.int64)
    for i in range(first, last, width):
        n = min(width, last - i)
        fill_block(kind, row, j, species, rij, i, n, cutoff, counts, starts, vectors, pairs)
        if n_later > 0:
            rows_of_neighbours(j, pairs, starts[n_groups], i, n, columns, where)
        pair_geometry(kind, vectors, 0, starts[n_groups], n_basis, basis, cutoff, units, values, slopes)
        load_moments(kind, dmoments, i, n, n_all, n_moments, dmixed)
        for z in range(n_groups):
            clear(products)
            for k in range(starts[z], starts[z + 1]):
                x, y, z_ = load_tuple(kind, units, 4 * k, 3)
                for t in range(1 + n_later):
                    if t > 0:
                        slot_coefficients(kind, weights, where, k, t - 1, own, 0)
                    for s in range(n_radial):
                        at = (t * n_radial + s) * ROW
                        total = dot(load_tuple(kind, dmixed, at, 10), monomials_0_to_2(kind, x, y, z_))
                        if n_moments > TEN:
                            total = total + dot(load_tuple(kind, dmixed, at + TEN, 10), monomials_3(x, y, z_))
                        if t > 0:
                            total = total * load(kind, own, s)
                        for b in range(n_basis):
                            product = total * load(kind, values, k * n_basis + b)
                            if by_element or t > 0:
                                product = load(kind, products, s * n_basis + b) + product
                            store(products, s * n_basis + b, product)
                for lane in range(0 if by_element else n):
                    p = pairs[k, lane]
                    if p < 0:
                        continue
                    begin = (species[i + lane] * n_species + species[j[p]]) * length
                    for plane in range(planes):
                        _add_products(kind, products, np.uint64(plane * whole + begin), lane, plane, length, flat)
            for lane in range(n if by_element and starts[z] < starts[z + 1] else 0):
                begin = (species[i + lane] * n_species + z) * length
                for plane in range(planes):
                    _add_products(kind, products, np.uint64(plane * whole + begin), lane, plane, length, flat)
