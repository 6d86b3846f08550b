"""Gaussian moments, radial coefficients of pairs of elements: a table, or products of what belongs to one element.

`beta`, one number for each centre's element Z, neighbour's element Z', channel s and basis function b, is trained as it
is (species mixing "pairs"), or made of embeddings of the elements ("factorised"),

    beta_{Z,Z',s,b} = sum_k centre_{Z,k} neighbour_{Z',k} radial_{k,s,b},     k = 1..n_embedding           (1)

which has 2 n_elements + n_radial n_basis numbers for each k: linear in the number of elements, not quadratic. With
centre_{Z,k} = 1 it is the mixing of elements by Willatt, Musil, Ceriotti, Phys. Chem. Chem. Phys. 20, 29661 (2018); a
sum of products of factors is the tensor decomposition of Darby et al., Phys. Rev. Lett. 131, 028001 (2023).

(1) is made once for all atoms, and the kernels over pairs take the table. Its cotangents come back the same way: with
dual numbers in all places, (1) gives tangents, and the formulas below cotangents of both planes,

    t_{Z,Z',k} = sum_sb dbeta_{Z,Z',s,b} radial_{k,s,b},     dcentre = sum_Z' t neighbour,
    dneighbour = sum_Z t centre,     dradial_{k,s,b} = sum_ZZ' centre neighbour dbeta                         (2)
"""

import numpy as np

from fastdesc.backend.arrays import namespace
from fastdesc.backend.threads import single_threaded_blas
from fastdesc.networks.duals import matrix_product, planes, stacked

MIXINGS = ("pairs", "factorised")
EMBEDDING = 8
"""Numbers that describe an element, where nothing else is said."""
BETA = "beta"
"""The parameter of "pairs"; of "factorised" a further name of prepared parameters."""
NAMES = ("centre", "neighbour", "radial")


def initial(mixing, n_species, n_embedding, n_radial, n_basis, rng):
    """Return the parameters: entries of the table uniform in (-1, 1), or factors uniform about zero.

    The mean square of (1) is then that of the table, 1/3, and all three factors are of one size.
    """
    if mixing == "pairs":
        return {BETA: rng.uniform(-1, 1, (n_species, n_species, n_radial, n_basis))}
    a = 3**0.5 * (3 * n_embedding) ** (-1 / 6)
    shapes = (n_species, n_embedding), (n_species, n_embedding), (n_embedding, n_radial, n_basis)
    return {name: rng.uniform(-a, a, shape) for name, shape in zip(NAMES, shapes, strict=True)}


def table(theta):
    """Formula (1): beta ((2,) n_species, n_species, n_radial, n_basis) of parameters, plain or dual.

    A sum in the order of k, so that an entry does not depend on which other elements there are.
    """
    if BETA in theta:
        return theta[BETA]
    centre, neighbour, radial = _factors(theta)
    total = 0.0
    for k in range(radial.v.shape[0]):
        both = _entry(centre, k).map(lambda x: x[:, None]) * _entry(neighbour, k).map(lambda x: x[None])
        part = both.map(lambda x: x[..., None, None]) * radial.map(lambda x, k=k: x[k])
        total = part + total
    return stacked(total, centre)


def coefficients(theta, rij):
    """Coefficients of all pairs of elements, plain or dual; tangents are zero where only the pairs have some."""
    beta = table(theta)
    if rij.ndim == 2 or beta.ndim == 5:
        return beta
    xp = namespace(beta)
    return xp.stack([beta, xp.zeros_like(beta)])


def factors_pullback(theta, dbeta):
    """Formula (2): cotangents of the factors, float64, from those of the table.

    Parameters
    ----------
    theta : dict
        Plain, or dual: arrays with a leading axis of two.
    dbeta : float64 array ((2,) n_species, n_species, n_radial, n_basis)
    """
    centre, neighbour, radial = (x.map(lambda a: a.astype(np.float64)) for x in _factors(theta))
    d = planes(dbeta, 4)
    n, (n_embedding, *channels) = len(centre.v), radial.v.shape
    flat = d.map(lambda x: x.reshape(n * n, -1))
    if namespace(dbeta) is np:
        with single_threaded_blas():
            return _factors_pullback(centre, neighbour, radial, d, flat, n, n_embedding, channels)
    return _factors_pullback(centre, neighbour, radial, d, flat, n, n_embedding, channels)


def _factors_pullback(centre, neighbour, radial, d, flat, n, n_embedding, channels):
    def product(a, b):
        return a @ b

    w = radial.map(lambda x: x.reshape(n_embedding, -1).T)
    t = matrix_product(flat, w, product).map(lambda x: x.reshape(n, n, n_embedding))
    here, there = centre.map(lambda x: x[:, None]), neighbour.map(lambda x: x[None])
    both = (here * there).map(lambda x: x.reshape(n * n, n_embedding).T)
    found = (
        (t * there).map(lambda x: x.sum(axis=1)),
        (t * here).map(lambda x: x.sum(axis=0)),
        matrix_product(both, flat, product).map(lambda x: x.reshape(n_embedding, *channels)),
    )
    return {name: stacked(x, d) for name, x in zip(NAMES, found, strict=True)}


def _factors(theta):
    return [planes(theta[name], 3 if name == "radial" else 2) for name in NAMES]


def _entry(factor, k):
    return factor.map(lambda x: x[:, k])
