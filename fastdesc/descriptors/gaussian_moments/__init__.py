"""Gaussian moments (GM-NN): invariant contractions of geometric-moment tensors.

Zaverkin, Kästner, J. Chem. Theory Comput. 16, 5410 (2020); Zaverkin, Holzmüller, Steinwart, Kästner,
J. Chem. Theory Comput. 17, 6658 (2021). The formulas stand beside the kernels: the radial basis in
fastdesc/numerics/radial.py, moments in moments.py, contractions in contractions.py, weights of neighbours that
iterations update in recursion.py.
"""

from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement as unordered
from itertools import product
from numbers import Integral
from typing import Any, Literal

import numpy as np

from fastdesc.backend.arrays import padded
from fastdesc.backend.cuda import active_for
from fastdesc.checks import atomic_numbers, count, one_of, several
from fastdesc.checks import cutoff as check_cutoff
from fastdesc.checks import seed as check_seed
from fastdesc.descriptors.descriptor import Descriptor
from fastdesc.descriptors.gaussian_moments import cpu, cuda, elements, recursion
from fastdesc.descriptors.gaussian_moments.elements import coefficients
from fastdesc.descriptors.gaussian_moments.jacobian import moments_jacobian
from fastdesc.descriptors.gaussian_moments.training_hints import GaussianMomentsHints
from fastdesc.descriptors.jacobian import Jacobian
from fastdesc.descriptors.recursion import initial
from fastdesc.descriptors.recursion.jacobian import receptive_field_jacobian
from fastdesc.errors import InputError
from fastdesc.numerics.radial import BASES
from fastdesc.pairs import Pairs
from fastdesc.structures import Structures
from fastdesc.types import Activation, Array, Arrays, DType, Species

N_MOMENTS = (1, 4, 10, 20)
"""Monomials up to each rank."""

MESSAGES = 4
"""Networks of the recursion see contractions up to this number, where nothing else is said: those of two moments."""

MOST_FUNCTIONS, MOST_FEATURES = 1000, 1_000_000
"""Radial channels or basis functions, and features; more would fill the memory."""

RANK_NEEDED = {1: 0, 2: 1, 3: 2, 4: 3, 5: 2, 6: 2, 7: 3, 8: 3}
"""Highest moment in each contraction."""

CONTRACTIONS = {
    1: "M0_{0}",
    2: "M1_{0}i M1_{1}i",
    3: "M2_{0}ij M2_{1}ij",
    4: "M3_{0}ijk M3_{1}ijk",
    5: "M2_{0}ij M2_{1}ik M2_{2}jk",
    6: "M1_{0}i M1_{1}j M2_{2}ij",
    7: "M3_{0}ijk M3_{1}ijl M2_{2}kl",
    8: "M3_{0}ijk M2_{1}ij M1_{2}k",
}


def _tuples(contraction, n):
    """Radial channels of the features of one contraction, in order."""
    if contraction == 1:
        return [(r,) for r in range(n)]
    if contraction in (2, 3, 4):
        return list(unordered(range(n), 2))
    if contraction == 5:
        return list(unordered(range(n), 3))
    if contraction in (6, 7):
        return [(r, s, t) for r, s in unordered(range(n), 2) for t in range(n)]
    return list(product(range(n), repeat=3))


def _size(contraction, n):
    """Number of features of one contraction, without listing them."""
    unordered_pairs = n * (n + 1) // 2
    if contraction == 1:
        return n
    if contraction in (2, 3, 4):
        return unordered_pairs
    if contraction == 5:
        return unordered_pairs * (n + 2) // 3
    return unordered_pairs * n if contraction in (6, 7) else n**3


def _places(selected, n_radial):
    """Return the first feature of each of the eight contractions, -1 for those left out, and the number of features."""
    starts = np.cumsum([0, *(_size(k, int(n_radial)) for k in selected)])
    n_features = int(starts[-1])
    if n_features > MOST_FEATURES:
        raise InputError(
            f"n_radial {n_radial} makes {n_features} features and {MOST_FEATURES} are allowed; "
            "take fewer radial channels or contractions"
        )
    offsets = np.full(8, -1, np.int32)
    offsets[np.array(selected, int) - 1] = starts[:-1]
    return offsets, n_features


class GaussianMoments(Descriptor):
    """Gaussian-moment descriptor.

    Parameters
    ----------
    species : list of str or int
        Elements, as symbols or atomic numbers.
    cutoff : float
        Å.
    n_radial : int
        Radial channels; the number of features grows as its cube.
    n_basis : int
        Radial basis functions that each channel combines.
    basis : {"bessel", "gaussian"}
        "bessel" has four continuous derivatives at the cutoff.
    max_rank : {0, 1, 2, 3}
        Highest rank of the moment tensors.
    contractions : sequence of int, optional
        Which of the eight contractions become features; all that `max_rank` allows by default.
    species_mixing : {"pairs", "factorised"}
        Radial coefficients as a table for all pairs of elements, or as products of embeddings of the elements
        (elements.py), whose number grows with that of the elements and not with its square. The speed is the same.
    n_embedding : int, optional
        With "factorised": numbers that describe an element, 8 by default.
    iterations : int
        How often the weights of an atom in the moments of its neighbours are updated by a small network of its own
        features. With 0 all weights are one; else features see as far as (iterations + 1) cutoffs.
    message_contractions : sequence of int, optional
        With iterations: which contractions the networks see; those of two moments, 1 to 4, that `max_rank` allows by
        default.
    networks : {"per_species", "shared"}
        One network per element in each iteration, or one for all with a learned embedding of the element.
    hidden : sequence of int
        Widths of the networks' hidden layers.
    activation : {"silu", "tanh", "celu", "softplus", "trained_silu", "trained_isru"}
        Of the networks; with one of the last two `hidden` has one width.
    seed : int
        Of the initial radial coefficients; those of the table are uniform in (-1, 1).

    Raises
    ------
    InputError
        For any argument out of range.

    Notes
    -----
    With "pairs" the one trainable parameter is `beta` (n_species, n_species, n_radial, n_basis): centre, neighbour.
    With "factorised" they are `centre` and `neighbour` (n_species, n_embedding), `radial` (n_embedding, n_radial,
    n_basis). With iterations there are the networks' too, named as those of EmbeddedDensity.
    """

    family = "gaussian_moments"

    def __init__(
        self,
        *,
        species: Species,
        cutoff: float = 6.0,
        n_radial: int = 5,
        n_basis: int = 8,
        basis: Literal["bessel", "gaussian"] = "bessel",
        max_rank: int = 3,
        contractions: Sequence[int] | None = None,
        species_mixing: Literal["pairs", "factorised"] = "pairs",
        n_embedding: int | None = None,
        iterations: int = 0,
        message_contractions: Sequence[int] | None = None,
        networks: Literal["per_species", "shared"] = "per_species",
        hidden: Sequence[int] = (32,),
        activation: Activation = "silu",
        seed: int = 0,
    ) -> None:
        self.species, self.cutoff, self.n_radial, self.n_basis = species, cutoff, n_radial, n_basis
        self.basis, self.max_rank, self.contractions, self.seed = basis, max_rank, contractions, seed
        self.species_mixing, self.n_embedding = species_mixing, n_embedding
        self.iterations, self.message_contractions, self.networks = iterations, message_contractions, networks
        self.hidden, self.activation = hidden, activation
        self.species_numbers = atomic_numbers(species)
        check_cutoff("cutoff", cutoff)
        count("n_radial", n_radial, most=MOST_FUNCTIONS)
        count("n_basis", n_basis, most=MOST_FUNCTIONS)
        one_of("basis", basis, BASES)
        one_of("max_rank", max_rank, range(4))
        one_of("species_mixing", species_mixing, elements.MIXINGS)
        size = self._embedding_size()
        check_seed(seed)
        self.form = initial.form_of(iterations, networks, hidden, activation)
        self.recordable = self.own_row = iterations == 0    # networks between moments are not calls of kernels
        self.selected = self._select("contractions", contractions, max_rank)
        self.offsets, self.n_features = _places(self.selected, n_radial)
        self.message_offsets, self.n_message = _places(self._messages(), n_radial)
        self.n_moments = N_MOMENTS[max_rank]
        shape, rng = (len(self.species_numbers), size, n_radial, n_basis), np.random.default_rng(seed)
        self.parameters = elements.initial(species_mixing, *shape, rng)
        self.parameters |= initial.initial(self, np.ones(self.n_message), rng)

    def _embedding_size(self):
        if self.n_embedding is None:
            return elements.EMBEDDING
        count("n_embedding", self.n_embedding, most=MOST_FUNCTIONS)
        if self.species_mixing == "pairs":
            raise InputError(
                f"n_embedding is {self.n_embedding}, and species_mixing 'pairs' has no embeddings; take 'factorised', "
                "or leave n_embedding out"
            )
        return self.n_embedding

    @staticmethod
    def _select(name, contractions, max_rank):
        allowed = [k for k, rank in RANK_NEEDED.items() if rank <= max_rank]
        if contractions is None:
            return allowed
        wanted = several(name, contractions, f"numbers, a selection of {allowed}")
        if not wanted or any(not isinstance(k, Integral) or isinstance(k, bool) or k not in allowed for k in wanted):
            allows = f"max_rank {max_rank} allows a selection of {allowed}"
            raise InputError(f"{name} {list(wanted)} cannot be had; {allows}")
        return sorted({int(k) for k in wanted})

    def _messages(self):
        given = self.message_contractions
        if self.iterations > 0:
            selected = self._select("message_contractions", given, self.max_rank)
            return selected if given is not None else [k for k in selected if k <= MESSAGES]
        if given is not None:
            raise InputError(
                f"message_contractions came as {given!r}, and without iterations nothing sees them; "
                "give iterations=1 or more, or leave message_contractions out"
            )
        return []

    def feature_names_out(self) -> list[str]:
        """Return names such as 'M1_0i M1_2i': moment rank, radial channel, summed indices."""
        return [CONTRACTIONS[k].format(*t) for k in self.selected for t in _tuples(k, self.n_radial)]

    # ------------------------------------------------------------------------------------------------- maps

    def forward(self, rij: Array, pairs: Pairs, species: Array, theta: Arrays) -> tuple[Array, Array]:
        """Return q ((2,) n_features, n_atoms) and the moments ((2,) n_radial, n_moments, n_atoms).

        With iterations, instead of the latter, moments and weights of all of them.
        """
        if self.iterations:
            return recursion.forward(self, rij, pairs, species, theta)
        planes, n = rij.shape[:-2], pairs.n_atoms
        moments = padded((*planes, self.n_radial, self.n_moments, n), rij.dtype, rij)
        q = padded((*planes, self.n_features, n), rij.dtype, rij)
        self.kernels(rij, pairs, species).moments_and_features(coefficients(theta, rij), moments, q)
        return q, moments

    def pullback(self, rij: Array, pairs: Pairs, species: Array, theta: Arrays, saved: Any, dq: Array) -> Array:
        """Return drij ((2,) 3, n_pairs)."""
        if self.iterations:
            return recursion.pullback(self, rij, pairs, species, theta, saved, dq)
        dmoments, drij = padded(saved.shape, rij.dtype, rij), padded(rij.shape, rij.dtype, rij)
        self.kernels(rij, pairs, species).pullback(coefficients(theta, rij), saved, dq, dmoments, drij)
        return drij

    def pullback_parameters(
        self, rij: Array, pairs: Pairs, species: Array, theta: Arrays, saved: Any, dq: Array
    ) -> Arrays:
        """Return a dict like `parameters`, float64, with a leading axis of two for duals."""
        dnetworks: Arrays = {}
        if self.iterations:
            dbeta, dnetworks = recursion.pullback_parameters(self, rij, pairs, species, theta, saved, dq)
        else:
            dmoments = padded(saved.shape, rij.dtype, rij)
            dbeta = self.kernels(rij, pairs, species).parameters_pullback(saved, dq, dmoments)
        of_pairs = self.species_mixing == "pairs"
        return ({elements.BETA: dbeta} if of_pairs else elements.factors_pullback(theta, dbeta)) | dnetworks

    def prepared(self, theta: Arrays, dtype: DType) -> Arrays:
        """Return theta with the table of coefficients for all pairs of elements."""
        return {**theta, elements.BETA: elements.table(theta)}

    @property
    def training_hints(self) -> GaussianMomentsHints:
        """What training asks of it: radial coefficients are stepped as matrices."""
        return GaussianMomentsHints(self)

    def jacobian(
        self, rij: Array, pairs: Pairs, species: Array, theta: Arrays, saved: Any, structures: Structures,
        memory: Callable[..., Array] | None = None,
    ) -> Jacobian:
        if self.iterations:
            return receptive_field_jacobian(self, rij, pairs, species, theta, structures)
        return moments_jacobian(self, rij, pairs, species, theta, saved, memory)

    def kernels(self, rij: Array, pairs: Pairs, species: Array) -> "cpu.Kernels | cuda.Kernels":
        """The kernels, on the backend that rij belongs to."""
        return (cuda if active_for(rij) else cpu).Kernels(self, rij, pairs, species)
