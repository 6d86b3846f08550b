"""Gaussian moments (GM-NN): invariant contractions of geometric-moment tensors.

Zaverkin, Kästner, J. Chem. Theory Comput. 16, 5410 (2020); Zaverkin, Holzmüller, Steinwart, Kästner,
J. Chem. Theory Comput. 17, 6658 (2021). The formulas stand beside the kernels: the radial basis in
fastdesc/numerics/radial.py, moments in moments.py, contractions in contractions.py.
"""

from collections.abc import Sequence
from itertools import combinations_with_replacement as unordered
from itertools import product
from numbers import Integral
from typing import Any, Literal

import numpy as np

from fastdesc.backend.arrays import namespace, padded
from fastdesc.backend.cuda import active_for
from fastdesc.checks import atomic_numbers, count, one_of, several
from fastdesc.checks import cutoff as check_cutoff
from fastdesc.checks import seed as check_seed
from fastdesc.descriptors.descriptor import Descriptor
from fastdesc.descriptors.gaussian_moments import cpu, cuda, elements
from fastdesc.descriptors.gaussian_moments.jacobian import moments_jacobian
from fastdesc.descriptors.gaussian_moments.training_hints import GaussianMomentsHints
from fastdesc.descriptors.jacobian import Jacobian
from fastdesc.errors import InputError
from fastdesc.numerics.radial import BASES
from fastdesc.pairs import Pairs
from fastdesc.structures import Structures
from fastdesc.types import Array, Arrays, DType, Species

N_MOMENTS = (1, 4, 10, 20)
"""Monomials up to each rank."""

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
    n_basis).
    """

    family = "gaussian_moments"
    recordable = True

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
        seed: int = 0,
    ) -> None:
        self.species, self.cutoff, self.n_radial, self.n_basis = species, cutoff, n_radial, n_basis
        self.basis, self.max_rank, self.contractions, self.seed = basis, max_rank, contractions, seed
        self.species_mixing, self.n_embedding = species_mixing, n_embedding
        self.species_numbers = atomic_numbers(species)
        check_cutoff("cutoff", cutoff)
        count("n_radial", n_radial, most=MOST_FUNCTIONS)
        count("n_basis", n_basis, most=MOST_FUNCTIONS)
        one_of("basis", basis, BASES)
        one_of("max_rank", max_rank, range(4))
        one_of("species_mixing", species_mixing, elements.MIXINGS)
        size = self._embedding_size()
        check_seed(seed)
        self.selected = self._select(contractions, max_rank)
        starts = np.cumsum([0, *(_size(k, int(n_radial)) for k in self.selected)])
        self.n_features = int(starts[-1])
        if self.n_features > MOST_FEATURES:
            raise InputError(
                f"n_radial {n_radial} makes {self.n_features} features and {MOST_FEATURES} are allowed; "
                "take fewer radial channels or contractions"
            )
        self.offsets = np.full(8, -1, np.int32)
        self.offsets[np.array(self.selected) - 1] = starts[:-1]
        self.n_moments = N_MOMENTS[max_rank]
        shape = len(self.species_numbers), size, n_radial, n_basis
        self.parameters = elements.initial(species_mixing, *shape, np.random.default_rng(seed))

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
    def _select(contractions, max_rank):
        allowed = [k for k, rank in RANK_NEEDED.items() if rank <= max_rank]
        if contractions is None:
            return allowed
        wanted = several("contractions", contractions, f"numbers, a selection of {allowed}")
        if not wanted or any(not isinstance(k, Integral) or isinstance(k, bool) or k not in allowed for k in wanted):
            raise InputError(
                f"contractions {list(wanted)} cannot be had; max_rank {max_rank} allows a selection of {allowed}"
            )
        return sorted({int(k) for k in wanted})

    def feature_names_out(self) -> list[str]:
        """Return names such as 'M1_0i M1_2i': moment rank, radial channel, summed indices."""
        return [CONTRACTIONS[k].format(*t) for k in self.selected for t in _tuples(k, self.n_radial)]

    # ------------------------------------------------------------------------------------------------- maps

    def forward(self, rij: Array, pairs: Pairs, species: Array, theta: Arrays) -> tuple[Array, Array]:
        """Return q ((2,) n_features, n_atoms) and the moments ((2,) n_radial, n_moments, n_atoms)."""
        planes, n = rij.shape[:-2], pairs.n_atoms
        moments = padded((*planes, self.n_radial, self.n_moments, n), rij.dtype, rij)
        q = padded((*planes, self.n_features, n), rij.dtype, rij)
        self.kernels(rij, pairs, species).moments_and_features(coefficients(theta, rij), moments, q)
        return q, moments

    def pullback(self, rij: Array, pairs: Pairs, species: Array, theta: Arrays, saved: Any, dq: Array) -> Array:
        """Return drij ((2,) 3, n_pairs)."""
        dmoments, drij = padded(saved.shape, rij.dtype, rij), padded(rij.shape, rij.dtype, rij)
        self.kernels(rij, pairs, species).pullback(coefficients(theta, rij), saved, dq, dmoments, drij)
        return drij

    def pullback_parameters(
        self, rij: Array, pairs: Pairs, species: Array, theta: Arrays, saved: Any, dq: Array
    ) -> Arrays:
        """Return a dict like `parameters`, float64, with a leading axis of two for duals."""
        dmoments = padded(saved.shape, rij.dtype, rij)
        dbeta = self.kernels(rij, pairs, species).parameters_pullback(saved, dq, dmoments)
        return {elements.BETA: dbeta} if self.species_mixing == "pairs" else elements.factors_pullback(theta, dbeta)

    def prepared(self, theta: Arrays, dtype: DType) -> Arrays:
        """Return theta with the table of coefficients for all pairs of elements."""
        return {**theta, elements.BETA: elements.table(theta)}

    @property
    def training_hints(self) -> GaussianMomentsHints:
        """What training asks of it: radial coefficients are stepped as matrices."""
        return GaussianMomentsHints(self)

    def jacobian(
        self, rij: Array, pairs: Pairs, species: Array, theta: Arrays, saved: Any, structures: Structures
    ) -> Jacobian:
        return moments_jacobian(self, rij, pairs, species, theta, saved)

    def kernels(self, rij: Array, pairs: Pairs, species: Array) -> "cpu.Kernels | cuda.Kernels":
        """The kernels, on the backend that rij belongs to."""
        return (cuda if active_for(rij) else cpu).Kernels(self, rij, pairs, species)


def coefficients(theta, rij):
    """Coefficients of all pairs of elements, plain or dual; tangents are zero where only the pairs have some."""
    beta = elements.table(theta)
    if rij.ndim == 2 or beta.ndim == 5:
        return beta
    xp = namespace(beta)
    return xp.stack([beta, xp.zeros_like(beta)])
