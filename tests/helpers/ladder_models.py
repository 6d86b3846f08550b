"""The ladder from a pair potential to a network, as constructor calls; every kind of head and direct term is in it."""

import numpy as np

import fastdesc as fd
from fastdesc.networks.scaler import FeatureScaler

PAIRS = {"n_pair": 1, "n_triplet": 0}
CLASSICAL = {"network": "spline", "direct": ["pair_0"], "bias": False, "n_knots": 6}
RUNGS = {
    "pair": (PAIRS, {"network": "none", "direct": True}),
    "EAM": ({"n_pair": 2, "n_triplet": 0}, CLASSICAL),
    "s-MEAM": ({"n_pair": 2, "n_triplet": 1}, CLASSICAL),
    "embeddings": ({"n_pair": 2, "n_triplet": 2}, {**CLASSICAL, "hidden": (3,)}),
    "shifted embeddings": ({"n_pair": 2, "n_triplet": 2}, {"network": "spline", "hidden": (3,), "n_knots": 6}),
    "s-NNP": ({"n_pair": 3, "n_triplet": 2}, {"hidden": (6, 5), "direct": True, "bias": False}),
    "shared": ({"n_pair": 3, "n_triplet": 2}, {"hidden": (6,), "network": "shared", "direct": ["triplet"]}),
}


def rung(name, species=("Cu", "Au"), seed=3):
    """Return an untrained potential of the ladder."""
    filters, arguments = RUNGS[name]
    d = fd.SplineFilters(species=list(species), cutoff=4.5, triplet_cutoff=3.6, r_min=2.0, n_knots=6, **filters)
    return fd.Potential(d, seed=seed, **arguments)


def placed(name, species=("H", "C", "O")):
    """Return one with a scaler, references, weights and grids of no symmetry."""
    p, rng = rung(name, species), np.random.default_rng(4)
    n = p.descriptor.n_features
    p.reference = rng.normal(size=len(species))
    p.scaler = FeatureScaler(rng.normal(size=n) * p.bias, rng.uniform(1, 2, n))
    p.set_parameters({k: a + 0.1 * rng.normal(size=a.shape) for k, a in p.parameters.items()})
    p.set_buffers({k: a + rng.uniform(-0.5, 0.5, a.shape) * [1, 1, 0] for k, a in p.buffers.items()})
    return p
