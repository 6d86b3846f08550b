"""Spline filters: pullback of the features to pair vectors, formulas (3) and (4) of features.py."""

from fastdesc.backend.jit import inner, kernel
from fastdesc.descriptors.spline_filters.cubic_pieces import spline_slope
from fastdesc.descriptors.spline_filters.features import pair_piece, read_column, read_groups
from fastdesc.descriptors.spline_filters.neighbours import (
    ANGLE_PIECES,
    ANGLES,
    CLOSE,
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
    filled,
    find_angles,
    find_close,
    find_near,
    find_places,
    keep,
    pieces_of,
    start_of,
    triplet_filters_and_slopes,
    work_in,
)
from fastdesc.simd import lanes, peek, planes_of, poke, splat, store_atoms
from fastdesc.simd.addressed import (
    add_consecutive,
    add_sum,
    broadcast,
    get_number,
    get_scalar,
    load_consecutive,
    nothing,
    store_consecutive,
    width_of,
)


@inner
def _pair_pulls(kind, filters, pair, first, n, j, species, grids, work):
    """Sum_a d_a rho_a' of all neighbours, in row SLOPE."""
    memory, plane, step = work.memory, work.plane, work.group_step
    clear(kind, work, SLOPE * work.length, n)
    for g in range(grids.n_groups):
        find_places(kind, g, first, n, j, species, grids, work)
        for v in range(0, step, width_of(filters)):
            weight = load_consecutive(filters, memory, plane, work.pair_sums + g * step + v)
            for k in range(n):
                t = broadcast(filters, memory, plane, PLACE * work.length + k)
                at = v + pair_piece(g, first, k, j, species, grids, work)
                slope = spline_slope(filters, pair, at, step, t)[1]
                add_sum(memory, plane, SLOPE * work.length + k, weight * slope)


@inner
def _row_pull(filters, angular, base, work, g, weight, first, last):
    """With weight = d_b f_bj: add to e_jk and to w_bk of (3) for k = first .. last-1; return sum_k f_bk g_b(c_jk)."""
    memory, plane, step = work.memory, work.plane, work.step
    total = nothing(filters)
    for k in range(first, last):
        t = broadcast(filters, memory, plane, ANGLES * work.length + k)
        at = base + get_number(work.numbers, ANGLE_PIECES * work.length + k)
        value, slope = spline_slope(filters, angular, at, step, t)
        f = load_consecutive(filters, memory, plane, work.f + k * step + g)
        total = total + f * value
        add_consecutive(memory, plane, work.w + k * step + g, weight * value)
        add_sum(memory, plane, PULLS * work.length + k, weight * f * slope)
    return total


@inner
def _spread_pulls(kind, a, n_close, work):
    """Add row j of e_jk to v_j and v_k of (3)."""
    memory, length, plane = work.memory, work.length, work.plane
    x = broadcast(kind, memory, plane, (CLOSE + X) * length + a)
    y = broadcast(kind, memory, plane, (CLOSE + Y) * length + a)
    z = broadcast(kind, memory, plane, (CLOSE + Z) * length + a)
    vx, vy, vz = splat(kind, 0.0), splat(kind, 0.0), splat(kind, 0.0)
    for k in range(a + 1, n_close, lanes(kind)):
        e = load_consecutive(kind, memory, plane, PULLS * length + k)
        add_consecutive(memory, plane, PULL_X * length + k, e * x)
        add_consecutive(memory, plane, PULL_Y * length + k, e * y)
        add_consecutive(memory, plane, PULL_Z * length + k, e * z)
        vx = vx + e * load_consecutive(kind, memory, plane, (CLOSE + X) * length + k)
        vy = vy + e * load_consecutive(kind, memory, plane, (CLOSE + Y) * length + k)
        vz = vz + e * load_consecutive(kind, memory, plane, (CLOSE + Z) * length + k)
    add_sum(memory, plane, PULL_X * length + a, vx)
    add_sum(memory, plane, PULL_Y * length + a, vy)
    add_sum(memory, plane, PULL_Z * length + a, vz)


@inner
def _triplet_pulls(kind, filters, angular, n_close, grids, work):
    """Sums (3) over all triplets: v in the rows PULL of the close neighbours, sum_b w_b f_b' in row SLOPE."""
    memory, length, plane, step = work.memory, work.length, work.plane, work.step
    clear(kind, work, (CLOSE + SLOPE) * length, n_close)
    clear(kind, work, PULL_X * length, n_close)
    clear(kind, work, PULL_Y * length, n_close)
    clear(kind, work, PULL_Z * length, n_close)
    clear(filters, work, work.w, n_close * step)
    for za in range(work.n_elements):
        for a in range(start_of(work, za), start_of(work, za + 1)):
            clear(kind, work, PULLS * length + a + 1, n_close - a - 1)
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
                    total = _row_pull(filters, angular, base + g, work, g, d * f, first, last)
                    add_consecutive(memory, plane, work.w + a * step + g, d * total)
            _spread_pulls(kind, a, n_close, work)
    for k in range(n_close):
        for g in range(0, step, width_of(filters)):
            slope = load_consecutive(filters, memory, plane, work.slopes + k * step + g)
            w = load_consecutive(filters, memory, plane, work.w + k * step + g)
            add_sum(memory, plane, (CLOSE + SLOPE) * length + k, w * slope)


@inner
def _write_pairs(kind, first, n, work, drij):
    """The pair filters' part of (4), for all neighbours."""
    memory, length, plane = work.memory, work.length, work.plane
    for k in range(0, n, lanes(kind)):
        m = min(lanes(kind), n - k)
        slope = load_consecutive(kind, memory, plane, SLOPE * length + k)
        store_atoms(drij, 0, first + k, m, slope * load_consecutive(kind, memory, plane, X * length + k))
        store_atoms(drij, 1, first + k, m, slope * load_consecutive(kind, memory, plane, Y * length + k))
        store_atoms(drij, 2, first + k, m, slope * load_consecutive(kind, memory, plane, Z * length + k))


@inner
def _add_triplets(kind, first, n_close, work, drij):
    """The triplets' part of (4), added to the pairs that have one."""
    memory, length, plane = work.memory, work.length, work.plane
    for k in range(0, n_close, lanes(kind)):
        x = load_consecutive(kind, memory, plane, (CLOSE + X) * length + k)
        y = load_consecutive(kind, memory, plane, (CLOSE + Y) * length + k)
        z = load_consecutive(kind, memory, plane, (CLOSE + Z) * length + k)
        inverse = load_consecutive(kind, memory, plane, (CLOSE + INVERSE) * length + k)
        vx = load_consecutive(kind, memory, plane, PULL_X * length + k) * inverse
        vy = load_consecutive(kind, memory, plane, PULL_Y * length + k) * inverse
        vz = load_consecutive(kind, memory, plane, PULL_Z * length + k) * inverse
        along = load_consecutive(kind, memory, plane, (CLOSE + SLOPE) * length + k)
        along = along - (x * vx + y * vy + z * vz)
        store_consecutive(memory, plane, PULL_X * length + k, vx + along * x)
        store_consecutive(memory, plane, PULL_Y * length + k, vy + along * y)
        store_consecutive(memory, plane, PULL_Z * length + k, vz + along * z)
    for m in range(planes_of(kind)):
        for k in range(n_close):
            p = first + get_number(work.numbers, WHO * length + k)
            for c in range(3):
                pull = get_scalar(kind, memory, m * plane + (PULL_X + c) * length + k)
                poke(drij, m, c, p, peek(kind, drij, m, c, p) + pull)


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
    group_step, step = filled(pair_lanes, grids.group), filled(triplet_lanes, n_triplet)
    pair_step = grids.n_groups * group_step
    memory, numbers, length = allocate(kind, row, first, last, pair_step, step, n_elements)
    work = work_in(memory, numbers, knots, length, group_step, pair_step, step, n_elements)
    for i in range(first, last):
        start, n = row[i], row[i + 1] - row[i]
        find_near(kind, rij, start, n, work)
        read_groups(kind, pair_lanes, dq, i, grids, work)
        _pair_pulls(kind, pair_lanes, pair, start, n, j, species, grids, work)
        _write_pairs(kind, start, n, work, drij)
        if step > 0:
            n_close = find_close(kind, start, n, j, species, grids, work)
            triplet_filters_and_slopes(triplet_lanes, radial, grids, work)
            read_column(kind, triplet_lanes, dq, n_pair, n_triplet, i, work, work.sums, step)
            _triplet_pulls(kind, triplet_lanes, angular, n_close, grids, work)
            _add_triplets(kind, start, n_close, work, drij)
    keep(memory, numbers)
