"""Cartesian monomials of degree 0 to 3, and their pullback.

Order: 1 | x y z | xx xy xz yy yz zz | xxx xxy xxz xyy xyz xzz yyy yyz yzz zzz. Those of degree 0-2 and those of degree
3 are ten each: what fits in the registers of a processor beside what is done with them.

Functions of one degree are expressions on tuples alone: kernels/generated/generate.py writes their CUDA twins from this
text.
"""

from fastdesc.backend.jit import inner
from fastdesc.simd import splat

TEN = 10


@inner
def monomials_2(x, y, z):
    """The six monomials of degree 2."""
    return (x * x, x * y, x * z, y * y, y * z, z * z)


@inner
def monomials_3(x, y, z):
    """The ten monomials of degree 3."""
    xx, yy, zz = x * x, y * y, z * z
    return (xx * x, xx * y, xx * z, yy * x, x * y * z, zz * x, yy * y, yy * z, zz * y, zz * z)


@inner
def pull_2(f, x, y, z):
    """Sum_c f_c dm_c/dr for the six monomials of degree 2."""
    x2, y2, z2 = x + x, y + y, z + z
    return (
        x2 * f[0] + y * f[1] + z * f[2],
        x * f[1] + y2 * f[3] + z * f[4],
        x * f[2] + y * f[4] + z2 * f[5],
    )  # fmt: skip


@inner
def pull_3(f, x, y, z):
    """Sum_c f_c dm_c/dr for the ten monomials of degree 3."""
    xx, yy, zz = x * x, y * y, z * z
    xy, xz, yz = x * y, x * z, y * z
    return (
        xx * f[0] * 3.0 + (xy * f[1] + xz * f[2]) * 2.0 + yy * f[3] + yz * f[4] + zz * f[5],
        yy * f[6] * 3.0 + (xy * f[3] + yz * f[7]) * 2.0 + xx * f[1] + xz * f[4] + zz * f[8],
        zz * f[9] * 3.0 + (xz * f[5] + yz * f[8]) * 2.0 + xx * f[2] + xy * f[4] + yy * f[7],
    )


@inner
def monomials_0_to_2(kind, x, y, z):
    """The ten monomials of degrees 0 to 2."""
    m = monomials_2(x, y, z)
    return (splat(kind, 1.0), x, y, z, m[0], m[1], m[2], m[3], m[4], m[5])


@inner
def pull_0_to_2(f, x, y, z):
    """Sum_c f_c dm_c/dr for the first ten monomials."""
    wx, wy, wz = pull_2((f[4], f[5], f[6], f[7], f[8], f[9]), x, y, z)
    return f[1] + wx, f[2] + wy, f[3] + wz
