"""Gaussian moments on the CPU: the Numba kernels run over chunks of atoms on all threads."""

import numpy as np

from fastdesc.descriptors.gaussian_moments_contractions import gm_contract, gm_contract_pullback
from fastdesc.descriptors.gaussian_moments_pairs import gm_beta_pullback, gm_moments, gm_moments_pullback
from fastdesc.parallel import for_chunks
from fastdesc.radial import BASES
from fastdesc.simd import kind_of, rows_of

CHUNK = 256


def bind(family, rij, pairs, species):
    """Return run(name, *arrays), which runs one kernel over all atoms of `pairs`."""
    dual = rij.ndim == 3
    kind = kind_of(rij.dtype, dual)
    mesh = (pairs.row, pairs.j, species, rows_of(rij, dual))
    radial = (family.n_moments, BASES.index(family.basis), float(family.cutoff))
    channels = (family.n_radial, family.n_moments, family.offsets)

    def over_pairs(kernel, beta, *arrays):
        beta = np.ascontiguousarray(beta.reshape(-1, *beta.shape[-4:]))
        rows = [rows_of(a, dual) for a in arrays]
        for_chunks(lambda a, b: kernel(kind, a, b, *mesh, beta, *rows, *radial), pairs.n_atoms, CHUNK)

    def over_atoms(kernel, *arrays):
        arrays = [a if a.strides[-1] == a.itemsize else np.ascontiguousarray(a) for a in arrays]
        rows = [rows_of(a, dual) for a in arrays]
        for_chunks(lambda a, b: kernel(kind, a, b, *rows, *channels), pairs.n_atoms, CHUNK)

    def to_beta(kernel, dmoments):
        n = len(family.species_numbers)
        shape = (2 if dual else 1, n, n, family.n_radial, family.n_basis)

        def task(a, b):
            dbeta = np.zeros(shape)
            kernel(kind, a, b, *mesh, rows_of(dmoments, dual), dbeta, *radial)
            return dbeta

        total = sum(for_chunks(task, pairs.n_atoms, CHUNK), np.zeros(shape))
        return total if dual else total[0]

    table = {
        "gm_moments": (over_pairs, gm_moments),
        "gm_contract": (over_atoms, gm_contract),
        "gm_contract_pullback": (over_atoms, gm_contract_pullback),
        "gm_moments_pullback": (over_pairs, gm_moments_pullback),
        "gm_beta_pullback": (to_beta, gm_beta_pullback),
    }

    def run(name, *arrays):
        shape_of_call, kernel = table[name]
        return shape_of_call(kernel, *arrays)

    return run
