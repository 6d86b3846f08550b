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
from fastdesc.simd import add, broadcast, integer, lanes, load, peek, planes_of, poke, splat, store


@inner
def read_column(kind, filters, q, first, n, i, memory, row):
    """Copy rows first .. first+n-1 of column i into a row of memory; the lanes that no filter uses get zero."""
    clear(filters, memory, row, 0, n)
    for m in range(planes_of(kind)):
        for a in range(n):
            poke(memory, m, row, a, peek(kind, q, m, first + a, i))


@inner
def _write_column(kind, q, first, n, i, memory, row):
    """Copy n elements of a row of memory to rows first .. first+n-1 of column i."""
    for m in range(planes_of(kind)):
        for a in range(n):
            poke(q, m, first + a, i, peek(kind, memory, m, row, a))


@inner
def read_groups(kind, filters, q, i, grids, work):
    """Read the rows of the pair filters of column i into pair_sums, group by group."""
    for g in range(grids.n_groups):
        read_column(kind, filters, q, g * grids.group, grids.group, i, work.pair_sums, g)


@inner
def pair_row(g, first, k, j, species, grids, work):
    """Row of the pair filters' table where the piece of group g that neighbour k lies on begins."""
    number = g * work.n_elements
    if work.n_elements > 1:
        number += species[j[first + k]]
    return first_row(grids.pair_pieces, number) + integer(work.integers, NEAR_PIECES, k)


@inner
def _pair_sums(kind, filters, pair, first, n, j, species, grids, work):
    """Formula (1)."""
    for g in range(grids.n_groups):
        find_places(kind, g, first, n, j, species, grids, work)
        for v in range(0, work.group_step, lanes(filters)):
            total = splat(filters, 0.0)
            for k in range(n):
                t = broadcast(filters, work.near, PLACE, k)
                total = total + spline(filters, pair, pair_row(g, first, k, j, species, grids, work), v, t)
            store(work.pair_sums, g, v, total)


@inner
def _term(filters, angular, base, work, g, k):
    """The term f_bk g_b(c_jk) of (2)."""
    t = broadcast(filters, work.close, ANGLES, k)
    row = base + integer(work.integers, ANGLE_PIECES, k)
    return spline(filters, angular, row, g, t) * load(filters, work.f, k, g)


@inner
def _row_sum(filters, angular, base, work, g, first, last):
    """Sum of terms over k = first .. last-1; two chains of additions hide their latency."""
    one, two = splat(filters, 0.0), splat(filters, 0.0)
    for k in range(first, last - 1, 2):
        one = one + _term(filters, angular, base, work, g, k)
        two = two + _term(filters, angular, base, work, g, k + 1)
    if (last - first) % 2:
        one = one + _term(filters, angular, base, work, g, last - 1)
    return one + two


@inner
def _triplet_sums(kind, filters, angular, n_close, grids, work):
    """Formula (2)."""
    clear(filters, work.sums, 0, 0, work.step)
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
                for g in range(0, work.step if first < last else 0, lanes(filters)):
                    total = _row_sum(filters, angular, base, work, g, first, last)
                    add(work.sums, 0, g, load(filters, work.f, a, g) * total)


@kernel
def sf_features(
    kind, pair_lanes, triplet_lanes, first, last, row, j, species, rij, knots, pair, radial, angular, q,
    n_pair, n_triplet, n_elements, grids,
):  # fmt: skip
    """Features (1) and (2) of atoms first .. last-1.

    in   row (n_atoms+1,), j (n_pairs,), species (n_atoms,), Rows rij (planes, 3, n_pairs) Å, knots
         tables, Rows or plain Rows: pair (groups, n_elements, pieces, 4, filters), radial (n_elements, pieces, 4,
         filters), angular (n_element_pairs, pieces, 4, filters)
    out  Rows q (planes, n_pair + n_triplet, n_atoms)
    """
    arrays = allocate(kind, pair_lanes, triplet_lanes, row, first, last, n_triplet, n_elements, grids)
    work = work_in(kind, pair_lanes, triplet_lanes, arrays, knots, n_triplet, n_elements, grids)
    for i in range(first, last):
        start, n = row[i], row[i + 1] - row[i]
        find_near(kind, rij, start, n, work)
        _pair_sums(kind, pair_lanes, pair, start, n, j, species, grids, work)
        for g in range(grids.n_groups):
            _write_column(kind, q, g * grids.group, grids.group, i, work.pair_sums, g)
        if work.step > 0:
            n_close = find_close(kind, start, n, j, species, grids, work)
            triplet_filters(triplet_lanes, radial, grids, work)
            _triplet_sums(kind, triplet_lanes, angular, n_close, grids, work)
            _write_column(kind, q, n_pair, n_triplet, i, work.sums, 0)
    release(arrays)
