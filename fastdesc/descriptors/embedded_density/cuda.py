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
        self.orbitals = (bool(family.normalized), family.cutoff)
        self.shape = (family.n_radial, family.l_max, family.n_moments)

    def ed_density(self, alpha, r_s, coefficients, out):
        family = self.family
        theta = map(self.xp.ascontiguousarray, (alpha, r_s, coefficients))
        strides = (cuda.row_stride(self.rij), self._stride(out), self._plane(out))
        sizes = (self.n_species, family.n_radial, family.n_moments)
        self._over_pairs("ed_density", (*self.pair_list, *theta, out, *strides, *sizes, *self.orbitals), True)

    def ed_density_again(self, alpha, r_s, c, iteration, out):
        family = self.family
        theta = map(self.xp.ascontiguousarray, (alpha, r_s, c))
        strides = (cuda.row_stride(self.rij), self._stride(out), self._plane(out), self._plane(c))
        sizes = (c.shape[-2], self.n_species, family.n_radial, family.n_moments, c.shape[-1])
        args = (*self.pair_list, *theta, iteration, out, *strides, *sizes, *self.orbitals)
        self._over_pairs("ed_density_again", args, True)

    def ed_density_pullback(self, alpha, r_s, coefficients, c, ddensity, drij):
        theta = map(self.xp.ascontiguousarray, (alpha, r_s, coefficients, c))
        strides = (cuda.row_stride(self.rij), self._stride(ddensity), cuda.row_stride(drij))
        args = (*self.pair_list, *theta, ddensity, drij, *strides, *self._of_all_iterations(c, ddensity))
        self._over_pairs("ed_density_pullback", args, False)

    def ed_parameters_pullback(self, alpha, r_s, coefficients, c, ddensity):
        xp, n_radial = self.xp, self.family.n_radial
        theta = map(xp.ascontiguousarray, (alpha, r_s, coefficients, c))
        each, rows = self.partial_sums(3 * self.n_species * n_radial * self.item)
        partial = xp.zeros((1 + self.dual, rows, 3, self.n_species, n_radial), self.rij.dtype)
        strides = (each, cuda.row_stride(self.rij), self._stride(ddensity))
        args = (*self.pair_list, *theta, ddensity, partial, *strides, *self._of_all_iterations(c, ddensity))
        self._over_pairs("ed_parameters_pullback", args, True, each)
        total = xp.moveaxis(partial.sum(axis=1, dtype="float64"), 0, 1)
        return total if self.dual else total[:, 0]

    def ed_coefficients_pullback(self, alpha, r_s, rows, dc):
        family = self.family
        theta = map(self.xp.ascontiguousarray, (alpha, r_s))
        strides = (cuda.row_stride(self.rij), cuda.row_stride(dc), self._plane(rows))
        sizes = (self.n_species, family.n_radial, family.n_moments, *rows.shape[-2:])
        args = (*self.pair_list, *theta, rows, dc, *strides, *sizes, *self.orbitals)
        kernel, slabs = f"ed_coefficients_pullback<{self.scalar}>", -(-family.n_radial // COLUMNS)
        cuda.launch(MIRROR, kernel, self.n_atoms, self.warps, 32 * self.warps, args, y=slabs)

    def ed_rows(self, density, rows):
        strides = (self._stride(density), self._plane(density), self._plane(rows))
        sizes = (self.family.n_radial, self.family.n_moments, *rows.shape[-2:])
        args = (self.n_atoms, density, rows, *strides, *sizes)
        cuda.launch(MIRROR, f"ed_rows<{self.scalar}>", self.n_atoms, ATOMS, TURN_THREADS, args)

    def ed_contract(self, hyper, density, q):
        strides = (self._stride(density), cuda.row_stride(q), self._plane(density), hyper.shape[-1])
        args = (hyper, density, q, *strides, *self.shape, self.family.n_features)
        self._contract("ed_contract", hyper, density, args, 0)

    def ed_contract_pullback(self, hyper, density, dq, ddensity):
        dq = self.whole(dq)
        strides = (self._stride(density), cuda.row_stride(dq), self._stride(ddensity))
        planes = (self._plane(density), self._plane(ddensity), hyper.shape[-1])
        args = (hyper, density, dq, ddensity, *strides, *planes, *self.shape, self.family.n_features)
        self._contract("ed_contract_pullback", hyper, density, args, PARTIAL_SUMS)

    def ed_gram(self, density, out):
        strides = (self._stride(density), cuda.row_stride(out), self._plane(density))
        self._over_atoms("ed_gram", density, (density, out, *strides, *self.shape))

    def ed_squares(self, density, q):
        strides = (self._stride(density), cuda.row_stride(q), self._plane(density))
        self._over_atoms("ed_squares", density, (density, q, *strides, *self.shape))

    def ed_squares_pullback(self, density, dq, ddensity):
        dq = self.whole(dq)
        strides = (self._stride(density), cuda.row_stride(dq), self._stride(ddensity))
        planes = (self._plane(density), self._plane(ddensity))
        self._over_atoms("ed_squares_pullback", density, (density, dq, ddensity, *strides, *planes, *self.shape))

    def whole(self, x):
        """Return an array, or a copy of it whose rows are contiguous and whose planes follow without a gap.

        Kernels count rows from the values on to the tangents.
        """
        even = x.ndim < 3 or x.strides[0] == x.shape[1] * x.strides[1]
        return with_whole_rows(self.xp, x) if even else self.xp.ascontiguousarray(x)

    def _stride(self, x):
        """Elements from row to row of densities: of one plane of them, the other may lie anywhere."""
        return cuda.row_stride(x[0] if self.dual else x)

    def _plane(self, x):
        """Elements from values to tangents."""
        return x.strides[0] // x.itemsize if self.dual else 0

    def _of_all_iterations(self, c, ddensity):
        sizes = (self.n_species, self.family.n_radial, self.family.n_moments, c.shape[-1])
        return (self._plane(ddensity), self._plane(c), c.shape[-2], c.shape[-3], *sizes, *self.orbitals)

    def _over_pairs(self, name, args, slabs, per_warp=1):
        n_radial = self.family.n_radial
        name, width = slab_kernel(name, self.scalar, n_radial)
        y = -(-n_radial // width) if slabs else 1
        cuda.launch(PAIRS, name, self.n_atoms, self.warps * per_warp, 32 * self.warps, args, y=y)

    def _over_atoms(self, name, density, args):
        n = density.shape[-1]
        cuda.launch(ATOMWISE, f"{name}<{self.scalar}>", n, ATOMS, CONTRACT_THREADS, (n, *args))

    def _contract(self, name, hyper, density, args, more_rows):
        """Launch a product with the blocks of `hyper`, which may be plain where densities are dual."""
        n, rows = density.shape[-1], self.family.n_radial * self.family.n_moments + more_rows
        kernel = f"{name}<{self.scalar}, {cuda.scalar_name(hyper.dtype, hyper.ndim == 2)}>"
        per_block, shared = ROW_BYTES // self.item, ROW_BYTES * rows
        cuda.launch(ATOMWISE, kernel, n, per_block, CONTRACT_THREADS, (n, *args), shared_mem=shared)


def slab_kernel(name, scalar, n_radial):
    """Return a kernel and the radial functions it takes at a time."""
    width = slab_width(PAIRS, name, scalar, n_radial)
    return f"{name}<{scalar}, {width}>", width
