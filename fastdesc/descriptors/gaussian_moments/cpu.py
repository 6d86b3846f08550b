"""Gaussian moments on the CPU: the Numba kernels run over chunks of atoms on all threads."""

import numpy as np

from fastdesc.backend.threads import for_chunks
from fastdesc.descriptors.gaussian_moments.contractions import gm_contract, gm_contract_pullback
from fastdesc.descriptors.gaussian_moments.moments import gm_moments, gm_moments_pullback
from fastdesc.descriptors.gaussian_moments.parameters_pullback import gm_beta_pullback
from fastdesc.numerics.radial import BASES
from fastdesc.simd import kind_of, rows_of

CHUNK = 256


def bind(family, rij, pairs, species):
    """Return run(*calls), which runs kernels, one after the other for each chunk of atoms.

    A call is (name, *arrays); calls that follow one another need only each other's results for the same atoms, which
    are then still in the cache.
    """
    dual = rij.ndim == 3
    kind = kind_of(rij.dtype, dual)
    pair_list = (pairs.row, pairs.j, species, rows_of(rij, dual))
    radial = (family.n_moments, BASES.index(family.basis), float(family.cutoff))
    channels = (family.n_radial, family.n_moments, family.offsets)
    n_species = len(family.species_numbers)
    alive = []  # Rows are addresses

    def rows(x):
        alive.append(x if x.strides[-1] == x.itemsize else np.ascontiguousarray(x))
        return rows_of(alive[-1], dual)

    def over_pairs(kernel, beta, *arrays):
        beta = np.ascontiguousarray(beta.reshape(-1, *beta.shape[-4:]))
        arguments = (*pair_list, beta, *map(rows, arrays), *radial)
        return lambda a, b: kernel(kind, a, b, *arguments)

    def over_atoms(kernel, *arrays):
        arguments = (*map(rows, arrays), *channels)
        return lambda a, b: kernel(kind, a, b, *arguments)

    def to_beta(kernel, dmoments):
        shape = (2 if dual else 1, n_species, n_species, family.n_radial, family.n_basis)
        dmoments = rows(dmoments)

        def task(a, b):
            dbeta = np.zeros(shape)
            kernel(kind, a, b, *pair_list, dmoments, dbeta, *radial)
            return dbeta

        return task

    table = {
        "gm_moments": (over_pairs, gm_moments),
        "gm_contract": (over_atoms, gm_contract),
        "gm_contract_pullback": (over_atoms, gm_contract_pullback),
        "gm_moments_pullback": (over_pairs, gm_moments_pullback),
        "gm_beta_pullback": (to_beta, gm_beta_pullback),
    }

    def run(*calls):
        tasks = [table[name][0](table[name][1], *arrays) for name, *arrays in calls]
        parts = for_chunks(lambda a, b: [task(a, b) for task in tasks][-1], pairs.n_atoms, CHUNK)
        if calls[-1][0] != "gm_beta_pullback":
            return None
        shape = (2 if dual else 1, n_species, n_species, family.n_radial, family.n_basis)
        total = sum(parts, np.zeros(shape))
        return total if dual else total[0]

    return run
