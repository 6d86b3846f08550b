"""Spline filters on the GPU: how the kernels of kernels/spline_filters/spline_filters.cu are launched."""

from fastdesc.backend import cuda
from fastdesc.backend.arrays import namespace
from fastdesc.backend.launch_shapes import slab_width
from fastdesc.descriptors.kernels import CudaKernels
from fastdesc.descriptors.spline_filters.knots import KINDS

FILE = "spline_filters/spline_filters.cu"


class Kernels(CudaKernels):
    """The kernels of SplineFilters; arrays as of fastdesc/descriptors/spline_filters/cpu.py, tables by `packed`."""

    def __init__(self, family, rij, pairs, species, knots):
        super().__init__(family, rij, pairs, species)
        self.pair_list = (*self.pair_list, knots)
        self.kinds = kinds = [family.filters[name] for name in KINDS]
        self.group, self.groups = kinds[0].group, len(kinds[0].rows)
        pair_pieces, radial_pieces, angular_pieces = (f.n_pieces for f in kinds)
        cutoff, triplet_cutoff = family.cutoffs(rij.dtype)
        self.constants = {
            "n_atoms": self.n_atoms, "n_pair": family.n_pair, "n_triplet": family.n_triplet,
            "n_elements": family.n_elements, "n_groups": self.groups, "angles_alike": int(kinds[2].alike),
            "pair_pieces": pair_pieces, "radial_pieces": radial_pieces, "angular_pieces": angular_pieces,
            "cutoff": cutoff, "triplet_cutoff": triplet_cutoff, "rij_stride": cuda.row_stride(self.rij),
        }  # fmt: skip

    @staticmethod
    def packed(family, name, coefficients):
        """Return a table as kernels want it, (planes, n_elements, n_filters, pieces, 4).

        Angular filters come last, (planes, pairs of elements, pieces, room_for(n_filters), 4): what a triplet reads of
        all of them then lies together, and a slab is always full.

        Parameters
        ----------
        family
            Not needed here.
        name : str
            One of KINDS.
        coefficients : (planes, groups, n_elements, filters of a group, pieces, 4)
        """
        xp, (planes, groups, n_elements, size, *of_filter) = namespace(coefficients), coefficients.shape
        by_element = xp.ascontiguousarray(xp.swapaxes(coefficients, 1, 2))
        table = by_element.reshape(planes, n_elements, groups * size, *of_filter)
        if name != KINDS[2]:
            return table
        last = xp.zeros((planes, n_elements, of_filter[0], room_for(groups * size), 4), table.dtype)
        last[..., : groups * size, :] = xp.swapaxes(table, 2, 3)
        return last

    def sf_features(self, pair, radial, angular, q):
        width, n_triplet = self._width("sf_features"), self.family.n_triplet
        slabs = self.groups * -(-self.group // width) + -(-n_triplet // width)
        self._over_atoms("sf_features", (pair, radial, angular), (q,), slabs, q_stride=cuda.row_stride(q))

    def sf_pullback(self, pair, radial, angular, dq, drij):
        dq = self.whole(dq)
        strides = {"dq_stride": cuda.row_stride(dq), "drij_stride": cuda.row_stride(drij)}
        self._over_atoms("sf_pullback", (pair, radial, angular), (dq, drij), 1, **strides)

    def sf_parameters_pullback(self, pair, radial, angular, dq):
        xp, dq = self.xp, self.whole(dq)
        each, rows = self.partial_sums(max(table[0].size for table in (pair, radial, angular)) * self.item)
        out = []
        for table, f in zip((pair, radial, angular), self.kinds, strict=True):
            shape = (1 + self.dual, rows, table.shape[1], f.n_pieces, len(f.rows) * f.group, 4)
            out.append(xp.zeros(shape, self.rij.dtype))
        tables = map(self._like_duals, (radial, angular))
        arrays = (*self.pair_list, *tables, dq, *out)
        scalars = {"atoms_per_warp": each, "dq_stride": cuda.row_stride(dq), **self.constants}
        kernel = f"sf_parameters_pullback<{self.scalar}, {self._width('sf_parameters_pullback')}>"
        cuda.launch(FILE, kernel, self.n_atoms, self.warps * each, 32 * self.warps, arrays, **scalars)
        totals = [xp.swapaxes(x.sum(axis=1, dtype="float64"), 2, 3) for x in out]
        return [_by_group(xp, total, len(f.rows)) for total, f in zip(totals, self.kinds, strict=True)]

    def _over_atoms(self, name, tables, arrays, slabs, **strides):
        arrays = (*self.pair_list, *map(self._like_duals, tables), *arrays)
        kernel = f"{name}<{self.scalar}, {self._width(name)}>"
        threads = 32 * self.warps
        cuda.launch(FILE, kernel, self.n_atoms, self.warps, threads, arrays, y=slabs, **strides, **self.constants)

    def _width(self, name):
        """Filters that a kernel takes at a time."""
        return slab_width(FILE, name, self.scalar, self.family.n_triplet or self.family.n_pair)

    def _like_duals(self, table):
        """Give the coefficients of plain parameters a tangent of zero where the pairs carry tangents."""
        if self.dual and len(table) == 1:
            return self.xp.concatenate([table, self.xp.zeros_like(table)])
        return table


def room_for(n_filters):
    """Filters that a table of angular filters has room for; of the same name in kernels/spline_filters/."""
    return n_filters if n_filters < 2 else 4 if n_filters <= 4 else -(-n_filters // 8) * 8


def _by_group(xp, total, groups):
    """(planes, n_elements, n_filters, ..) as (planes, groups, n_elements, filters of a group, ..)."""
    planes, n_elements, n_filters, *of_filter = total.shape
    split = total.reshape(planes, n_elements, groups, n_filters // groups, *of_filter)
    return xp.ascontiguousarray(xp.swapaxes(split, 1, 2))
