"""Gaussian moments on the GPU: how the kernels of kernels/gaussian_moments/gaussian_moments.cu are launched."""

from fastdesc.backend import cuda
from fastdesc.backend.arrays import namespace
from fastdesc.backend.launch_shapes import atoms_per_warp, slab_width, with_whole_rows
from fastdesc.errors import InputError
from fastdesc.numerics.radial import BASES, R_MIN

FILE = "gaussian_moments/gaussian_moments.cu"
MAX_BASIS = 32
"""Basis functions for which kernels/radial.cuh has constants."""
BASIS_SLAB = 16
"""Basis functions that a block of gm_beta_pullback takes."""
CONTRACT_THREADS, ROW_BYTES = 256, 128
"""Of the contraction kernels: threads a block, bytes that the block's atoms have of each moment in shared memory."""


def bind(family, rij, pairs, species):
    """Return run(*calls), which runs kernels over all atoms of `pairs`; a call is (name, *arrays).

    Raises
    ------
    InputError
        For more basis functions than the kernels know.
    """
    if family.n_basis > MAX_BASIS:
        raise InputError(f"n_basis is {family.n_basis}; CUDA kernels take up to {MAX_BASIS}: use fewer or device 'cpu'")
    xp, dual, n = namespace(rij), rij.ndim == 3, pairs.n_atoms
    rij = with_whole_rows(xp, rij)
    n_species = len(family.species_numbers)
    scalar = cuda.scalar_name(rij.dtype, dual)
    item = rij.itemsize * (2 if dual else 1)
    warps = 32 // item  # atoms a block of the pair kernels
    pair_list = (0, n, pairs.row, pairs.j, species, rij)
    constants = (n_species, family.n_radial, family.n_basis, family.n_moments)
    constants += (BASES.index(family.basis), family.cutoff, R_MIN)

    def over_pairs(name, beta, *arrays):
        width = slab_width(FILE, name, scalar, family.n_radial)
        slabs = -(-family.n_radial // width) if name == "gm_moments" else 1
        strides = [cuda.row_stride(a) for a in (rij, *arrays)]
        args = (*pair_list, xp.ascontiguousarray(beta), *arrays, *strides, *constants)
        cuda.launch(FILE, f"{name}<{scalar}, {width}>", n, warps, 32 * warps, args, y=slabs)

    def over_atoms(name, *arrays):
        arrays = [*(with_whole_rows(xp, a) for a in arrays[:-1]), arrays[-1]]
        strides = [cuda.row_stride(a) for a in arrays]
        sizes = (family.n_radial, family.n_moments, family.n_features)
        args = (0, n, *arrays, *strides, *sizes, *family.offsets.tolist())
        shared = ROW_BYTES * family.n_radial * family.n_moments
        per_block = ROW_BYTES // item
        cuda.launch(FILE, f"{name}<{scalar}>", n, per_block, CONTRACT_THREADS, args, shared_mem=shared)

    def to_beta(name, dmoments):
        width = slab_width(FILE, name, scalar, family.n_radial)
        table = (n_species, n_species, family.n_radial, family.n_basis)
        each = atoms_per_warp(n, n_species**2 * family.n_radial * family.n_basis * item)
        rows = -(-n // (warps * each)) * warps
        partial = xp.zeros((1 + dual, rows, *table), rij.dtype)
        strides = (cuda.row_stride(rij), cuda.row_stride(dmoments))
        args = (*pair_list, dmoments, partial, each, *strides, *constants)
        slabs = -(-family.n_radial // width), -(-family.n_basis // BASIS_SLAB)
        cuda.launch(FILE, f"{name}<{scalar}, {width}>", n, warps * each, 32 * warps, args, *slabs)
        dbeta = partial.sum(axis=1, dtype="float64")
        return dbeta if dual else dbeta[0]

    calls = {
        "gm_moments": over_pairs,
        "gm_contract": over_atoms,
        "gm_contract_pullback": over_atoms,
        "gm_moments_pullback": over_pairs,
        "gm_beta_pullback": to_beta,
    }

    def run(*wanted):
        return [calls[name](name, *arrays) for name, *arrays in wanted][-1]

    return run
