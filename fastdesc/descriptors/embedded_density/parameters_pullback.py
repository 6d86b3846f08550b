"""Embedded density, the part that runs over pairs: the pullback to the parameters of the elements.

With D_k, formula (1) of fastdesc/descriptors/embedded_density/density_pullback.py, and P_k = f_c R_k,

    dalpha_k = -sum_p (r - r_s)^2 P_k D_k.m,   dr_s = sum_p 2 alpha (r - r_s) P_k D_k.m                       (3)
    dcoefficients_{Z,k} = sum_{p, Z_j = Z} P_k sum_c dA^0_i[k, c] m_c                                         (4)

The numbers go on from there.
"""

import numpy as np

from fastdesc.backend.jit import kernel
from fastdesc.descriptors.embedded_density.density import block_scratch
from fastdesc.descriptors.embedded_density.density_pullback import combined, load_density
from fastdesc.descriptors.embedded_density.orbitals import (
    CONSTANTS,
    ROW,
    constants_in_lanes,
    orbital_geometry,
    radial_values,
)
from fastdesc.descriptors.recursion.neighbours import rows_of_neighbours, slot_coefficients
from fastdesc.numerics.monomials import TEN, monomials_0_to_2, monomials_3
from fastdesc.simd import lanes, load, scratch, store
from fastdesc.simd.neighbour_block import fill_block
from fastdesc.simd.tuples import dot, load_tuple


@kernel
def ed_parameters_pullback(
    kind, first, last, row, j, species, rij, alpha, r_s, coefficients, c, ddensity, dparameters,
    n_moments, normalized, cutoff,
):  # fmt: skip
    """Pullbacks (3) and (4), summed over atoms first .. last-1.

    in   as for ed_density_pullback
    out  dparameters (3, planes, n_species, n_radial) float64, added to: dalpha, dr_s, dcoefficients
    """
    planes, n_species, n_radial = alpha.shape
    halves, width, n_later = 2 if n_moments > TEN else 1, lanes(kind), c.shape[1]
    counts, starts, pairs, vectors = block_scratch(kind, row, first, last, n_species)
    columns = c.shape[3]
    own = scratch(kind, n_later * columns)
    where = np.empty(pairs.shape, np.int64)
    densities = scratch(kind, (1 + n_later) * n_radial * ROW)
    densities[:] = 0
    none = scratch(kind, n_radial * ROW)
    none[:] = 0
    later = densities[n_radial * ROW * planes * width :]
    constants = scratch(kind, n_species * CONSTANTS * n_radial)
    constants_in_lanes(kind, alpha, r_s, coefficients, constants)
    values, totals = scratch(kind, n_radial), scratch(kind, 3 * n_radial)
    for i in range(first, last, width):
        n = min(width, last - i)
        fill_block(kind, row, j, species, rij, i, n, cutoff, counts, starts, vectors, pairs)
        if n_later > 0:
            rows_of_neighbours(j, pairs, starts[n_species], i, n, columns, where)
        load_density(kind, ddensity, i, n, (1 + n_later) * n_radial, n_moments, densities, 0)
        for z in range(n_species):
            here = z * CONSTANTS * n_radial
            totals[:] = 0
            for slot in range(starts[z], starts[z + 1]):
                u, d, fc, _ = orbital_geometry(kind, vectors, slot, normalized, cutoff)
                radial_values(kind, d, fc, constants, z, n_radial, values, 0)
                for t in range(n_later):
                    slot_coefficients(kind, c, where, slot, t, own, t * columns)
                one = monomials_0_to_2(kind, u[0], u[1], u[2])
                two = monomials_3(u[0], u[1], u[2])
                for k in range(n_radial):
                    e0 = dot(load_tuple(kind, densities, k * ROW, 10), one)
                    e = dot(combined(kind, none, later, own, columns, k, n_radial, 0, n_later), one)
                    if halves == 2:
                        e0 = e0 + dot(load_tuple(kind, densities, k * ROW + TEN, 10), two)
                        e = e + dot(combined(kind, none, later, own, columns, k, n_radial, 1, n_later), two)
                    P = load(kind, values, k)
                    e = (e + e0 * load(kind, constants, here + 2 * n_radial + k)) * P
                    x = d - load(kind, constants, here + n_radial + k)
                    ax = x * load(kind, constants, here + k)
                    store(totals, k, load(kind, totals, k) - x * x * e)
                    store(totals, n_radial + k, load(kind, totals, n_radial + k) + (ax + ax) * e)
                    store(totals, 2 * n_radial + k, load(kind, totals, 2 * n_radial + k) + e0 * P)
            for which in range(3):
                for k in range(n_radial):
                    for plane in range(planes):
                        at = ((which * n_radial + k) * planes + plane) * width
                        for lane in range(n):
                            dparameters[which, plane, z, k] += totals[at + lane]
