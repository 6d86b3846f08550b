"""Spline filters as the textbook writes them: every triplet in a list, every spline solved and evaluated afresh.

Vita, Trinkle, Comput. Mater. Sci. 232, 112655 (2024).  Slow, obvious, imports nothing of ours.  Analytic in `rij` and
in all parameters, on the piece of each spline that the real part selects: derivatives come by the complex step.

    G2_i[a] = sum_j rho_a(r_ij; Z_j)                                                                     (1)
    G3_i[b] = sum_{j<k} f_b(r_ij; Z_j) f_b(r_ik; Z_k) g_b(cos theta_jik; Z_j, Z_k)                        (2)
"""

from functools import lru_cache
from itertools import combinations

import numpy as np


@lru_cache
def inverse(n, dx, ends):
    """Inverse of the matrix in `slopes`, by elimination, in extended precision: NumPy's is in double alone."""
    matrix = np.zeros((n, 2 * n), np.longdouble)
    matrix[:, n:] = np.eye(n)
    for k in range(1, n - 1):
        matrix[k, k - 1], matrix[k, k], matrix[k, k + 1] = 1, 4, 1
    matrix[0, 0] = matrix[-1, n - 1] = 1
    if ends[0] == "natural":
        matrix[0, 0], matrix[0, 1] = 4 * dx, 2 * dx
    if ends[1] == "natural":
        matrix[-1, n - 2], matrix[-1, n - 1] = 2 * dx, 4 * dx
    for k in range(n):
        matrix[k] /= matrix[k, k]
        for row in range(n):
            if row != k:
                matrix[row] -= matrix[row, k] * matrix[k]
    return matrix[:, n:]


def slopes(y, b, dx, ends):
    """Slopes at the knots: y'' is continuous inside; each end is clamped (y' = b) or natural (dx² y'' = b)."""
    right = np.zeros(len(y), np.result_type(y, b, float))
    for k in range(1, len(y) - 1):
        right[k] = 3 * (y[k + 1] - y[k - 1]) / dx
    right[0] = b[0] if ends[0] == "clamped" else 6 * (y[1] - y[0]) - b[0]
    right[-1] = b[1] if ends[1] == "clamped" else b[1] + 6 * (y[-1] - y[-2])
    return (inverse(len(y), dx, ends) @ right).astype(right.dtype)


def spline(x, p, x0, x1, ends):
    """Values at x (n,) of the spline with parameters p = (y, b): Hermite's form inside, straight lines outside."""
    y, b = p[:-2], p[-2:]
    dx = (x1 - x0) / (len(y) - 1)
    m = slopes(y, b, dx, ends)
    k = np.clip(np.floor((x.real - x0) / dx).astype(int), 0, len(y) - 2)
    t = (x - x0) / dx - k
    inside = (
        (1 - 3 * t**2 + 2 * t**3) * y[k]
        + (t - 2 * t**2 + t**3) * dx * m[k]
        + (3 * t**2 - 2 * t**3) * y[k + 1]
        + (t**3 - t**2) * dx * m[k + 1]
    )
    below = y[0] + m[0] * (x - x0)
    above = y[-1] + m[-1] * (x - x1)
    return np.where(x.real < x0, below, np.where(x.real > x1, above, inside))


def radial_spline(d, p, x0, x1, ends, cutoff):
    """A spline that reaches its last knot with value and slope zero; zero from the cutoff on.

    With a natural last end it gets there with curvature zero as well, for which the last knot value but one is free to
    give way: the curvature is linear in it. A free last end has any value and slope: a straight line up to the cutoff.
    """
    if ends[1] == "free":
        return np.where(d.real < cutoff, spline(d, p, x0, x1, (ends[0], "clamped")), 0)
    p = np.array(p, np.result_type(p, float))
    p[-3] = p[-1] = 0
    pinned = (ends[0], "clamped")
    if ends[1] == "natural":
        n = len(p) - 2
        dx = (x1 - x0) / (n - 1)

        def last_curvature(knot_value):
            p[-4] = knot_value
            m = slopes(p[:-2], p[-2:], dx, pinned)
            return 6 * (p[-4] - p[-3]) + 2 * dx * m[-2] + 4 * dx * m[-1]

        zero, one = last_curvature(0), last_curvature(1)
        p[-4] = -zero / (one - zero)
    return np.where(d.real < cutoff, spline(d, p, x0, x1, pinned), 0)


def features(
    rij, i, j, species, theta, *, cutoff, triplet_cutoff, r_min, ends=("clamped", "clamped"),
    angular_ends=("natural", "natural"), shared=False, knots=None, **_,
):  # fmt: skip
    """Return q (n_atoms, n_features): the pair sums (1), then the triplet sums (2).

    `knots` holds first knot, last knot and number of knots: by filter and element of `pair`, by element of
    `triplet_radial`, by pair of elements of `triplet_angular`; parameters that a spline does not need are left over.
    """
    knots = {} if knots is None else knots

    def own(name, common, parameters, *which):
        """First knot, last knot, and the parameters of one spline."""
        if name not in knots:
            return parameters, *common
        of = knots[name]
        for number in which:
            of = of[number]
        return parameters[: of[2] + 2], of[0], of[1]

    pair, radial, angular = theta["pair"], theta["triplet_radial"], theta["triplet_angular"]
    n_pair, n_triplet, n_atoms = len(pair), len(radial), len(species)
    dtype = np.result_type(rij, pair, radial, angular, float)
    z = np.zeros(n_atoms, int) if shared else np.asarray(species)
    n_species = pair.shape[1]
    d = np.sqrt((rij * rij).sum(1))
    u = rij / d[:, None]
    q = np.zeros((n_atoms, n_pair + n_triplet), dtype)
    for a in range(n_pair):
        for s in range(n_species):
            chosen = z[j] == s
            of_pair = own("pair", (r_min, cutoff), pair[a, s], a, s)
            np.add.at(q[:, a], i[chosen], radial_spline(d[chosen], *of_pair, ends, cutoff))
    f = np.zeros((n_triplet, len(d)), dtype)
    for b in range(n_triplet):
        for s in range(n_species):
            chosen = z[j] == s
            of_neighbour = own("triplet_radial", (r_min, triplet_cutoff), radial[b, s], s)
            f[b, chosen] = radial_spline(d[chosen], *of_neighbour, ends, triplet_cutoff)
    near = np.flatnonzero(d.real < triplet_cutoff)
    triplets = [t for atom in range(n_atoms) for t in combinations(near[i[near] == atom], 2)]
    one, two = np.array(triplets, int).reshape(-1, 2).T
    cosine = (u[one] * u[two]).sum(1)
    low, high = np.minimum(z[j[one]], z[j[two]]), np.maximum(z[j[one]], z[j[two]])
    unordered = [(s, t) for s in range(n_species) for t in range(s, n_species)]
    for b in range(n_triplet):
        for number, (s, t) in enumerate(unordered):
            chosen = (low == s) & (high == t)
            g = spline(cosine[chosen], *own("triplet_angular", (-1.0, 1.0), angular[b, number], number), angular_ends)
            np.add.at(q[:, n_pair + b], i[one[chosen]], f[b, one[chosen]] * f[b, two[chosen]] * g)
    return q
