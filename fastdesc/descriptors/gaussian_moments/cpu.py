"""Gaussian moments on the CPU: the Numba kernels run over chunks of atoms on all threads."""

import numpy as np

from fastdesc.descriptors.gaussian_moments.contractions import gm_contract, gm_contract_pullback
from fastdesc.descriptors.gaussian_moments.moments import gm_moments, gm_moments_pullback
from fastdesc.descriptors.gaussian_moments.parameters_pullback import gm_beta_pullback
from fastdesc.descriptors.kernels import NumbaKernels
from fastdesc.numerics.radial import BASES


class Kernels(NumbaKernels):
    """The kernels of GaussianMoments, and those that follow one another run together."""

    def __init__(self, family, rij, pairs, species):
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
        return self.task(gm_moments, *self.pair_list, self._table(beta), self.rows(moments), *self.radial)

    def _contract(self, moments, q):
        return self.task(gm_contract, self.read(moments), self.rows(q), *self.channels)

    def _contract_pullback(self, moments, dq, dmoments):
        arrays = self.read(moments), self.read(dq), self.rows(dmoments)
        return self.task(gm_contract_pullback, *arrays, *self.channels)

    def _moments_pullback(self, beta, dmoments, drij):
        arrays = self._table(beta), self.read(dmoments), self.rows(drij)
        return self.task(gm_moments_pullback, *self.pair_list, *arrays, *self.radial)

    def _beta_pullback(self, dmoments):
        return self.sums(gm_beta_pullback, (*self.pair_list, self.read(dmoments)), [self._beta_shape], self.radial)

    @property
    def _beta_shape(self):
        n = len(self.family.species_numbers)
        return (self.planes, n, n, self.family.n_radial, self.family.n_basis)

    def _sum_of_beta(self, *tasks):
        (total,) = self.total(self.run_together(*tasks), [self._beta_shape])
        return total if self.dual else total[0]

    @staticmethod
    def _table(beta):
        """With a leading axis of planes, contiguous."""
        return np.ascontiguousarray(beta.reshape(-1, *beta.shape[-4:]))
