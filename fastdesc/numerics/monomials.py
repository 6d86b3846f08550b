"""Cartesian monomials of degree 0 to 3 on SIMD values, and their pullback.

Order: 1 | x y z | xx xy xz yy yz zz | xxx xxy xxz xyy xyz xzz yyy yyz yzz zzz. Those of degree 0-2 and those of degree
3 are ten each: what fits in the registers of a processor beside what is done with them.
"""

from fastdesc.backend.jit import inner
from fastdesc.simd import splat

TEN = 10


@inner
def monomials_0_to_2(kind, x, y, z):
    return (splat(kind, 1.0), x, y, z, x * x, x * y, x * z, y * y, y * z, z * z)


@inner
def monomials_3(x, y, z):
    xx, yy, zz = x * x, y * y, z * z
    return (xx * x, xx * y, xx * z, yy * x, x * y * z, zz * x, yy * y, yy * z, zz * y, zz * z)


@inner
def pull_0_to_2(f, x, y, z):
    """Sum_c f_c dm_c/dr for the first ten monomials."""
    x2, y2, z2 = x + x, y + y, z + z
    wx = f[1] + x2 * f[4] + y * f[5] + z * f[6]
    wy = f[2] + x * f[5] + y2 * f[7] + z * f[8]
    wz = f[3] + x * f[6] + y * f[8] + z2 * f[9]
    return wx, wy, wz


@inner
def pull_3(f, x, y, z):
    """Sum_c f_c dm_c/dr for the ten monomials of degree 3."""
    xx, yy, zz = x * x, y * y, z * z
    xy, xz, yz = x * y, x * z, y * z
    wx = xx * f[0] * 3.0 + (xy * f[1] + xz * f[2]) * 2.0 + yy * f[3] + yz * f[4] + zz * f[5]
    wy = yy * f[6] * 3.0 + (xy * f[3] + yz * f[7]) * 2.0 + xx * f[1] + xz * f[4] + zz * f[8]
    wz = zz * f[9] * 3.0 + (xz * f[5] + yz * f[8]) * 2.0 + xx * f[2] + xy * f[4] + yy * f[7]
    return wx, wy, wz
