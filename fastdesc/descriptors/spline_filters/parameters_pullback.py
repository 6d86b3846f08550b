"""Spline filters: pullback of the features to their parameters.

A spline is linear in the coefficients c_q of its pieces, S = sum_q c_q t^q, so with w and e's weight as in formula (3)
of features.py each evaluation adds its cotangent times t^q to the coefficients of its piece:

    d_a t^q                 to rho_a's piece at r_ij,          for all neighbours                             (5)
    w_bj t^q                to f_b's piece at r_ij,            for all close neighbours                       (6)
    d_b f_bj f_bk t^q       to g_b's piece at c_jik,           for all triplets                               (7)

Coefficients are linear in knots and ends; that last step is one small matrix for all atoms together.
"""

from fastdesc.backend.jit import inner, kernel
from fastdesc.descriptors.spline_filters.cubic_pieces import add_powers, spline
from fastdesc.descriptors.spline_filters.features import pair_piece, read_column, read_groups
from fastdesc.descriptors.spline_filters.neighbours import (
    ANGLE_PIECES,
    ANGLES,
    CLOSE,
    CLOSE_PIECES,
    PLACE,
    allocate,
    clear,
    element_pair,
    filled,
    find_angles,
    find_close,
    find_near,
    find_places,
    keep,
    pieces_of,
    start_of,
    triplet_filters,
    work_in,
)
from fastdesc.simd import lanes, planes_of, scratch
from fastdesc.simd.addressed import add_consecutive, broadcast, get_number, load_consecutive, nothing, width_of

ATOMS_PER_SUM = 16  # single precision sums over so many atoms, double precision over all


@inner
def _zeroed(kind, n):
    """Memory for n elements of a plane, rounded up, all zero."""
    memory = scratch(kind, -(-n // lanes(kind)))
    memory[:] = 0
    return memory


@inner
def _flush(kind, sums, size, out):
    """Move sums into out (planes * size,)."""
    for x in range(planes_of(kind) * size):
        out[x] += sums[x]
        sums[x] = 0


@inner
def _pair_powers(kind, filters, first, n, j, species, grids, work, sums, size):
    """Formula (5)."""
    step = work.group_step
    for g in range(grids.n_groups):
        find_places(kind, g, first, n, j, species, grids, work)
        for v in range(0, step, width_of(filters)):
            weight = load_consecutive(filters, work.memory, work.plane, work.pair_sums + g * step + v)
            for k in range(n):
                t = broadcast(filters, work.memory, work.plane, PLACE * work.length + k)
                at = v + pair_piece(g, first, k, j, species, grids, work)
                add_powers(sums, size, at, step, weight, t)


@inner
def _row_powers(filters, angular, base, work, g, weight, first, last, sums, size):
    """Formula (7) with weight = d_b f_bj for k = first .. last-1; add to w_bk and return sum_k f_bk g_b(c_jk)."""
    memory, plane, step = work.memory, work.plane, work.step
    total = nothing(filters)
    for k in range(first, last):
        t = broadcast(filters, memory, plane, ANGLES * work.length + k)
        at = base + get_number(work.numbers, ANGLE_PIECES * work.length + k)
        value = spline(filters, angular, at, step, t)
        f = load_consecutive(filters, memory, plane, work.f + k * step + g)
        total = total + f * value
        add_consecutive(memory, plane, work.w + k * step + g, weight * value)
        add_powers(sums, size, at, step, weight * f, t)
    return total


@inner
def _triplet_powers(kind, filters, angular, n_close, grids, work, sums, size):
    """Formula (7) over all triplets; leaves w_b of the close neighbours behind."""
    memory, plane, step = work.memory, work.plane, work.step
    clear(filters, work, work.w, n_close * step)
    for za in range(work.n_elements):
        for a in range(start_of(work, za), start_of(work, za + 1)):
            if grids.angles_alike:
                find_angles(kind, a, a + 1, n_close, 0, grids, work)
            for zb in range(za, work.n_elements):
                first, last = max(a + 1, start_of(work, zb)), start_of(work, zb + 1)
                elements = element_pair(za, zb, work.n_elements)
                base = pieces_of(grids.angular_pieces, elements, step)
                if not grids.angles_alike:
                    find_angles(kind, a, first, last, elements, grids, work)
                for g in range(0, step if first < last else 0, width_of(filters)):
                    d = load_consecutive(filters, memory, plane, work.sums + g)
                    f = load_consecutive(filters, memory, plane, work.f + a * step + g)
                    total = _row_powers(filters, angular, base + g, work, g, d * f, first, last, sums, size)
                    add_consecutive(memory, plane, work.w + a * step + g, d * total)


@inner
def _radial_powers(filters, grids, work, sums, size):
    """Formula (6)."""
    memory, plane, step = work.memory, work.plane, work.step
    for z in range(work.n_elements):
        base = pieces_of(grids.radial_pieces, z, step)
        for k in range(start_of(work, z), start_of(work, z + 1)):
            t = broadcast(filters, memory, plane, (CLOSE + PLACE) * work.length + k)
            at = base + get_number(work.numbers, CLOSE_PIECES * work.length + k)
            for g in range(0, step, width_of(filters)):
                add_powers(sums, size, at + g, step, load_consecutive(filters, memory, plane, work.w + k * step + g), t)


@kernel
def sf_parameters_pullback(
    kind, pair_lanes, triplet_lanes, first, last, row, j, species, rij, knots, radial, angular, dq, dpair, dradial,
    dangular, n_pair, n_triplet, n_elements, grids,
):  # fmt: skip
    """Pullback of the features of atoms first .. last-1 to the tables, added in atom order.

    in   row, j, species, rij, knots, radial, angular as for sf_features; Rows dq (planes, n_pair + n_triplet, n_atoms)
    out  dpair, dradial, dangular like the tables, (planes * size,) float64
    """
    group_step, step = filled(pair_lanes, grids.group), filled(triplet_lanes, n_triplet)
    pair_step = grids.n_groups * group_step
    memory, numbers, length = allocate(kind, row, first, last, pair_step, step, n_elements)
    work = work_in(memory, numbers, knots, length, group_step, pair_step, step, n_elements)
    planes = planes_of(kind)
    pair_size, radial_size, angular_size = len(dpair) // planes, len(dradial) // planes, len(dangular) // planes
    pair_sums, radial_sums = _zeroed(kind, pair_size), _zeroed(kind, radial_size)
    angular_sums = _zeroed(kind, angular_size)
    for i in range(first, last):
        start, n = row[i], row[i + 1] - row[i]
        find_near(kind, rij, start, n, work)
        read_groups(kind, pair_lanes, dq, i, grids, work)
        _pair_powers(kind, pair_lanes, start, n, j, species, grids, work, pair_sums.ctypes.data, pair_size)
        if step > 0:
            n_close = find_close(kind, start, n, j, species, grids, work)
            triplet_filters(triplet_lanes, radial, grids, work)
            read_column(kind, triplet_lanes, dq, n_pair, n_triplet, i, work, work.sums, step)
            _triplet_powers(kind, triplet_lanes, angular, n_close, grids, work, angular_sums.ctypes.data, angular_size)
            _radial_powers(triplet_lanes, grids, work, radial_sums.ctypes.data, radial_size)
        if (i + 1 - first) % ATOMS_PER_SUM == 0 or i + 1 == last:
            _flush(kind, pair_sums, pair_size, dpair)
            _flush(kind, radial_sums, radial_size, dradial)
            _flush(kind, angular_sums, angular_size, dangular)
    keep(memory, numbers)
