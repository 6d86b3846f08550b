"""Embedded density: parameters of the elements, plain or dual, as the kernels take them."""

from fastdesc.backend.arrays import namespace

EXPONENTS = "exponents"
"""The parameter where exponents may have any sign; else a further name of prepared parameters, see
EmbeddedDensity.prepared."""


def radial_parameters(theta, rij):
    """Return exponents, centres and coefficients, with tangents where pairs have them.

    theta["alpha"] holds logarithms of exponents, theta["exponents"] these themselves.
    """
    alpha = theta[EXPONENTS] if EXPONENTS in theta else exponents(theta["alpha"])
    return tuple(_dual_like(x, rij) for x in (alpha, theta["r_s"], theta["coefficients"]))


def exponents_pullback(kind, sums, alpha):
    """Return cotangents by the parameter's name: `sums` belong to exponents `alpha`, which are "positive" or "any"."""
    return {EXPONENTS: sums} if kind == "any" else {"alpha": product(sums, alpha)}


def exponents(alpha):
    """e^alpha of plain or dual logarithms."""
    xp = namespace(alpha)
    if alpha.ndim == 2:
        return xp.exp(alpha)
    value = xp.exp(alpha[0])
    return xp.stack([value, value * alpha[1]])


def _dual_like(x, rij):
    """Give plain (n_species, n_radial) a tangent of zero where `rij` is dual."""
    if rij.ndim == 2 or x.ndim == 3:
        return x
    xp = namespace(x)
    return xp.stack([x, xp.zeros_like(x)])


def product(x, y):
    """Product of plain or dual arrays (.., n_species, n_radial)."""
    if x.ndim == 2:
        return x * y
    xp = namespace(x)
    return xp.stack([x[0] * y[0], x[0] * y[1] + x[1] * y[0]])
