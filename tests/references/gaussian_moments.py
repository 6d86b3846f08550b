"""Gaussian moments as the textbook writes them: full tensors, one loop per pair, literal einsums.

Zaverkin, Kästner, J. Chem. Theory Comput. 16, 5410 (2020); Zaverkin, Holzmüller, Steinwart, Kästner,
J. Chem. Theory Comput. 17, 6658 (2021).  Slow, obvious, imports nothing of ours.  Everything is analytic in
`rij` and `beta`, so that derivatives come by the complex step: no abs, no norm, only real parts compared.

    u = r_ij / d,  d = |r_ij|,   f_c(d) = (1 + cos(pi d / cutoff)) / 2 below the cutoff, 0 beyond     (1)
    R_s(d; Z_i, Z_j) = f_c(d) n_basis^{-1/2} sum_b beta_{Z_i, Z_j, s, b} g_b(d)                       (2)
    M^L_i[s] = sum_j w_j[s] R_s(d_ij) u^{(x) L},  L = 0..3                                            (3)
    w_j = 1 at first, and with iterations w_j <- w_j + N_t(chosen contractions of M_j)                (4)
"""

from itertools import combinations_with_replacement as unordered
from itertools import product

import numpy as np
from references.recursion import updates

R_MIN = 0.5  # Å, where the first of the Gaussians sits

# number: (ranks of the moments, einsum over full tensors of atoms n, which r, s, t are distinct)
CONTRACTIONS = {
    1: ((0,), "nr->nr", "r"),
    2: ((1, 1), "nri,nsi->nrs", "r<=s"),
    3: ((2, 2), "nrij,nsij->nrs", "r<=s"),
    4: ((3, 3), "nrijk,nsijk->nrs", "r<=s"),
    5: ((2, 2, 2), "nrij,nsik,ntjk->nrst", "r<=s<=t"),
    6: ((1, 1, 2), "nri,nsj,ntij->nrst", "r<=s,t"),
    7: ((3, 3, 2), "nrijk,nsijl,ntkl->nrst", "r<=s,t"),
    8: ((3, 2, 1), "nrijk,nsij,ntk->nrst", "r,s,t"),
}


def cutoff_function(d, cutoff):
    """Equation (1)."""
    return (1 + np.cos(np.pi * d / cutoff)) / 2 if d.real < cutoff else 0 * d


def gaussian_basis(d, cutoff, n_basis):
    """Normalised Gaussians at mu_b = r_min + b (cutoff - r_min) / n_basis, b = 0..n_basis-1."""
    a = n_basis**2 / cutoff**2
    mu = R_MIN + np.arange(n_basis) * (cutoff - R_MIN) / n_basis
    return (2 * a / np.pi) ** 0.25 * np.exp(-a * (d - mu) ** 2)


def bessel_basis(d, cutoff, n_basis):
    """Kocer's combination of neighbouring spherical Bessel functions; sinc x = sin(pi x) / (pi x)."""
    n = np.arange(n_basis)

    def sinc(x):
        return np.sin(np.pi * x) / (np.pi * x)

    both = sinc((n + 1) * d / cutoff) + sinc((n + 2) * d / cutoff)
    return (-1.0) ** n * np.sqrt(2) * np.pi * cutoff**-1.5 * both


BASES = {"gaussian": gaussian_basis, "bessel": bessel_basis}


def radial_functions(d, beta_ij, cutoff, basis):
    """Equation (2): R (n_radial,) at one distance; beta_ij (n_radial, n_basis)."""
    n_basis = beta_ij.shape[1]
    return cutoff_function(d, cutoff) * n_basis**-0.5 * (beta_ij @ BASES[basis](d, cutoff, n_basis))


def moments(rij, i, j, species, beta, cutoff, basis, w=None):
    """Equation (3): [M0, M1, M2, M3] as full tensors (n_atoms, n_radial, 3, ..); w (n_atoms, n_radial), one if none."""
    w = np.ones((len(species), beta.shape[2])) if w is None else w
    dtype = np.result_type(rij, beta, w, float)
    m = [np.zeros((len(species), beta.shape[2]) + (3,) * rank, dtype) for rank in range(4)]
    for r, a, b in zip(rij, i, j, strict=True):
        d = np.sqrt((r * r).sum())
        u = r / d
        radial = w[b] * radial_functions(d, beta[species[a], species[b]], cutoff, basis)
        m[0][a] += radial
        m[1][a] += np.einsum("r,i->ri", radial, u)
        m[2][a] += np.einsum("r,i,j->rij", radial, u, u)
        m[3][a] += np.einsum("r,i,j,k->rijk", radial, u, u, u)
    return m


def tuples(kind, n_radial):
    """Return the radial indices of the features of one contraction, in lexicographic order."""
    channels = range(n_radial)
    if kind == "r":
        return [(r,) for r in channels]
    if kind == "r<=s":
        return list(unordered(channels, 2))
    if kind == "r<=s<=t":
        return list(unordered(channels, 3))
    if kind == "r<=s,t":
        return [(r, s, t) for (r, s), t in product(unordered(channels, 2), channels)]
    return list(product(channels, repeat=3))


def coefficients(theta):
    """Return beta (centre, neighbour, r, b), or the sum of products that stands for it."""
    if "beta" in theta:
        return theta["beta"]
    return np.einsum("ak,ck,krb->acrb", theta["centre"], theta["neighbour"], theta["radial"])


def contracted(m, contractions):
    """Return (n_atoms, n_features): contractions by ascending number, each with its unique tuples."""
    columns = []
    for number in sorted(contractions):
        ranks, subscripts, kind = CONTRACTIONS[number]
        full = np.einsum(subscripts, *[m[rank] for rank in ranks])
        columns += [full[(slice(None), *t)] for t in tuples(kind, m[0].shape[1])]
    return np.stack(columns, axis=1)


def features(
    rij, i, j, species, theta, *, cutoff, basis, contractions, max_rank=3, iterations=0, message_contractions=None,
    networks="per_species", hidden=(32,), activation="silu", **_,
):  # fmt: skip
    """Return q (n_atoms, n_features)."""
    beta = coefficients(theta)
    w = np.ones((len(species), beta.shape[2]))
    message = range(1, 2 + max_rank) if message_contractions is None else message_contractions
    form = {"activation": activation, "shared": networks == "shared", "hidden": hidden}
    for t in range(1, iterations + 1):
        q = contracted(moments(rij, i, j, species, beta, cutoff, basis, w), message)
        w = w + updates(theta, t, species, q, len(beta), **form)
    return contracted(moments(rij, i, j, species, beta, cutoff, basis, w), contractions)
