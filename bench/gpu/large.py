"""Gaussian moments as a large system, whatever the size: one way or the other of evaluating a periodic cell."""

from contextlib import contextmanager

import fastdesc as fd
from bench.gpu import crystal
from bench.harness import models
from fastdesc.potential import large_system

WAYS = {"a thread an atom": 1, "a warp an atom": 1 << 62}
"""Atoms from which on a cell is evaluated as a large system, so that everything goes one way."""
KERNELS = "gm_large_moments|gm_large_network|gm_large_gradients|gm_large_forces|gm_large_search|gm_large_mirrors"
"""What the profiler looks at."""


@contextmanager
def going(way):
    """Context in which Gaussian moments in float32 are evaluated one way, whatever the size."""
    least, large_system.LEAST_ATOMS = large_system.LEAST_ATOMS, WAYS[way]
    try:
        yield
    finally:
        large_system.LEAST_ATOMS = least


class Copper:
    """Copper of so many cubic cells along each edge, with its pairs, on the device."""

    def __init__(self, cells):
        frame, pairs = crystal.copper(cells)
        self.potential, self.n_atoms = models.potential("gaussian_moments", "cu32"), len(frame)
        self.structures, self.pairs = fd.Structures.from_ase([frame]).to_device("cuda"), pairs.to_device("cuda")

    def evaluated(self, way, dtype, searched=False):
        """Energies of atoms, forces and virials, with the pairs or without, as arrays of the host."""
        pairs, model = None if searched else self.pairs, self.potential.model(dtype, "cuda")
        with going(way):
            _, forces, virials, energies = self.potential.evaluate(self.structures, pairs, model)
        return {"energies": energies, "forces": forces, "virials": virials}
