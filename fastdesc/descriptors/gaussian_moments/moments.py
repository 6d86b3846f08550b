"""Gaussian moments, the part that runs over pairs: moments and their pullback to pair vectors.

    R_s(r; Z_i, Z_j) = sum_b beta_{Z_i,Z_j,s,b} g_b(r)                  g_b from fastdesc.numerics.radial        (1)
    M_i[s, c] = sum_j R_s(r_ij) m_c(u_ij),     u = r / |r|                                              (2)

with the monomials m_c of a unit vector in the order 1 | x y z | xx xy xz yy yz zz | xxx xxy xxz xyy xyz xzz yyy
yyz yzz zzz. (2) is linear in beta: with sums over the bare basis, one set per neighbour element,

    B_i[Z, b, c] = sum_{j of element Z} g_b(r_ij) m_c(u_ij)                                             (3)
    M_i[s, c] = sum_{Z, b} beta_{Z_i,Z,s,b} B_i[Z, b, c]                                                (4)

no loop over pairs needs beta. The pullback goes the same way back: dB from dM by (4), then

    dr = u sum_b g'_b e_b + (1 - u u) w / |r|,   e_b = sum_c dB[b, c] m_c,   w = sum_bc g_b dB[b, c] dm_c/du   (5)

Monomials of rank 0-2 and those of rank 3 are ten each; the two tens take turns in the registers.
"""

import numpy as np

from fastdesc.backend.jit import inner, kernel
from fastdesc.numerics.monomials import TEN, monomials_0_to_2, monomials_3, pull_0_to_2, pull_3
from fastdesc.numerics.radial import radial_basis
from fastdesc.simd import borrowed, lanes, load, scratch, splat, store
from fastdesc.simd.functions import sqrt
from fastdesc.simd.neighbour_block import fill_block, longest_row, scatter_block
from fastdesc.simd.tuples import axpy, dot, load_tuple, store_tuple, zeros

ROW = 2 * TEN  # slots kept per radial or basis function


@inner
def pair_geometry(kind, vectors, first, last, n_basis, basis, cutoff, units, values, slopes):
    """Unit vector and inverse distance (4 values a slot), g_b and g'_b (n_basis values a slot)."""
    for k in range(first, last):
        x, y, z = load(kind, vectors, 3 * k), load(kind, vectors, 3 * k + 1), load(kind, vectors, 3 * k + 2)
        d = sqrt(x * x + y * y + z * z)
        inverse = 1.0 / d
        store_tuple(units, 4 * k, (x * inverse, y * inverse, z * inverse, inverse))
        radial_basis(kind, d, basis, n_basis, cutoff, values, slopes, k * n_basis)


@inner
def basis_moments(kind, units, values, first, last, n_basis, has_rank3, bare):
    """Formula (3) over the slots of one element; two basis functions at a time fill the registers."""
    for b in range(0, n_basis, 2):
        c = min(b + 1, n_basis - 1)
        one = zeros(splat(kind, 0.0), 10)
        two = one
        for k in range(first, last):
            u = load_tuple(kind, units, 4 * k, 3)
            m = monomials_0_to_2(kind, u[0], u[1], u[2])
            one = axpy(load(kind, values, k * n_basis + b), m, one)
            two = axpy(load(kind, values, k * n_basis + c), m, two)
        store_tuple(bare, b * ROW, one)
        store_tuple(bare, c * ROW, two)
        if has_rank3:
            one = zeros(splat(kind, 0.0), 10)
            two = one
            for k in range(first, last):
                u = load_tuple(kind, units, 4 * k, 3)
                m = monomials_3(u[0], u[1], u[2])
                one = axpy(load(kind, values, k * n_basis + b), m, one)
                two = axpy(load(kind, values, k * n_basis + c), m, two)
            store_tuple(bare, b * ROW + TEN, one)
            store_tuple(bare, c * ROW + TEN, two)


@inner
def beta_in_lanes(beta, z, species, i, n, width, coefficients):
    """Coefficients of the pairs (element of each lane's atom, z), one value per (s, b)."""
    planes, n_radial, n_basis = beta.shape[0], beta.shape[3], beta.shape[4]
    coefficients[:] = 0
    for lane in range(n):
        zi = species[i + lane]
        at = lane
        for s in range(n_radial):
            for b in range(n_basis):
                for plane in range(planes):
                    coefficients[at] = beta[plane, zi, z, s, b]
                    at += width


@inner
def _mix(kind, coefficients, source, target, n_out, n_in, out_stride, in_stride, halves):
    """target[o] += sum_i coefficients[o * out_stride + i * in_stride] source[i], rows of ten or twenty."""
    for half in range(halves):
        for o in range(n_out):
            total = load_tuple(kind, target, o * ROW + half * TEN, 10)
            for i in range(n_in):
                a = load(kind, coefficients, o * out_stride + i * in_stride)
                total = axpy(a, load_tuple(kind, source, i * ROW + half * TEN, 10), total)
            store_tuple(target, o * ROW + half * TEN, total)


@inner
def clear(memory):
    for k in range(len(memory)):
        memory[k] = 0


@inner
def block_scratch(kind, row, first, last, n_species, n_basis):
    """Memory for one block of atoms; allocated once per chunk."""
    n_slots = n_species * longest_row(row, first, last)
    return (
        np.empty(n_species, np.int64),
        np.empty(n_species + 1, np.int64),
        np.empty((n_slots, lanes(kind)), np.int64),
        scratch(kind, n_slots * 3),
        scratch(kind, n_slots * 4),
        scratch(kind, n_slots * n_basis),
        scratch(kind, n_slots * n_basis),
    )


@kernel
def gm_moments(kind, first, last, row, j, species, rij, beta, moments, n_moments, basis, cutoff):
    """Moments (4) of atoms first .. last-1.

    in   row (n_atoms+1,), j (n_pairs,), species (n_atoms,), Rows rij (planes, 3, n_pairs) Å
         beta (planes, n_species, n_species, n_radial, n_basis)
    out  Rows moments (planes, n_radial, n_moments, n_atoms)
    """
    row, j, species, beta = borrowed(row), borrowed(j), borrowed(species), borrowed(beta)
    n_species, n_radial, n_basis = beta.shape[1], beta.shape[3], beta.shape[4]
    halves = 2 if n_moments > TEN else 1
    width = lanes(kind)
    counts, starts, pairs, vectors, units, values, slopes = block_scratch(
        kind, row, first, last, n_species, n_basis
    )
    bare = scratch(kind, n_basis * ROW)
    mixed = scratch(kind, n_radial * ROW)
    coefficients = scratch(kind, n_radial * n_basis)
    for i in range(first, last, width):
        n = min(width, last - i)
        fill_block(kind, row, j, species, rij, i, n, cutoff, counts, starts, vectors, pairs)
        pair_geometry(kind, vectors, 0, starts[n_species], n_basis, basis, cutoff, units, values, slopes)
        clear(mixed)
        for z in range(n_species):
            if starts[z] == starts[z + 1]:
                continue
            basis_moments(kind, units, values, starts[z], starts[z + 1], n_basis, halves == 2, bare)
            beta_in_lanes(beta, z, species, i, n, width, coefficients)
            _mix(kind, coefficients, bare, mixed, n_radial, n_basis, n_basis, 1, halves)
        for s in range(n_radial):
            for c in range(n_moments):
                store(moments, s * n_moments + c, i, n, load(kind, mixed, s * ROW + c))


@inner
def load_moments(kind, array, i, n, n_radial, n_moments, memory):
    """Rows of an array like `moments` into scratch rows of twenty."""
    for s in range(n_radial):
        for c in range(n_moments):
            store(memory, s * ROW + c, load(kind, array, s * n_moments + c, i, n))


@inner
def _pull_ten(kind, values, slopes, dbare, at, k, n_basis, m):
    """Ten monomials' part of (5): sum_b g'_b <dB_b, m>, and sum_b g_b dB_b."""
    f = zeros(m[1], 10)
    g = f    # sum_b g'_b dB_b: ten sums that do not wait for each other, as those of <dB_b, m> would
    for b in range(n_basis):
        db = load_tuple(kind, dbare, b * ROW + at, 10)
        f = axpy(load(kind, values, k * n_basis + b), db, f)
        g = axpy(load(kind, slopes, k * n_basis + b), db, g)
    return dot(g, m), f


@inner
def pull_slot(kind, units, values, slopes, dbare, k, n_basis, has_rank3, vectors):
    """Formula (5) for one slot."""
    x, y, z, inverse = load_tuple(kind, units, 4 * k, 4)
    slope, f = _pull_ten(kind, values, slopes, dbare, 0, k, n_basis, monomials_0_to_2(kind, x, y, z))
    wx, wy, wz = pull_0_to_2(f, x, y, z)
    if has_rank3:
        more, f = _pull_ten(kind, values, slopes, dbare, TEN, k, n_basis, monomials_3(x, y, z))
        vx, vy, vz = pull_3(f, x, y, z)
        slope, wx, wy, wz = slope + more, wx + vx, wy + vy, wz + vz
    radial = slope - (x * wx + y * wy + z * wz) * inverse
    store_tuple(
        vectors, 3 * k, (x * radial + wx * inverse, y * radial + wy * inverse, z * radial + wz * inverse)
    )


@kernel
def gm_moments_pullback(
    kind, first, last, row, j, species, rij, beta, dmoments, drij, n_moments, basis, cutoff
):
    """Pullback (5) of the moments of atoms first .. last-1 to the vectors of their pairs.

    in   row, j, species, rij, beta as for gm_moments; Rows dmoments like moments
    out  Rows drij (planes, 3, n_pairs)
    """
    row, j, species, beta = borrowed(row), borrowed(j), borrowed(species), borrowed(beta)
    n_species, n_radial, n_basis = beta.shape[1], beta.shape[3], beta.shape[4]
    halves = 2 if n_moments > TEN else 1
    width = lanes(kind)
    counts, starts, pairs, vectors, units, values, slopes = block_scratch(
        kind, row, first, last, n_species, n_basis
    )
    dbare = scratch(kind, n_basis * ROW)
    dmixed = scratch(kind, n_radial * ROW)
    clear(dmixed)
    coefficients = scratch(kind, n_radial * n_basis)
    for i in range(first, last, width):
        n = min(width, last - i)
        fill_block(kind, row, j, species, rij, i, n, cutoff, counts, starts, vectors, pairs)
        pair_geometry(kind, vectors, 0, starts[n_species], n_basis, basis, cutoff, units, values, slopes)
        load_moments(kind, dmoments, i, n, n_radial, n_moments, dmixed)
        for z in range(n_species):
            if starts[z] == starts[z + 1]:
                continue
            beta_in_lanes(beta, z, species, i, n, width, coefficients)
            clear(dbare)
            _mix(kind, coefficients, dmixed, dbare, n_basis, n_radial, 1, n_basis, halves)
            for k in range(starts[z], starts[z + 1]):
                pull_slot(kind, units, values, slopes, dbare, k, n_basis, halves == 2, vectors)
        scatter_block(kind, pairs, starts[n_species], n, vectors, drij)
