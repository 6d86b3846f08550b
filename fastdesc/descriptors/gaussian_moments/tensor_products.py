"""Products of symmetric tensors of one atom, and their pullbacks: what contractions of Gaussian moments are made of.

Tensors are tuples of their unique entries, xx xy xz yy yz zz and so on; an entry that stands for several carries their
number as weight, where a full contraction asks for it. Derivatives with respect to unique entries are weighted.

Functions here are expressions on tuples alone: kernels/generated/generate.py writes their CUDA twins from this text.
"""

from fastdesc.backend.jit import inner
from fastdesc.simd.tuples import dot


@inner
def weighted6(a):
    """The entries of a matrix, each times how many it stands for."""
    return (a[0], a[1] + a[1], a[2] + a[2], a[3], a[4] + a[4], a[5])


@inner
def weighted10(a):
    """The entries of a rank-3 tensor, each times how many it stands for."""
    return (
        a[0], a[1] * 3.0, a[2] * 3.0, a[3] * 3.0, a[4] * 6.0, a[5] * 3.0, a[6], a[7] * 3.0, a[8] * 3.0, a[9],
    )  # fmt: skip


@inner
def slice_x(a):
    """The symmetric matrix a_ijx of a rank-3 tensor."""
    return (a[0], a[1], a[2], a[3], a[4], a[5])


@inner
def slice_y(a):
    """The symmetric matrix a_ijy of a rank-3 tensor."""
    return (a[1], a[3], a[4], a[6], a[7], a[8])


@inner
def slice_z(a):
    """The symmetric matrix a_ijz of a rank-3 tensor."""
    return (a[2], a[4], a[5], a[7], a[8], a[9])


@inner
def unslice(x, y, z):
    """Adjoint of the three slices."""
    return (
        x[0], x[1] + y[0], x[2] + z[0], x[3] + y[1], x[4] + y[2] + z[1], x[5] + z[2], y[3], y[4] + z[3],
        y[5] + z[4], z[5],
    )  # fmt: skip


@inner
def vectors_product(a, b):
    """Weighted symmetric part of a_k b_l (contraction 6)."""
    return (
        a[0] * b[0], a[0] * b[1] + a[1] * b[0], a[0] * b[2] + a[2] * b[0],
        a[1] * b[1], a[1] * b[2] + a[2] * b[1], a[2] * b[2],
    )  # fmt: skip


@inner
def vectors_product_pullback(d, b):
    """Cotangent of `a` in vectors_product(a, b); it is symmetric, so also of b, given a."""
    return (
        d[0] * b[0] + d[1] * b[1] + d[2] * b[2],
        d[1] * b[0] + d[3] * b[1] + d[4] * b[2],
        d[2] * b[0] + d[4] * b[1] + d[5] * b[2],
    )


@inner
def matrices_product(a, b):
    """Weighted symmetric part of a_jk b_jl (contraction 5)."""
    return (
        a[0] * b[0] + a[1] * b[1] + a[2] * b[2],
        a[0] * b[1] + a[1] * b[3] + a[2] * b[4] + b[0] * a[1] + b[1] * a[3] + b[2] * a[4],
        a[0] * b[2] + a[1] * b[4] + a[2] * b[5] + b[0] * a[2] + b[1] * a[4] + b[2] * a[5],
        a[1] * b[1] + a[3] * b[3] + a[4] * b[4],
        a[1] * b[2] + a[3] * b[4] + a[4] * b[5] + b[1] * a[2] + b[3] * a[4] + b[4] * a[5],
        a[2] * b[2] + a[4] * b[4] + a[5] * b[5],
    )


@inner
def matrices_product_pullback(d, b):
    """Cotangent of `a` in matrices_product(a, b); it is symmetric, so also of b, given a."""
    return (
        d[0] * b[0] + d[1] * b[1] + d[2] * b[2],
        (d[0] + d[3]) * b[1] + d[1] * (b[0] + b[3]) + d[2] * b[4] + d[4] * b[2],
        (d[0] + d[5]) * b[2] + d[1] * b[4] + d[2] * (b[0] + b[5]) + d[4] * b[1],
        d[3] * b[3] + d[1] * b[1] + d[4] * b[4],
        (d[3] + d[5]) * b[4] + d[1] * b[2] + d[2] * b[1] + d[4] * (b[3] + b[5]),
        d[5] * b[5] + d[2] * b[2] + d[4] * b[4],
    )


@inner
def tensors_product(a, b):
    """Weighted symmetric part of a_ijk b_ijl (contraction 7)."""
    ax, ay, az = slice_x(a), slice_y(a), slice_z(a)
    bx, by, bz = weighted6(slice_x(b)), weighted6(slice_y(b)), weighted6(slice_z(b))
    return (
        dot(ax, bx), dot(ax, by) + dot(ay, bx), dot(ax, bz) + dot(az, bx),
        dot(ay, by), dot(ay, bz) + dot(az, by), dot(az, bz),
    )  # fmt: skip


@inner
def combine3(p, x, q, y, r, z):
    """The matrix p x + q y + r z."""
    return (
        p * x[0] + q * y[0] + r * z[0], p * x[1] + q * y[1] + r * z[1], p * x[2] + q * y[2] + r * z[2],
        p * x[3] + q * y[3] + r * z[3], p * x[4] + q * y[4] + r * z[4], p * x[5] + q * y[5] + r * z[5],
    )  # fmt: skip


@inner
def scaled6(p, x):
    """The matrix p x."""
    return (p * x[0], p * x[1], p * x[2], p * x[3], p * x[4], p * x[5])


@inner
def tensors_product_pullback(d, b):
    """Cotangent of `a` in tensors_product(a, b); it is symmetric, so also of b, given a."""
    bx, by, bz = weighted6(slice_x(b)), weighted6(slice_y(b)), weighted6(slice_z(b))
    return unslice(
        combine3(d[0], bx, d[1], by, d[2], bz),
        combine3(d[1], bx, d[3], by, d[4], bz),
        combine3(d[2], bx, d[4], by, d[5], bz),
    )


@inner
def tensor_matrix_product(a, b):
    """Vector a_ijk b_ij (contraction 8)."""
    w = weighted6(b)
    return (dot(slice_x(a), w), dot(slice_y(a), w), dot(slice_z(a), w))


@inner
def tensor_matrix_pullback_tensor(d, b):
    """Cotangent of the tensor `a` in tensor_matrix_product(a, b)."""
    w = weighted6(b)
    return unslice(scaled6(d[0], w), scaled6(d[1], w), scaled6(d[2], w))


@inner
def tensor_matrix_pullback_matrix(d, a):
    """Cotangent of the matrix `b` in tensor_matrix_product(a, b)."""
    return weighted6(combine3(d[0], slice_x(a), d[1], slice_y(a), d[2], slice_z(a)))
