"""Gaussian moments on the GPU: how the kernels of kernels/gaussian_moments/gaussian_moments.cu are launched."""

import numpy as np

from fastdesc.backend import cuda
from fastdesc.backend.launch_shapes import slab_width
from fastdesc.descriptors.kernels import CudaKernels
from fastdesc.errors import InputError
from fastdesc.numerics.radial import BASES, R_MIN

FILE, WEIGHTED = "gaussian_moments/gaussian_moments.cu", "gaussian_moments/weighted.cu"
MAX_BASIS = 32
"""Basis functions for which kernels/radial.cuh has constants."""
BASIS_SLAB = 16
"""Basis functions that a block of gm_beta_pullback takes."""
CONTRACT_THREADS, ROW_BYTES = 256, 128
"""Of the contraction kernels: threads a block, bytes that the block's atoms have of each moment in shared memory."""


class Kernels(CudaKernels):
    """The kernels of GaussianMoments; arrays as of fastdesc/descriptors/gaussian_moments/cpu.py.

    Raises
    ------
    InputError
        For more basis functions than the kernels know.
    """

    def __init__(self, family, rij, pairs, species):
        if family.n_basis > MAX_BASIS:
            raise InputError(
                f"n_basis is {family.n_basis}; CUDA kernels take up to {MAX_BASIS}: use fewer or device 'cpu'"
            )
        super().__init__(family, rij, pairs, species)
        self.constants = {
            "n_atoms": self.n_atoms, "rij_stride": cuda.row_stride(self.rij), "n_species": self.n_species,
            "n_radial": family.n_radial, "n_basis": family.n_basis, "n_moments": family.n_moments,
            "basis": BASES.index(family.basis), "cutoff": family.cutoff, "r_min": R_MIN,
        }  # fmt: skip

    def gm_moments(self, beta, moments, weights=None, iteration=0):
        if weights is None:
            self._over_pairs(FILE, "gm_moments", (beta, moments), True, moments_stride=cuda.row_stride(moments))
            return
        scalars = {"iteration": iteration, **self._strides("moments", moments), **self._strides_of(weights)}
        self._over_pairs(WEIGHTED, "gm_moments_by_channels", (beta, weights, moments), True, **scalars)

    def gm_contract(self, moments, q, offsets=None):
        self._over_atoms("gm_contract", offsets, moments=self._even(moments), q=q)

    def gm_contract_pullback(self, moments, dq, dmoments, offsets=None):
        out = self._even(dmoments)
        arrays = {"moments": self._even(moments), "dq": self._even(dq), "dmoments": out}
        self._over_atoms("gm_contract_pullback", offsets, **arrays)
        if out is not dmoments:
            dmoments[...] = out

    def gm_moments_pullback(self, beta, dmoments, drij, weights=None):
        if weights is None:
            strides = {"dmoments_stride": cuda.row_stride(dmoments), "drij_stride": cuda.row_stride(drij)}
            self._over_pairs(FILE, "gm_moments_pullback", (beta, dmoments, drij), **strides)
            return
        scalars = {"drij_stride": cuda.row_stride(drij), **self._of_all_iterations(dmoments, weights)}
        self._over_pairs(WEIGHTED, "gm_moments_by_channels_pullback", (beta, weights, dmoments, drij), **scalars)

    def gm_beta_pullback(self, dmoments, weights=None):
        xp, family, dual, n = self.xp, self.family, self.dual, self.n_atoms
        file, name = (FILE, "gm_beta_pullback") if weights is None else (WEIGHTED, "gm_beta_by_channels_pullback")
        width = slab_width(file, name, self.scalar, family.n_radial)
        table = (self.n_species, self.n_species, family.n_radial, family.n_basis)
        each, rows = self.partial_sums(self.n_species**2 * family.n_radial * family.n_basis * self.item)
        partial = xp.zeros((1 + dual, rows, *table), self.rij.dtype)
        if weights is None:
            before, scalars = (), {"dmoments_stride": cuda.row_stride(dmoments)}
        else:
            before, scalars = (weights,), self._of_all_iterations(dmoments, weights)
        scalars |= {"atoms_per_warp": each, **self.constants}
        arrays = (*self.pair_list, *before, dmoments, partial)
        slabs = -(-family.n_radial // width), -(-family.n_basis // BASIS_SLAB)
        kernel = f"{name}<{self.scalar}, {width}>"
        cuda.launch(file, kernel, n, self.warps * each, 32 * self.warps, arrays, *slabs, **scalars)
        dbeta = partial.sum(axis=1, dtype="float64")
        return dbeta if dual else dbeta[0]

    def gm_weights_pullback(self, beta, dmoments, dpairs):
        scalars = {"dpairs_plane": self._plane(dpairs), **self._strides("dmoments", dmoments)}
        self._over_pairs(WEIGHTED, "gm_weights_pullback", (beta, dmoments, dpairs), **scalars)

    def gm_weights_sum(self, mirror, dpairs, dw):
        arrays, n = (self.pair_list[0], mirror, dpairs, dw), self.n_atoms
        scalars = {"n_atoms": n, "dpairs_plane": self._plane(dpairs), "dw_stride": cuda.row_stride(dw)}
        scalars["n_radial"] = self.family.n_radial
        cuda.launch(WEIGHTED, f"gm_weights_sum<{self.scalar}>", n, self.warps, 32 * self.warps, arrays, **scalars)

    def moments_and_features(self, beta, moments, q):
        self.gm_moments(beta, moments)
        self.gm_contract(moments, q)

    def pullback(self, beta, moments, dq, dmoments, drij):
        self.gm_contract_pullback(moments, dq, dmoments)
        self.gm_moments_pullback(beta, dmoments, drij)

    def parameters_pullback(self, moments, dq, dmoments):
        self.gm_contract_pullback(moments, dq, dmoments)
        return self.gm_beta_pullback(dmoments)

    def _over_pairs(self, file, name, arrays, in_slabs=False, **scalars):
        """Launch a kernel of a warp an atom; `arrays` are those behind the pair list, beta first."""
        beta, *arrays = arrays
        n_radial = self.family.n_radial
        width = slab_width(file, name, self.scalar, n_radial)
        slabs = -(-n_radial // width) if in_slabs else 1
        arrays = (*self.pair_list, self.xp.ascontiguousarray(beta), *arrays)
        kernel, threads = f"{name}<{self.scalar}, {width}>", 32 * self.warps
        cuda.launch(file, kernel, self.n_atoms, self.warps, threads, arrays, y=slabs, **scalars, **self.constants)

    def _strides(self, name, moments):
        """From row to row of moments, and from values to tangents: planes need not follow without a gap."""
        stride = cuda.row_stride(moments[0] if self.dual else moments)
        return {f"{name}_stride": stride, f"{name}_plane": self._plane(moments)}

    def _strides_of(self, weights):
        rows, columns = weights.shape[-2:]
        return {"weights_plane": self._plane(weights), "weights_rows": rows, "columns": columns}

    def _of_all_iterations(self, dmoments, weights):
        return {**self._strides("dmoments", dmoments), **self._strides_of(weights), "n_later": weights.shape[-3]}

    def _plane(self, x):
        return x.strides[0] // x.itemsize if self.dual else 0

    def _even(self, x):
        """An array, or a copy of it whose rows are contiguous and whose planes follow without a gap."""
        even = not self.dual or x.strides[0] == x.strides[-2] * int(np.prod(x.shape[1:-1]))
        return self.whole(x) if even else self.xp.ascontiguousarray(x)

    def _over_atoms(self, name, offsets, **arrays):
        """Launch a contraction; the first array are moments, the second features."""
        family, per_block = self.family, ROW_BYTES // self.item
        offsets = family.offsets if offsets is None else offsets
        moments, features, *_ = given = tuple(arrays.values())
        n = moments.shape[-1]
        scalars = {f"{x}_stride": cuda.row_stride(array) for x, array in arrays.items()}
        scalars |= {"n_atoms": n, "n_radial": family.n_radial, "n_moments": family.n_moments}
        scalars |= {f"o{k}": offset for k, offset in enumerate(offsets.tolist(), 1)}
        scalars["n_features"] = features.shape[-2]
        shared = ROW_BYTES * family.n_radial * family.n_moments
        kernel = f"{name}<{self.scalar}>"
        cuda.launch(FILE, kernel, n, per_block, CONTRACT_THREADS, given, shared_mem=shared, **scalars)
