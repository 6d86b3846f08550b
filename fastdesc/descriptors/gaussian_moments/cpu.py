"""Gaussian moments on the CPU: the Numba kernels run over chunks of atoms on all threads."""

import numpy as np

from fastdesc.backend.threads import for_chunks
from fastdesc.descriptors.gaussian_moments.channels import (
    gm_beta_by_channels_pullback,
    gm_moments_by_channels,
    gm_moments_by_channels_pullback,
)
from fastdesc.descriptors.gaussian_moments.contractions import gm_contract, gm_contract_pullback
from fastdesc.descriptors.gaussian_moments.moments import gm_moments, gm_moments_pullback
from fastdesc.descriptors.gaussian_moments.parameters_pullback import gm_beta_pullback
from fastdesc.descriptors.gaussian_moments.weights_pullback import gm_weights_pullback, gm_weights_sum
from fastdesc.descriptors.kernels import NumbaKernels
from fastdesc.descriptors.recursion.passes import COLUMNS
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
        self.by_channels = self.many or family.iterations > 0
        super().__init__(family, rij, pairs, species)
        self.dtype = rij.dtype
        self.radial = (family.n_moments, BASES.index(family.basis), float(family.cutoff))

    def gm_moments(self, beta, moments, weights=None, iteration=0):
        """Moments ((2,) n_radial, n_moments, n_atoms).

        `weights` of neighbours are ((2,) iterations, n_atoms, columns); those that an iteration made, from 1 on, are
        taken, and before the first none.
        """
        self.run_together(self._moments(beta, moments, weights, iteration))

    def gm_contract(self, moments, q, offsets=None):
        """Features ((2,) n_features, n_atoms); `offsets` of other contractions than the descriptor's."""
        for_chunks(gm_contract, *self.over(moments), self._contract_arguments(moments, q, offsets))

    def gm_contract_pullback(self, moments, dq, dmoments, offsets=None):
        """Cotangents of the moments, shaped as they."""
        arguments = self._contract_pullback_arguments(moments, dq, dmoments, offsets)
        for_chunks(gm_contract_pullback, *self.over(moments), arguments)

    def gm_moments_pullback(self, beta, dmoments, drij, weights=None):
        """Cotangents of the pair vectors ((2,) 3, n_pairs), of the moments of all iterations."""
        self.run_together(self._moments_pullback(beta, dmoments, drij, weights))

    def gm_beta_pullback(self, dmoments, weights=None):
        """Return dbeta ((2,) n_species, n_species, n_radial, n_basis), float64."""
        return self._sum_of_beta(self._beta_pullback(dmoments, weights))

    def gm_weights_pullback(self, beta, dmoments, dpairs):
        """What each pair finds for the weights of its neighbour, ((2,) n_pairs, n_radial)."""
        arrays = self._table(beta), self.read(dmoments), self._planes(dpairs)
        for_chunks(gm_weights_pullback, *self.over_list, (*self.pair_list, *arrays, *self.radial_by_channels))

    def gm_weights_sum(self, mirror, dpairs, dw):
        """Cotangents of the weights ((2,) n_radial, n_atoms) from what pairs found."""
        for_chunks(gm_weights_sum, *self.over_list, (self.pair_list[0], mirror, self._planes(dpairs), self.rows(dw)))

    def moments_and_features(self, beta, moments, q):
        """gm_moments and gm_contract."""
        self.run_together(self._moments(beta, moments), self.task(gm_contract, *self._contract_arguments(moments, q)))

    def pullback(self, beta, moments, dq, dmoments, drij):
        """gm_contract_pullback and gm_moments_pullback."""
        self.run_together(
            self._contract_pullback(moments, dq, dmoments), self._moments_pullback(beta, dmoments, drij)
        )

    def parameters_pullback(self, moments, dq, dmoments):
        """gm_contract_pullback and gm_beta_pullback."""
        return self._sum_of_beta(self._contract_pullback(moments, dq, dmoments), self._beta_pullback(dmoments))

    def _moments(self, beta, moments, weights=None, iteration=0):
        arrays = self._table(beta), self.rows(moments)
        if not self.by_channels:
            return self.task(gm_moments, *self.pair_list, *arrays, *self.radial)
        weighted = arrays[0], self._weights(weights), iteration, arrays[1]
        return self.task(gm_moments_by_channels, *self.pair_list, *weighted, *self.radial_by_channels)

    def _contract_arguments(self, moments, q, offsets=None):
        return self.read(moments), self.rows(q), *self._sizes(offsets)

    def _contract_pullback_arguments(self, moments, dq, dmoments, offsets=None):
        return self.read(moments), self.read(dq), self.rows(dmoments), *self._sizes(offsets)

    def _contract_pullback(self, moments, dq, dmoments):
        return self.task(gm_contract_pullback, *self._contract_pullback_arguments(moments, dq, dmoments))

    def _sizes(self, offsets):
        family = self.family
        return family.n_radial, family.n_moments, family.offsets if offsets is None else offsets

    def _moments_pullback(self, beta, dmoments, drij, weights=None):
        table, *arrays = self._table(beta), self.read(dmoments), self.rows(drij)
        if not self.by_channels:
            return self.task(gm_moments_pullback, *self.pair_list, table, *arrays, *self.radial)
        arrays = table, self._weights(weights), *arrays
        return self.task(gm_moments_by_channels_pullback, *self.pair_list, *arrays, *self.radial_by_channels)

    def _beta_pullback(self, dmoments, weights=None):
        arrays = self.pair_list, self.read(dmoments), [self._beta_shape]
        if not self.by_channels:
            return self.sums(gm_beta_pullback, (*arrays[0], arrays[1]), arrays[2], self.radial)
        before = *arrays[0], self._weights(weights), arrays[1]
        return self.sums(gm_beta_by_channels_pullback, before, arrays[2], self.radial_by_channels)

    @property
    def radial_by_channels(self):
        n_moments, *radial = self.radial
        return n_moments, not self.many, *radial

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

    def _planes(self, array):
        """With a leading axis of planes."""
        return array if self.dual else array[None]

    def _weights(self, weights):
        """With a leading axis of planes; without iterations none."""
        return np.empty((self.planes, 0, 0, COLUMNS), self.dtype) if weights is None else self._planes(weights)

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
