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
from fastdesc.descriptors.embedded_density.parameters import by_name
from fastdesc.descriptors.embedded_density.parameters_pullback import ed_parameters_pullback
from fastdesc.simd import kind_of, rows_of

CHUNK = 256


def bind(family, rij, pairs, species):
    """Return run(name, *arrays), which runs one kernel over all atoms of `pairs`.

    Arrays have a leading axis of two if rij has. Kernels that sum over atoms return the sum, float64.
    """
    dual, n = rij.ndim == 3, pairs.n_atoms
    kind = kind_of(rij.dtype, dual)
    pair_list = (pairs.row, pairs.j, species, rows_of(rij, dual))
    tail = (family.n_moments, bool(family.normalized), float(family.cutoff))
    sizes = (family.n_radial, family.l_max)

    def table(array):
        """With a leading axis of planes, contiguous."""
        return np.ascontiguousarray(array if dual else array[None])

    def even_rows(array):
        if array.strides[-1] != array.itemsize:
            array = np.ascontiguousarray(array)
        return array, rows_of(array, dual)

    def chunks(kernel, *arguments, n=n):
        for_chunks(lambda a, b: kernel(kind, a, b, *arguments), n, CHUNK)

    def over_atoms(kernel, density, *arguments):
        chunks(kernel, *arguments, n=density.shape[-1])

    def summed(kernel, shape, *arguments):
        def task(a, b):
            before, after = arguments
            part = np.zeros(shape)
            kernel(kind, a, b, *before, part, *after)
            return part

        return sum(for_chunks(task, n, CHUNK), np.zeros(shape))

    def density(alpha, r_s, coefficients, out):
        chunks(ed_density, *pair_list, table(alpha), table(r_s), table(coefficients), rows_of(out, dual), *tail)

    def density_again(alpha, r_s, coefficients, c, iteration, out):
        theta = table(alpha), table(r_s), table(coefficients)
        chunks(ed_density_again, *pair_list, *theta, table(c), iteration, rows_of(out, dual), *tail)

    def density_pullback(alpha, r_s, coefficients, c, ddensity, drij):
        theta = table(alpha), table(r_s), table(coefficients), table(c)
        chunks(ed_density_pullback, *pair_list, *theta, rows_of(ddensity, dual), rows_of(drij, dual), *tail)

    def coefficients_pullback(alpha, r_s, ddensity, dc):
        arrays = table(alpha), table(r_s), table(ddensity), rows_of(dc, dual)
        chunks(ed_coefficients_pullback, *pair_list, *arrays, *tail)

    def parameters_pullback(alpha, r_s, coefficients, c, ddensity):
        theta = table(alpha), table(r_s), table(coefficients), table(c)
        shape = (3, 2 if dual else 1, *alpha.shape[-2:])
        total = summed(ed_parameters_pullback, shape, (*pair_list, *theta, rows_of(ddensity, dual)), tail)
        return total if dual else total[:, 0]

    def rows(density, out):
        chunks(ed_rows, rows_of(density, dual), table(out), family.n_radial, family.n_moments)

    def contract(hyper, density, q):
        over_atoms(ed_contract, density, hyper, rows_of(density, dual), rows_of(q, dual), *sizes, family.n_features)

    def contract_pullback(hyper, density, dq, ddensity):
        dq, dq_rows = even_rows(dq)
        arrays = rows_of(density, dual), dq_rows, rows_of(ddensity, dual)
        over_atoms(ed_contract_pullback, density, hyper, *arrays, *sizes, family.n_features)

    def gram(density, out):
        over_atoms(ed_gram, density, rows_of(density, dual), rows_of(out, dual), *sizes)

    def squares(density, q):
        over_atoms(ed_squares, density, rows_of(density, dual), rows_of(q, dual), *sizes)

    def squares_pullback(density, dq, ddensity):
        dq, dq_rows = even_rows(dq)
        over_atoms(ed_squares_pullback, density, rows_of(density, dual), dq_rows, rows_of(ddensity, dual), *sizes)

    return by_name(
        density, density_again, density_pullback, coefficients_pullback, parameters_pullback, rows,
        contract, contract_pullback, gram, squares, squares_pullback,
    )  # fmt: skip
