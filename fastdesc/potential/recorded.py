"""The evaluation that dynamics repeats on the host, bound once and replayed.

For one model, one list of pairs and one set of atoms nothing changes from step to step but positions and cells. So
arrays, species and addresses for the kernels are made once, while a first evaluation is recorded; a step copies
positions in and runs the recorded kernels: the arithmetic is the same, Python has little left to do.
"""

import numpy as np

from fastdesc.backend.threads import recording, replay, single_threaded_blas
from fastdesc.backend.workspace import Workspace
from fastdesc.geometry import forces, pair_vectors, virials
from fastdesc.potential import one_density
from fastdesc.potential.evaluation import network_and_gradient
from fastdesc.potential.one_pass import one_pass, suits


class RecordedEvaluation:
    """Energies, forces and virials of the same atoms and pairs, wherever the atoms are.

    Parameters
    ----------
    model : Model
        On the host, of a descriptor that is `recordable`.
    species : (n_atoms,) int32 array
    pairs : Pairs
    structures : Structures
        Where the atoms are at first.
    workspace : Workspace, optional
        Memory, which must serve nothing else from now on; that of an earlier recording can serve again.
    """

    def __init__(self, model, species, pairs, structures, workspace=None):
        self.species, self.first = species, pairs.first
        self.workspace = Workspace() if workspace is None else workspace
        self._positions, self._cells = structures.positions.copy(), structures.cells.copy()
        descriptor, theta = model.descriptor, model.theta
        self._alive = [model, pairs]    # kernels were given addresses
        self._added = None
        with self.workspace, recording() as self._tape, single_threaded_blas():
            if model.repulsion is not None:
                self._added = model.repulsion.evaluate(self._positions, self._cells, pairs, species)
            found = one_pass(model, self._positions, self._cells, pairs, species) if suits(model) else None
            if found is not None:
                self._atomic, self._forces, self._virials = found
                return
            rij = pair_vectors(self._positions, self._cells, pairs, model.scale.dtype)
            if one_density.suits(model):
                self._atomic, drij = one_density.one_density(model, rij, pairs, species)
            else:
                q, saved = descriptor.forward(rij, pairs, species, theta)
                self._atomic, dq, _ = network_and_gradient(model, q, pairs, species)
                drij = descriptor.pullback(rij, pairs, species, theta, saved, dq)
                self._alive += [q, saved, dq]
            self._forces, self._virials = forces(drij, pairs), virials(rij, drij, pairs)
        self._alive += [rij, drij, species]

    def replay(self, structures):
        """Evaluate the recorded atoms where they are now.

        Parameters
        ----------
        structures : Structures

        Returns
        -------
        atomic : (n_atoms,) float64, eV
            Energies without E0.
        forces : (n_atoms, 3) float64, eV/Å
        virials : (n_frames, 3, 3) float64, eV
            Copies: the next step does not change them.
        """
        np.copyto(self._positions, structures.positions)
        np.copyto(self._cells, structures.cells)
        with single_threaded_blas():
            replay(self._tape)
        found = self._atomic, self._forces, self._virials
        if self._added is None:
            return tuple(a.copy() for a in found)
        return tuple(a + b for a, b in zip(found, self._added, strict=True))
