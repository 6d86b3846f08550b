"""Spline filters on the CPU: the Numba kernels run over chunks of atoms on all threads."""

import numpy as np

from fastdesc.backend.threads import for_chunks
from fastdesc.descriptors.spline_filters.features import sf_features
from fastdesc.descriptors.spline_filters.knots import KINDS
from fastdesc.descriptors.spline_filters.neighbours import Grids
from fastdesc.descriptors.spline_filters.parameters_pullback import sf_parameters_pullback
from fastdesc.descriptors.spline_filters.pullback import sf_pullback
from fastdesc.simd import kind_of, rows_of
from fastdesc.simd.addressed import filters_of, lanes_for

CHUNK = 128


def packed(coefficients):
    """Return a table as kernels want it, (planes, groups, n_elements, pieces, 4, filters), whole vectors of filters.

    Parameters
    ----------
    coefficients : (planes, groups, n_elements, filters of a group, pieces, 4)
    """
    n = coefficients.shape[3]
    lanes = lanes_for(n, coefficients.itemsize)
    filters_last = np.moveaxis(coefficients, 3, 5)
    table = np.zeros((*filters_last.shape[:5], -(-n // lanes) * lanes), coefficients.dtype)
    table[..., :n] = filters_last
    return table


def bind(family, rij, pairs, species, knots):
    """Return run(name, *arrays), which runs one kernel over all atoms of `pairs`; `knots` as of knots_of."""
    dual = rij.ndim == 3
    kind = kind_of(rij.dtype, dual)
    pair, radial, angular = (family.filters[name] for name in KINDS)
    lanes = [filters_of(kind, lanes_for(n, rij.itemsize)) for n in (pair.group, family.n_triplet)]
    pair_list = (pairs.row, pairs.j, species, rows_of(rij, dual), knots)
    grids = Grids(
        *family.cutoffs(rij.dtype), pair.group, len(pair.rows), pair.alike, angular.alike,
        pair.n_pieces, radial.n_pieces, angular.n_pieces,
    )  # fmt: skip
    sizes = (family.n_pair, family.n_triplet, family.n_elements, grids)

    def planes_of(table):
        return tuple(plane.ctypes.data for plane in table)

    def contiguous(array):
        return array if array.strides[-1] == array.itemsize else np.ascontiguousarray(array)

    def over_atoms(kernel, *arrays):
        tables = [planes_of(table) for table in arrays[:3]]
        arrays = [contiguous(a) for a in arrays[3:]]
        rows = [rows_of(a, dual) for a in arrays]
        for_chunks(lambda a, b: kernel(kind, *lanes, a, b, *pair_list, *tables, *rows, *sizes), pairs.n_atoms, CHUNK)

    def to_tables(kernel, pair, radial, angular, dq):
        dq = contiguous(dq)
        tables = [planes_of(radial), planes_of(angular)]
        shapes = [(2 if dual else 1, *table.shape[1:]) for table in (pair, radial, angular)]

        def task(a, b):
            out = [np.zeros(shape) for shape in shapes]
            kernel(kind, *lanes, a, b, *pair_list, *tables, rows_of(dq, dual), *(x.reshape(-1) for x in out), *sizes)
            return out

        chunks = for_chunks(task, pairs.n_atoms, CHUNK)
        totals = [sum(parts, np.zeros(shape)) for parts, shape in zip(zip(*chunks, strict=True), shapes, strict=True)]
        numbers = (family.filters["pair"].group, family.n_triplet, family.n_triplet)
        return [np.moveaxis(total[..., :n], 5, 3) for total, n in zip(totals, numbers, strict=True)]

    table = {
        "sf_features": (over_atoms, sf_features),
        "sf_pullback": (over_atoms, sf_pullback),
        "sf_parameters_pullback": (to_tables, sf_parameters_pullback),
    }

    def run(name, *arrays):
        shape_of_call, kernel = table[name]
        return shape_of_call(kernel, *arrays)

    return run
