"""Embedded density: the orbitals of one neighbour, on SIMD values.

    f_c(r) = [(1 + cos(pi r / r_c)) / 2]^2                                                             (1)
    R_k(r; Z) = exp(-alpha_{Z,k} (r - r_s{Z,k})^2)                                                     (2)
    phi_kc(r) = f_c(r) R_k(r; Z) m_c(r)                                                                (3)

with Z the element of the neighbour and m_c the monomials 1 | x y z | xx xy xz yy yz zz | xxx xxy xxz xyy xyz xzz yyy
yyz yzz zzz of the pair vector, or of its direction if `normalized`. f_c has three continuous derivatives at r_c.
Monomials of degree 0-2 and those of degree 3 are ten each; the two tens take turns in the registers.
"""

import math

from fastdesc.backend.jit import inner
from fastdesc.numerics.monomials import TEN
from fastdesc.simd import lanes, load, store
from fastdesc.simd.functions import at_most, below, exp, sincos, sqrt

ROW = 2 * TEN  # slots kept per radial function
CONSTANTS = 3  # per element and radial function: alpha, r_s, coefficient
GEOMETRY = 4  # slots kept per neighbour: x y z of the monomials, and 1/r


@inner
def constants_in_lanes(kind, alpha, r_s, coefficients, constants):
    """Every element's alpha, r_s and coefficients (planes, n_species, n_radial) in all lanes of scratch memory."""
    planes, n_species, n_radial = alpha.shape
    width, at = lanes(kind), 0
    for z in range(n_species):
        for array in (alpha, r_s, coefficients):
            for k in range(n_radial):
                for plane in range(planes):
                    constants[at : at + width] = array[plane, z, k]
                    at += width


@inner
def orbital_geometry(kind, vectors, slot, normalized, cutoff):
    """(x, y, z, 1/r), r, f_c and f_c' of one slot; x, y, z are what the monomials are made of. r is at most r_c."""
    x, y, z = load(kind, vectors, 3 * slot), load(kind, vectors, 3 * slot + 1), load(kind, vectors, 3 * slot + 2)
    d = sqrt(x * x + y * y + z * z)
    inverse = 1.0 / d
    wave = math.pi / cutoff
    s, c = sincos(d * wave)
    half = (c + 1.0) * 0.5
    fc = below(d, cutoff, half * half)
    dfc = below(d, cutoff, s * half * (-wave))
    d = at_most(d, cutoff)    # beyond it Gaussians that grow would overflow, and zero times infinity is not zero
    if normalized:
        x, y, z = x * inverse, y * inverse, z * inverse
    return (x, y, z, inverse), d, fc, dfc


@inner
def radial_values(kind, d, fc, constants, z, n_radial, values, at):
    """f_c R_k for all k, to `values` from slot `at`."""
    here = z * CONSTANTS * n_radial
    for k in range(n_radial):
        x = d - load(kind, constants, here + n_radial + k)
        store(values, at + k, fc * exp(x * x * (0.0 - load(kind, constants, here + k))))


@inner
def radial_values_and_slopes(kind, d, fc, dfc, constants, z, n_radial, values, slopes):
    """f_c R_k and its derivative for all k."""
    here = z * CONSTANTS * n_radial
    for k in range(n_radial):
        x = d - load(kind, constants, here + n_radial + k)
        ax = x * load(kind, constants, here + k)
        e = exp(0.0 - ax * x)
        store(values, k, fc * e)
        store(slopes, k, (dfc - (ax + ax) * fc) * e)
