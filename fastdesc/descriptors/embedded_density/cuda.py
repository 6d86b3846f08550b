"""Embedded density on the GPU: how the kernels of kernels/embedded_density/ are launched."""

from fastdesc.backend import cuda
from fastdesc.backend.arrays import namespace
from fastdesc.backend.launch_shapes import atoms_per_warp, slab_width, with_whole_rows
from fastdesc.descriptors.embedded_density.parameters import by_name

PAIRS, MIRROR, ATOMWISE = (f"embedded_density/{x}.cu" for x in ("density", "coefficients_pullback", "contraction"))
COLUMNS, ATOMS, CONTRACT_THREADS, TURN_THREADS = 8, 32, 256, 256


def bind(family, rij, pairs, species):
    """Return run(name, *arrays), which runs one kernel over all atoms of `pairs`."""
    xp, dual, n = namespace(rij), rij.ndim == 3, pairs.n_atoms
    rij = _rows(xp, rij)
    n_species, n_radial, n_moments = len(family.species_numbers), family.n_radial, family.n_moments
    scalar = cuda.scalar_name(rij.dtype, dual)
    warps = 32 // (rij.itemsize * (1 + dual))  # atoms a block: WARPS of pair_loops.cuh
    pair_list = (0, n, pairs.row, pairs.j, species, rij)
    orbitals = (bool(family.normalized), family.cutoff)

    def stride(x):
        """Elements from row to row of densities: one plane of them, the other may lie anywhere."""
        return cuda.row_stride(x[0] if dual else x)

    def whole(x):
        """Elements from row to row, and from the last row of values to the first of tangents: kernels count rows."""
        return cuda.row_stride(x)

    def plane(x):
        """Elements from values to tangents."""
        return x.strides[0] // x.itemsize if dual else 0

    def over_pairs(name, args, slabs, per_warp=1):
        name, width = slab_kernel(name, scalar, n_radial)
        cuda.launch(PAIRS, name, n, warps * per_warp, 32 * warps, args, y=-(-n_radial // width) if slabs else 1)

    def over_atoms(name, density, args, *scalars):
        arguments, n = ", ".join((scalar, *scalars)), density.shape[-1]
        cuda.launch(ATOMWISE, f"{name}<{arguments}>", n, ATOMS, CONTRACT_THREADS, (0, n, *args))

    def density(alpha, r_s, coefficients, out):
        theta = map(xp.ascontiguousarray, (alpha, r_s, coefficients))
        sizes = (whole(rij), stride(out), plane(out), n_species, n_radial, n_moments)
        over_pairs("ed_density", (*pair_list, *theta, out, *sizes, *orbitals), True)

    def density_again(alpha, r_s, coefficients, c, iteration, out):
        theta = map(xp.ascontiguousarray, (alpha, r_s, c))
        n_all, columns = c.shape[-2:]
        sizes = (whole(rij), stride(out), plane(out), plane(c), n_all, n_species, n_radial, n_moments, columns)
        over_pairs("ed_density_again", (*pair_list, *theta, iteration, out, *sizes, *orbitals), True)

    def of_all_iterations(c, ddensity):
        n_later, n_all, columns = c.shape[-3:]
        return (plane(ddensity), plane(c), n_all, n_later, n_species, n_radial, n_moments, columns, *orbitals)

    def density_pullback(alpha, r_s, coefficients, c, ddensity, drij):
        theta = map(xp.ascontiguousarray, (alpha, r_s, coefficients, c))
        strides = (whole(rij), stride(ddensity), whole(drij))
        args = (*pair_list, *theta, ddensity, drij, *strides, *of_all_iterations(c, ddensity))
        over_pairs("ed_density_pullback", args, False)

    def parameters_pullback(alpha, r_s, coefficients, c, ddensity):
        theta = map(xp.ascontiguousarray, (alpha, r_s, coefficients, c))
        row_bytes = 3 * n_species * n_radial * rij.itemsize * (1 + dual)
        each = atoms_per_warp(n, row_bytes)
        rows = -(-n // (warps * each)) * warps
        partial = xp.zeros((1 + dual, rows, 3, n_species, n_radial), rij.dtype)
        strides = (each, whole(rij), stride(ddensity))
        args = (*pair_list, *theta, ddensity, partial, *strides, *of_all_iterations(c, ddensity))
        over_pairs("ed_parameters_pullback", args, True, each)
        total = xp.moveaxis(partial.sum(axis=1, dtype="float64"), 0, 1)
        return total if dual else total[:, 0]

    def coefficients_pullback(alpha, r_s, rows, dc):
        theta = map(xp.ascontiguousarray, (alpha, r_s))
        sizes = (whole(rij), whole(dc), plane(rows), n_species, n_radial, n_moments, *rows.shape[-2:])
        args = (*pair_list, *theta, rows, dc, *sizes, *orbitals)
        slabs = -(-n_radial // COLUMNS)
        cuda.launch(MIRROR, f"ed_coefficients_pullback<{scalar}>", n, warps, 32 * warps, args, y=slabs)

    def rows(density, out):
        sizes = (stride(density), plane(density), plane(out), n_radial, n_moments, *out.shape[-2:])
        cuda.launch(MIRROR, f"ed_rows<{scalar}>", n, ATOMS, TURN_THREADS, (0, n, density, out, *sizes))

    shape = (n_radial, family.l_max, n_moments)

    def contract(hyper, density, q):
        factor = cuda.scalar_name(hyper.dtype, hyper.ndim == 2)
        strides = (stride(density), whole(q), plane(density), hyper.shape[-1])
        over_atoms("ed_contract", density, (hyper, density, q, *strides, *shape, family.n_features), factor)

    def contract_pullback(hyper, density, dq, ddensity):
        dq, factor = _rows(xp, dq), cuda.scalar_name(hyper.dtype, hyper.ndim == 2)
        strides = (stride(density), whole(dq), stride(ddensity), plane(density), plane(ddensity), hyper.shape[-1])
        args = (hyper, density, dq, ddensity, *strides, *shape, family.n_features)
        over_atoms("ed_contract_pullback", density, args, factor)

    def gram(density, out):
        over_atoms("ed_gram", density, (density, out, stride(density), whole(out), plane(density), *shape))

    def squares(density, q):
        over_atoms("ed_squares", density, (density, q, stride(density), whole(q), plane(density), *shape))

    def squares_pullback(density, dq, ddensity):
        dq = _rows(xp, dq)
        strides = (stride(density), whole(dq), stride(ddensity), plane(density), plane(ddensity))
        over_atoms("ed_squares_pullback", density, (density, dq, ddensity, *strides, *shape))

    return by_name(
        density, density_again, density_pullback, coefficients_pullback, parameters_pullback, rows,
        contract, contract_pullback, gram, squares, squares_pullback,
    )  # fmt: skip


def _rows(xp, x):
    """Return `x`, or a copy of it whose rows are contiguous and whose planes follow each other without a gap."""
    whole = x.ndim < 3 or x.strides[0] == x.shape[1] * x.strides[1]
    return with_whole_rows(xp, x) if whole else xp.ascontiguousarray(x)


def slab_kernel(name, scalar, n_radial):
    """Return a kernel and the radial functions it takes at a time."""
    width = slab_width(PAIRS, name, scalar, n_radial)
    return f"{name}<{scalar}, {width}>", width
