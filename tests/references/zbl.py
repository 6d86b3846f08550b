"""The universal repulsion of Ziegler, Biersack and Littmark, joined as LAMMPS joins it; complex-safe."""

import numpy as np

COULOMB = 14.399645


def plain(z1, z2, d):
    """Without the join, eV."""
    a = 0.46850 / (z1**0.23 + z2**0.23)
    x = d / a
    f = 0.18175 * np.exp(-3.19980 * x) + 0.50986 * np.exp(-0.94229 * x)
    f = f + 0.28022 * np.exp(-0.40290 * x) + 0.02817 * np.exp(-0.20162 * x)
    return COULOMB * z1 * z2 / d * f


def joined(z1, z2, inner, outer, d):
    """phi of one pair; zero from `outer` on. Derivatives at `outer` are taken along the imaginary axis, and again."""
    if np.real(d) >= outer:
        return 0.0 * d
    h = 1e-30
    first = plain(z1, z2, outer + 1j * h).imag / h

    def slope(x):
        return plain(z1, z2, x + 1j * h).imag / h

    step = 1e-4
    second = (8 * (slope(outer + step) - slope(outer - step)) - (slope(outer + 2 * step) - slope(outer - 2 * step)))
    second = second / (12 * step)
    w = outer - inner
    a = (-3 * first + w * second) / w**2
    b = (2 * first - w * second) / w**3
    c = -plain(z1, z2, outer) + w * first / 2 - w**2 * second / 12
    s = c
    if np.real(d) > inner:
        s = s + a / 3 * (d - inner) ** 3 + b / 4 * (d - inner) ** 4
    return plain(z1, z2, d) + s


def energy(numbers, positions, cell, images, radii, cutoff, joined_from=0.5):
    """Energy of atoms in a cell: all pairs with images -images .. images; positions and cell may be complex."""
    total = 0.0
    n = len(numbers)
    shifts = np.array(np.meshgrid(*[range(-m, m + 1) for m in images], indexing="ij")).reshape(3, -1).T
    for i in range(n):
        for j in range(n):
            for s in shifts:
                if i == j and not s.any():
                    continue
                r = positions[j] - positions[i] + s @ cell
                d = np.sqrt((r * r).sum())
                outer = min(radii[i] + radii[j], cutoff)
                total = total + 0.5 * joined(numbers[i], numbers[j], joined_from * outer, outer, d)
    return total
