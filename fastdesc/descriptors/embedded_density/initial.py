"""Embedded density: initial parameters, made without data so that features begin of order one.

Radial functions are Gaussians spread evenly over the cutoff, spacing s = cutoff / n_radial:

    r_s,k = (k + 1/2) s,   alpha = 1 / (2 s^2)                                                             (1)

Coefficients are one, the size of what a network of the recursion adds to them. What densities then are is estimated for
neighbours scattered at random, `DENSITY` per volume and none within CLOSEST: their mean for l = 0, and the mean square
of their fluctuation about zero, which is all there is for l > 0,

    n_k = 4 pi DENSITY int r^2 f_c R_k dr,   v_kl = 4 pi DENSITY int r^2 (f_c R_k r^l)^2 dr                (2)

(r^l only where monomials are not normalized). `hyper` is normal with standard deviation n_radial^(-1/2) / n_k for l = 0
and (n_radial v_kl)^(-1/2) for l > 0, so each degree adds about one to a feature.

The first layer of a network is divided by the size of the features so estimated, and its last layer is zero: every
iteration begins with the densities of the one before, and learns to change them. `calibrate` puts the measured
statistics of some structures in the place of the estimates.
"""

import numpy as np

from fastdesc.descriptors.embedded_density.parameters import EXPONENTS
from fastdesc.descriptors.recursion import initial as recursion

DENSITY = 0.05  # atoms per Å^3: a liquid or a metal
CLOSEST = 1.0  # Å


def initial_parameters(family):
    """Return the dict of parameters of an EmbeddedDensity, float64."""
    n_species, n_radial = len(family.species_numbers), family.n_radial
    rng = np.random.default_rng(family.seed)
    spacing = family.cutoff / n_radial
    r_s, alpha = (np.arange(n_radial) + 0.5) * spacing, np.full(n_radial, 0.5 / spacing**2)
    sizes = _random_surroundings(family, r_s, alpha)
    name, values = ("alpha", np.log(alpha)) if family.exponents == "positive" else (EXPONENTS, alpha)
    parameters = {
        name: np.tile(values, (n_species, 1)),
        "r_s": np.tile(r_s, (n_species, 1)),
        "coefficients": np.ones((n_species, n_radial)),
    }
    if family.contraction != "none":
        normal = rng.standard_normal((family.l_max + 1, n_radial, family.n_features))
        hyper = normal / (np.sqrt(n_radial) * sizes[:, :, None])
        parameters["hyper"] = np.tile(hyper, (1 + family.iterations, 1, 1, 1)) if family.hyper_by_iteration else hyper
        features = np.full(family.n_features, family.l_max + 1.0)
    else:
        features = (sizes**2).ravel()
    return parameters | recursion.initial(family, features, rng)


def _random_surroundings(family, r_s, alpha):
    """Formula (2): n for l = 0, square roots of v for l > 0, (l_max+1, n_radial)."""
    edges = np.linspace(min(CLOSEST, 0.5 * family.cutoff), family.cutoff, 513)
    r = 0.5 * (edges[1:] + edges[:-1])
    shell = 4 * np.pi * DENSITY * r * r * np.diff(edges)
    fc = (0.5 + 0.5 * np.cos(np.pi * r / family.cutoff)) ** 2
    radial = fc * np.exp(-alpha[:, None] * (r - r_s[:, None]) ** 2)
    powers = np.ones((family.l_max + 1, 1)) if family.normalized else r ** np.arange(family.l_max + 1)[:, None]
    sizes = np.sqrt((radial**2 @ (shell * powers**2).T).T)
    sizes[0] = radial @ shell
    return sizes


def calibrated_parameters(family, q):
    """Return parameters for which features like q (n_atoms, n_features), made without iterations, are of size one.

    Inputs of the networks get zero mean and unit variance.
    """
    parameters = {name: array.copy() for name, array in family.parameters.items()}
    size = np.sqrt((q * q).mean(axis=0))
    size[size == 0] = 1
    if family.contraction != "none":
        parameters["hyper"] /= np.sqrt(size)
        q = q / size
        size = np.ones_like(size)
    recursion.calibrate(family, parameters, q, size)
    return parameters
