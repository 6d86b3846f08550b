"""Embedded density on the CPU: the Numba kernels run over chunks of atoms on all threads."""

import numpy as np

from fastdesc.backend.threads import for_chunks
from fastdesc.descriptors.embedded_density.coefficients_pullback import ed_coefficients_pullback, ed_rows
from fastdesc.descriptors.embedded_density.contraction import ed_contract, ed_squares
from fastdesc.descriptors.embedded_density.contraction_pullback import (
    ed_contract_pullback,
    ed_gram,
    ed_squares_pullback,
)
from fastdesc.descriptors.embedded_density.density import ed_density, ed_density_again
from fastdesc.descriptors.embedded_density.density_pullback import ed_density_pullback
from fastdesc.descriptors.embedded_density.parameters_pullback import ed_parameters_pullback
from fastdesc.descriptors.kernels import NumbaKernels


class Kernels(NumbaKernels):
    """The kernels of EmbeddedDensity.

    Parameters of the elements, alpha, r_s and coefficients, are ((2,) n_species, n_radial); densities and their
    cotangents ((2,) n_radial, n_moments, n_atoms), of all iterations ((2,) 1 + iterations, ..); c is
    ((2,) iterations, n_atoms, columns).
    """

    def __init__(self, family, rij, pairs, species):
        super().__init__(family, rij, pairs, species)
        self.orbitals = (family.n_moments, bool(family.normalized), float(family.cutoff))
        self.sizes = (family.n_radial, family.l_max)

    def ed_density(self, alpha, r_s, coefficients, out):
        """Densities before the first iteration."""
        theta = map(self._table, (alpha, r_s, coefficients))
        for_chunks(ed_density, *self.over_list, (*self.pair_list, *theta, self.rows(out), *self.orbitals))

    def ed_density_again(self, alpha, r_s, c, iteration, out):
        """Densities with the coefficients c of an iteration."""
        arrays = *map(self._table, (alpha, r_s, c)), iteration, self.rows(out)
        for_chunks(ed_density_again, *self.over_list, (*self.pair_list, *arrays, *self.orbitals))

    def ed_density_pullback(self, alpha, r_s, coefficients, c, ddensity, drij):
        """Cotangents of the pair vectors ((2,) 3, n_pairs), of the densities of all iterations."""
        theta = map(self._table, (alpha, r_s, coefficients, c))
        arrays = *theta, self.rows(ddensity), self.rows(drij)
        for_chunks(ed_density_pullback, *self.over_list, (*self.pair_list, *arrays, *self.orbitals))

    def ed_parameters_pullback(self, alpha, r_s, coefficients, c, ddensity):
        """Return dalpha, dr_s, dcoefficients, (3, (2,) n_species, n_radial), float64."""
        theta = map(self._table, (alpha, r_s, coefficients, c))
        shapes = [(3, self.planes, *alpha.shape[-2:])]
        before = (*self.pair_list, *theta, self.rows(ddensity))
        task = self.sums(ed_parameters_pullback, before, shapes, self.orbitals)
        (total,) = self.total(self.run_together(task), shapes)
        return total if self.dual else total[:, 0]

    def ed_coefficients_pullback(self, alpha, r_s, rows, dc):
        """Cotangents of the coefficients ((2,) n_radial, n_atoms) from what ed_rows wrote."""
        arrays = self._table(alpha), self._table(r_s), self.rows(rows), self.rows(dc)
        for_chunks(ed_coefficients_pullback, *self.over_list, (*self.pair_list, *arrays, *self.orbitals))

    def ed_rows(self, density, rows):
        """Cotangents of densities, atom by atom: ((2,) n_atoms + 1, 10 or 20, columns)."""
        sizes = self.family.n_radial, self.family.n_moments
        for_chunks(ed_rows, *self.over_list, (self.rows(density), self._table(rows), *sizes))

    def ed_contract(self, hyper, density, q):
        """Features ((2,) n_features, n_atoms)."""
        sizes = *self.sizes, self.family.n_features
        for_chunks(ed_contract, *self.over(density), (hyper, self.rows(density), self.rows(q), *sizes))

    def ed_contract_pullback(self, hyper, density, dq, ddensity):
        """Cotangents of the densities, from those of features."""
        arrays, sizes = (self.rows(density), self.read(dq), self.rows(ddensity)), (*self.sizes, self.family.n_features)
        for_chunks(ed_contract_pullback, *self.over(density), (hyper, *arrays, *sizes))

    def ed_gram(self, density, out):
        """Products of densities that the pullback to `hyper` is made of."""
        for_chunks(ed_gram, *self.over(density), (self.rows(density), self.rows(out), *self.sizes))

    def ed_squares(self, density, q):
        """Features without `hyper`."""
        for_chunks(ed_squares, *self.over(density), (self.rows(density), self.rows(q), *self.sizes))

    def ed_squares_pullback(self, density, dq, ddensity):
        """Cotangents of the densities, from those of features without `hyper`."""
        arrays = self.rows(density), self.read(dq), self.rows(ddensity)
        for_chunks(ed_squares_pullback, *self.over(density), (*arrays, *self.sizes))

    def _table(self, array):
        """With a leading axis of planes, contiguous."""
        return np.ascontiguousarray(array if self.dual else array[None])
