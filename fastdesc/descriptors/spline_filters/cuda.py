"""Spline filters on the GPU: how the kernels of kernels/spline_filters/spline_filters.cu are launched."""

from fastdesc.backend import cuda
from fastdesc.backend.arrays import namespace
from fastdesc.backend.launch_shapes import atoms_per_warp, slab_width, with_whole_rows
from fastdesc.descriptors.spline_filters.knots import KINDS

FILE = "spline_filters/spline_filters.cu"


def packed(coefficients):
    """Return a table as kernels want it, (planes, n_elements, n_filters, pieces, 4).

    Parameters
    ----------
    coefficients : (planes, groups, n_elements, filters of a group, pieces, 4)
    """
    xp, (planes, groups, n_elements, size, *of_filter) = namespace(coefficients), coefficients.shape
    by_element = xp.ascontiguousarray(xp.swapaxes(coefficients, 1, 2))
    return by_element.reshape(planes, n_elements, groups * size, *of_filter)


def bind(family, rij, pairs, species, knots):
    """Return run(name, *arrays), which runs one kernel over all atoms of `pairs`; `knots` as of knots_of."""
    xp, dual, n = namespace(rij), rij.ndim == 3, pairs.n_atoms
    rij = with_whole_rows(xp, rij)
    scalar = cuda.scalar_name(rij.dtype, dual)
    item = rij.itemsize * (2 if dual else 1)
    warps = 32 // item  # atoms a block
    kinds = [family.filters[name] for name in KINDS]
    group, groups = kinds[0].group, len(kinds[0].rows)
    pair_list = (0, n, pairs.row, pairs.j, species, rij, knots)
    constants = (family.n_pair, family.n_triplet, family.n_elements, groups, int(kinds[2].alike))
    constants += (*(f.n_pieces for f in kinds), *family.cutoffs(rij.dtype))

    def like_duals(table):
        """Give the coefficients of plain parameters a tangent of zero where the pairs carry tangents."""
        return xp.concatenate([table, xp.zeros_like(table)]) if dual and len(table) == 1 else table

    def over_atoms(name, *arrays):
        tables, arrays = [like_duals(table) for table in arrays[:3]], [with_whole_rows(xp, a) for a in arrays[3:]]
        width = slab_width(FILE, name, scalar, family.n_triplet or family.n_pair)
        slabs = groups * -(-group // width) + -(-family.n_triplet // width) if name == "sf_features" else 1
        strides = [cuda.row_stride(a) for a in (rij, *arrays)]
        args = (*pair_list, *tables, *arrays, *strides, *constants)
        cuda.launch(FILE, f"{name}<{scalar}, {width}>", n, warps, 32 * warps, args, y=slabs)

    def to_tables(name, pair, radial, angular, dq):
        dq = with_whole_rows(xp, dq)
        width = slab_width(FILE, name, scalar, family.n_triplet or family.n_pair)
        each = atoms_per_warp(n, max(table[0].size for table in (pair, radial, angular)) * item)
        rows = -(-n // (warps * each)) * warps
        out = []
        for table in (pair, radial, angular):
            _, elements, filters, pieces, _ = table.shape
            out.append(xp.zeros((1 + dual, rows, elements, pieces, filters, 4), rij.dtype))
        tables = [like_duals(table) for table in (radial, angular)]
        strides = (cuda.row_stride(rij), cuda.row_stride(dq))
        args = (*pair_list, *tables, dq, *out, each, *strides, *constants)
        cuda.launch(FILE, f"{name}<{scalar}, {width}>", n, warps * each, 32 * warps, args)
        totals = [xp.swapaxes(x.sum(axis=1, dtype="float64"), 2, 3) for x in out]
        return [_by_group(xp, total, len(f.rows)) for total, f in zip(totals, kinds, strict=True)]

    calls = {"sf_features": over_atoms, "sf_pullback": over_atoms, "sf_parameters_pullback": to_tables}
    return lambda name, *arrays: calls[name](name, *arrays)


def _by_group(xp, total, groups):
    """(planes, n_elements, n_filters, ..) as (planes, groups, n_elements, filters of a group, ..)."""
    planes, n_elements, n_filters, *of_filter = total.shape
    split = total.reshape(planes, n_elements, groups, n_filters // groups, *of_filter)
    return xp.ascontiguousarray(xp.swapaxes(split, 1, 2))
