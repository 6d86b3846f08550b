"""Embedded density, the part that runs over pairs: density sums.

    A_i[k, c] = sum_j c_jk phi_kc(r_ij)                               phi from orbitals.py      (1)

c_jk is the neighbour's coefficient: of its element at first, of the atom itself in later iterations. What a row reads
of its neighbours lies atom by atom, (n_atoms, columns), the columns filled up to a multiple of eight.
"""

import numpy as np

from fastdesc.backend.jit import inner, kernel
from fastdesc.descriptors.embedded_density.orbitals import (
    CONSTANTS,
    GEOMETRY,
    ROW,
    constants_in_lanes,
    orbital_geometry,
    radial_values,
)
from fastdesc.descriptors.recursion.neighbours import rows_of_neighbours, slot_coefficients
from fastdesc.numerics.monomials import TEN, monomials_0_to_2, monomials_3
from fastdesc.simd import lanes, load, scratch, splat, store
from fastdesc.simd.neighbour_block import fill_block, longest_row
from fastdesc.simd.tuples import axpy, load_tuple, store_tuple, zeros


@inner
def block_scratch(kind, row, first, last, n_species):
    """Memory for the neighbours of one block of atoms; allocated once per chunk."""
    n_slots = n_species * longest_row(row, first, last)
    return (
        np.empty(n_species, np.int64),
        np.empty(n_species + 1, np.int64),
        np.empty((n_slots, lanes(kind)), np.int64),
        scratch(kind, n_slots * 3),
    )


@inner
def _sums(kind, geometry, values, first, last, n_radial, has_degree3, sums):
    """Sum_slots value_k m_c for all k; two k at a time fill the registers."""
    for k in range(0, n_radial, 2):
        l = min(k + 1, n_radial - 1)
        one = zeros(splat(kind, 0.0), 10)
        two = one
        for slot in range(first, last):
            u = load_tuple(kind, geometry, GEOMETRY * slot, 3)
            m = monomials_0_to_2(kind, u[0], u[1], u[2])
            one = axpy(load(kind, values, slot * n_radial + k), m, one)
            two = axpy(load(kind, values, slot * n_radial + l), m, two)
        store_tuple(sums, k * ROW, one)
        store_tuple(sums, l * ROW, two)
        if has_degree3:
            one = zeros(splat(kind, 0.0), 10)
            two = one
            for slot in range(first, last):
                u = load_tuple(kind, geometry, GEOMETRY * slot, 3)
                m = monomials_3(u[0], u[1], u[2])
                one = axpy(load(kind, values, slot * n_radial + k), m, one)
                two = axpy(load(kind, values, slot * n_radial + l), m, two)
            store_tuple(sums, k * ROW + TEN, one)
            store_tuple(sums, l * ROW + TEN, two)


@inner
def _add_weighted(kind, constants, z, sums, n_radial, halves, density):
    """density_k += coefficient_{z,k} sums_k."""
    for k in range(n_radial):
        c = load(kind, constants, (z * CONSTANTS + 2) * n_radial + k)
        for half in range(halves):
            at = k * ROW + half * TEN
            store_tuple(density, at, axpy(c, load_tuple(kind, sums, at, 10), load_tuple(kind, density, at, 10)))


@kernel
def ed_density(
    kind, first, last, row, j, species, rij, alpha, r_s, coefficients, density, n_moments, normalized, cutoff
):
    """Densities (1) of atoms first .. last-1, with the coefficients of the neighbours' elements.

    in   row (n_atoms+1,), j (n_pairs,), species (n_atoms,), Rows rij (planes, 3, n_pairs) Å
         alpha (1/Å^2), r_s (Å), coefficients (planes, n_species, n_radial)
    out  Rows density (planes, n_radial, n_moments, n_atoms)
    """
    _, n_species, n_radial = alpha.shape
    halves, width = 2 if n_moments > TEN else 1, lanes(kind)
    counts, starts, pairs, vectors = block_scratch(kind, row, first, last, n_species)
    geometry = scratch(kind, len(pairs) * GEOMETRY)
    values = scratch(kind, len(pairs) * n_radial)
    sums, total = scratch(kind, n_radial * ROW), scratch(kind, n_radial * ROW)
    constants = scratch(kind, n_species * CONSTANTS * n_radial)
    constants_in_lanes(kind, alpha, r_s, coefficients, constants)
    for i in range(first, last, width):
        n = min(width, last - i)
        fill_block(kind, row, j, species, rij, i, n, cutoff, counts, starts, vectors, pairs)
        total[:] = 0
        for z in range(n_species):
            if starts[z] == starts[z + 1]:
                continue
            for slot in range(starts[z], starts[z + 1]):
                u, d, fc, _ = orbital_geometry(kind, vectors, slot, normalized, cutoff)
                store_tuple(geometry, GEOMETRY * slot, u)
                radial_values(kind, d, fc, constants, z, n_radial, values, slot * n_radial)
            _sums(kind, geometry, values, starts[z], starts[z + 1], n_radial, halves == 2, sums)
            _add_weighted(kind, constants, z, sums, n_radial, halves, total)
        for k in range(n_radial):
            for c in range(n_moments):
                store(density, k * n_moments + c, i, n, load(kind, total, k * ROW + c))


@kernel
def ed_density_again(
    kind, first, last, row, j, species, rij, alpha, r_s, c, iteration, density, n_moments, normalized, cutoff
):
    """Densities (1) of atoms first .. last-1, with coefficients of the neighbours' own.

    in   as for ed_density, but for coefficients
         c (planes, iterations, n_atoms, columns), of which this is number `iteration`
    out  Rows density (planes, n_radial, n_moments, n_atoms)
    """
    _, n_species, n_radial = alpha.shape
    halves, width = 2 if n_moments > TEN else 1, lanes(kind)
    counts, starts, pairs, vectors = block_scratch(kind, row, first, last, n_species)
    geometry = scratch(kind, len(pairs) * GEOMETRY)
    values = scratch(kind, len(pairs) * n_radial)
    columns = c.shape[3]
    own = scratch(kind, columns)
    where = np.empty(pairs.shape, np.int64)
    total = scratch(kind, n_radial * ROW)
    constants = scratch(kind, n_species * CONSTANTS * n_radial)
    constants_in_lanes(kind, alpha, r_s, r_s, constants)    # coefficients are each neighbour's own
    for i in range(first, last, width):
        n = min(width, last - i)
        fill_block(kind, row, j, species, rij, i, n, cutoff, counts, starts, vectors, pairs)
        rows_of_neighbours(j, pairs, starts[n_species], i, n, columns, where)
        for z in range(n_species):
            for slot in range(starts[z], starts[z + 1]):
                u, d, fc, _ = orbital_geometry(kind, vectors, slot, normalized, cutoff)
                store_tuple(geometry, GEOMETRY * slot, u)
                radial_values(kind, d, fc, constants, z, n_radial, values, slot * n_radial)
                slot_coefficients(kind, c, where, slot, iteration, own, 0)
                for k in range(n_radial):
                    at = slot * n_radial + k
                    store(values, at, load(kind, values, at) * load(kind, own, k))
        _sums(kind, geometry, values, 0, starts[n_species], n_radial, halves == 2, total)
        for k in range(n_radial):
            for m in range(n_moments):
                store(density, k * n_moments + m, i, n, load(kind, total, k * ROW + m))
