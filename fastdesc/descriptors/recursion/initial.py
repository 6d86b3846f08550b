"""Recursion, the networks of all iterations: their names, how they begin, how they are fitted to some structures."""

import numpy as np
from ase.data import chemical_symbols

from fastdesc.checks import MOST, count, one_of
from fastdesc.descriptors.recursion import networks
from fastdesc.errors import InputError
from fastdesc.networks.form import checked

KINDS = ("per_species", "shared")
MOST_ITERATIONS = 100
SMALLEST = 1e-3  # spread of a feature, in units of its size, below which it counts as constant


def form_of(iterations, kind, hidden, activation, blocks=0, layer_norm=False):
    """Return the Form of the networks that these arguments of a descriptor describe.

    Raises
    ------
    InputError
        For any that cannot be.
    """
    count("iterations", iterations, 0, MOST_ITERATIONS)
    one_of("networks", kind, KINDS)
    if isinstance(hidden, str) or not hasattr(hidden, "__iter__"):
        raise InputError(f"hidden came as {hidden!r}; it must be a sequence of widths such as (64, 64)")
    for width in hidden:
        count("a width in hidden", width, most=MOST)
    return checked(hidden, activation, blocks, layer_norm)


def labels(family):
    """Names of the networks of one iteration: the elements' symbols, or "shared"."""
    if family.networks == "shared":
        return [networks.SHARED]
    return [chemical_symbols[z] for z in family.species_numbers]


def initial(family, sizes, rng):
    """Return the parameters of the networks of all iterations; `sizes` of features come in, (n_features,).

    The last layers are zero: every iteration begins with the weights of the one before.
    """
    if family.networks == "shared":
        sizes = np.concatenate([sizes, np.ones(len(family.species_numbers))])
    parameters = {}
    for t in range(1, 1 + family.iterations):
        parameters |= networks.initial(sizes, family.form, family.n_radial, labels(family), t, rng)
    return parameters


def of_theta(family, theta):
    """Return the Networks of each iteration."""
    own, n_species = labels(family), len(family.species_numbers)
    return [networks.Networks(theta, t, own, family.form, n_species) for t in range(1, 1 + family.iterations)]


def calibrate(family, parameters, q, size):
    """Change parameters so that first layers see inputs of zero mean and unit variance.

    Parameters
    ----------
    q : (n_atoms, n_features) array
        Features that come in.
    size : (n_features,) array
        Of each.
    """
    mean, spread = q.mean(axis=0), np.maximum(q.std(axis=0), SMALLEST * size)
    for t in range(1, 1 + family.iterations):
        for label in labels(family):
            name, bias = networks.names(t, label, family.form)[:2]
            weight = parameters[name][:, : len(size)]
            weight *= np.sqrt(len(size) / weight.shape[1]) / np.sqrt((weight**2).sum(axis=1).mean())
            weight /= spread
            parameters[bias] = -weight @ mean
