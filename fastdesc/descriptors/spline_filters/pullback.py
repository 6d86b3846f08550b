"""Spline filters: pullback of the features to pair vectors, formulas (3) and (4) of features.py."""

from fastdesc.backend.jit import inner, kernel
from fastdesc.descriptors.spline_filters.cubic_pieces import spline_slope
from fastdesc.descriptors.spline_filters.features import pair_row, read_column, read_groups
from fastdesc.descriptors.spline_filters.neighbours import (
    ANGLE_PIECES,
    ANGLES,
    INVERSE,
    PLACE,
    PULL_X,
    PULL_Y,
    PULL_Z,
    PULLS,
    SLOPE,
    WHO,
    X,
    Y,
    Z,
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
    triplet_filters_and_slopes,
    work_in,
)
from fastdesc.simd import (
    add,
    add_sum,
    broadcast,
    integer,
    lanes,
    load,
    peek,
    planes_of,
    poke,
    splat,
    store,
)


@inner
def _pair_pulls(kind, filters, pair, first, n, j, species, grids, work):
    """Sum_a d_a rho_a' of all neighbours, in row SLOPE."""
    clear(kind, work.near, SLOPE, 0, n)
    for g in range(grids.n_groups):
        find_places(kind, g, first, n, j, species, grids, work)
        for v in range(0, work.group_step, lanes(filters)):
            weight = load(filters, work.pair_sums, g, v)
            for k in range(n):
                t = broadcast(filters, work.near, PLACE, k)
                row = pair_row(g, first, k, j, species, grids, work)
                add_sum(work.near, SLOPE, k, weight * spline_slope(filters, pair, row, v, t)[1])


@inner
def _row_pull(filters, angular, base, work, g, weight, first, last):
    """With weight = d_b f_bj: add to e_jk and to w_bk of (3) for k = first .. last-1; return sum_k f_bk g_b(c_jk)."""
    total = splat(filters, 0.0)
    for k in range(first, last):
        t = broadcast(filters, work.close, ANGLES, k)
        row = base + integer(work.integers, ANGLE_PIECES, k)
        value, slope = spline_slope(filters, angular, row, g, t)
        f = load(filters, work.f, k, g)
        total = total + f * value
        add(work.w, k, g, weight * value)
        add_sum(work.close, PULLS, k, weight * f * slope)
    return total


@inner
def _spread_pulls(kind, a, n_close, close):
    """Add row j of e_jk to v_j and v_k of (3)."""
    x, y, z = broadcast(kind, close, X, a), broadcast(kind, close, Y, a), broadcast(kind, close, Z, a)
    vx, vy, vz = splat(kind, 0.0), splat(kind, 0.0), splat(kind, 0.0)
    for k in range(a + 1, n_close, lanes(kind)):
        e = load(kind, close, PULLS, k)
        add(close, PULL_X, k, e * x)
        add(close, PULL_Y, k, e * y)
        add(close, PULL_Z, k, e * z)
        vx = vx + e * load(kind, close, X, k)
        vy = vy + e * load(kind, close, Y, k)
        vz = vz + e * load(kind, close, Z, k)
    add_sum(close, PULL_X, a, vx)
    add_sum(close, PULL_Y, a, vy)
    add_sum(close, PULL_Z, a, vz)


@inner
def _triplet_pulls(kind, filters, angular, n_close, grids, work):
    """Sums (3) over all triplets: v in the rows PULL of the close neighbours, sum_b w_b f_b' in row SLOPE."""
    close, step = work.close, work.step
    clear(kind, close, SLOPE, 0, n_close)
    clear(kind, close, PULL_X, 0, n_close)
    clear(kind, close, PULL_Y, 0, n_close)
    clear(kind, close, PULL_Z, 0, n_close)
    clear(filters, work.w, 0, 0, n_close * step)
    for za in range(work.n_elements):
        for a in range(start_of(work, za), start_of(work, za + 1)):
            clear(kind, close, PULLS, a + 1, n_close)
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
                    total = _row_pull(filters, angular, base, work, g, d * f, first, last)
                    add(work.w, a, g, d * total)
            _spread_pulls(kind, a, n_close, close)
    for k in range(n_close):
        for g in range(0, step, lanes(filters)):
            add_sum(close, SLOPE, k, load(filters, work.w, k, g) * load(filters, work.slopes, k, g))


@inner
def write_pairs(kind, first, n, near, drij):
    """The pair filters' part of (4), for all neighbours."""
    for k in range(0, n, lanes(kind)):
        m = min(lanes(kind), n - k)
        slope = load(kind, near, SLOPE, k)
        store(drij, 0, first + k, m, slope * load(kind, near, X, k))
        store(drij, 1, first + k, m, slope * load(kind, near, Y, k))
        store(drij, 2, first + k, m, slope * load(kind, near, Z, k))


@inner
def add_triplets(kind, first, n_close, work, drij):
    """The triplets' part of (4), added to the pairs that have one."""
    close = work.close
    for k in range(0, n_close, lanes(kind)):
        x, y, z = load(kind, close, X, k), load(kind, close, Y, k), load(kind, close, Z, k)
        inverse = load(kind, close, INVERSE, k)
        vx = load(kind, close, PULL_X, k) * inverse
        vy = load(kind, close, PULL_Y, k) * inverse
        vz = load(kind, close, PULL_Z, k) * inverse
        along = load(kind, close, SLOPE, k) - (x * vx + y * vy + z * vz)
        store(close, PULL_X, k, vx + along * x)
        store(close, PULL_Y, k, vy + along * y)
        store(close, PULL_Z, k, vz + along * z)
    for m in range(planes_of(kind)):
        for k in range(n_close):
            p = first + integer(work.integers, WHO, k)
            for c in range(3):
                poke(drij, m, c, p, peek(kind, drij, m, c, p) + peek(kind, close, m, PULL_X + c, k))


@kernel
def sf_pullback(
    kind, pair_lanes, triplet_lanes, first, last, row, j, species, rij, knots, pair, radial, angular, dq, drij,
    n_pair, n_triplet, n_elements, grids,
):  # fmt: skip
    """Pullback (4) of the features of atoms first .. last-1 to the vectors of their pairs.

    in   row, j, species, rij, knots, pair, radial, angular as for sf_features
         Rows dq (planes, n_pair + n_triplet, n_atoms)
    out  Rows drij (planes, 3, n_pairs)
    """
    arrays = allocate(kind, pair_lanes, triplet_lanes, row, first, last, n_triplet, n_elements, grids)
    work = work_in(kind, pair_lanes, triplet_lanes, arrays, knots, n_triplet, n_elements, grids)
    for i in range(first, last):
        start, n = row[i], row[i + 1] - row[i]
        find_near(kind, rij, start, n, work)
        read_groups(kind, pair_lanes, dq, i, grids, work)
        _pair_pulls(kind, pair_lanes, pair, start, n, j, species, grids, work)
        write_pairs(kind, start, n, work.near, drij)
        if work.step > 0:
            n_close = find_close(kind, start, n, j, species, grids, work)
            triplet_filters_and_slopes(triplet_lanes, radial, grids, work)
            read_column(kind, triplet_lanes, dq, n_pair, n_triplet, i, work.sums, 0)
            _triplet_pulls(kind, triplet_lanes, angular, n_close, grids, work)
            add_triplets(kind, start, n_close, work, drij)
    release(arrays)
