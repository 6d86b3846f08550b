"""Spline filters: features, and their pullback to pair vectors.

    G2_i[a] = sum_j rho_a(r_ij; Z_j)                                                                        (1)
    G3_i[b] = sum_{j<k} f_b(r_ij; Z_j) f_b(r_ik; Z_k) g_b(c_jik; Z_j, Z_k),   c_jik = u_ij · u_ik             (2)

with splines rho, f, g of fastdesc.numerics.splines. Each unordered pair of neighbours is visited once. With cotangents
d_a of G2 and d_b of G3, and

    e_jk = sum_b d_b f_bj f_bk g_b'(c_jk),   w_bj = d_b sum_k f_bk g_b(c_jk),   v_j = sum_k e_jk u_k           (3)

the pullback to the vector from i to j is

    dr_j = u_j ( sum_a d_a rho_a' + sum_b w_bj f_bj' ) + ( v_j - u_j (u_j · v_j) ) / r_j                    (4)

because sum_k e_jk c_jk = u_j · v_j.
"""

from fastdesc.backend.jit import inner, kernel
from fastdesc.descriptors.spline_filters.cubic_pieces import spline
from fastdesc.descriptors.spline_filters.neighbours import (
    ANGLE_PIECES,
    ANGLES,
    NEAR_PIECES,
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
from fastdesc.simd import peek, planes_of, poke
from fastdesc.simd.addressed import (
    add_consecutive,
    broadcast,
    get_number,
    get_scalar,
    load_consecutive,
    nothing,
    set_scalar,
    store_consecutive,
    width_of,
)


@inner
def read_column(kind, filters, q, row, n, i, work, at, step):
    """Copy rows row .. row+n-1 of column i to element `at` of memory; the lanes that no filter uses get zero."""
    clear(filters, work, at, step)
    for m in range(planes_of(kind)):
        for a in range(n):
            set_scalar(work.memory, m * work.plane + at + a, peek(kind, q, m, row + a, i))


@inner
def _write_column(kind, q, row, n, i, work, at):
    """Copy n elements of memory from `at` to rows row .. row+n-1 of column i."""
    for m in range(planes_of(kind)):
        for a in range(n):
            poke(q, m, row + a, i, get_scalar(kind, work.memory, m * work.plane + at + a))


@inner
def read_groups(kind, filters, q, i, grids, work):
    """Read the rows of the pair filters of column i into pair_sums, group by group."""
    for g in range(grids.n_groups):
        at = work.pair_sums + g * work.group_step
        read_column(kind, filters, q, g * grids.group, grids.group, i, work, at, work.group_step)


@inner
def pair_piece(g, first, k, j, species, grids, work):
    """Element of group g of the pair filters' table where the piece that neighbour k lies on begins."""
    at = get_number(work.numbers, NEAR_PIECES * work.length + k)
    table = g * work.n_elements
    if work.n_elements > 1:
        table += species[j[first + k]]
    return at + pieces_of(grids.pair_pieces, table, work.group_step)


@inner
def _pair_sums(kind, filters, pair, first, n, j, species, grids, work):
    """Formula (1)."""
    step = work.group_step
    for g in range(grids.n_groups):
        find_places(kind, g, first, n, j, species, grids, work)
        for v in range(0, step, width_of(filters)):
            total = nothing(filters)
            for k in range(n):
                t = broadcast(filters, work.memory, work.plane, PLACE * work.length + k)
                at = v + pair_piece(g, first, k, j, species, grids, work)
                total = total + spline(filters, pair, at, step, t)
            store_consecutive(work.memory, work.plane, work.pair_sums + g * step + v, total)


@inner
def _term(filters, angular, base, work, f, k):
    """The term f_bk g_b(c_jk) of (2); f is the element of f_b of neighbour 0."""
    t = broadcast(filters, work.memory, work.plane, ANGLES * work.length + k)
    at = base + get_number(work.numbers, ANGLE_PIECES * work.length + k)
    value = spline(filters, angular, at, work.step, t)
    return value * load_consecutive(filters, work.memory, work.plane, f + k * work.step)


@inner
def _row_sum(filters, angular, base, work, f, first, last):
    """Sum of terms over k = first .. last-1; two chains of additions hide their latency."""
    one, two = nothing(filters), nothing(filters)
    for k in range(first, last - 1, 2):
        one = one + _term(filters, angular, base, work, f, k)
        two = two + _term(filters, angular, base, work, f, k + 1)
    if (last - first) % 2:
        one = one + _term(filters, angular, base, work, f, last - 1)
    return one + two


@inner
def _triplet_sums(kind, filters, angular, n_close, grids, work):
    """Formula (2)."""
    step = work.step
    clear(filters, work, work.sums, step)
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
                    total = _row_sum(filters, angular, base + g, work, work.f + g, first, last)
                    f = load_consecutive(filters, work.memory, work.plane, work.f + a * step + g)
                    add_consecutive(work.memory, work.plane, work.sums + g, f * total)


@kernel
def sf_features(
    kind, pair_lanes, triplet_lanes, first, last, row, j, species, rij, knots, pair, radial, angular, q,
    n_pair, n_triplet, n_elements, grids,
):  # fmt: skip
    """Features (1) and (2) of atoms first .. last-1.

    in   row (n_atoms+1,), j (n_pairs,), species (n_atoms,), Rows rij (planes, 3, n_pairs) Å, knots
         tables pair (groups, n_elements, pieces, 4, filters), radial (n_elements, pieces, 4, filters), angular
         (n_element_pairs, pieces, 4, filters): tuples of one address or of two, values and tangents
    out  Rows q (planes, n_pair + n_triplet, n_atoms)
    """
    group_step, step = filled(pair_lanes, grids.group), filled(triplet_lanes, n_triplet)
    pair_step = grids.n_groups * group_step
    memory, numbers, length = allocate(kind, row, first, last, pair_step, step, n_elements)
    work = work_in(memory, numbers, knots, length, group_step, pair_step, step, n_elements)
    for i in range(first, last):
        start, n = row[i], row[i + 1] - row[i]
        find_near(kind, rij, start, n, work)
        _pair_sums(kind, pair_lanes, pair, start, n, j, species, grids, work)
        for g in range(grids.n_groups):
            _write_column(kind, q, g * grids.group, grids.group, i, work, work.pair_sums + g * group_step)
        if step > 0:
            n_close = find_close(kind, start, n, j, species, grids, work)
            triplet_filters(triplet_lanes, radial, grids, work)
            _triplet_sums(kind, triplet_lanes, angular, n_close, grids, work)
            _write_column(kind, q, n_pair, n_triplet, i, work, work.sums)
    keep(memory, numbers)
