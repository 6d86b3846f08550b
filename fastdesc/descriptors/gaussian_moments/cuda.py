"""Gaussian moments on the GPU: how the kernels of kernels/gaussian_moments/gaussian_moments.cu are launched."""

from fastdesc.backend import cuda
from fastdesc.backend.launch_shapes import slab_width
from fastdesc.descriptors.kernels import CudaKernels
from fastdesc.errors import InputError
from fastdesc.numerics.radial import BASES, R_MIN

FILE = "gaussian_moments/gaussian_moments.cu"
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

    def gm_moments(self, beta, moments):
        self._over_pairs("gm_moments", beta, moments, in_slabs=True)

    def gm_contract(self, moments, q):
        self._over_atoms("gm_contract", self.whole(moments), q)

    def gm_contract_pullback(self, moments, dq, dmoments):
        self._over_atoms("gm_contract_pullback", self.whole(moments), self.whole(dq), dmoments)

    def gm_moments_pullback(self, beta, dmoments, drij):
        self._over_pairs("gm_moments_pullback", beta, dmoments, drij)

    def gm_beta_pullback(self, dmoments):
        xp, family, dual, n = self.xp, self.family, self.dual, self.n_atoms
        width = slab_width(FILE, "gm_beta_pullback", self.scalar, family.n_radial)
        table = (self.n_species, self.n_species, family.n_radial, family.n_basis)
        each, rows = self.partial_sums(self.n_species**2 * family.n_radial * family.n_basis * self.item)
        partial = xp.zeros((1 + dual, rows, *table), self.rij.dtype)
        strides = (cuda.row_stride(self.rij), cuda.row_stride(dmoments))
        args = (*self.pair_list, dmoments, partial, each, *strides, *self.constants)
        slabs = -(-family.n_radial // width), -(-family.n_basis // BASIS_SLAB)
        kernel = f"gm_beta_pullback<{self.scalar}, {width}>"
        cuda.launch(FILE, kernel, n, self.warps * each, 32 * self.warps, args, *slabs)
        dbeta = partial.sum(axis=1, dtype="float64")
        return dbeta if dual else dbeta[0]

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

    def _over_atoms(self, name, *arrays):
        family, per_block = self.family, ROW_BYTES // self.item
        strides = [cuda.row_stride(a) for a in arrays]
        sizes = (family.n_radial, family.n_moments, family.n_features)
        args = (self.n_atoms, *arrays, *strides, *sizes, *family.offsets.tolist())
        shared = ROW_BYTES * family.n_radial * family.n_moments
        kernel = f"{name}<{self.scalar}>"
        cuda.launch(FILE, kernel, self.n_atoms, per_block, CONTRACT_THREADS, args, shared_mem=shared)
