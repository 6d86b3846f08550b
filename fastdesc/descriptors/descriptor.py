"""What every descriptor offers its users: from frames to pairs, features and their Jacobian."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, overload

import numpy as np
from ase import Atoms

from fastdesc.backend.arrays import joined, namespace, resolve_device, resolve_dtype, stacked, to_device, to_host
from fastdesc.backend.device_memory import enough_for, in_pieces
from fastdesc.backend.memory import check_memory
from fastdesc.backend.workspace import kept_memory
from fastdesc.checks import count, flag, numbers
from fastdesc.descriptors import frame_chunks
from fastdesc.descriptors.family import Family
from fastdesc.descriptors.jacobian import MEMORY_ADVICE, Jacobian, check_jacobian_memory, row_jacobian
from fastdesc.descriptors.jacobian_stream import JacobianBlock, blocks
from fastdesc.geometry import forces, pair_tangents, pair_vectors
from fastdesc.io.frames import read_frames
from fastdesc.pairs import Pairs, find_on
from fastdesc.pairs.pieces import pieces
from fastdesc.structures import Structures
from fastdesc.types import Array, Arrays, Device, DType, Frames

AT_ONCE = 50_000
"""Atoms of frames that a device gets together; a larger frame goes alone."""


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
        structures, pairs, species = self.placed(structures, device)
        return pair_vectors(structures.positions, structures.cells, pairs, dtype), pairs, species

    def placed(self, structures: Structures, device: Device) -> tuple[Structures, Pairs, Array]:
        """Frames, their pairs and the species of all atoms, on "cpu" or "cuda"."""
        species = structures.species(self.species_numbers)
        structures, pairs = find_on(structures, self.cutoff, device)
        if device == "cuda":
            pairs.note_species(species, len(self.species_numbers))
        return structures, pairs, to_device(species, device)

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
        theta = self.prepared(self.theta(dtype, device), dtype)
        if not jacobian:
            return self._features(structures, dtype, theta, device)
        with enough_for(structures.n_atoms, device):
            rij, pairs, species = self.prepare(structures, dtype, device)
            check_jacobian_memory(structures, pairs, self.n_features, dtype)
            q, saved = self.forward(rij, pairs, species, theta)
            features = np.ascontiguousarray(to_host(q).T)
            return features, self.jacobian(rij, pairs, species, theta, saved, structures)

    def jacobian_blocks(
        self, frames: Frames, n_atoms: int = 64, device: Device = "cpu", dtype: DType = "float64"
    ) -> Iterator[JacobianBlock]:
        """Yield features and derivatives of all atoms in order, some atoms at a time, in the memory of these alone.

        Parameters
        ----------
        frames : ase.Atoms or list of ase.Atoms, or a path that ASE can read
        n_atoms : int
            Centres at a time; with iterations those of a frame come together.
        device : {"cpu", "cuda", "auto"}
        dtype : {"float32", "float64"}

        Yields
        ------
        JacobianBlock
            atoms (slice), features (n, n_features), jacobian. The values of the last are overwritten when the next
            block is asked for.

        Raises
        ------
        InputError
            As `compute`.
        """
        count("n_atoms", n_atoms)
        structures = Structures.from_ase(read_frames(frames))
        dtype, device = resolve_dtype(dtype), resolve_device(device)
        structures.species(self.species_numbers)    # refuses elements before the first block
        return blocks(self, structures, int(n_atoms), dtype, device)

    def jvp(self, frames: Frames, directions: Array, device: Device = "cpu", dtype: DType = "float64") -> Array:
        """Directional derivative of all features, J v, without the Jacobian.

        One pass in dual numbers: three times the time of the features, and their memory twice.

        Parameters
        ----------
        frames : ase.Atoms or list of ase.Atoms, or a path that ASE can read
        directions : (n_atoms_total, 3) array
            How atoms move: v, in Å for changes of the features.
        device : {"cpu", "cuda", "auto"}
        dtype : {"float32", "float64"}

        Returns
        -------
        (n_atoms_total, n_features) ndarray
            d q(x + h v) / dh at h = 0.

        Raises
        ------
        InputError
            As `compute`, and for directions of another shape or not finite.
        """
        structures, theta, prepared = self._door(frames, device, dtype)
        with enough_for(structures.n_atoms, resolve_device(device)):
            rij, pairs, species = prepared()
            v = namespace(rij).asarray(numbers("directions", directions, (structures.n_atoms, 3)))
            dual = stacked(rij, pair_tangents(v, None, rij, pairs))
            return np.ascontiguousarray(to_host(self.forward(dual, pairs, species, theta)[0][1]).T)

    def vjp(self, frames: Frames, weights: Array, device: Device = "cpu", dtype: DType = "float64") -> Array:
        """Gradient of a weighted sum of all features, w J, without the Jacobian.

        Parameters
        ----------
        frames : ase.Atoms or list of ase.Atoms, or a path that ASE can read
        weights : (n_atoms_total, n_features) array
            w.
        device : {"cpu", "cuda", "auto"}
        dtype : {"float32", "float64"}

        Returns
        -------
        (n_atoms_total, 3) ndarray, float64, 1/Å
            d (sum w q) / dx.

        Raises
        ------
        InputError
            As `compute`, and for weights of another shape or not finite.
        """
        structures, theta, prepared = self._door(frames, device, dtype)
        with enough_for(structures.n_atoms, resolve_device(device)):
            rij, pairs, species = prepared()
            w = numbers("weights", weights, (structures.n_atoms, self.n_features)).T.astype(rij.dtype)
            dq = namespace(rij).asarray(np.ascontiguousarray(w))
            saved = self.forward(rij, pairs, species, theta)[1]
            return -to_host(forces(self.pullback(rij, pairs, species, theta, saved, dq), pairs))

    def _door(self, frames, device, dtype):
        """Structures, parameters, and the function that makes what the maps take, where a call wants them."""
        structures = Structures.from_ase(read_frames(frames))
        dtype, device = resolve_dtype(dtype), resolve_device(device)
        return structures, self.theta(dtype, device), partial(self.prepare, structures, dtype, device)

    def features_by_atom(
        self, structures: Structures, dtype: DType, device: Device, theta: Arrays, look: Callable[[Array], Any]
    ) -> tuple[Array, list[Any]]:
        """Features q (n_features, n_atoms) of all atoms, from one device, whose memory may hold those of a part only.

        Parameters
        ----------
        look : callable
            Of the vectors of a piece's pairs, (3, n_pairs); what it returns is returned for all pieces.

        Returns
        -------
        q : (n_features, n_atoms) array
            On the device where all fit into it; else on the host.
        looked : list
        """
        with enough_for(structures.n_atoms, device):
            structures, pairs, species = self.placed(structures, device)

            def features(bounds):
                found, looked = [], []
                for piece in pieces(structures.positions, pairs, species, bounds):
                    rij = pair_vectors(piece.positions, structures.cells, piece.pairs, dtype)
                    looked.append(look(rij))
                    q, _ = self.forward(rij, piece.pairs, piece.species, theta)
                    found.append(q if len(bounds) == 1 else to_host(q))
                return joined(found, axis=-1), looked

            an_atom = self.bytes_an_atom(pairs.n_pairs / max(pairs.n_atoms, 1), np.dtype(dtype).itemsize, False)
            return in_pieces(features, pairs.n_atoms, an_atom, self.own_row)

    def _features(self, structures, dtype, theta, device):
        """Rows of features of all atoms, on the host; pairs exist for a piece at a time."""
        needed = structures.n_atoms * self.n_features * np.dtype(dtype).itemsize
        check_memory(needed, f"{self.n_features} features of {structures.n_atoms} atoms", MEMORY_ADVICE)
        rows = np.empty((structures.n_atoms, self.n_features), dtype)
        if device != "cpu":
            for piece in frame_chunks.pieces(structures, AT_ONCE):
                with frame_chunks.numbered(piece, structures):
                    q, _ = self.features_by_atom(piece.structures, dtype, device, theta, lambda rij: None)
                rows[piece.atoms] = to_host(q).T
            return rows

        def fill(piece):
            with kept_memory():
                rows[piece.atoms] = self.forward(*self.prepare(piece.structures, dtype), theta)[0].T

        frame_chunks.begin(fill, structures)()
        return rows

    def jacobian(
        self, rij: Array, pairs: Pairs, species: Array, theta: Arrays, saved: Any, structures: Structures,
        memory: Callable[..., Array] | None = None,
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
        memory : callable, optional
            Makes the array of values, as numpy.empty does; with iterations it is a new one in any case.

        Returns
        -------
        Jacobian
        """

        def pull(dq):
            return self.pullback(rij, pairs, species, theta, saved, dq)

        return row_jacobian(pull, rij, pairs, self.n_features, memory)
