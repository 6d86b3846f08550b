"""A potential of three elements with everything set, and a skewed cell for it."""

import numpy as np
from ase.build import bulk

import fastdesc as fd
from fastdesc.networks.scaler import FeatureScaler


def potential(network="per_species", dtype_seed=0, species=("H", "C", "O"), **descriptor):
    d = fd.GaussianMoments(species=list(species), cutoff=4.0, n_radial=3, n_basis=5, **descriptor)
    p = fd.Potential(d, hidden=(10, 6), network=network, seed=dtype_seed)
    rng = np.random.default_rng(4)
    p.reference = rng.normal(size=len(species))
    p.scale = rng.uniform(0.5, 2, len(species))
    p.scaler = FeatureScaler(rng.normal(size=d.n_features), rng.uniform(0.1, 1, d.n_features))
    return p


def cell():
    atoms = bulk("C", "diamond", a=3.6, cubic=True)
    atoms.numbers[::3] = 1
    shear = np.array([[1, 0.1, 0], [0, 1, 0.05], [0.02, 0, 1]])
    atoms.set_cell(atoms.cell @ shear, scale_atoms=True)
    atoms.rattle(0.1, seed=1)
    return atoms
