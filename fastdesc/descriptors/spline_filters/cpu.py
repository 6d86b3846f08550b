"""Spline filters on the CPU: the Numba kernels run over chunks of atoms on all threads."""

import numpy as np

from fastdesc.backend.threads import for_chunks
from fastdesc.descriptors.kernels import NumbaKernels
from fastdesc.descriptors.spline_filters.features import sf_features
from fastdesc.descriptors.spline_filters.knots import KINDS
from fastdesc.descriptors.spline_filters.neighbours import Grids
from fastdesc.descriptors.spline_filters.parameters_pullback import sf_parameters_pullback
from fastdesc.descriptors.spline_filters.pullback import sf_pullback
from fastdesc.simd import kind_of, rows_of
from fastdesc.simd import width as whole_vector

FEW, FEWEST = 4, 8
"""Lanes of a vector of up to four pair filters, and the fewest of more and of triplets: each number is compiled by
itself, and fewer gain little."""


class Kernels(NumbaKernels):
    """The kernels of SplineFilters.

    Tables of coefficients of all pieces, pair, radial and angular, are as `packed` makes them.

    Parameters
    ----------
    family, rij, pairs, species
        As of NumbaKernels.
    knots : array
        As of fastdesc.descriptors.spline_filters.knots.knots_of.
    """

    chunk = 128

    def __init__(self, family, rij, pairs, species, knots):
        super().__init__(family, rij, pairs, species)
        pair, radial, angular = (family.filters[name] for name in KINDS)
        self.leading = (*self.leading, *(kind_of(rij.dtype, self.dual, n) for n in _lanes(family, rij.dtype)))
        self.pair_list = (*self.pair_list, knots)
        grids = Grids(
            *family.cutoffs(rij.dtype), pair.group, len(pair.rows), pair.alike, angular.alike,
            pair.n_pieces, radial.n_pieces, angular.n_pieces,
        )  # fmt: skip
        self.sizes = (family.n_pair, family.n_triplet, family.n_elements, grids)

    @staticmethod
    def packed(family, name, coefficients):
        """Return a table as kernels want it, (planes, groups, n_elements, pieces, 4, filters in whole vectors).

        Parameters
        ----------
        family : SplineFilters
        name : str
            Of KINDS.
        coefficients : (planes, groups, n_elements, filters of a group, pieces, 4)
        """
        n = coefficients.shape[3]
        lanes = _lanes(family, coefficients.dtype)[name != KINDS[0]]
        filters_last = np.moveaxis(coefficients, 3, 5)
        table = np.zeros((*filters_last.shape[:5], -(-n // lanes) * lanes), coefficients.dtype)
        table[..., :n] = filters_last
        return table

    def sf_features(self, pair, radial, angular, q):
        """Features ((2,) n_pair + n_triplet, n_atoms)."""
        arrays = *map(_rows, (pair, radial, angular)), self.rows(q)
        for_chunks(sf_features, *self.over_list, (*self.pair_list, *arrays, *self.sizes))

    def sf_pullback(self, pair, radial, angular, dq, drij):
        """Cotangents of the pair vectors ((2,) 3, n_pairs)."""
        arrays = *map(_rows, (pair, radial, angular)), self.read(dq), self.rows(drij)
        for_chunks(sf_pullback, *self.over_list, (*self.pair_list, *arrays, *self.sizes))

    def sf_parameters_pullback(self, pair, radial, angular, dq):
        """Return cotangents of all coefficients, three of (planes, groups, n_elements, filters, pieces, 4), float64."""
        shapes = [(self.planes, *table.shape[1:]) for table in (pair, radial, angular)]
        flat = [int(np.prod(shape)) for shape in shapes]
        before = (*self.pair_list, _rows(radial), _rows(angular), self.read(dq))
        parts = self.run_together(self.sums(sf_parameters_pullback, before, flat, self.sizes))
        totals = [total.reshape(shape) for total, shape in zip(self.total(parts, flat), shapes, strict=True)]
        numbers = (self.family.filters["pair"].group, self.family.n_triplet, self.family.n_triplet)
        return [np.moveaxis(total[..., :n], 5, 3) for total, n in zip(totals, numbers, strict=True)]


def _lanes(family, dtype):
    """Lanes of the vectors of pair filters and of triplet filters: few combinations, for each is compiled by itself."""
    group, n_triplet = family.filters[KINDS[0]].group, family.n_triplet
    if group == 1 and n_triplet <= 1:
        return 1, 1    # s-MEAM
    n, most = n_triplet or group, whole_vector(dtype)
    each = max(FEWEST, -(-n // -(-n // most)))    # filters are spread over as few vectors as possible
    triplet = 1 << (each - 1).bit_length()
    return FEW if group <= FEW else triplet, triplet


def _rows(table):
    """Rows of a table; plain ones of one plane."""
    address, plane_stride, row_stride = rows_of(table, True)
    return (address, plane_stride, row_stride) if len(table) == 2 else (address, row_stride)
