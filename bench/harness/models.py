"""The models that are timed on a GPU: one of each family and the recursion, for systems of bench/harness/systems.py."""

import numpy as np

import fastdesc as fd
from bench.harness import systems

HIDDEN = (64, 64)
DESCRIPTORS = {
    "gaussian_moments": lambda **k: fd.GaussianMoments(**k, n_radial=5, n_basis=8, basis="bessel", max_rank=3),
    "embedded_density": lambda **k: fd.EmbeddedDensity(**k, n_radial=8, l_max=2, n_features=108, iterations=0),
    "recursion": lambda **k: fd.EmbeddedDensity(
        **k, n_radial=8, l_max=2, n_features=108, iterations=3, hidden=HIDDEN
    ),
    "spline_filters": lambda **k: fd.SplineFilters(**k, triplet_cutoff=4.5, n_pair=4, n_triplet=8, n_knots=7),
}
VARIANTS = {
    "gaussian_moments, 4 channels": lambda **k: fd.GaussianMoments(**k, n_radial=4, n_basis=8, max_rank=3),
    "gaussian_moments, 8 channels": lambda **k: fd.GaussianMoments(**k, n_radial=8, n_basis=8, max_rank=2),
    "gaussian_moments, T = 1": lambda **k: fd.GaussianMoments(**k, iterations=1),
    "embedded_density, 4 functions": lambda **k: fd.EmbeddedDensity(
        **k, n_radial=4, l_max=3, contraction="none", iterations=1, hidden=HIDDEN
    ),
    "spline_filters, 1 and 1": lambda **k: fd.SplineFilters(**k, n_pair=1, n_triplet=1),
    "spline_filters, 4 and 4": lambda **k: fd.SplineFilters(**k, n_pair=4, n_triplet=4),
}
"""With DESCRIPTORS they launch every kernel in every width."""
EVERY = {**DESCRIPTORS, **VARIANTS}


def descriptor(name, system, cutoff=6.0):
    """A descriptor with random parameters: nothing is tested or timed on zeros."""
    d = EVERY[name](species=systems.species(system), cutoff=cutoff)
    rng = np.random.default_rng(1)
    d.set_parameters(**{k: x + rng.uniform(-0.1, 0.1, x.shape) for k, x in d.parameters.items()})
    return d


def potential(name, system, cutoff=6.0, hidden=HIDDEN):
    """An untrained potential of that descriptor, with scaled features."""
    return fd.Potential(descriptor(name, system, cutoff), hidden=hidden)
