"""Spline filters: energies and their pullback in one pass over atoms, where all filters enter through one density.

With one triplet filter, pair filters summed into two functions phi and rho of the elements of centre and neighbour, and
an embedding U, which is a cubic spline with knots at 0, 1, ..,

    E_i = sum_j phi(r_ij) + w G3_i + scale [ U(s_i) - U0 ],   s_i = shift + sum_j rho(r_ij) + v G3_i        (1)

so the gradients of s and of the rest are found with their values, before U is known, and

    dr_j = u_j ( phi' + h rho' ) + (w + h v) dG3_i/dr_j,   h = scale U'(s_i)                                (2)

Distances, angles and splines are looked at once. With W_a = sum_k f_k g(c_ak) and v_a = f_a sum_k f_k g'(c_ak) u_k over
k other than a, G3 = sum_a f_a W_a / 2, and dG3/dr_a is (4) of features.py with f_a' W_a and v_a.

Neighbours are lanes: with a single filter lanes have nothing else to hold. In triplets the lanes are a, and k is looped
over, so that nothing is summed across lanes and nothing read and written again; each pair of neighbours is then visited
twice, which costs less.
"""

import numpy as np

from fastdesc.backend.jit import inner, kernel
from fastdesc.descriptors.spline_filters.cubic_pieces import locate, splines_of_lanes
from fastdesc.descriptors.spline_filters.neighbours import (
    ANGLE_PIECES,
    ANGLES,
    CLOSE_PIECES,
    DISTANCE,
    NEAR_PIECES,
    PLACE,
    PULL_X,
    PULL_Y,
    PULL_Z,
    SLOPE,
    X,
    Y,
    Z,
    allocate,
    element_pair,
    find_close,
    find_near,
    find_places,
    first_row,
    knots_at,
    release,
    start_of,
    work_in,
)
from fastdesc.descriptors.spline_filters.pullback import add_triplets, write_pairs
from fastdesc.simd import add_sum, broadcast, integer, lanes, load, peek, set_integer, splat, store

SUMS = ANGLES
"""Row of `close` that nothing else needs here: sums of an atom, in the columns PHI, RHO and TRIPLETS."""
PHI, RHO, TRIPLETS = range(3)
SHIFT, AT_ZERO, SCALE, OF_DENSITY, DIRECT, LAST = range(6)
"""Columns of the numbers of an element: shift, U0, scale, v and w of (1); the number of the last piece of U."""


@inner
def _pair_function(kind, which, g, pair, first, n, j, species, grids, work):
    """Add the function of group g over all neighbours to sum `which`; their slopes go to rows SLOPE and PLACE."""
    near, integers = work.near, work.integers
    find_places(kind, g, first, n, j, species, grids, work)
    if work.n_elements > 1:
        for k in range(n):
            own = first_row(grids.pair_pieces, species[j[first + k]])
            set_integer(integers, NEAR_PIECES, k, integer(integers, NEAR_PIECES, k) + own)
    start, total = first_row(grids.pair_pieces, g * work.n_elements), splat(kind, 0.0)
    for k in range(0, n, lanes(kind)):
        t = load(kind, near, PLACE, k, min(lanes(kind), n - k))
        value, slope = splines_of_lanes(t, pair, start, integers, NEAR_PIECES, k)
        total = total + value
        store(near, SLOPE if which == PHI else PLACE, k, slope)
    add_sum(work.close, SUMS, which, total)


@inner
def _close_functions(kind, radial, work, grids):
    """Write f and f' of the close neighbours."""
    for z in range(work.n_elements):
        start = first_row(grids.radial_pieces, z)
        for k in range(start_of(work, z), start_of(work, z + 1), lanes(kind)):
            t = load(kind, work.close, PLACE, k)
            value, slope = splines_of_lanes(t, radial, start, work.integers, CLOSE_PIECES, k)
            store(work.f, 0, k, value)
            store(work.slopes, 0, k, slope)


@inner
def _others(kind, work):
    """Write what `_other` reads: ones but for one zero."""
    width = lanes(kind)
    store(work.w, 0, 0, width - 1, splat(kind, 1.0))
    store(work.w, 0, width - 1, splat(kind, 0.0))
    store(work.w, 0, width, splat(kind, 1.0))


@inner
def _other(kind, a, k, work):
    """Zero in the lane of neighbour k, where it is one of those from a on, and one elsewhere."""
    width = lanes(kind)
    at = width - 1 - (k - a)
    if at < 0 or at >= width:
        at = width
    return load(kind, work.w, 0, at)


@inner
def _around(kind, angular, elements, a, first, last, grids, work, sums):
    """Add terms of k = first .. last-1 to W and sum_k f_k g' u_k of the neighbours from a on."""
    close = work.close
    x, y, z = load(kind, close, X, a), load(kind, close, Y, a), load(kind, close, Z, a)
    x0, per_dx, dx, n_knots = knots_at(kind, work, (grids.n_groups + 1) * work.n_elements + elements)
    start = first_row(grids.angular_pieces, elements)
    w, vx, vy, vz = sums
    for k in range(first, last):
        xk, yk, zk = broadcast(kind, close, X, k), broadcast(kind, close, Y, k), broadcast(kind, close, Z, k)
        cosine = x * xk + y * yk + z * zk
        t = locate(cosine, x0, per_dx, dx, n_knots, None, 0, work.integers, ANGLE_PIECES, 0)
        value, slope = splines_of_lanes(t, angular, start, work.integers, ANGLE_PIECES, 0)
        f = broadcast(kind, work.f, 0, k) * _other(kind, a, k, work)
        e = f * slope
        w, vx, vy, vz = w + f * value, vx + e * xk, vy + e * yk, vz + e * zk
    return w, vx, vy, vz


@inner
def _triplets(kind, angular, grids, work):
    """Sum G3; f_a' W_a in row SLOPE of the close neighbours, v_a in their rows PULL."""
    close, zero, total = work.close, splat(kind, 0.0), splat(kind, 0.0)
    _others(kind, work)
    for za in range(work.n_elements):
        end = start_of(work, za + 1)
        for a in range(start_of(work, za), end, lanes(kind)):
            sums = zero, zero, zero, zero
            for zb in range(work.n_elements):
                elements = element_pair(min(za, zb), max(za, zb), work.n_elements)
                first, last = start_of(work, zb), start_of(work, zb + 1)
                sums = _around(kind, angular, elements, a, first, last, grids, work, sums)
            w, vx, vy, vz = sums
            f = load(kind, work.f, 0, a)
            total = total + load(kind, work.f, 0, a, min(lanes(kind), end - a)) * w
            store(close, SLOPE, a, load(kind, work.slopes, 0, a) * w)
            store(close, PULL_X, a, f * vx)
            store(close, PULL_Y, a, f * vy)
            store(close, PULL_Z, a, f * vz)
    add_sum(close, SUMS, TRIPLETS, 0.5 * total)


@inner
def _embedding(u, last, s):
    """U and its slope, (n_pieces, 4) coefficients."""
    two, three = u.dtype.type(2), u.dtype.type(3)
    k = np.floor(s) + 1
    k = min(k, last) if k >= 0 else 0.0    # what diverged finds a piece, too, and stays NaN in t
    piece, t = np.int64(k), u.dtype.type(s - k)
    c0, c1, c2, c3 = u[piece, 0], u[piece, 1], u[piece, 2], u[piece, 3]
    return ((c3 * t + c2) * t + c1) * t + c0, (three * c3 * t + two * c2) * t + c1


@inner
def _scaled(kind, n, n_close, h, of_triplets, work):
    """The sums of (2), in the rows of the neighbours."""
    near, close = work.near, work.close
    for k in range(0, n, lanes(kind)):
        store(near, SLOPE, k, load(kind, near, SLOPE, k) + h * load(kind, near, PLACE, k))
    for k in range(0, n_close, lanes(kind)):
        store(close, SLOPE, k, of_triplets * load(kind, close, SLOPE, k))
        store(close, PULL_X, k, of_triplets * load(kind, close, PULL_X, k))
        store(close, PULL_Y, k, of_triplets * load(kind, close, PULL_Y, k))
        store(close, PULL_Z, k, of_triplets * load(kind, close, PULL_Z, k))


@kernel
def sf_one_density(
    kind, one, first, last, row, j, species, rij, knots, pair, radial, angular, u, numbers, energies, drij,
    n_triplet, n_elements, grids,
):  # fmt: skip
    """Energies (1) of atoms first .. last-1 and their pullback (2).

    in   one: the kind of a single lane; row (n_atoms+1,), j (n_pairs,), species (n_atoms,), Rows rij (3, n_pairs) Å
         knots, a row of four for each grid
         plain Rows pair (2 n_species, n_elements, pieces, 4), phi and rho of each centre; radial (n_elements, pieces,
         4); angular (n_element_pairs, pieces, 4)
         u (n_species, pieces, 4), numbers (n_species, 6)
    out  energies (n_atoms,) float64, Rows drij (3, n_pairs)
    """
    arrays = allocate(kind, one, one, row, first, last, n_triplet, n_elements, grids)
    work = work_in(kind, one, one, arrays, knots, n_triplet, n_elements, grids)
    for i in range(first, last):
        start, n, own = row[i], row[i + 1] - row[i], species[i]
        store(work.close, SUMS, splat(kind, 0.0))
        find_near(kind, rij, start, n, work)
        store(work.near, DISTANCE, n, splat(kind, 2.0 * grids.cutoff))    # lanes without a neighbour
        _pair_function(kind, PHI, 2 * own, pair, start, n, j, species, grids, work)
        _pair_function(kind, RHO, 2 * own + 1, pair, start, n, j, species, grids, work)
        n_close = 0
        if work.step > 0:
            n_close = find_close(kind, start, n, j, species, grids, work)
            _close_functions(kind, radial, work, grids)
            _triplets(kind, angular, grids, work)
        phi, rho = peek(kind, work.close, 0, SUMS, PHI), peek(kind, work.close, 0, SUMS, RHO)
        g3, mine = peek(kind, work.close, 0, SUMS, TRIPLETS), numbers[own]
        value, slope = _embedding(u[own], np.float64(mine[LAST]), mine[SHIFT] + (rho + mine[OF_DENSITY] * g3))
        h = mine[SCALE] * slope
        energies[i] = np.float64(mine[SCALE]) * (value - mine[AT_ZERO]) + (np.float64(phi) + mine[DIRECT] * g3)
        _scaled(kind, n, n_close, h, mine[DIRECT] + h * mine[OF_DENSITY], work)
        write_pairs(kind, start, n, work.near, drij)
        if n_close > 0:
            add_triplets(kind, start, n_close, work, drij)
    release(arrays)
