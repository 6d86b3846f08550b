"""Embedded density, the part that runs over atoms: features from density sums.

    P_m[c] = sum_k h_{l,k,m} A[k, c],    c a monomial of degree l                                      (1)
    q_m = sum_l sum_{c of degree l} w_c P_m[c]^2,    w_c = l!/(lx! ly! lz!)                            (2)

and without h, one feature for each (l, k):

    q_{l,k} = sum_{c of degree l} w_c A[k, c]^2                                                        (3)

(1) is a small dense product, n_features x n_radial x n_moments per atom, and most of the work. Monomials of equal
weight go in groups of three, features in groups of four: twelve sums stay in registers while three densities and four
coefficients are read. `hyper` arrives in the order in which it is read, see `blocked`.

    group      0   1      2          3          4             5             6             7
    monomials  1   x y z  xx yy zz   xy xz yz   xxx yyy zzz   xxy xxz xyy   xzz yyz yzz   xyz
    w          1   1      1          2          1             3             3             6
"""

from fastdesc.backend.arrays import namespace
from fastdesc.backend.jit import inner, kernel
from fastdesc.simd import lanes, load, scratch, splat, store
from fastdesc.simd.gather import add_scaled, coefficient
from fastdesc.simd.tuples import dot, load_tuple, zeros

FEATURES = 4  # features that share the reading of densities
# Moment number of each place in the groups, in the order of the table above.
ORDER = (0, 1, 2, 3, 4, 7, 9, 5, 6, 8, 10, 16, 19, 11, 12, 13, 15, 17, 18, 14)
TRIPLE_DEGREE = (1, 2, 2, 3, 3, 3)
TRIPLE_WEIGHT = (1.0, 1.0, 2.0, 1.0, 3.0, 3.0)
LAST_WEIGHT = 6.0
N_TRIPLES = (0, 1, 3, 6)  # for l_max
DEGREE_STARTS = (0, 1, 4, 10, 20)
WEIGHTS = (1, 1, 1, 1, 1, 2, 2, 1, 2, 1, 1, 3, 3, 3, 6, 3, 1, 3, 3, 1)


def blocked(hyper):
    """Return hyper (.., l_max+1, n_radial, n_features) as (.., blocks of features, l_max+1, n_radial, 4), flat.

    Features are filled up to a multiple of four by zeros.
    """
    *planes, n_l, n_radial, n_features = hyper.shape
    xp = namespace(hyper)
    blocks = -(-n_features // FEATURES)
    filled = xp.zeros((*planes, n_l, n_radial, blocks * FEATURES), hyper.dtype)
    filled[..., :n_features] = hyper
    filled = xp.moveaxis(filled.reshape(*planes, n_l, n_radial, blocks, FEATURES), -2, len(planes))
    return xp.ascontiguousarray(filled).reshape(*planes, -1)


@inner
def group_at(place):
    """First place and size of the group that a place is in."""
    if 0 < place < 19:
        return 1 + (place - 1) // 3 * 3, 3
    return place, 1


@inner
def load_groups(kind, density, i, n, n_radial, n_moments, a):
    """Densities into scratch, group by group; the moments of one k in a group lie together."""
    for place in range(n_moments):
        group_start, size = group_at(place)
        for k in range(n_radial):
            x = load(kind, density, k * n_moments + ORDER[place], i, n)
            store(a, group_start * n_radial + k * size + place - group_start, x)


@inner
def project1(kind, hyper, at, a, slot, n_radial):
    """Formula (1) for four features and one monomial."""
    p = zeros(splat(kind, 0.0), 1)
    p0, p1, p2, p3 = p, p, p, p
    for k in range(n_radial):
        x = load_tuple(kind, a, slot + k, 1)
        p0 = add_scaled(coefficient(kind, hyper, at + 4 * k), x, p0)
        p1 = add_scaled(coefficient(kind, hyper, at + 4 * k + 1), x, p1)
        p2 = add_scaled(coefficient(kind, hyper, at + 4 * k + 2), x, p2)
        p3 = add_scaled(coefficient(kind, hyper, at + 4 * k + 3), x, p3)
    return p0, p1, p2, p3


@inner
def project3(kind, hyper, at, a, slot, n_radial):
    """Formula (1) for four features and three monomials."""
    p = zeros(splat(kind, 0.0), 3)
    p0, p1, p2, p3 = p, p, p, p
    for k in range(n_radial):
        x = load_tuple(kind, a, slot + 3 * k, 3)
        p0 = add_scaled(coefficient(kind, hyper, at + 4 * k), x, p0)
        p1 = add_scaled(coefficient(kind, hyper, at + 4 * k + 1), x, p1)
        p2 = add_scaled(coefficient(kind, hyper, at + 4 * k + 2), x, p2)
        p3 = add_scaled(coefficient(kind, hyper, at + 4 * k + 3), x, p3)
    return p0, p1, p2, p3


@inner
def _squares(w, p):
    return w * dot(p[0], p[0]), w * dot(p[1], p[1]), w * dot(p[2], p[2]), w * dot(p[3], p[3])


@inner
def sum4(a, b):
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]


@kernel
def ed_contract(kind, first, last, hyper, density, q, n_radial, l_max, n_features):
    """Features (2) of atoms first .. last-1.

    in   hyper as `blocked` returns it; Rows density (planes, n_radial, n_moments, n_atoms)
    out  Rows q (planes, n_features, n_atoms)
    """
    width, n_moments = lanes(kind), DEGREE_STARTS[l_max + 1]
    a = scratch(kind, n_radial * n_moments)
    for i in range(first, last, width):
        n = min(width, last - i)
        load_groups(kind, density, i, n, n_radial, n_moments, a)
        for m in range(0, n_features, FEATURES):
            at = m * (l_max + 1) * n_radial
            total = _squares(1.0, project1(kind, hyper, at, a, 0, n_radial))
            for g in range(N_TRIPLES[l_max]):
                here = at + TRIPLE_DEGREE[g] * n_radial * FEATURES
                p = project3(kind, hyper, here, a, (1 + 3 * g) * n_radial, n_radial)
                total = sum4(total, _squares(TRIPLE_WEIGHT[g], p))
            if l_max == 3:
                p = project1(kind, hyper, at + 3 * n_radial * FEATURES, a, 19 * n_radial, n_radial)
                total = sum4(total, _squares(LAST_WEIGHT, p))
            store(q, m, i, n, total[0])
            if m + 1 < n_features:
                store(q, m + 1, i, n, total[1])
            if m + 2 < n_features:
                store(q, m + 2, i, n, total[2])
            if m + 3 < n_features:
                store(q, m + 3, i, n, total[3])


@kernel
def ed_squares(kind, first, last, density, q, n_radial, l_max):
    """Features (3) of atoms first .. last-1.

    in   Rows density (planes, n_radial, n_moments, n_atoms)
    out  Rows q (planes, (l_max+1) n_radial, n_atoms)
    """
    width, n_moments = lanes(kind), DEGREE_STARTS[l_max + 1]
    for i in range(first, last, width):
        n = min(width, last - i)
        for l in range(l_max + 1):
            for k in range(n_radial):
                total = splat(kind, 0.0)
                for c in range(DEGREE_STARTS[l], DEGREE_STARTS[l + 1]):
                    x = load(kind, density, k * n_moments + c, i, n)
                    total = total + WEIGHTS[c] * (x * x)
                store(q, l * n_radial + k, i, n, total)
