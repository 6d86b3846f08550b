"""What the battery runs on: a variant on a structure, random directions, derivatives of the textbook."""

import zlib
from functools import lru_cache

import numpy as np
from families import complex_step, difference
from structures_zoo import ELEMENTS, ZOO

from fastdesc import Pairs, Structures
from fastdesc.geometry import pair_vectors

TOGETHER = "all_together"


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
        self.family, self.variant = family, variant
        self.settings = family.variants[variant].keywords
        self.descriptor = descriptor_of(family, variant)
        self.frames = frames_of(structure)
        self.structures = Structures.from_ase(self.frames)
        self.species = self.structures.species(self.descriptor.species_numbers)
        self.theta = {name: np.array(x, float) for name, x in self.descriptor.parameters.items()}
        self.pairs = Pairs.find(self.structures, self.descriptor.cutoff)
        self.rij = pair_vectors(self.structures.positions, self.structures.cells, self.pairs, np.float64)
        d = np.sqrt((self.rij**2).sum(0))
        assert not ((d > self.descriptor.cutoff - 0.02) & (d < self.descriptor.cutoff)).any(), "too near the cutoff"

    @property
    def rng(self):
        return np.random.default_rng(7)

    @property
    def shape(self):
        """(n_features, n_atoms)"""
        return self.descriptor.n_features, self.structures.n_atoms

    def direction(self, rng):
        """Return a random tangent of the pair vectors and one of the parameters."""
        return rng.normal(size=self.rij.shape), {k: rng.normal(size=x.shape) for k, x in self.theta.items()}

    def textbook(self, rij=None, theta=None):
        """Return q (n_features, n_atoms) of the reference."""
        rij = self.rij if rij is None else rij
        theta = self.theta if theta is None else theta
        q = self.family.reference.features(rij.T, self.pairs.i, self.pairs.j, self.species, theta, **self.settings)
        return q.T

    def moved(self, step, tangent, start=None):
        """Return rij and theta moved along (trij, ttheta); ttheta None leaves theta."""
        rij, theta = (self.rij, self.theta) if start is None else start
        trij, ttheta = tangent
        if ttheta is not None:
            theta = {k: x + step * ttheta[k] for k, x in theta.items()}
        return rij + step * trij, theta

    def slope(self, tangent, start=None):
        """Return dq along a tangent, by complex step through the textbook."""
        return complex_step(lambda step: self.textbook(*self.moved(step, tangent, start)))

    def curvature(self, one, two):
        """Return the mixed second derivative of q: a complex step inside a difference of eighth order."""
        return difference(lambda step: self.slope(two, self.moved(step, one)))


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
