"""Spline filters, the work around the sums: neighbours of an atom, their distances, angles and filters.

Everything is done atom by atom. Distances and cosines are computed with neighbours as lanes and kept as (piece of the
spline, coordinate in it); splines are evaluated with filters as lanes, see fastdesc/simd/addressed.py.

Working memory is in rows of one element per neighbour, then three blocks of `step` elements per neighbour for what
filters have; integers are in rows of their own.
"""

from collections import namedtuple

import numpy as np

from fastdesc.backend.jit import inner
from fastdesc.descriptors.spline_filters.cubic_pieces import locate, spline, spline_slope
from fastdesc.simd import lanes, load_atoms, planes_of, scratch
from fastdesc.simd.addressed import (
    broadcast,
    get_number,
    get_scalar,
    load_consecutive,
    nothing,
    set_number,
    set_scalar,
    store_consecutive,
    width_of,
)
from fastdesc.simd.functions import sqrt
from fastdesc.simd.neighbour_block import longest_row

Grids = namedtuple(
    "Grids",
    "cutoff triplet_cutoff group n_groups pairs_alike angles_alike pair_pieces radial_pieces angular_pieces",
)
"""What kernels need to know of the filters: cutoffs in Å; pair filters in a group, and groups; whether elements share
knots; pieces in the tables."""

Work = namedtuple(
    "Work", "memory numbers knots length plane group_step pair_step step f w slopes pair_sums sums n_elements"
)
"""Working memory of one atom: addresses of scalars, of int32 and of the table of knots; elements per row and per plane;
filters, with those that fill vectors up, of a group of pair filters, of all groups, and of triplets; where the blocks
f_b, its cotangent w_b, its slope, and one element per filter begin; and the number of elements."""

# Rows: of all neighbours; from CLOSE the same ones of the close neighbours, those in triplets, and what pulls at them;
# then the knots that a pair filter has for each neighbour.
X, Y, Z, INVERSE, DISTANCE, PLACE, SLOPE, CLOSE = range(8)
PULL_X, PULL_Y, PULL_Z, ANGLES, PULLS, KNOTS = range(14, 20)
FILTERS = KNOTS + 4
# Rows of integers: pieces of the pair filters, of the triplets' radial filters and of the angular filters; the close
# neighbours' places among all; then the first close neighbour of each element, and a count of each.
NEAR_PIECES, CLOSE_PIECES, ANGLE_PIECES, WHO, SPARE, STARTS = range(6)


@inner
def filled(filters, n):
    """Number of filters, counting those that only fill up the last vector."""
    return -(-n // width_of(filters)) * width_of(filters)


@inner
def allocate(kind, row, first, last, pair_step, step, n_elements):
    """Memory for any of the atoms first .. last-1: scalars, int32, length of a row, with room for a vector too many."""
    width = lanes(kind)
    length = (longest_row(row, first, last) // width + 2) * width
    plane = (FILTERS + 3 * step) * length + pair_step + step
    return scratch(kind, -(-plane // width)), np.empty(STARTS * length + 2 * n_elements + 1, np.int32), length


@inner
def work_in(memory, numbers, knots, length, group_step, pair_step, step, n_elements):
    """Lay allocated memory out."""
    f, block = FILTERS * length, step * length
    sums = f + 3 * block
    return Work(
        memory.ctypes.data, numbers.ctypes.data, knots.ctypes.data, length, sums + pair_step + step, group_step,
        pair_step, step, f, f + block, f + 2 * block, sums, sums + pair_step, n_elements,
    )  # fmt: skip


@inner
def keep(memory, numbers):
    """Called last, so that the arrays live as long as their addresses are in use."""
    memory[:1] = 0
    numbers[:1] = 0


@inner
def pieces_of(n_pieces, n, step):
    """Elements of n splines' tables: pieces, four coefficients each, `step` filters."""
    return n * n_pieces * 4 * step


@inner
def element_pair(a, b, n):
    """Number of the pair of elements a <= b in the order 00, 01, .., 0n, 11, .."""
    return a * n - a * (a - 1) // 2 + b - a


@inner
def start_of(work, z):
    """First close neighbour of element z; of z = n_elements, the number of them all."""
    return get_number(work.numbers, STARTS * work.length + z)


@inner
def find_near(kind, rij, first, n, work):
    """Unit vectors and distances of the n neighbours from pair `first` on."""
    memory, length, plane = work.memory, work.length, work.plane
    for k in range(0, n, lanes(kind)):
        m = min(lanes(kind), n - k)
        x = load_atoms(kind, rij, 0, first + k, m)
        y = load_atoms(kind, rij, 1, first + k, m)
        z = load_atoms(kind, rij, 2, first + k, m)
        d = sqrt(x * x + y * y + z * z)
        inverse = 1.0 / d
        store_consecutive(memory, plane, X * length + k, x * inverse)
        store_consecutive(memory, plane, Y * length + k, y * inverse)
        store_consecutive(memory, plane, Z * length + k, z * inverse)
        store_consecutive(memory, plane, INVERSE * length + k, inverse)
        store_consecutive(memory, plane, DISTANCE * length + k, d)


@inner
def knots_at(kind, work, at):
    """Entry `at` of the table of knots: first knot, 1/dx, dx, number of knots."""
    return (
        get_scalar(kind, work.knots, 4 * at), get_scalar(kind, work.knots, 4 * at + 1),
        get_scalar(kind, work.knots, 4 * at + 2), get_scalar(kind, work.knots, 4 * at + 3),
    )  # fmt: skip


@inner
def _locate_near(kind, k, knots, grids, work):
    """Places of neighbours from k on, on knots of their own or, as numbers, the same for all."""
    memory, length, plane = work.memory, work.length, work.plane
    d = load_consecutive(kind, memory, plane, DISTANCE * length + k)
    place = locate(d, knots[0], knots[1], knots[2], knots[3], grids.cutoff, grids.pair_pieces - 1,
                   4 * work.group_step, work.numbers, NEAR_PIECES * length + k)  # fmt: skip
    store_consecutive(memory, plane, PLACE * length + k, place)


@inner
def find_places(kind, g, first, n, j, species, grids, work):
    """Places of the n neighbours on the knots of group g of the pair filters."""
    memory, length, plane, at = work.memory, work.length, work.plane, g * work.n_elements
    if grids.pairs_alike:
        for k in range(0, n, lanes(kind)):
            _locate_near(kind, k, knots_at(kind, work, at), grids, work)
    else:
        for k in range(n):
            knots = knots_at(kind, work, at + species[j[first + k]])
            for c in range(4):
                set_scalar(memory, (KNOTS + c) * length + k, knots[c])
        for k in range(0, n, lanes(kind)):
            own = (
                load_consecutive(kind, memory, plane, KNOTS * length + k),
                load_consecutive(kind, memory, plane, (KNOTS + 1) * length + k),
                load_consecutive(kind, memory, plane, (KNOTS + 2) * length + k),
                load_consecutive(kind, memory, plane, (KNOTS + 3) * length + k),
            )
            _locate_near(kind, k, own, grids, work)


@inner
def find_close(kind, first, n, j, species, grids, work):
    """Copy the neighbours within the triplets' cutoff together, sorted by element; return their number."""
    memory, numbers, length, plane = work.memory, work.numbers, work.length, work.plane
    limit = grids.triplet_cutoff
    n_close = 0
    for k in range(n):  # without a branch, which would be mispredicted
        set_number(numbers, WHO * length + n_close, k)
        n_close += get_scalar(kind, memory, DISTANCE * length + k) < limit
    set_number(numbers, STARTS * length, 0)
    set_number(numbers, STARTS * length + work.n_elements, n_close)
    if work.n_elements > 1:
        _sort_by_element(first, n_close, j, species, work)
    for m in range(planes_of(kind)):
        for k in range(n_close):
            source = m * plane + get_number(numbers, WHO * length + k)
            target = m * plane + CLOSE * length + k
            for c in range(PLACE):
                set_scalar(memory, target + c * length, get_scalar(kind, memory, source + c * length))
    for c in range(PLACE):
        clear(kind, work, (CLOSE + c) * length + n_close, 1)
    for z in range(work.n_elements):  # ascending: a vector that reaches past the last of z is written over
        x0, per_dx, dx, last = knots_at(kind, work, grids.n_groups * work.n_elements + z)
        for k in range(start_of(work, z), start_of(work, z + 1), lanes(kind)):
            d = load_consecutive(kind, memory, plane, (CLOSE + DISTANCE) * length + k)
            place = locate(d, x0, per_dx, dx, last, None, 0, 4 * work.step, numbers, CLOSE_PIECES * length + k)
            store_consecutive(memory, plane, (CLOSE + PLACE) * length + k, place)
    return n_close


@inner
def _sort_by_element(first, n_close, j, species, work):
    """Counting sort of row WHO, stable; writes the starts."""
    numbers, n = work.numbers, work.n_elements
    who, spare, starts = WHO * work.length, SPARE * work.length, STARTS * work.length
    counts = starts + n + 1
    for z in range(n):
        set_number(numbers, counts + z, 0)
    for k in range(n_close):
        neighbour = get_number(numbers, who + k)
        set_number(numbers, spare + k, neighbour)
        z = counts + species[j[first + neighbour]]
        set_number(numbers, z, get_number(numbers, z) + 1)
    for z in range(n):
        start = get_number(numbers, starts + z)
        set_number(numbers, starts + z + 1, start + get_number(numbers, counts + z))
        set_number(numbers, counts + z, start)
    for k in range(n_close):
        neighbour = get_number(numbers, spare + k)
        z = counts + species[j[first + neighbour]]
        place = get_number(numbers, z)
        set_number(numbers, who + place, neighbour)
        set_number(numbers, z, place + 1)


@inner
def triplet_filters(filters, radial, grids, work):
    """Write f_b of all close neighbours."""
    memory, length, plane, step = work.memory, work.length, work.plane, work.step
    for z in range(work.n_elements):
        base = pieces_of(grids.radial_pieces, z, step)
        for k in range(start_of(work, z), start_of(work, z + 1)):
            t = broadcast(filters, memory, plane, (CLOSE + PLACE) * length + k)
            at = base + get_number(work.numbers, CLOSE_PIECES * length + k)
            for g in range(0, step, width_of(filters)):
                store_consecutive(memory, plane, work.f + k * step + g, spline(filters, radial, at + g, step, t))


@inner
def triplet_filters_and_slopes(filters, radial, grids, work):
    """Write f_b and f_b' of all close neighbours."""
    memory, length, plane, step = work.memory, work.length, work.plane, work.step
    for z in range(work.n_elements):
        base = pieces_of(grids.radial_pieces, z, step)
        for k in range(start_of(work, z), start_of(work, z + 1)):
            t = broadcast(filters, memory, plane, (CLOSE + PLACE) * length + k)
            at = base + get_number(work.numbers, CLOSE_PIECES * length + k)
            for g in range(0, step, width_of(filters)):
                f, slope = spline_slope(filters, radial, at + g, step, t)
                store_consecutive(memory, plane, work.f + k * step + g, f)
                store_consecutive(memory, plane, work.slopes + k * step + g, slope)


@inner
def find_angles(kind, a, first, last, elements, grids, work):
    """Places of the cosines between neighbour a and neighbours first .. last-1, on the knots of a pair of elements."""
    memory, length, plane = work.memory, work.length, work.plane
    x = broadcast(kind, memory, plane, (CLOSE + X) * length + a)
    y = broadcast(kind, memory, plane, (CLOSE + Y) * length + a)
    z = broadcast(kind, memory, plane, (CLOSE + Z) * length + a)
    x0, per_dx, dx, n_knots = knots_at(kind, work, (grids.n_groups + 1) * work.n_elements + elements)
    for k in range(first, last, lanes(kind)):
        cosine = (
            x * load_consecutive(kind, memory, plane, (CLOSE + X) * length + k)
            + y * load_consecutive(kind, memory, plane, (CLOSE + Y) * length + k)
            + z * load_consecutive(kind, memory, plane, (CLOSE + Z) * length + k)
        )
        place = locate(
            cosine, x0, per_dx, dx, n_knots, None, 0, 4 * work.step, work.numbers, ANGLE_PIECES * length + k
        )
        store_consecutive(memory, plane, ANGLES * length + k, place)


@inner
def clear(kind, work, at, n):
    """Zero n elements, and up to one vector more."""
    zero = nothing(kind)
    for k in range(at, at + n, width_of(kind)):
        store_consecutive(work.memory, work.plane, k, zero)
