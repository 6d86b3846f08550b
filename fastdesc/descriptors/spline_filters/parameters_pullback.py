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
from fastdesc.descriptors.spline_filters.features import pair_row, read_column, read_groups
from fastdesc.descriptors.spline_filters.neighbours import (
    ANGLE_PIECES,
    ANGLES,
    CLOSE_PIECES,
    PLACE,
    allocate,
    clear,
    element_pair,
    find_angles,
    find_close,
    find_near,
    find_places,
    first_row,
    release,
    start_of,
    triplet_filters,
    work_in,
)
from fastdesc.simd import add, broadcast, integer, keep, lanes, load, planes_of, scratch, splat

ATOMS_PER_SUM = 16  # single precision sums over so many atoms, double precision over all


@inner
def _zeroed(kind, n):
    """Memory for n elements of a plane, rounded up, all zero."""
    memory = scratch(kind, -(-n // lanes(kind)))
    memory[:] = 0
    return memory


@inner
def _table_in(sums, size, step):
    """Rows of `step` filters in memory for `size` elements of a plane."""
    return sums.ctypes.data, size * sums.itemsize, step * sums.itemsize


@inner
def _flush(kind, sums, size, out):
    """Move sums into out (planes * size,)."""
    for x in range(planes_of(kind) * size):
        out[x] += sums[x]
        sums[x] = 0


@inner
def _pair_powers(kind, filters, first, n, j, species, grids, work, sums):
    """Formula (5)."""
    for g in range(grids.n_groups):
        find_places(kind, g, first, n, j, species, grids, work)
        for v in range(0, work.group_step, lanes(filters)):
            weight = load(filters, work.pair_sums, g, v)
            for k in range(n):
                t = broadcast(filters, work.near, PLACE, k)
                add_powers(sums, pair_row(g, first, k, j, species, grids, work), v, weight, t)


@inner
def _row_powers(filters, angular, base, work, g, weight, first, last, sums):
    """Formula (7) with weight = d_b f_bj for k = first .. last-1; add to w_bk and return sum_k f_bk g_b(c_jk)."""
    total = splat(filters, 0.0)
    for k in range(first, last):
        t = broadcast(filters, work.close, ANGLES, k)
        row = base + integer(work.integers, ANGLE_PIECES, k)
        value = spline(filters, angular, row, g, t)
        f = load(filters, work.f, k, g)
        total = total + f * value
        add(work.w, k, g, weight * value)
        add_powers(sums, row, g, weight * f, t)
    return total


@inner
def _triplet_powers(kind, filters, angular, n_close, grids, work, sums):
    """Formula (7) over all triplets; leaves w_b of the close neighbours behind."""
    step = work.step
    clear(filters, work.w, 0, 0, n_close * step)
    for za in range(work.n_elements):
        for a in range(start_of(work, za), start_of(work, za + 1)):
            if grids.angles_alike:
                find_angles(kind, a, a + 1, n_close, 0, grids, work)
            for zb in range(za, work.n_elements):
                first, last = max(a + 1, start_of(work, zb)), start_of(work, zb + 1)
                elements = element_pair(za, zb, work.n_elements)
                base = first_row(grids.angular_pieces, elements)
                if not grids.angles_alike:
                    find_angles(kind, a, first, last, elements, grids, work)
                for g in range(0, step if first < last else 0, lanes(filters)):
                    d = load(filters, work.sums, 0, g)
                    f = load(filters, work.f, a, g)
                    total = _row_powers(filters, angular, base, work, g, d * f, first, last, sums)
                    add(work.w, a, g, d * total)


@inner
def _radial_powers(filters, grids, work, sums):
    """Formula (6)."""
    for z in range(work.n_elements):
        base = first_row(grids.radial_pieces, z)
        for k in range(start_of(work, z), start_of(work, z + 1)):
            t = broadcast(filters, work.close, PLACE, k)
            row = base + integer(work.integers, CLOSE_PIECES, k)
            for g in range(0, work.step, lanes(filters)):
                add_powers(sums, row, g, load(filters, work.w, k, g), t)


@kernel
def sf_parameters_pullback(
    kind, pair_lanes, triplet_lanes, first, last, row, j, species, rij, knots, radial, angular, dq, dpair, dradial,
    dangular, n_pair, n_triplet, n_elements, grids,
):  # fmt: skip
    """Pullback of the features of atoms first .. last-1 to the tables, added in atom order.

    in   row, j, species, rij, knots, radial, angular as for sf_features; Rows dq (planes, n_pair + n_triplet, n_atoms)
    out  dpair, dradial, dangular like the tables, (planes * size,) float64
    """
    arrays = allocate(kind, pair_lanes, triplet_lanes, row, first, last, n_triplet, n_elements, grids)
    work = work_in(kind, pair_lanes, triplet_lanes, arrays, knots, n_triplet, n_elements, grids)
    planes = planes_of(kind)
    pair_size, radial_size, angular_size = len(dpair) // planes, len(dradial) // planes, len(dangular) // planes
    pair_sums, radial_sums = _zeroed(kind, pair_size), _zeroed(kind, radial_size)
    angular_sums = _zeroed(kind, angular_size)
    of_pairs = _table_in(pair_sums, pair_size, work.group_step)
    of_distances = _table_in(radial_sums, radial_size, work.step)
    of_angles = _table_in(angular_sums, angular_size, work.step)
    for i in range(first, last):
        start, n = row[i], row[i + 1] - row[i]
        find_near(kind, rij, start, n, work)
        read_groups(kind, pair_lanes, dq, i, grids, work)
        _pair_powers(kind, pair_lanes, start, n, j, species, grids, work, of_pairs)
        if work.step > 0:
            n_close = find_close(kind, start, n, j, species, grids, work)
            triplet_filters(triplet_lanes, radial, grids, work)
            read_column(kind, triplet_lanes, dq, n_pair, n_triplet, i, work.sums, 0)
            _triplet_powers(kind, triplet_lanes, angular, n_close, grids, work, of_angles)
            _radial_powers(triplet_lanes, grids, work, of_distances)
        if (i + 1 - first) % ATOMS_PER_SUM == 0 or i + 1 == last:
            _flush(kind, pair_sums, pair_size, dpair)
            _flush(kind, radial_sums, radial_size, dradial)
            _flush(kind, angular_sums, angular_size, dangular)
    release(arrays)
    for array in (pair_sums, radial_sums, angular_sums):
        keep(array)
