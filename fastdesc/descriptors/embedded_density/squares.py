"""Embedded density, the contraction as the recursion takes it: from densities to features, and back.

Kernels are those of contraction.py and contraction_pullback.py; fastdesc/descriptors/recursion/atoms.py calls these
methods for blocks of atoms.
"""

from fastdesc.backend.arrays import namespace
from fastdesc.descriptors.embedded_density.contraction import blocked
from fastdesc.descriptors.embedded_density.contraction_pullback import gram_products, hyper_pullback
from fastdesc.descriptors.recursion.atoms import nothing, rows_like


class Hyper:
    """Features that mix radial functions by `hyper` before they are squared.

    Parameters
    ----------
    kernels : Kernels
        Of the backend, see fastdesc/descriptors/embedded_density/cpu.py.
    hyper : array ((2,) l_max+1, n_radial, n_features)
    filled : array, optional
        What `blocked` makes of it, where that is known.
    """

    def __init__(self, kernels, hyper, filled=None):
        self.kernels, self.hyper = kernels, hyper
        self.blocked = blocked(hyper) if filled is None else namespace(hyper).ascontiguousarray(filled)

    def features(self, density):
        """Return q ((2,) n_features, n_atoms) of densities ((2,) n_radial, n_moments, n_atoms)."""
        q = rows_like(density, self.hyper.shape[-1])
        self.kernels.ed_contract(self.blocked, density, q)
        return q

    def pullback(self, density, dq, ddensity):
        """Write ddensity, shaped as densities."""
        self.kernels.ed_contract_pullback(self.blocked, density, dq, ddensity)

    def products(self, density, dq):
        """Return what `parameters` takes the sum of, over atoms and iterations."""
        n_l, n_radial = self.hyper.shape[-3:-1]
        gram = rows_like(density, n_l * n_radial * (n_radial + 1) // 2)
        self.kernels.ed_gram(density, gram)
        return gram_products(gram, dq)

    def cotangent(self, total):
        """Return the cotangent of `hyper` from the sum of products."""
        return hyper_pullback(self.hyper, total)


class Squares:
    """Features that are squares of each radial function by itself: methods as those of Hyper, and no parameters."""

    def __init__(self, kernels, n_features):
        self.kernels, self.n_features = kernels, n_features

    def features(self, density):
        q = rows_like(density, self.n_features)
        self.kernels.ed_squares(density, q)
        return q

    def pullback(self, density, dq, ddensity):
        self.kernels.ed_squares_pullback(density, dq, ddensity)

    def products(self, density, dq):
        return nothing(density, dq)
