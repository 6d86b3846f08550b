"""Embedded density on the GPU: how the kernels of kernels/embedded_density/ are launched."""

from fastdesc.backend import cuda
from fastdesc.backend.launch_shapes import slab_width, with_whole_rows
from fastdesc.descriptors.kernels import CudaKernels

PAIRS, MIRROR, ATOMWISE = (f"embedded_density/{x}.cu" for x in ("density", "coefficients_pullback", "contraction"))
COLUMNS, ATOMS, CONTRACT_THREADS, TURN_THREADS = 8, 32, 256, 256
ROW_BYTES, PARTIAL_SUMS = 128, 192
"""Of the contractions: bytes that a block's atoms have of each density in shared memory; rows of partial sums there."""


class Kernels(CudaKernels):
    """The kernels of EmbeddedDensity; arrays as of fastdesc/descriptors/embedded_density/cpu.py."""

    def __init__(self, family, rij, pairs, species):
        super().__init__(family, rij, pairs, species)
        self.shape = {"n_radial": family.n_radial, "n_moments": family.n_moments}
        self.constants = {
            "n_atoms": self.n_atoms, "rij_stride": cuda.row_stride(self.rij), "n_species": self.n_species,
            "normalized": bool(family.normalized), "cutoff": family.cutoff, **self.shape,
        }  # fmt: skip

    def ed_density(self, alpha, r_s, coefficients, out):
        theta = map(self.xp.ascontiguousarray, (alpha, r_s, coefficients))
        self._over_pairs("ed_density", (*theta, out), True, **self._strides("density", out))

    def ed_density_again(self, alpha, r_s, c, iteration, out):
        theta = map(self.xp.ascontiguousarray, (alpha, r_s, c))
        scalars = {"iteration": iteration, **self._strides("density", out), **self._strides_of(c)}
        self._over_pairs("ed_density_again", (*theta, out), True, **scalars)

    def ed_density_pullback(self, alpha, r_s, coefficients, c, ddensity, drij):
        theta = map(self.xp.ascontiguousarray, (alpha, r_s, coefficients, c))
        scalars = {"drij_stride": cuda.row_stride(drij), **self._of_all_iterations(c, ddensity)}
        self._over_pairs("ed_density_pullback", (*theta, ddensity, drij), False, **scalars)

    def ed_parameters_pullback(self, alpha, r_s, coefficients, c, ddensity):
        xp, n_radial = self.xp, self.family.n_radial
        theta = map(xp.ascontiguousarray, (alpha, r_s, coefficients, c))
        each, rows = self.partial_sums(3 * self.n_species * n_radial * self.item)
        partial = xp.zeros((1 + self.dual, rows, 3, self.n_species, n_radial), self.rij.dtype)
        scalars = {"atoms_per_warp": each, **self._of_all_iterations(c, ddensity)}
        self._over_pairs("ed_parameters_pullback", (*theta, ddensity, partial), True, **scalars)
        total = xp.moveaxis(partial.sum(axis=1, dtype="float64"), 0, 1)
        return total if self.dual else total[:, 0]

    def ed_coefficients_pullback(self, alpha, r_s, rows, dc):
        theta = map(self.xp.ascontiguousarray, (alpha, r_s))
        arrays, (terms, columns) = (*self.pair_list, *theta, rows, dc), rows.shape[-2:]
        scalars = {"dc_stride": cuda.row_stride(dc), "ddensity_plane": self._plane(rows)}
        scalars |= {"terms": terms, "columns": columns, **self.constants}
        kernel, slabs = f"ed_coefficients_pullback<{self.scalar}>", -(-self.family.n_radial // COLUMNS)
        cuda.launch(MIRROR, kernel, self.n_atoms, self.warps, 32 * self.warps, arrays, y=slabs, **scalars)

    def ed_rows(self, density, rows):
        n, (terms, columns) = self.n_atoms, rows.shape[-2:]
        scalars = {"n_atoms": n, "rows_plane": self._plane(rows), "terms": terms, "columns": columns}
        scalars |= {**self._strides("density", density), **self.shape}
        cuda.launch(MIRROR, f"ed_rows<{self.scalar}>", n, ATOMS, TURN_THREADS, (density, rows), **scalars)

    def ed_contract(self, hyper, density, q):
        self._contract("ed_contract", (hyper, density, q), 0, q_stride=cuda.row_stride(q))

    def ed_contract_pullback(self, hyper, density, dq, ddensity):
        dq = self.whole(dq)
        scalars = {"dq_stride": cuda.row_stride(dq), **self._strides("ddensity", ddensity)}
        self._contract("ed_contract_pullback", (hyper, density, dq, ddensity), PARTIAL_SUMS, **scalars)

    def ed_gram(self, density, out):
        self._over_atoms("ed_gram", (density, out), gram_stride=cuda.row_stride(out))

    def ed_squares(self, density, q):
        self._over_atoms("ed_squares", (density, q), q_stride=cuda.row_stride(q))

    def ed_squares_pullback(self, density, dq, ddensity):
        dq = self.whole(dq)
        scalars = {"dq_stride": cuda.row_stride(dq), **self._strides("ddensity", ddensity)}
        self._over_atoms("ed_squares_pullback", (density, dq, ddensity), **scalars)

    def whole(self, x):
        """Return an array, or a copy of it whose rows are contiguous and whose planes follow without a gap.

        Kernels count rows from the values on to the tangents.
        """
        even = x.ndim < 3 or x.strides[0] == x.shape[1] * x.strides[1]
        return with_whole_rows(self.xp, x) if even else self.xp.ascontiguousarray(x)

    def _strides(self, name, x):
        """From row to row of densities, and from values to tangents, which may lie anywhere."""
        return {f"{name}_stride": cuda.row_stride(x[0] if self.dual else x), f"{name}_plane": self._plane(x)}

    def _strides_of(self, c):
        rows, columns = c.shape[-2:]
        return {"c_plane": self._plane(c), "c_rows": rows, "columns": columns}

    def _plane(self, x):
        """Elements from values to tangents."""
        return x.strides[0] // x.itemsize if self.dual else 0

    def _of_all_iterations(self, c, ddensity):
        return {**self._strides("ddensity", ddensity), **self._strides_of(c), "n_later": c.shape[-3]}

    def _over_pairs(self, name, arrays, slabs, **scalars):
        """Launch a kernel of a warp an atom; `arrays` are those behind the pair list."""
        n_radial, per_block = self.family.n_radial, self.warps * scalars.get("atoms_per_warp", 1)
        name, width = slab_kernel(name, self.scalar, n_radial)
        y, arrays = -(-n_radial // width) if slabs else 1, (*self.pair_list, *arrays)
        cuda.launch(PAIRS, name, self.n_atoms, per_block, 32 * self.warps, arrays, y=y, **scalars, **self.constants)

    def _of_atoms(self, density):
        """Scalars of the kernels that turn densities into features and back."""
        n_atoms = density.shape[-1]
        return {"n_atoms": n_atoms, "l_max": self.family.l_max, **self.shape, **self._strides("density", density)}

    def _over_atoms(self, name, arrays, **scalars):
        """Launch a kernel of densities, the first array, and features."""
        scalars |= self._of_atoms(arrays[0])
        cuda.launch(
            ATOMWISE, f"{name}<{self.scalar}>", scalars["n_atoms"], ATOMS, CONTRACT_THREADS, arrays, **scalars
        )  # fmt: skip

    def _contract(self, name, arrays, more_rows, **scalars):
        """Launch a product with the blocks of `hyper`, the first array, which may be plain where densities are dual."""
        hyper, density, *_ = arrays
        scalars |= {**self._of_atoms(density), "n_features": self.family.n_features, "hyper_plane": hyper.shape[-1]}
        rows = self.family.n_radial * self.family.n_moments + more_rows
        kernel = f"{name}<{self.scalar}, {cuda.scalar_name(hyper.dtype, hyper.ndim == 2)}>"
        per_block, shared = ROW_BYTES // self.item, ROW_BYTES * rows
        n = density.shape[-1]
        cuda.launch(ATOMWISE, kernel, n, per_block, CONTRACT_THREADS, arrays, shared_mem=shared, **scalars)


def slab_kernel(name, scalar, n_radial):
    """Return a kernel and the radial functions it takes at a time."""
    width = slab_width(PAIRS, name, scalar, n_radial)
    return f"{name}<{scalar}, {width}>", width
