"""The front door of every descriptor: from frames to pairs, features and their Jacobian."""

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
from ase import Atoms

from fastdesc.backend.arrays import resolve_device, resolve_dtype, to_device, to_host
from fastdesc.backend.memory import check_room
from fastdesc.backend.workspace import kept_memory
from fastdesc.checks import flag
from fastdesc.descriptors import frame_chunks
from fastdesc.descriptors.family import Family
from fastdesc.descriptors.jacobian import ROOM_ADVICE, Jacobian, check_jacobian_room, row_jacobian
from fastdesc.geometry import pair_vectors
from fastdesc.io.frames import read_frames
from fastdesc.pairs import Pairs, find_on
from fastdesc.structures import Structures
from fastdesc.types import Array, Arrays, Device, DType, Frames


class Descriptor(Family):
    """A family that computes features of frames; families derive from it and define the maps of Family."""

    def prepare(
        self, frames: Atoms | Sequence[Atoms] | Structures, dtype: DType = "float64", device: Device = "cpu"
    ) -> tuple[Array, Pairs, Array]:
        """Turn frames into what the maps take: rij, pairs, species.

        Parameters
        ----------
        frames : ase.Atoms, list of ase.Atoms, or Structures
        """
        dtype, device = resolve_dtype(dtype), resolve_device(device)
        structures = frames if isinstance(frames, Structures) else Structures.from_ase(frames)
        species = structures.species(self.species_numbers)
        structures, pairs = find_on(structures, self.cutoff, device)
        rij = pair_vectors(structures.positions, structures.cells, pairs, dtype)
        if device == "cuda":
            pairs.note_species(species, len(self.species_numbers))
        return rij, pairs, to_device(species, device)

    @overload
    def compute(
        self, frames: Frames, jacobian: Literal[False] = False, device: Device = "cpu", dtype: DType = "float64"
    ) -> Array: ...

    @overload
    def compute(
        self, frames: Frames, jacobian: Literal[True], device: Device = "cpu", dtype: DType = "float64"
    ) -> tuple[Array, Jacobian]: ...

    def compute(
        self, frames: Frames, jacobian: bool = False, device: Device = "cpu", dtype: DType = "float64"
    ) -> Array | tuple[Array, Jacobian]:
        """Compute the features of all atoms.

        Parameters
        ----------
        frames : ase.Atoms or list of ase.Atoms, or a path that ASE can read
        jacobian : bool
            Also return the derivatives with respect to positions.
        device : {"cpu", "cuda", "auto"}
        dtype : {"float32", "float64"}

        Returns
        -------
        q : (n_atoms_total, n_features) ndarray
            Rows in input order.
        J : Jacobian
            Only with ``jacobian=True``.

        Raises
        ------
        InputError
            For unknown elements, positions that are not finite, and whatever else makes a frame unusable.
        """
        flag("jacobian", jacobian)
        structures = Structures.from_ase(read_frames(frames))
        dtype, device = resolve_dtype(dtype), resolve_device(device)
        theta = self.theta(dtype, device)
        if device == "cpu" and not jacobian:
            return self._features(structures, dtype, theta)
        rij, pairs, species = self.prepare(structures, dtype, device)
        if jacobian:
            check_jacobian_room(structures, pairs, self.n_features, dtype)
        q, saved = self.forward(rij, pairs, species, theta)
        features = np.ascontiguousarray(to_host(q).T)
        if not jacobian:
            return features
        return features, self.jacobian(rij, pairs, species, theta, saved, structures)

    def _features(self, structures, dtype, theta):
        """Rows of features of all atoms, on the host; pairs exist for a piece at a time."""
        room = structures.n_atoms * self.n_features * np.dtype(dtype).itemsize
        check_room(room, f"{self.n_features} features of {structures.n_atoms} atoms", ROOM_ADVICE)
        rows = np.empty((structures.n_atoms, self.n_features), dtype)

        def fill(piece):
            with kept_memory():
                rows[piece.atoms] = self.forward(*self.prepare(piece.structures, dtype), theta)[0].T

        frame_chunks.begin(fill, structures)()
        return rows

    def jacobian(
        self, rij: Array, pairs: Pairs, species: Array, theta: Arrays, saved: Any, structures: Structures
    ) -> Jacobian:
        """Derivatives of features that depend on the pairs of their own row alone; other families override this.

        Parameters
        ----------
        rij, pairs, species, theta
            As the maps take them.
        saved
            From `forward` on the same.
        structures : Structures
            Where they come from.

        Returns
        -------
        Jacobian
        """

        def pull(dq):
            return self.pullback(rij, pairs, species, theta, saved, dq)

        return row_jacobian(pull, rij, pairs, self.n_features)
