"""The contract of a descriptor family: a differentiable map from pair vectors to features.

A family knows pairs and parameters, never frames, networks or energies. Its three maps,

    forward              (r, theta)            -> q, saved
    pullback             (r, theta, saved, dq) -> dr      = sum_f dq_f dq_f/dr                          (1)
    pullback_parameters  (r, theta, saved, dq) -> dtheta  = sum_if dq_if dq_if/dtheta                   (2)

take plain arrays or dual ones, which carry a tangent on a leading axis of length two. On duals, `forward` is the
pushforward; and with dq = [cotangent of the tangent, cotangent of the value] the tangent plane of (2) is the
gradient of a loss on energies and forces. Components come first and atoms or pairs last: r is (3, n_pairs), q is
(n_features, n_atoms).
"""

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self, overload

import numpy as np
from ase import Atoms

from fastdesc.backend.arrays import resolve_device, resolve_dtype, to_device, to_host
from fastdesc.checks import numbers
from fastdesc.descriptors import frame_chunks
from fastdesc.descriptors.jacobian import Jacobian, row_jacobian
from fastdesc.errors import InputError, nearest
from fastdesc.geometry import pair_vectors
from fastdesc.io.frames import read_frames
from fastdesc.pairs import Pairs, find_on
from fastdesc.structures import Structures
from fastdesc.types import Array, Arrays, Device, DType, Float64, Frames


class Family:
    """Base of the descriptor families; see the module's text for the maps a family defines.

    Attributes
    ----------
    species_numbers : tuple of int
        Atomic numbers the descriptor knows, ascending.
    cutoff : float
        Å.
    parameters : dict of str to ndarray
        What a trainer may change, float64.
    trained_like_networks : tuple of str
        Beginnings of the names of parameters that want the learning rate and decay of networks.
    r_min : float or None
        Å; below it a family goes on as a straight line, of which users are told
        (fastdesc/descriptors/short_distances.py).
    """

    family: ClassVar[str]
    trained_like_networks: ClassVar[tuple[str, ...]] = ()
    r_min: float | None = None
    species_numbers: tuple[int, ...]
    cutoff: float
    n_features: int
    parameters: dict[str, Float64]

    # ------------------------------------------------------------------ constructor arguments and parameters

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor arguments by name, as scikit-learn's estimators do."""
        names = [p for p in inspect.signature(type(self).__init__).parameters if p != "self"]
        return {name: getattr(self, name) for name in names}

    def set_params(self, **params: Any) -> Self:
        """Change constructor arguments; trained parameters start anew."""
        known = self.get_params()
        for name in params:
            if name not in known:
                raise InputError(
                    f"{type(self).__name__} has no argument {name!r}{nearest(name, known)}; it has {', '.join(known)}"
                )
        # A whole new object first: arguments that are refused leave this one as it was.
        self.__dict__ = type(self)(**{**known, **params}).__dict__
        return self

    def set_parameters(self, **arrays: Array) -> None:
        """Replace trainable parameters.

        Raises
        ------
        InputError
            For a name this family lacks, a wrong shape, or values that are not finite.
        """
        new = {}
        for name, array in arrays.items():
            if name not in self.parameters:
                raise InputError(
                    f"{type(self).__name__} has no parameter {name!r}{nearest(name, self.parameters)}; "
                    f"it has {', '.join(self.parameters)}"
                )
            new[name] = numbers(name, array, self.parameters[name].shape)
        self.parameters.update(new)

    def theta(self, dtype: DType, device: Device = "cpu") -> Arrays:
        """Return the parameters as a family's maps want them: one dtype, one device."""
        return {name: to_device(array.astype(dtype), device) for name, array in self.parameters.items()}

    def prepared(self, theta: Arrays, dtype: DType) -> Arrays:
        """Return theta with what the maps make of plain parameters alone, by further names; they take either.

        For many evaluations with the same parameters. Families that make little of them return theta as it is.
        """
        return theta

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_params().items())
        return f"{type(self).__name__}({arguments})"

    # --------------------------------------------------------------------------------- the maps, by families

    def forward(self, rij: Array, pairs: Pairs, species: Array, theta: Arrays) -> tuple[Array, Any]:
        """Return features q ((2,) n_features, n_atoms) and what the pullbacks want to be handed back."""
        raise TypeError(f"{type(self).__name__} does not define forward")

    def pullback(self, rij: Array, pairs: Pairs, species: Array, theta: Arrays, saved: Any, dq: Array) -> Array:
        """Formula (1): return drij, shaped as rij."""
        raise TypeError(f"{type(self).__name__} does not define pullback")

    def pullback_parameters(
        self, rij: Array, pairs: Pairs, species: Array, theta: Arrays, saved: Any, dq: Array
    ) -> Arrays:
        """Formula (2): return a dict like theta, float64, with a leading axis of two for duals."""
        raise TypeError(f"{type(self).__name__} does not define pullback_parameters")

    def feature_names_out(self) -> list[str]:
        """Return n_features strings that say what each feature is."""
        raise TypeError(f"{type(self).__name__} does not define feature_names_out")

    def count_below_r_min(self, rij: Array) -> int:
        """Return how many distances of pair vectors lie below `r_min`, where nothing was fitted."""
        return 0

    def adapt_initial(self, rij: Array, pairs: Pairs, species: Array, theta: Arrays) -> None:
        """Fit initial parameters to a batch before training; parameters that were changed since stay as they are.

        Families whose initial parameters suit any structures do nothing.
        """

    def penalty(self, theta: Arrays, curvature: float, magnitude: float) -> tuple[Any, Arrays]:
        """Return what the loss gets for parameters alone, and its gradient, a dict like theta.

        Raises
        ------
        InputError
            For a family without splines.
        """
        raise InputError(
            f"{type(self).__name__} has no splines, which curvature={curvature:g} and magnitude={magnitude:g} could "
            "smooth; leave both at 0"
        )

    # ---------------------------------------------------------------------------------------- the front door

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
        structures = Structures.from_ase(read_frames(frames))
        dtype, device = resolve_dtype(dtype), resolve_device(device)
        theta = self.theta(dtype, device)
        if device == "cpu" and not jacobian:
            return self._features(structures, dtype, theta)
        rij, pairs, species = self.prepare(structures, dtype, device)
        q, saved = self.forward(rij, pairs, species, theta)
        features = np.ascontiguousarray(to_host(q).T)
        if not jacobian:
            return features
        return features, self._jacobian(rij, pairs, species, theta, saved, structures)

    def _features(self, structures, dtype, theta):
        """Rows of features of all atoms, on the host; pairs exist for a piece at a time."""
        rows = np.empty((structures.n_atoms, self.n_features), dtype)

        def fill(piece):
            rows[piece.atoms] = self.forward(*self.prepare(piece.structures, dtype), theta)[0].T

        frame_chunks.begin(fill, structures)()
        return rows

    def _jacobian(self, rij, pairs, species, theta, saved, structures):
        """Derivatives of features that depend on the pairs of their own row alone; other families override this."""

        def pull(dq):
            return self.pullback(rij, pairs, species, theta, saved, dq)

        return row_jacobian(pull, rij, pairs, self.n_features)
