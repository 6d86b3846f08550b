"""Floating-point operations that Gaussian moments need, counted from the formulas (an FMA counts two).

Counted is what the formulas of fastdesc/descriptors/gaussian_moments/*.py need once, for float additions and
multiplications, square roots and divisions one each; not what a kernel does again to save registers, and not
loads, stores, casts and gathers. A percentage of peak made with these numbers is therefore a lower bound of
how busy the arithmetic units are.
"""

from itertools import pairwise

MONOMIALS = {0: 0, 1: 0, 2: 6, 3: 6 + 13}
"""Multiplications for all monomials up to a rank, from the unit vector."""

UNIT_VECTOR = 10
BASIS_START, BASIS_STEP = 60, 20
"""One sine and cosine, cutoff; then per basis function value and slope by recurrence."""


def moments(d, n_atoms, n_pairs):
    """Formulas (3) and (4) of gaussian_moments_pairs.py."""
    basis = BASIS_START + BASIS_STEP * d.n_basis
    per_pair = UNIT_VECTOR + basis + MONOMIALS[d.max_rank] + 2 * d.n_basis * d.n_moments
    return n_pairs * per_pair + n_atoms * _mix(d)


def moments_pullback(d, n_atoms, n_pairs):
    """Formula (5): e_b and w take one pass over dB each; the rest is per pair."""
    basis = BASIS_START + BASIS_STEP * d.n_basis
    derivatives = {0: 0, 1: 3, 2: 3 + 24, 3: 3 + 24 + 60}[d.max_rank]
    per_pair = UNIT_VECTOR + basis + MONOMIALS[d.max_rank] + 4 * d.n_basis * d.n_moments + 4 * d.n_basis
    return n_pairs * (per_pair + derivatives + 15) + n_atoms * _mix(d)


def _mix(d):
    """Coefficients between bare moments and moments, one set of basis functions per element."""
    return 2 * len(d.species_numbers) * d.n_radial * d.n_basis * d.n_moments


def _sizes(n):
    """Number of (r, s) with r <= s, of features of contraction 5, of 6 and 7, of 8."""
    pairs = n * (n + 1) // 2
    return pairs, pairs * (n + 2) // 3, pairs * n, n**3


def contractions(d, n_atoms):
    """The products over unique entries in gaussian_moments_contractions.py."""
    n = d.n_radial
    pairs, triples, pair_t, cube = _sizes(n)
    dot3, dot6, dot10 = 5, 11, 19
    count = {
        1: 0,
        2: pairs * dot3,
        3: pairs * dot6 + n * 3,
        4: pairs * dot10 + n * 7,
        5: pairs * (3 * 5 + 3 * 11) + triples * dot6,
        6: pairs * 12 + pair_t * dot6,
        7: pairs * (9 * dot6 + 3 + n * 9) + pair_t * dot6,
        8: n * n * (3 * dot6 + 3) + cube * dot3,
    }
    return n_atoms * sum(count[k] for k in d.selected)


def contractions_pullback(d, n_atoms):
    """Pullback of the same; every feature sends its cotangent to each of its factors."""
    n = d.n_radial
    pairs, triples, pair_t, cube = _sizes(n)
    count = {
        1: 0,
        2: pairs * 2 * 6,
        3: pairs * 2 * 12 + n * 3,
        4: pairs * 2 * 20 + n * 7,
        5: pairs * (48 + 2 * (54 + 6)) + triples * 24,
        6: pairs * (12 + 2 * (15 + 3)) + pair_t * 24,
        7: pairs * (9 * 11 + 3 + 2 * (9 + 3 * 6 * 5 + 8 + 10)) + pair_t * 24,
        8: n * n * (36 + (6 * 5 + 3 + 6) + (18 + 8 + 10)) + cube * 12,
    }
    return n_atoms * sum(count[k] for k in d.selected)


def network(d, hidden, n_atoms):
    """Value and gradient with respect to the features: each weight is used twice."""
    widths = [d.n_features, *hidden, 1]
    return n_atoms * 4 * sum(a * b for a, b in pairwise(widths))


def descriptor(d, n_atoms, n_pairs, pullback=False):
    """Features, and one vector-Jacobian product."""
    count = moments(d, n_atoms, n_pairs) + contractions(d, n_atoms)
    if pullback:
        count += contractions_pullback(d, n_atoms) + moments_pullback(d, n_atoms, n_pairs)
    return count


def energy_forces(d, hidden, n_atoms, n_pairs):
    """One MD step without its list of neighbours."""
    return descriptor(d, n_atoms, n_pairs, pullback=True) + network(d, hidden, n_atoms)


def training_step(d, hidden, n_atoms, n_pairs):
    """Gradient of a loss on energies and forces: the step above, then one pass in dual numbers.

    A dual multiplication and addition counts three plain ones. The network's dual pass is one tangent forward, one
    chain of cotangents back, and two outer products per weight.
    """
    dual = moments(d, n_atoms, n_pairs) + contractions(d, n_atoms) + contractions_pullback(d, n_atoms)
    weights = network(d, hidden, n_atoms) // 4
    return energy_forces(d, hidden, n_atoms, n_pairs) + 3 * (dual + n_atoms * _mix(d)) + 8 * weights
