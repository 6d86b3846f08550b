"""Gaussian moments on the CPU: the Numba kernels run over chunks of atoms on all threads."""

import numpy as np

from fastdesc.descriptors.gaussian_moments.channels import (
    gm_beta_of_many_pullback,
    gm_moments_of_many,
    gm_moments_of_many_pullback,
)
from fastdesc.descriptors.gaussian_moments.contractions import gm_contract, gm_contract_pullback
from fastdesc.descriptors.gaussian_moments.moments import gm_moments, gm_moments_pullback
from fastdesc.descriptors.gaussian_moments.parameters_pullback import gm_beta_pullback
from fastdesc.descriptors.kernels import NumbaKernels
from fastdesc.numerics.radial import BASES

MANY = 4
"""Elements of a model from which on channels are formed for each pair (channels.py), and neighbours not sorted by
element. Not those of a batch: the numbers of an atom are the same to the last bit whatever is computed with it."""
NUMBERS = 1 << 15
"""Of a table, for each `chunk` atoms that add to one of their own: clearing and adding up more would take longer."""


class Kernels(NumbaKernels):
    """The kernels of GaussianMoments, and those that follow one another run together."""

    def __init__(self, family, rij, pairs, species):
        self.n_species = len(family.species_numbers)
        self.present, species = _present(species, self.n_species)
        """Numbers of the elements that there are: tables are cut down to them."""
        self.many = self.n_species >= MANY
        super().__init__(family, rij, pairs, species)
        self.radial = (family.n_moments, BASES.index(family.basis), float(family.cutoff))
        self.channels = (family.n_radial, family.n_moments, family.offsets)

    def gm_moments(self, beta, moments):
        """Moments ((2,) n_radial, n_moments, n_atoms)."""
        self.run_together(self._moments(beta, moments))

    def gm_contract(self, moments, q):
        """Features ((2,) n_features, n_atoms)."""
        self.run_together(self._contract(moments, q))

    def gm_contract_pullback(self, moments, dq, dmoments):
        """Cotangents of the moments, shaped as they."""
        self.run_together(self._contract_pullback(moments, dq, dmoments))

    def gm_moments_pullback(self, beta, dmoments, drij):
        """Cotangents of the pair vectors ((2,) 3, n_pairs)."""
        self.run_together(self._moments_pullback(beta, dmoments, drij))

    def gm_beta_pullback(self, dmoments):
        """Return dbeta ((2,) n_species, n_species, n_radial, n_basis), float64."""
        return self._sum_of_beta(self._beta_pullback(dmoments))

    def moments_and_features(self, beta, moments, q):
        """gm_moments and gm_contract."""
        self.run_together(self._moments(beta, moments), self._contract(moments, q))

    def pullback(self, beta, moments, dq, dmoments, drij):
        """gm_contract_pullback and gm_moments_pullback."""
        back = self._contract_pullback(moments, dq, dmoments), self._moments_pullback(beta, dmoments, drij)
        self.run_together(*back)

    def parameters_pullback(self, moments, dq, dmoments):
        """gm_contract_pullback and gm_beta_pullback."""
        return self._sum_of_beta(self._contract_pullback(moments, dq, dmoments), self._beta_pullback(dmoments))

    def _moments(self, beta, moments):
        kernel = gm_moments_of_many if self.many else gm_moments
        return self.task(kernel, *self.pair_list, self._table(beta), self.rows(moments), *self.radial)

    def _contract(self, moments, q):
        return self.task(gm_contract, self.read(moments), self.rows(q), *self.channels)

    def _contract_pullback(self, moments, dq, dmoments):
        arrays = self.read(moments), self.read(dq), self.rows(dmoments)
        return self.task(gm_contract_pullback, *arrays, *self.channels)

    def _moments_pullback(self, beta, dmoments, drij):
        arrays = self._table(beta), self.read(dmoments), self.rows(drij)
        kernel = gm_moments_of_many_pullback if self.many else gm_moments_pullback
        return self.task(kernel, *self.pair_list, *arrays, *self.radial)

    def _beta_pullback(self, dmoments):
        kernel = gm_beta_of_many_pullback if self.many else gm_beta_pullback
        return self.sums(kernel, (*self.pair_list, self.read(dmoments)), [self._beta_shape], self.radial)

    @property
    def _beta_shape(self):
        n = len(self.present)
        return (self.planes, n, n, self.family.n_radial, self.family.n_basis)

    def _sum_of_beta(self, *tasks):
        chunk = self.chunk * max(1, int(np.prod(self._beta_shape)) // NUMBERS)
        (total,) = self.total(self.run_together(*tasks, chunk=chunk), [self._beta_shape])
        if len(self.present) < self.n_species:
            found = total
            total = np.zeros((self.planes, self.n_species, self.n_species, *found.shape[3:]))
            total[:, self.present[:, None], self.present] = found
        return total if self.dual else total[0]

    def _table(self, beta):
        """With a leading axis of planes, contiguous, of the elements that there are."""
        beta = beta.reshape(-1, *beta.shape[-4:])
        if len(self.present) < self.n_species:
            beta = beta[:, self.present[:, None], self.present]
        return np.ascontiguousarray(beta)


def _present(species, n_species):
    """The elements that there are, and those of atoms counted among them."""
    if n_species == 1:
        return np.zeros(1, np.int64), species
    present = np.flatnonzero(np.bincount(species, minlength=n_species))
    if len(present) == n_species:
        return present, species
    place = np.zeros(n_species, species.dtype)
    place[present] = np.arange(len(present))
    return present, place[species]
