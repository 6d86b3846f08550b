"""Gaussian moments, the part that runs over pairs: the pullback of the moments to the weights of the neighbours.

    dw_j[s] = sum over pairs p = (i, j) of h_p[s],     h_p[s] = R_s(r_p; Z_i, Z_j) sum_c dM_i[s, c] m_c(u_p)   (9)

h is found where the centre i is, and belongs to the neighbour j. One atom has one owner: j finds the terms at the
mirrors of its own row, (j, i), always in the same order.
"""

import numpy as np

from fastdesc.backend.jit import kernel
from fastdesc.descriptors.gaussian_moments.channels import combined, rows_of_beta
from fastdesc.descriptors.gaussian_moments.moments import (
    ROW,
    beta_in_lanes,
    block_scratch,
    clear,
    load_moments,
    pair_geometry,
)
from fastdesc.numerics.monomials import TEN, monomials_0_to_2, monomials_3
from fastdesc.simd import borrowed, lanes, load, planes_of, poke, scratch, store
from fastdesc.simd.neighbour_block import fill_block
from fastdesc.simd.tuples import dot, load_tuple


@kernel
def gm_weights_pullback(
    kind, first, last, row, j, species, rij, beta, dmoments, dpairs, n_moments, by_element, basis, cutoff
):
    """The terms h of (9) of the pairs of atoms first .. last-1.

    in   row, j, species, rij, beta, by_element as for gm_moments_by_channels; Rows dmoments like moments
    out  dpairs (planes, n_pairs, n_radial)
    """
    row, j, species = borrowed(row), borrowed(j), borrowed(species)
    table, n_species, n_radial, n_basis = beta, beta.shape[1], beta.shape[3], beta.shape[4]
    sizes, flat = (beta.shape[0], n_species, n_radial * n_basis), borrowed(beta.reshape(-1))
    width, planes, n_groups = lanes(kind), planes_of(kind), n_species if by_element else 1
    counts, starts, pairs, vectors, units, values, slopes = block_scratch(kind, row, first, last, n_groups, n_basis)
    channels = scratch(kind, n_radial)
    dmixed = scratch(kind, n_radial * ROW)
    clear(dmixed)
    coefficients = scratch(kind, n_radial * n_basis)
    begins = np.zeros(width, np.uint64)
    for i in range(first, last, width):
        n = min(width, last - i)
        fill_block(kind, row, j, species, rij, i, n, cutoff, counts, starts, vectors, pairs)
        pair_geometry(kind, vectors, 0, starts[n_groups], n_basis, basis, cutoff, units, values, slopes)
        load_moments(kind, dmoments, i, n, n_radial, n_moments, dmixed)
        for z in range(n_groups):
            if by_element and starts[z] < starts[z + 1]:
                beta_in_lanes(table, z, species, i, n, width, coefficients)
            for k in range(starts[z], starts[z + 1]):
                if not by_element:
                    rows_of_beta(kind, flat, sizes, j, species, pairs, k, i, n, begins, coefficients)
                combined(kind, coefficients, values, k, n_radial, n_basis, channels, 0)
                x, y, z_ = load_tuple(kind, units, 4 * k, 3)
                for s in range(n_radial):
                    h = dot(load_tuple(kind, dmixed, s * ROW, 10), monomials_0_to_2(kind, x, y, z_))
                    if n_moments > TEN:
                        h = h + dot(load_tuple(kind, dmixed, s * ROW + TEN, 10), monomials_3(x, y, z_))
                    store(channels, s, h * load(kind, channels, s))
                for lane in range(n):
                    p = pairs[k, lane]
                    if p >= 0:
                        for plane in range(planes):
                            for s in range(n_radial):
                                dpairs[plane, p, s] = channels[(s * planes + plane) * width + lane]


@kernel
def gm_weights_sum(kind, first, last, row, mirror, dpairs, dw):
    """Formula (9) of atoms first .. last-1.

    in   row (n_atoms+1,), mirror (n_pairs,), dpairs (planes, n_pairs, n_radial) as gm_weights_pullback writes it
    out  Rows dw (planes, n_radial, n_atoms)
    """
    planes, n_pairs, n_radial = dpairs.shape
    mirror, flat = borrowed(mirror), borrowed(dpairs.reshape(-1))
    total, length = np.empty(n_radial, dpairs.dtype), np.uint64(n_radial)
    for i in range(first, last):
        for plane in range(planes):
            total[:] = 0
            begin = np.uint64(plane * n_pairs) * length
            for p in range(np.uint64(row[i]), np.uint64(row[i + 1])):
                at = begin + np.uint64(mirror[p]) * length
                for s in range(length):
                    total[s] += flat[at + s]
            for s in range(n_radial):
                poke(dw, plane, s, i, total[s])
