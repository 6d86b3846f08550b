"""Gaussian moments, the pairs of a block of atoms: what the passes of one_pass.py and recursive_pass.py share.

For fixed parameters the radial channels, formula (1) of moments.py, are formed for each pair: moments and their
pullback then run over n_radial functions instead of n_basis.
"""

import numpy as np

from fastdesc.backend.jit import inner
from fastdesc.descriptors.gaussian_moments.channels import copy_rows
from fastdesc.descriptors.gaussian_moments.moments import ROW, clear
from fastdesc.numerics.monomials import TEN, monomials_0_to_2, monomials_3, pull_0_to_2, pull_3
from fastdesc.numerics.radial import BESSEL, radial_functions
from fastdesc.simd import borrowed, lanes, load, scratch, splat, store
from fastdesc.simd.functions import sqrt
from fastdesc.simd.neighbour_block import FAR
from fastdesc.simd.pair_vectors import any_below, pair_vector
from fastdesc.simd.tuples import axpy, axpy_numbers, dot, load_tuple, store_tuple, zeros

PLACE = 4    # slots kept per pair: x, y, z, 1/r


@inner
def _channels_of_all(kind, mixing, row, n_functions, n_radial, values, slopes, factor, dfactor, channels, at):
    """R_s and R'_s of one slot, formula (4) of fastdesc.numerics.radial: 2 n_radial slots from `at`."""
    s = 0
    while s + 4 <= n_radial:
        value = zeros(factor, 4)
        slope = value
        for k in range(n_functions):
            value = axpy_numbers(mixing, row + k * n_radial + s, load(kind, values, k), value)
            slope = axpy_numbers(mixing, row + k * n_radial + s, load(kind, slopes, k), slope)
        _store_channel(channels, at + 2 * s, value[0], slope[0], factor, dfactor)
        _store_channel(channels, at + 2 * s + 2, value[1], slope[1], factor, dfactor)
        _store_channel(channels, at + 2 * s + 4, value[2], slope[2], factor, dfactor)
        _store_channel(channels, at + 2 * s + 6, value[3], slope[3], factor, dfactor)
        s += 4
    while s < n_radial:
        one = zeros(factor, 1)
        rise = one
        for k in range(n_functions):
            one = axpy_numbers(mixing, row + k * n_radial + s, load(kind, values, k), one)
            rise = axpy_numbers(mixing, row + k * n_radial + s, load(kind, slopes, k), rise)
        _store_channel(channels, at + 2 * s, one[0], rise[0], factor, dfactor)
        s += 1


@inner
def _channels_of_lanes(kind, mixed, n_functions, n_radial, values, slopes, factor, dfactor, channels, at):
    """As `_channels_of_all`, with coefficients of each lane's own."""
    for s in range(n_radial):
        value = load(kind, mixed, s) * load(kind, values, 0)
        slope = load(kind, mixed, s) * load(kind, slopes, 0)
        for k in range(1, n_functions):
            a = load(kind, mixed, k * n_radial + s)
            value = value + a * load(kind, values, k)
            slope = slope + a * load(kind, slopes, k)
        _store_channel(channels, at + 2 * s, value, slope, factor, dfactor)


@inner
def _store_channel(channels, at, value, slope, factor, dfactor):
    store(channels, at, factor * value)
    store(channels, at + 1, factor * slope + dfactor * value)


@inner
def _add_moments(kind, places, channels, first, last, n_radial, s, t, degree_3, moments):
    """Formula (2) over slots, channels s and t, ten monomials."""
    at = TEN if degree_3 else 0
    one, two = load_tuple(kind, moments, s * ROW + at, 10), load_tuple(kind, moments, t * ROW + at, 10)
    for k in range(first, last):
        x, y, z, inverse = load_tuple(kind, places, PLACE * k, 4)
        x, y, z = x * inverse, y * inverse, z * inverse
        m = monomials_3(x, y, z) if degree_3 else monomials_0_to_2(kind, x, y, z)
        one = axpy(load(kind, channels, 2 * (k * n_radial + s)), m, one)
        two = axpy(load(kind, channels, 2 * (k * n_radial + t)), m, two)
    store_tuple(moments, s * ROW + at, one)
    store_tuple(moments, t * ROW + at, two)


@inner
def _add_moments_of_one(kind, places, channels, first, last, n_radial, s, degree_3, moments):
    """The same for one channel."""
    at = TEN if degree_3 else 0
    one = load_tuple(kind, moments, s * ROW + at, 10)
    for k in range(first, last):
        x, y, z, inverse = load_tuple(kind, places, PLACE * k, 4)
        x, y, z = x * inverse, y * inverse, z * inverse
        m = monomials_3(x, y, z) if degree_3 else monomials_0_to_2(kind, x, y, z)
        one = axpy(load(kind, channels, 2 * (k * n_radial + s)), m, one)
    store_tuple(moments, s * ROW + at, one)


@inner
def add_all_moments(kind, places, channels, n, n_radial, degree_3, moments):
    """Formula (2) over n slots, all channels, into scratch rows of twenty."""
    clear(moments)
    for s in range(0, n_radial - 1, 2):
        _add_moments(kind, places, channels, 0, n, n_radial, s, s + 1, False, moments)
        if degree_3:
            _add_moments(kind, places, channels, 0, n, n_radial, s, s + 1, True, moments)
    if n_radial % 2 == 1:
        _add_moments_of_one(kind, places, channels, 0, n, n_radial, n_radial - 1, False, moments)
        if degree_3:
            _add_moments_of_one(kind, places, channels, 0, n, n_radial, n_radial - 1, True, moments)


@inner
def _half(kind, dmoments, channels, k, n_radial, m, at):
    """Ten monomials' part of (5): sum_s R'_s <dM_s, m>, and sum_s R_s dM_s."""
    f = zeros(m[1], 10)
    g = f    # sum_s R'_s dM_s: ten sums that do not wait for each other, as those of <dM_s, m> would
    for s in range(n_radial):
        d = load_tuple(kind, dmoments, s * ROW + at, 10)
        f = axpy(load(kind, channels, 2 * (k * n_radial + s)), d, f)
        g = axpy(load(kind, channels, 2 * (k * n_radial + s) + 1), d, g)
    return dot(g, m), f


@inner
def pull(kind, places, channels, k, n_radial, degree_3, dmoments):
    """Formula (5) of moments.py with channels for the basis: gradient by one slot's vectors."""
    x, y, z, inverse = load_tuple(kind, places, PLACE * k, 4)
    x, y, z = x * inverse, y * inverse, z * inverse
    slope, f = _half(kind, dmoments, channels, k, n_radial, monomials_0_to_2(kind, x, y, z), 0)
    wx, wy, wz = pull_0_to_2(f, x, y, z)
    if degree_3:
        more, f = _half(kind, dmoments, channels, k, n_radial, monomials_3(x, y, z), TEN)
        vx, vy, vz = pull_3(f, x, y, z)
        slope, wx, wy, wz = slope + more, wx + vx, wy + vy, wz + vz
    radial = slope - (x * wx + y * wy + z * wz) * inverse
    return x * radial + wx * inverse, y * radial + wy * inverse, z * radial + wz * inverse


@inner
def owned(blocks):
    """The arrays of PairBlocks, borrowed: atom, element, first_slot, starts, shifted, neighbour, shift."""
    atom, element, first_slot, starts, shifted, neighbour, shift = blocks
    return (
        borrowed(atom), borrowed(element), borrowed(first_slot), borrowed(starts), borrowed(shifted),
        borrowed(neighbour), borrowed(shift),
    )  # fmt: skip


@inner
def pair_memory(kind, first_slot, first, last, n_radial, n_functions):
    """Memory for the pairs of one of the blocks first .. last-1.

    places, channels, kept : of each slot within the cutoff its place, its channels, its number in the block's list
    more : what `neighbours_of` needs besides
    longest : slots of the longest block
    """
    width, longest = lanes(kind), np.int64(1)
    for block in range(first, last):
        longest = max(longest, first_slot[block + 1] - first_slot[block])
    places, channels = scratch(kind, PLACE * longest), scratch(kind, 2 * n_radial * longest)
    values, slopes = scratch(kind, n_functions), scratch(kind, n_functions)
    mixed, begins = scratch(kind, n_functions * n_radial), np.empty(width, np.uint64)
    centre, cell = np.empty(3 * width), np.empty(9 * width)
    return places, channels, np.empty(longest, np.int64), (centre, cell, values, slopes, mixed, begins), longest


@inner
def neighbours_of(kind, blocks, block, positions, cells, frame, species, mixing, sizes, places, channels, kept, more):
    """Fill places, channels and `kept` for the slots of a block with a neighbour within the cutoff; how many."""
    atom, element, first_slot, starts, shifted, neighbour, shift = blocks
    n_species, n_radial, _, basis, n_basis, cutoff = sizes
    centre, cell, values, slopes, mixed, begins = more
    n_functions = n_basis + 1 if basis == BESSEL else n_basis
    n_groups, length, width = starts.shape[1] - 1, n_functions * n_radial, lanes(kind)
    z_i, begin, n = element[block], first_slot[block], 0
    _centres(positions, cells, frame, atom, block, width, shifted[block], centre, cell)
    for z in range(n_groups):
        for k in range(begin + starts[block, z], begin + starts[block, z + 1]):
            r = pair_vector(
                kind, positions, neighbour, shift, k, centre, cell, np.int64(shifted[block]), FAR * cutoff
            )
            d = sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2])
            if not any_below(d, cutoff):
                continue
            store_tuple(places, PLACE * n, (r[0], r[1], r[2], 1.0 / d))
            p, dp = radial_functions(kind, d, basis, n_basis, cutoff, values, slopes)
            at = 2 * n_radial * n
            if n_groups == n_species:
                row = (z_i * n_species + z) * length
                _channels_of_all(kind, mixing, row, n_functions, n_radial, values, slopes, p, dp, channels, at)
            else:
                for lane in range(width):
                    z_j = species[max(neighbour[k, lane], 0)]
                    begins[lane] = np.uint64((z_i * n_species + z_j) * length)
                copy_rows(kind, mixing, begins, length, mixed, np.uint64(0), np.uint64(width))
                _channels_of_lanes(kind, mixed, n_functions, n_radial, values, slopes, p, dp, channels, at)
            kept[n] = k
            n += 1
    return n


@inner
def _centres(positions, cells, frame, atom, block, width, shifted, centre, cell):
    """Positions of a block's atoms and, where they are asked for, their cells; by lane."""
    for lane in range(width):
        i = max(atom[block, lane], 0)
        for c in range(3):
            centre[c * width + lane] = positions[i, c]
        if shifted:
            for a in range(3):
                for c in range(3):
                    cell[(3 * a + c) * width + lane] = cells[frame[i], a, c]


@inner
def clear_others(kind, target, at, begin, end, kept, n):
    """Three zeros, at target[at + 3 k ..], for each slot k of begin .. end-1 that is not among the n kept ones."""
    none, m = splat(kind, 0.0), 0
    for k in range(begin, end if n < end - begin else begin):
        if m < n and kept[m] == k:
            m += 1
        else:
            store_tuple(target, at + 3 * k, (none, none, none))


@inner
def store_virial(virials, i, sums, lane, width):
    """The matrix of atom i, of what add_virial left in `sums`."""
    xx, yy, zz = sums[3 * width + lane], sums[4 * width + lane], sums[5 * width + lane]
    yz, xz, xy = sums[6 * width + lane], sums[7 * width + lane], sums[8 * width + lane]
    virials[0, i], virials[1, i], virials[2, i] = xx, xy, xz
    virials[3, i], virials[4, i], virials[5, i] = xy, yy, yz
    virials[6, i], virials[7, i], virials[8, i] = xz, yz, zz
