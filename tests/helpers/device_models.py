"""A small descriptor and a potential of every kind, for what runs on a device."""

from helpers.ladder_models import RUNGS, rung

import fastdesc as fd

SPECIES = {"species": ["Cu", "Au"], "cutoff": 4.0}

DESCRIPTORS = {
    "gaussian moments": lambda: fd.GaussianMoments(**SPECIES, n_radial=3, n_basis=4),
    "recursive moments": lambda: fd.GaussianMoments(**SPECIES, n_radial=3, n_basis=4, iterations=1, hidden=(6,)),
    "embedded density": lambda: fd.EmbeddedDensity(**SPECIES, n_radial=3, l_max=2, contraction="none"),
    "recursion": lambda: fd.EmbeddedDensity(**SPECIES, n_radial=3, n_features=7, iterations=2, hidden=(6,)),
    "residual recursion": lambda: fd.EmbeddedDensity(
        **SPECIES, n_radial=3, n_features=7, iterations=1, hidden=(6, 5), activation="trained_silu", blocks=1,
        layer_norm=True, contraction="hyper_by_iteration", exponents="any",
    ),
    "spline filters": lambda: fd.SplineFilters(**SPECIES, triplet_cutoff=3.5, n_pair=2, n_triplet=3, n_knots=5),
}


def potential(family, network="per_species"):
    if family in RUNGS:
        return rung(family)
    if family == "repelled":
        return fd.Potential(DESCRIPTORS["gaussian moments"](), hidden=(6, 5), repulsion="zbl")
    residual = {"activation": "trained_isru", "blocks": 2, "layer_norm": True} if family.startswith("residual") else {}
    return fd.Potential(DESCRIPTORS[family](), hidden=(6, 5), network=network, **residual)
