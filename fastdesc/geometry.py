"""Positions <-> pairs: pair vectors and tangents, forces, virials, stress; nothing else.

The twins of these kernels are in kernels/geometry.cu.
"""

import numpy as np

from fastdesc.backend import cuda
from fastdesc.backend.arrays import empty, namespace, resolve_dtype
from fastdesc.backend.jit import contracting_kernel, kernel, reordering_kernel
from fastdesc.backend.threads import for_chunks

FILE = "geometry.cu"
ATOMS = 512
"""Atoms per chunk: some 40 µs of work in a metal, so that handing it to a thread costs little."""
WARPS = 4
"""Atoms per block on the GPU."""
SUM_THREADS = 256
VOIGT = [0, 4, 8, 5, 2, 1]
"""xx yy zz yz xz xy of a flat 3x3 matrix."""


def pair_vectors(positions, cells, pairs, dtype):
    """Vectors from centres to neighbours.

        (1)   r_p = x_j - x_i + shift_p·H

    Parameters
    ----------
    positions : float64 (n_atoms, 3), in Å
    cells : float64 (n_frames, 3, 3), in Å
    pairs : Pairs
    dtype : float32 or float64
        Differences are taken in float64 and then cast.

    Returns
    -------
    rij : (3, n_pairs), in Å
    """
    rij = empty((3, pairs.n_pairs), resolve_dtype(dtype), pairs.j)
    arrays = pairs.row, pairs.j, pairs.shift, pairs.frame, _float64(positions), _float64(cells), rij
    _each_atom(geometry_pair_vectors, pairs, rij.dtype, arrays, rij=rij)
    return rij


def pair_tangents(rho, strain, rij, pairs):
    """Tangents of the pair vectors when atoms move along rho and the cell is strained.

        (2)   tr_p = rho_j - rho_i + r_p·strain[frame]

    Parameters
    ----------
    rho : (n_atoms, 3)
    strain : (n_frames, 3, 3) or None
    rij : (3, n_pairs)
    pairs : Pairs

    Returns
    -------
    trij : (3, n_pairs), dtype of rij
    """
    xp = namespace(rij)
    trij = empty(rij.shape, rij.dtype, rij)
    strain = xp.zeros((pairs.n_frames, 3, 3)) if strain is None else _float64(strain)
    arrays = pairs.row, pairs.j, pairs.frame, _float64(rho), strain, rij, trij
    _each_atom(geometry_pair_tangents, pairs, rij.dtype, arrays, rij=rij, trij=trij)
    return trij


def forces(drij, pairs):
    """Forces from the derivative of the energy with respect to the pair vectors.

        (3)   F_i = sum over p in row i of (dr_p - dr_mirror(p))

    Parameters
    ----------
    drij : (3, n_pairs), in eV/Å
    pairs : Pairs

    Returns
    -------
    float64 (n_atoms, 3), in eV/Å
    """
    out = namespace(drij).empty((pairs.n_atoms, 3))
    _each_atom(geometry_forces, pairs, drij.dtype, (pairs.row, pairs.mirror, drij, out), drij=drij)
    return out


def virials(rij, drij, pairs):
    """Derivative of the energy with respect to strain, symmetrised.

        (4)   W = sum_p r_p (x) dr_p

    Parameters
    ----------
    rij : (3, n_pairs), in Å
    drij : (3, n_pairs), in eV/Å
    pairs : Pairs

    Returns
    -------
    float64 (n_frames, 3, 3), in eV
    """
    per_atom = empty((9, pairs.n_atoms), np.float64, rij)
    virials_of_rows(rij, drij, pairs, per_atom)
    return frame_sums(per_atom, pairs).reshape(-1, 3, 3)


def virials_of_rows(rij, drij, pairs, out):
    """The part of formula (4) of every row, into out: float64 (9, n_atoms), in eV."""
    _each_atom(geometry_virials, pairs, rij.dtype, (pairs.row, rij, drij, out), rij=rij, drij=drij, out=out)


def frame_sums(per_atom, pairs):
    """Sum over the atoms of each frame, in float64 and in a fixed order.

    Parameters
    ----------
    per_atom : (n_components, n_atoms)
    pairs : Pairs

    Returns
    -------
    float64 (n_frames, n_components)
    """
    per_atom = _float64(per_atom)
    out = namespace(per_atom).empty((pairs.n_frames, len(per_atom)))
    if cuda.active_for(per_atom):
        arrays, n = (per_atom, pairs.bounds, out), len(per_atom)
        scalars = {"n_components": n, "per_atom_stride": cuda.row_stride(per_atom)}
        cuda.launch(FILE, "geometry_sum_frames", pairs.n_frames, 1, SUM_THREADS, arrays, y=n, **scalars)
    else:
        for_chunks(lambda a, b: geometry_sum_frames(per_atom, pairs.first, out), 1)
    return out


def stress_voigt(virials, volumes):
    """Stress xx yy zz yz xz xy, positive in tension as in ASE; NaN where a frame has no volume.

    Parameters
    ----------
    virials : (n_frames, 3, 3), in eV
    volumes : (n_frames,), in Å^3

    Returns
    -------
    (n_frames, 6), in eV/Å^3
    """
    xp = namespace(virials)
    if xp is np:
        out = np.empty((len(virials), 6))
        fill_stress(virials, volumes, out)
        return out
    volumes = xp.asarray(volumes)
    return virials.reshape(-1, 9)[:, VOIGT] / xp.where(volumes > 0, volumes, xp.nan)[:, None]


def _float64(x):
    """The array as the kernels want it: float64, contiguous."""
    return namespace(x).ascontiguousarray(x, np.float64)


def _each_atom(kernel, pairs, dtype, arrays, **strided):
    """Run a kernel over all atoms, where the pairs are; the CUDA twin asks for the row strides of some arrays."""
    n = pairs.n_atoms
    if cuda.active_for(pairs.j):
        name = f"{kernel.__name__}<{cuda.scalar_name(dtype, False)}>"
        strides = {f"{array}_stride": cuda.row_stride(x) for array, x in strided.items()}
        cuda.launch(FILE, name, n, WARPS, 32 * WARPS, arrays, n_atoms=n, **strides)
    else:
        for_chunks(kernel, n, ATOMS, after=arrays)


# Indices are unsigned: for signed ones Numba asks at each whether it counts from the end, and nothing is vectorised.
# Vectors of a pair and its mirror stay opposite to the last bit: their terms may be fused but not reordered.


@contracting_kernel
def geometry_pair_vectors(first, last, row, j, shift, frame, positions, cells, rij):
    """Equation (1) for the rows first .. last."""
    for i in range(first, last):
        x, y, z = positions[i, 0], positions[i, 1], positions[i, 2]
        h = cells[frame[i]]
        for p in range(np.uint64(row[i]), np.uint64(row[i + 1])):
            n = np.uint32(j[p])
            s, t, u = np.float64(shift[p, 0]), np.float64(shift[p, 1]), np.float64(shift[p, 2])
            rij[0, p] = positions[n, 0] - x + (s * h[0, 0] + t * h[1, 0] + u * h[2, 0])
            rij[1, p] = positions[n, 1] - y + (s * h[0, 1] + t * h[1, 1] + u * h[2, 1])
            rij[2, p] = positions[n, 2] - z + (s * h[0, 2] + t * h[1, 2] + u * h[2, 2])


@contracting_kernel
def geometry_pair_tangents(first, last, row, j, frame, rho, strain, rij, trij):
    """Equation (2) for the rows first .. last."""
    for i in range(first, last):
        e = strain[frame[i]]
        for p in range(np.uint64(row[i]), np.uint64(row[i + 1])):
            n = np.uint32(j[p])
            x, y, z = rij[0, p], rij[1, p], rij[2, p]
            for c in range(3):
                trij[c, p] = rho[n, c] - rho[i, c] + (x * e[0, c] + y * e[1, c] + z * e[2, c])


@reordering_kernel
def geometry_forces(first, last, row, mirror, drij, out):
    """Equation (3) for the rows first .. last; sums in float64."""
    for i in range(first, last):
        x = y = z = 0.0
        for p in range(np.uint64(row[i]), np.uint64(row[i + 1])):
            m = np.uint32(mirror[p])
            x += np.float64(drij[0, p]) - np.float64(drij[0, m])
            y += np.float64(drij[1, p]) - np.float64(drij[1, m])
            z += np.float64(drij[2, p]) - np.float64(drij[2, m])
        out[i, 0] = x
        out[i, 1] = y
        out[i, 2] = z


@reordering_kernel
def geometry_virials(first, last, row, rij, drij, out):
    """Equation (4) for the rows first .. last: the whole of every atom's matrix, float64 (9, n_atoms)."""
    for i in range(first, last):
        xx = yy = zz = yz = xz = xy = 0.0
        for p in range(np.uint64(row[i]), np.uint64(row[i + 1])):
            x, y, z = np.float64(rij[0, p]), np.float64(rij[1, p]), np.float64(rij[2, p])
            u, v, w = np.float64(drij[0, p]), np.float64(drij[1, p]), np.float64(drij[2, p])
            xx += x * u
            yy += y * v
            zz += z * w
            yz += y * w + z * v
            xz += x * w + z * u
            xy += x * v + y * u
        yz, xz, xy = 0.5 * yz, 0.5 * xz, 0.5 * xy
        out[0, i], out[1, i], out[2, i] = xx, xy, xz
        out[3, i], out[4, i], out[5, i] = xy, yy, yz
        out[6, i], out[7, i], out[8, i] = xz, yz, zz


@kernel
def geometry_sum_frames(per_atom, first, out):
    """Sum per_atom (n_components, n_atoms) over the atoms of each frame, in order; out (n_frames, n_components)."""
    for f in range(len(first) - 1):
        for c in range(per_atom.shape[0]):
            total = 0.0
            for a in range(first[f], first[f + 1]):
                total += per_atom[c, a]
            out[f, c] = total


@kernel
def fill_stress(virials, volumes, out):
    """Virials (n_frames, 3, 3) by volumes, in Voigt's order; NaN without a volume."""
    for f in range(len(virials)):
        v = volumes[f] if volumes[f] > 0 else np.nan
        w = virials[f]
        out[f, 0], out[f, 1], out[f, 2] = w[0, 0] / v, w[1, 1] / v, w[2, 2] / v
        out[f, 3], out[f, 4], out[f, 5] = w[1, 2] / v, w[0, 2] / v, w[0, 1] / v
