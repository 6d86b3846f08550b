"""Embedded density and its recursion as the papers write them: one loop per pair, literal sums.

Zhang, Hu, Jiang, J. Phys. Chem. Lett. 10, 4962 (2019); Zhang, Xia, Jiang, Phys. Rev. Lett. 127, 156002 (2021).
Slow, obvious, imports nothing of ours.  Everything is analytic in `rij` and in every parameter, so that derivatives
come by the complex step: no abs, no norm, only real parts compared.

    f_c(r) = [(1 + cos(pi r / cutoff)) / 2]^2 below the cutoff, 0 beyond                              (1)
    R_k(r; Z_j) = exp(-exp(alpha_{Z_j,k}) (r - r_s{Z_j,k})^2)                                         (2)
    (with the exponent itself instead of exp(alpha) where theta has "exponents")
    phi_k,lxlylz(r_ij) = f_c R_k x^lx y^ly z^lz,   lx + ly + lz = l <= l_max                          (3)
    A_i[k, lxlylz] = sum_j c_jk phi_k,lxlylz(r_ij)                                                    (4)
    q_i[m] = sum_l sum_{lx+ly+lz=l} l!/(lx! ly! lz!) (sum_k h_lkm A_i[k, lxlylz])^2                   (5)
    c^(0)_i = coefficients_{Z_i},   c^(t)_i = c^(t-1)_i + N_t^{Z_i}(q^(t-1)_i)                        (6)

`normalized` takes x, y, z in (3) from the unit vector.
"""

from itertools import product
from math import factorial

import numpy as np
from references.recursion import updates


def cutoff_function(r, cutoff):
    """Equation (1)."""
    return ((1 + np.cos(np.pi * r / cutoff)) / 2) ** 2 if r.real < cutoff else 0 * r


def powers(l):
    """Return all (lx, ly, lz) of total l."""
    return [p for p in product(range(l + 1), repeat=3) if sum(p) == l]


def density(rij, i, j, species, alpha, r_s, c, hyper, *, cutoff, l_max, normalized):
    """Equations (1) to (5) for given coefficients c (n_atoms, n_radial) and alpha itself, not its logarithm.

    hyper None: one feature per (l, k), l first.
    """
    n_atoms, n_radial = c.shape
    dtype = np.result_type(rij, alpha, r_s, c, float if hyper is None else hyper)
    q = np.zeros((n_atoms, (l_max + 1) * n_radial if hyper is None else hyper.shape[2]), dtype)
    for l in range(l_max + 1):
        h = hyper[l] if hyper is not None else np.eye((l_max + 1) * n_radial)[l * n_radial : (l + 1) * n_radial]
        for lx, ly, lz in powers(l):
            a = np.zeros((n_atoms, n_radial), dtype)
            for vector, centre, neighbour in zip(rij, i, j, strict=True):
                r = np.sqrt((vector * vector).sum())
                x, y, z = vector / r if normalized else vector
                zj = species[neighbour]
                radial = np.exp(-alpha[zj] * (r - r_s[zj]) ** 2)
                a[centre] += c[neighbour] * cutoff_function(r, cutoff) * radial * x**lx * y**ly * z**lz
            weight = factorial(l) / (factorial(lx) * factorial(ly) * factorial(lz))
            q += weight * (a @ h) ** 2
    return q


def features(
    rij, i, j, species, theta, *, cutoff, l_max, iterations, contraction, normalized,
    activation="silu", networks="per_species", hidden=(), blocks=0, layer_norm=False, **_,
):  # fmt: skip
    """Return q (n_atoms, n_features) after all iterations (6).

    Networks are named network.<t>.<element>.<layer>, elements in the order of their indices; a network shared by
    all elements is told the element by ones and zeros after the features.
    """
    alpha, r_s = theta["exponents"] if "exponents" in theta else np.exp(theta["alpha"]), theta["r_s"]
    hyper = {
        "hyper": lambda: [theta["hyper"]] * (iterations + 1), "hyper_by_iteration": lambda: theta["hyper"],
        "none": lambda: [None] * (iterations + 1),
    }[contraction]()    # fmt: skip
    settings = {"cutoff": cutoff, "l_max": l_max, "normalized": normalized}
    c = theta["coefficients"][species]
    q = density(rij, i, j, species, alpha, r_s, c, hyper[0], **settings)
    form = {"activation": activation, "shared": networks == "shared", "hidden": hidden, "blocks": blocks}
    for t in range(1, iterations + 1):
        c = c + updates(theta, t, species, q, len(alpha), layer_norm=layer_norm, **form)
        q = density(rij, i, j, species, alpha, r_s, c, hyper[t], **settings)
    return q
