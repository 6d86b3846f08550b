"""Gaussian moments, the part that runs over pairs: the pullback of the moments to beta.

With the sums B over the bare basis, formula (3) of fastdesc/descriptors/gaussian_moments/moments.py,

    dbeta_{Z_i,Z,s,b} = sum_c dM_i[s, c] B_i[Z, b, c]                                                   (6)
"""

from fastdesc.backend.jit import kernel
from fastdesc.descriptors.gaussian_moments.moments import (
    ROW,
    basis_moments,
    block_scratch,
    clear,
    load_moments,
    pair_geometry,
)
from fastdesc.numerics.monomials import TEN
from fastdesc.simd import borrowed, lanes, planes_of, scratch, store
from fastdesc.simd.neighbour_block import fill_block
from fastdesc.simd.tuples import dot, load_tuple


@kernel
def gm_beta_pullback(kind, first, last, row, j, species, rij, dmoments, dbeta, n_moments, basis, cutoff):
    """Pullback (6) of the moments of atoms first .. last-1 to beta, added to dbeta in atom order.

    in   row, j, species, rij as for gm_moments; Rows dmoments like moments
    out  dbeta (planes, n_species, n_species, n_radial, n_basis) float64
    """
    row, j, species = borrowed(row), borrowed(j), borrowed(species)
    n_species, n_radial, n_basis = dbeta.shape[1], dbeta.shape[3], dbeta.shape[4]
    has_rank3 = n_moments > TEN
    width = lanes(kind)
    counts, starts, pairs, vectors, units, values, slopes = block_scratch(
        kind, row, first, last, n_species, n_basis
    )
    bare = scratch(kind, n_basis * ROW)
    dmixed = scratch(kind, n_radial * ROW)
    clear(dmixed)
    products = scratch(kind, 1)
    for i in range(first, last, width):
        n = min(width, last - i)
        fill_block(kind, row, j, species, rij, i, n, cutoff, counts, starts, vectors, pairs)
        pair_geometry(kind, vectors, 0, starts[n_species], n_basis, basis, cutoff, units, values, slopes)
        load_moments(kind, dmoments, i, n, n_radial, n_moments, dmixed)
        for z in range(n_species):
            if starts[z] == starts[z + 1]:
                continue
            basis_moments(kind, units, values, starts[z], starts[z + 1], n_basis, has_rank3, bare)
            for s in range(n_radial):
                for b in range(n_basis):
                    total = dot(load_tuple(kind, dmixed, s * ROW, 10), load_tuple(kind, bare, b * ROW, 10))
                    if has_rank3:
                        total = total + dot(
                            load_tuple(kind, dmixed, s * ROW + TEN, 10), load_tuple(kind, bare, b * ROW + TEN, 10)
                        )
                    store(products, 0, total)
                    for plane in range(planes_of(kind)):
                        for lane in range(n):
                            dbeta[plane, species[i + lane], z, s, b] += products[plane * width + lane]
