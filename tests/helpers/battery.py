"""What the battery runs on: a variant on a structure, random directions, derivatives of the textbook."""

import zlib
from functools import lru_cache

import numpy as np
from helpers.structures import ELEMENTS, ZOO

from fastdesc import Pairs, Structures
from fastdesc.geometry import pair_vectors

TOGETHER = "all_together"

# Mixed second derivatives lose eps/step^2 to cancellation: in extended precision a small step and few points will do.
EXTENDED = np.finfo(np.longdouble).eps < 1e-18
STEP, POINTS = (5e-4, 3) if EXTENDED else (1e-2, 5)


def complex_step(function):
    """Return df/dx at 0, exact to round-off, of an analytic function."""
    return np.imag(function(1e-30j)) / 1e-30


def mixed_derivative(function):
    """Return d2f/dxdy at (0, 0) to some 1e-11 of its size.

    Steps are imaginary, so that real parts, which select the pieces of a spline, stay where they are:
    Re f(ih, -ih) - Re f(ih, ih) = 2 h^2 d2f/dxdy + O(h^4), and the even powers are extrapolated away.
    """
    i = np.clongdouble(1j)
    squares = np.arange(1, POINTS + 1) ** 2.0
    total = 0
    for k, square in enumerate(squares):
        others = np.delete(squares, k)
        h = (k + 1) * STEP
        change = np.real(function(i * h, -i * h) - function(i * h, i * h))
        total = total + np.prod(others / (others - square)) * change / (2 * h * h)
    return total.astype(float)


def frames_of(structure):
    """Return the list of Atoms of a name: one of the zoo, or the whole zoo."""
    return [make() for make in ZOO.values()] if structure == TOGETHER else [ZOO[structure]()]


@lru_cache
def descriptor_of(family, variant):
    """Return a descriptor that knows every element of the zoo, with random parameters."""
    descriptor = family.make(variant, ELEMENTS)
    rng = np.random.default_rng(zlib.crc32(f"{family.name} {variant}".encode()))
    descriptor.set_parameters(**family.randomised(dict(descriptor.parameters), rng))
    return descriptor


class Case:
    """A descriptor on a structure, float64, on the host; `rng` is fresh and the same for every test."""

    def __init__(self, family, variant, structure):
        self.family, self.variant, self.structure = family, variant, structure
        self.settings = family.variants[variant].keywords
        self.descriptor = descriptor_of(family, variant)
        self.frames = frames_of(structure)
        self.structures = Structures.from_ase(self.frames)
        self.species = self.structures.species(self.descriptor.species_numbers)
        self.theta = {name: np.array(x, float) for name, x in self.descriptor.parameters.items()}
        self.pairs = Pairs.find(self.structures, self.descriptor.cutoff)
        self.rij = pair_vectors(self.structures.positions, self.structures.cells, self.pairs, np.float64)
        d = np.sqrt((self.rij**2).sum(0))
        assert (abs(d - self.descriptor.cutoff) > 1e-3).all(), "a pair is too near the cutoff for second derivatives"

    @property
    def rng(self):
        return np.random.default_rng(7)

    @property
    def shape(self):
        """(n_features, n_atoms)"""
        return self.descriptor.n_features, self.structures.n_atoms

    def direction(self, rng):
        """Return a random tangent of the pair vectors and one of the parameters."""
        trij = rng.uniform(-1, 1, self.rij.shape)
        if self.family.variants[self.variant].sees_other_rows:
            trij = trij - trij[:, self.pairs.mirror]
        return trij, {k: rng.uniform(-1, 1, x.shape) for k, x in self.theta.items()}

    def textbook(self, rij=None, theta=None):
        """Return q (n_features, n_atoms) of the reference."""
        rij = self.rij if rij is None else rij
        theta = self.theta if theta is None else theta
        q = self.family.reference.features(rij.T, self.pairs.i, self.pairs.j, self.species, theta, **self.settings)
        return q.T

    def moved(self, *steps):
        """Return rij and theta moved by (step, (trij, ttheta)) each; ttheta None leaves theta."""
        rij, theta = self.rij, self.theta
        for step, (trij, ttheta) in steps:
            rij = rij + step * trij
            if ttheta is not None:
                theta = {k: x + step * ttheta[k] for k, x in theta.items()}
        return rij, theta

    def slope(self, tangent):
        """Return dq along a tangent."""
        return complex_step(lambda h: self.textbook(*self.moved((h, tangent))))

    def curvature(self, one, two):
        """Return the second derivative of q along two tangents."""
        return mixed_derivative(lambda x, y: self.textbook(*self.moved((x, one), (y, two))))


case = lru_cache(maxsize=None)(Case)


def dual(value, tangent):
    """Stack value and tangent on a new leading axis; dictionaries entry by entry."""
    if isinstance(value, dict):
        return {k: dual(value[k], tangent[k]) for k in value}
    return np.stack([value, tangent])


def inner(a, b):
    """Inner product of two arrays or of two dictionaries of arrays."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        return sum(inner(a[k], b[k]) for k in a)
    assert a.shape == b.shape
    return (a * b).sum()


def close(got, wanted, tolerance):
    """Assert agreement to `tolerance` times the largest number there is (1 at least)."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    assert got.shape == wanted.shape
    scale = max(1.0, abs(wanted).max(initial=0))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * scale)
