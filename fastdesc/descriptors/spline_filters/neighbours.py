"""Spline filters, the work around the sums: neighbours of an atom, their distances, angles and filters.

Everything is done atom by atom. Distances and cosines are computed with neighbours as lanes and kept as (piece of the
spline, coordinate in it); splines are evaluated with filters as lanes, see cubic_pieces.py. All working memory is Rows
(fastdesc/simd/memory.py) of one array, so that tangents stand equally far behind values everywhere.
"""

from collections import namedtuple

import numpy as np

from fastdesc.backend.jit import inner
from fastdesc.descriptors.spline_filters.cubic_pieces import COEFFICIENTS, locate, spline, spline_slope
from fastdesc.simd import (
    broadcast,
    integer,
    keep,
    lanes,
    load,
    peek,
    planes_of,
    poke,
    scratch,
    set_integer,
    splat,
    store,
)
from fastdesc.simd.functions import sqrt
from fastdesc.simd.neighbour_block import longest_row

Grids = namedtuple(
    "Grids",
    "cutoff triplet_cutoff group n_groups pairs_alike angles_alike pair_pieces radial_pieces angular_pieces",
)
"""What kernels need to know of the filters: cutoffs in Å; pair filters in a group, and groups; whether elements share
knots; pieces in the tables."""

Work = namedtuple("Work", "near close integers knots f w slopes pair_sums sums group_step step n_elements")
"""Working memory of one atom, and sizes.

near, close : Rows
    Columns are neighbours, all of them and those in triplets, sorted by element.
integers : plain Rows of int32
knots : plain Rows
    The table of knots, a row of four for each grid.
f, w, slopes : Rows
    f_b, its cotangent w_b and its slope: a row for each close neighbour, a column for each triplet filter.
pair_sums, sums : Rows
    One number for each filter: pair filters by group, and triplet filters in one row.
group_step, step : int
    Pair filters of a group and triplet filters, counting those that only fill up the last vector.
n_elements : int
"""

# Rows of `near` and `close`.
X, Y, Z, INVERSE, DISTANCE, PLACE, SLOPE = range(7)
# Further ones of `near`: the knots that a pair filter has for each neighbour.
KNOTS = 7
NEAR_ROWS = KNOTS + 4
# Further ones of `close`: what pulls at each neighbour, the cosines' places, the pulls of the angles at one neighbour.
PULL_X, PULL_Y, PULL_Z, ANGLES, PULLS = range(7, 12)
CLOSE_ROWS = 12
# Rows of integers: rows of the tables of pair filters, of the triplets' radial filters and of the angular filters; the
# close neighbours' places among all; then the first close neighbour of each element, and a count of each.
NEAR_PIECES, CLOSE_PIECES, ANGLE_PIECES, WHO, SPARE, STARTS = range(6)


@inner
def filled(filters, n):
    """Number of filters, counting those that only fill up the last vector."""
    return -(-n // lanes(filters)) * lanes(filters)


@inner
def allocate(kind, pair_filters, triplet_filters, row, first, last, n_triplet, n_elements, grids):
    """Memory for any of the atoms first .. last-1, in an array for each type, and the length of a row.

    A row has room for a vector too many.
    """
    width, step = lanes(kind), filled(triplet_filters, n_triplet)
    length = (longest_row(row, first, last) // width + 2) * width
    plane = (NEAR_ROWS + CLOSE_ROWS + 3 * step) * length + grids.n_groups * filled(pair_filters, grids.group) + step
    return scratch(kind, -(-plane // width)), np.empty(STARTS * length + 2 * n_elements + 1, np.int32), length


@inner
def work_in(kind, pair_filters, triplet_filters, arrays, knots, n_triplet, n_elements, grids):
    """Lay allocated memory out."""
    memory, integers, length = arrays
    group_step, step = filled(pair_filters, grids.group), filled(triplet_filters, n_triplet)
    item = memory.itemsize
    plane = len(memory) // planes_of(kind) * item
    close = memory.ctypes.data + NEAR_ROWS * length * item
    f = close + CLOSE_ROWS * length * item
    block = step * length * item
    sums = f + 3 * block
    of_triplets = step * item
    return Work(
        (memory.ctypes.data, plane, length * item),
        (close, plane, length * item),
        (integers.ctypes.data, 4 * length),
        (knots.ctypes.data, 4 * item),
        (f, plane, of_triplets),
        (f + block, plane, of_triplets),
        (f + 2 * block, plane, of_triplets),
        (sums + of_triplets, plane, group_step * item),
        (sums, plane, of_triplets),
        group_step, step, n_elements,
    )  # fmt: skip


@inner
def release(arrays):
    """Called last, so that the arrays live as long as their addresses are in use."""
    keep(arrays[0])
    keep(arrays[1])


@inner
def first_row(n_pieces, n):
    """Row of a table at which the pieces of spline number n begin."""
    return n * n_pieces * COEFFICIENTS


@inner
def element_pair(a, b, n):
    """Number of the pair of elements a <= b in the order 00, 01, .., 0n, 11, .."""
    return a * n - a * (a - 1) // 2 + b - a


@inner
def start_of(work, z):
    """First close neighbour of element z; of z = n_elements, the number of them all."""
    return integer(work.integers, STARTS, z)


@inner
def find_near(kind, rij, first, n, work):
    """Unit vectors and distances of the n neighbours from pair `first` on."""
    near = work.near
    for k in range(0, n, lanes(kind)):
        m = min(lanes(kind), n - k)
        x, y, z = load(kind, rij, 0, first + k, m), load(kind, rij, 1, first + k, m), load(kind, rij, 2, first + k, m)
        d = sqrt(x * x + y * y + z * z)
        inverse = 1.0 / d
        store(near, X, k, x * inverse)
        store(near, Y, k, y * inverse)
        store(near, Z, k, z * inverse)
        store(near, INVERSE, k, inverse)
        store(near, DISTANCE, k, d)


@inner
def knots_at(kind, work, at):
    """Row `at` of the table of knots: first knot, 1/dx, dx, number of knots."""
    knots = work.knots
    return (
        peek(kind, knots, 0, at, 0), peek(kind, knots, 0, at, 1), peek(kind, knots, 0, at, 2),
        peek(kind, knots, 0, at, 3),
    )  # fmt: skip


@inner
def _locate_near(kind, k, knots, grids, work):
    """Places of neighbours from k on, on knots of their own or, as numbers, the same for all."""
    d, beyond = load(kind, work.near, DISTANCE, k), grids.pair_pieces - 1
    place = locate(
        d, knots[0], knots[1], knots[2], knots[3], grids.cutoff, beyond, work.integers, NEAR_PIECES, k
    )
    store(work.near, PLACE, k, place)


@inner
def find_places(kind, g, first, n, j, species, grids, work):
    """Places of the n neighbours on the knots of group g of the pair filters."""
    near, at = work.near, g * work.n_elements
    if grids.pairs_alike:
        for k in range(0, n, lanes(kind)):
            _locate_near(kind, k, knots_at(kind, work, at), grids, work)
    else:
        for k in range(n):
            knots = knots_at(kind, work, at + species[j[first + k]])
            for c in range(4):
                poke(near, 0, KNOTS + c, k, knots[c])
        for k in range(0, n, lanes(kind)):
            own = (
                load(kind, near, KNOTS, k), load(kind, near, KNOTS + 1, k), load(kind, near, KNOTS + 2, k),
                load(kind, near, KNOTS + 3, k),
            )  # fmt: skip
            _locate_near(kind, k, own, grids, work)


@inner
def find_close(kind, first, n, j, species, grids, work):
    """Copy the neighbours within the triplets' cutoff together, sorted by element; return their number."""
    near, close, integers = work.near, work.close, work.integers
    limit = grids.triplet_cutoff
    n_close = 0
    for k in range(n):  # without a branch, which would be mispredicted
        set_integer(integers, WHO, n_close, k)
        n_close += peek(kind, near, 0, DISTANCE, k) < limit
    set_integer(integers, STARTS, 0, 0)
    set_integer(integers, STARTS, work.n_elements, n_close)
    if work.n_elements > 1:
        _sort_by_element(first, n_close, j, species, work)
    for m in range(planes_of(kind)):
        for k in range(n_close):
            source = integer(integers, WHO, k)
            for c in range(PLACE):
                poke(close, m, c, k, peek(kind, near, m, c, source))
    for c in range(PLACE):
        clear(kind, close, c, n_close, n_close + 1)
    for z in range(work.n_elements):  # ascending: a vector that reaches past the last of z is written over
        x0, per_dx, dx, last = knots_at(kind, work, grids.n_groups * work.n_elements + z)
        for k in range(start_of(work, z), start_of(work, z + 1), lanes(kind)):
            d = load(kind, close, DISTANCE, k)
            store(close, PLACE, k, locate(d, x0, per_dx, dx, last, None, 0, integers, CLOSE_PIECES, k))
    return n_close


@inner
def _sort_by_element(first, n_close, j, species, work):
    """Counting sort of row WHO, stable; writes the starts."""
    integers, n = work.integers, work.n_elements
    counts = n + 1    # column of row STARTS
    for z in range(n):
        set_integer(integers, STARTS, counts + z, 0)
    for k in range(n_close):
        neighbour = integer(integers, WHO, k)
        set_integer(integers, SPARE, k, neighbour)
        z = counts + species[j[first + neighbour]]
        set_integer(integers, STARTS, z, integer(integers, STARTS, z) + 1)
    for z in range(n):
        start = integer(integers, STARTS, z)
        set_integer(integers, STARTS, z + 1, start + integer(integers, STARTS, counts + z))
        set_integer(integers, STARTS, counts + z, start)
    for k in range(n_close):
        neighbour = integer(integers, SPARE, k)
        z = counts + species[j[first + neighbour]]
        place = integer(integers, STARTS, z)
        set_integer(integers, WHO, place, neighbour)
        set_integer(integers, STARTS, z, place + 1)


@inner
def triplet_filters(filters, radial, grids, work):
    """Write f_b of all close neighbours."""
    for z in range(work.n_elements):
        base = first_row(grids.radial_pieces, z)
        for k in range(start_of(work, z), start_of(work, z + 1)):
            t = broadcast(filters, work.close, PLACE, k)
            row = base + integer(work.integers, CLOSE_PIECES, k)
            for g in range(0, work.step, lanes(filters)):
                store(work.f, k, g, spline(filters, radial, row, g, t))


@inner
def triplet_filters_and_slopes(filters, radial, grids, work):
    """Write f_b and f_b' of all close neighbours."""
    for z in range(work.n_elements):
        base = first_row(grids.radial_pieces, z)
        for k in range(start_of(work, z), start_of(work, z + 1)):
            t = broadcast(filters, work.close, PLACE, k)
            row = base + integer(work.integers, CLOSE_PIECES, k)
            for g in range(0, work.step, lanes(filters)):
                f, slope = spline_slope(filters, radial, row, g, t)
                store(work.f, k, g, f)
                store(work.slopes, k, g, slope)


@inner
def find_angles(kind, a, first, last, elements, grids, work):
    """Places of the cosines between neighbour a and neighbours first .. last-1, on the knots of a pair of elements."""
    close = work.close
    x, y, z = broadcast(kind, close, X, a), broadcast(kind, close, Y, a), broadcast(kind, close, Z, a)
    x0, per_dx, dx, n_knots = knots_at(kind, work, (grids.n_groups + 1) * work.n_elements + elements)
    for k in range(first, last, lanes(kind)):
        cosine = x * load(kind, close, X, k) + y * load(kind, close, Y, k) + z * load(kind, close, Z, k)
        place = locate(cosine, x0, per_dx, dx, n_knots, None, 0, work.integers, ANGLE_PIECES, k)
        store(close, ANGLES, k, place)


@inner
def clear(kind, rows, row, first, last):
    """Zero the columns first .. last-1 of a row, and up to one vector more."""
    for k in range(first, last, lanes(kind)):
        store(rows, row, k, splat(kind, 0.0))
