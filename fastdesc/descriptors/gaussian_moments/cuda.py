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
        sizes = (self.n_species, family.n_radial, family.n_basis, family.n_moments)
        self.constants = (*sizes, BASES.index(family.basis), family.cutoff, R_MIN)

    def gm_moments(self, beta, moments, weights=None, iteration=0):
        if weights is None:
            self._over_pairs("gm_moments", beta, moments, in_slabs=True)
            return
        strides = (*self._strides(moments), *self._strides_of(weights))
        args = (self.xp.ascontiguousarray(beta), weights, iteration, moments)
        self._weighted("gm_moments_by_channels", args, strides, in_slabs=True)

    def gm_contract(self, moments, q, offsets=None):
        self._over_atoms("gm_contract", offsets, self._even(moments), q)

    def gm_contract_pullback(self, moments, dq, dmoments, offsets=None):
        out = self._even(dmoments)
        self._over_atoms("gm_contract_pullback", offsets, self._even(moments), self._even(dq), out)
        if out is not dmoments:
            dmoments[...] = out

    def gm_moments_pullback(self, beta, dmoments, drij, weights=None):
        if weights is None:
            self._over_pairs("gm_moments_pullback", beta, dmoments, drij)
            return
        strides = (*self._strides(dmoments), cuda.row_stride(drij), *self._strides_of(weights), weights.shape[-3])
        args = (self.xp.ascontiguousarray(beta), weights, dmoments, drij)
        self._weighted("gm_moments_by_channels_pullback", args, strides)

    def gm_beta_pullback(self, dmoments, weights=None):
        xp, family, dual, n = self.xp, self.family, self.dual, self.n_atoms
        file, name = (FILE, "gm_beta_pullback") if weights is None else (WEIGHTED, "gm_beta_by_channels_pullback")
        width = slab_width(file, name, self.scalar, family.n_radial)
        table = (self.n_species, self.n_species, family.n_radial, family.n_basis)
        each, rows = self.partial_sums(self.n_species**2 * family.n_radial * family.n_basis * self.item)
        partial = xp.zeros((1 + dual, rows, *table), self.rij.dtype)
        if weights is None:
            before, strides = (), (cuda.row_stride(dmoments),)
        else:
            before, strides = (weights,), (*self._strides(dmoments), *self._strides_of(weights), weights.shape[-3])
        args = (*self.pair_list, *before, dmoments, partial, each, cuda.row_stride(self.rij), *strides)
        slabs = -(-family.n_radial // width), -(-family.n_basis // BASIS_SLAB)
        kernel = f"{name}<{self.scalar}, {width}>"
        cuda.launch(file, kernel, n, self.warps * each, 32 * self.warps, (*args, *self.constants), *slabs)
        dbeta = partial.sum(axis=1, dtype="float64")
        return dbeta if dual else dbeta[0]

    def gm_weights_pullback(self, beta, dmoments, dpairs):
        args = (self.xp.ascontiguousarray(beta), dmoments, dpairs)
        self._weighted("gm_weights_pullback", args, (*self._strides(dmoments), self._plane(dpairs)))

    def gm_weights_sum(self, mirror, dpairs, dw):
        args = (self.n_atoms, self.pair_list[1], mirror, dpairs, dw)
        sizes = (self._plane(dpairs), cuda.row_stride(dw), self.family.n_radial)
        kernel = f"gm_weights_sum<{self.scalar}>"
        cuda.launch(WEIGHTED, kernel, self.n_atoms, self.warps, 32 * self.warps, (*args, *sizes))

    def moments_and_features(self, beta, moments, q):
        self.gm_moments(beta, moments)
        self.gm_contract(moments, q)

    def pullback(self, beta, moments, dq, dmoments, drij):
        self.gm_contract_pullback(moments, dq, dmoments)
        self.gm_moments_pullback(beta, dmoments, drij)

    def parameters_pullback(self, moments, dq, dmoments):
        self.gm_contract_pullback(moments, dq, dmoments)
        return self.gm_beta_pullback(dmoments)

    def _over_pairs(self, name, beta, *arrays, in_slabs=False):
        n_radial = self.family.n_radial
        width = slab_width(FILE, name, self.scalar, n_radial)
        slabs = -(-n_radial // width) if in_slabs else 1
        strides = [cuda.row_stride(a) for a in (self.rij, *arrays)]
        args = (*self.pair_list, self.xp.ascontiguousarray(beta), *arrays, *strides, *self.constants)
        kernel = f"{name}<{self.scalar}, {width}>"
        cuda.launch(FILE, kernel, self.n_atoms, self.warps, 32 * self.warps, args, y=slabs)

    def _weighted(self, name, arrays, strides, in_slabs=False):
        n_radial = self.family.n_radial
        width = slab_width(WEIGHTED, name, self.scalar, n_radial)
        args = (*self.pair_list, *arrays, cuda.row_stride(self.rij), *strides, *self.constants)
        kernel, slabs = f"{name}<{self.scalar}, {width}>", -(-n_radial // width) if in_slabs else 1
        cuda.launch(WEIGHTED, kernel, self.n_atoms, self.warps, 32 * self.warps, args, y=slabs)

    def _strides(self, moments):
        """From row to row of moments, and from values to tangents: planes need not follow without a gap."""
        return cuda.row_stride(moments[0] if self.dual else moments), self._plane(moments)

    def _strides_of(self, weights):
        return self._plane(weights), *weights.shape[-2:]

    def _plane(self, x):
        return x.strides[0] // x.itemsize if self.dual else 0

    def _even(self, x):
        """An array, or a copy of it whose rows are contiguous and whose planes follow without a gap."""
        even = not self.dual or x.strides[0] == x.strides[-2] * int(np.prod(x.shape[1:-1]))
        return self.whole(x) if even else self.xp.ascontiguousarray(x)

    def _over_atoms(self, name, offsets, *arrays):
        family, per_block, n = self.family, ROW_BYTES // self.item, arrays[0].shape[-1]
        offsets = family.offsets if offsets is None else offsets
        n_features = arrays[1].shape[-2]
        strides = [cuda.row_stride(a) for a in arrays]
        sizes = (family.n_radial, family.n_moments, n_features)
        args = (n, *arrays, *strides, *sizes, *offsets.tolist())
        shared = ROW_BYTES * family.n_radial * family.n_moments
        kernel = f"{name}<{self.scalar}>"
        cuda.launch(FILE, kernel, n, per_block, CONTRACT_THREADS, args, shared_mem=shared)
