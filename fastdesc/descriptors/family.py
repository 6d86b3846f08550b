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
from typing import Any, ClassVar, Self

from fastdesc.backend.arrays import to_device
from fastdesc.checks import numbers
from fastdesc.descriptors.training_hints import TrainingHints
from fastdesc.errors import InputError, nearest
from fastdesc.pairs import Pairs
from fastdesc.types import Array, Arrays, Device, DType, Float64


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
    recordable : bool
        Whether on the host forward and pullback are calls of `for_chunks` on arrays that stay where they are, and
        nothing else, so that what was recorded can be replayed (fastdesc/potential/recorded.py).
    own_row : bool
        Whether features of an atom depend on the pairs of its row alone, so that atoms may be done in pieces.
    training_hints : TrainingHints
        What training asks of it beyond the maps.
    """

    family: ClassVar[str]
    recordable: bool = False
    own_row: bool = True
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

    def bytes_an_atom(self, pairs: float, itemsize: int, derivatives: bool) -> float:
        """About the memory of a device that the maps take for an atom: vectors, features, moments; gradients of all.

        Parameters
        ----------
        pairs : float
            Of an atom.
        itemsize : int
            Bytes of a number.
        derivatives : bool
            Whether the pullback follows, and what networks make of features.
        """
        moments = getattr(self, "n_radial", 0) * getattr(self, "n_moments", 0)
        numbers = 3 * pairs * (2 if derivatives else 1) + self.n_features * (4 if derivatives else 1)
        return itemsize * (numbers + moments * (2 if derivatives else 1))

    @property
    def training_hints(self) -> TrainingHints:
        """What training asks of the family beyond its maps: the defaults, unless a family overrides it."""
        return TrainingHints(self)

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
