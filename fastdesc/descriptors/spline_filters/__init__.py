"""Spline filters (s-NNP): sums over pairs and triplets of trainable cubic splines.

Vita, Trinkle, Comput. Mater. Sci. 232, 112655 (2024); with one pair and one triplet filter they are the sums of s-MEAM,
Lenosky et al., Modelling Simul. Mater. Sci. Eng. 8, 825 (2000). The formulas stand beside the kernels, in
features.py; splines and their ends in fastdesc/numerics/splines.py.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastdesc.backend.arrays import namespace, padded
from fastdesc.backend.cuda import active_for
from fastdesc.checks import MOST, atomic_numbers, count, positive
from fastdesc.checks import cutoff as check_cutoff
from fastdesc.checks import seed as check_seed
from fastdesc.descriptors.descriptor import Descriptor
from fastdesc.descriptors.spline_filters import cpu, cuda, transfer
from fastdesc.descriptors.spline_filters.knots import BEYOND, KINDS, Kind, check_names, knots_of, of_each, shared
from fastdesc.descriptors.spline_filters.training_hints import SplineHints
from fastdesc.errors import InputError, nearest
from fastdesc.numerics.splines import ENDS, MOST_KNOTS, Splines
from fastdesc.pairs import Pairs
from fastdesc.types import Array, Arrays, DType, Species

LAST = {"clamped": "zero", "natural": "zero_natural", "free": "clamped"}
"""How a radial filter ends at its last knot."""
PIECES, KNOTS = "{}/pieces", "knots"
"""Further names of prepared parameters: see SplineFilters.prepared."""


class SplineFilters(Descriptor):
    """Spline filters of distances and of angles.

    Parameters
    ----------
    species : list of str or int
        Elements, as symbols or atomic numbers.
    cutoff : float
        Å, of the pair filters.
    triplet_cutoff : float
        Å, of the radial filters in triplets; at most `cutoff`.
    r_min : float
        Å, first knot of all radial filters; below it they go on as straight lines.
    n_pair, n_triplet : int
        Numbers of pair and of triplet features; one of them may be zero.
    n_knots : int
        Equally spaced knots per filter, at least three. The cost does not depend on it.
    ends : (str, str)
        Of the radial filters at the first and at the last knot. At the first, "clamped" takes the slope there as
        parameter, "natural" the second derivative times dx². At the last, with "clamped" or "natural", value and slope
        are zero, with "natural" the second derivative too; the last knot value and end parameter are ignored (with
        "natural" the last but one knot value too). "free" takes last value and slope as they are: the filter goes on
        as a straight line and jumps to zero at the cutoff, as functions of published potentials do.
    angular_ends : (str, str)
        Likewise at cosines of -1 and 1, where nothing is pinned.
    shared : bool
        One set of filters for all elements.
    seed : int
        Of the initial filters, random smooth functions.
    knots : dict, optional
        Other knots than the common ones from `r_min` (or -1) to the cutoff (or 1): for any of the parameters' names,
        lists of [first knot, last knot, number of knots], by element or pair of elements as the parameter is; for
        `pair` one such list per filter. No last knot lies beyond the cutoff.

    Raises
    ------
    InputError
        For any argument out of range.

    Notes
    -----
    Trainable parameters, knot values first and the two end parameters last: `pair` (n_pair, n_species, n_knots+2) and
    `triplet_radial` (n_triplet, n_species, n_knots+2) by the neighbour's element; `triplet_angular` (n_triplet,
    n_species_pairs, n_knots+2) by both neighbours', unordered: 00, 01, .., 0n, 11, .. With ``shared=True`` n_species
    is one. Where numbers of knots differ, the last axis is as long as the longest spline needs, and the last columns
    of the others are ignored; `spline` tells the spline of every filter.
    """

    family = "spline_filters"
    recordable = True
    r_min: float

    def __init__(
        self,
        *,
        species: Species,
        cutoff: float = 5.5,
        triplet_cutoff: float = 4.5,
        r_min: float = 1.5,
        n_pair: int = 4,
        n_triplet: int = 8,
        n_knots: int = 12,
        ends: tuple[str, str] = ("clamped", "clamped"),
        angular_ends: tuple[str, str] = ("natural", "natural"),
        shared: bool = False,
        seed: int = 0,
        knots: Mapping[str, Any] | None = None,
    ) -> None:
        self.species, self.cutoff, self.triplet_cutoff, self.r_min = species, cutoff, triplet_cutoff, r_min
        self.n_pair, self.n_triplet, self.n_knots = n_pair, n_triplet, n_knots
        self.ends, self.angular_ends, self.shared, self.seed = ends, angular_ends, shared, seed
        self.knots = knots
        self.species_numbers = atomic_numbers(species)
        self._check()
        self.n_features = n_pair + n_triplet
        self.n_elements = n = 1 if shared else len(self.species_numbers)
        sizes = dict(zip(KINDS, ((n_pair, n), (n_triplet, n), (n_triplet, n * (n + 1) // 2)), strict=True))
        self.filters = {kind: self._splines(kind, *size) for kind, size in sizes.items()}
        rng = np.random.default_rng(seed)
        self.parameters = {kind: f.initial(kind != "triplet_angular", rng) for kind, f in self.filters.items()}

    def _splines(self, kind, n_filters, n_elements):
        """The splines of one kind of filters, on common knots or on those given."""
        radial = (self.ends[0], LAST[self.ends[1]])
        first, last, ends = {
            "pair": (self.r_min, self.cutoff, radial),
            "triplet_radial": (self.r_min, self.triplet_cutoff, radial),
            "triplet_angular": (-1.0, 1.0, tuple(self.angular_ends)),
        }[kind]
        if self.knots is not None and kind in self.knots:
            limit = np.inf if kind == "triplet_angular" else float(last)
            return of_each(kind, self.knots[kind], n_filters, n_elements, ends, limit)
        return shared(Splines(float(first), float(last), self.n_knots, ends), n_filters, n_elements, BEYOND[kind])

    def _check(self):
        check_cutoff("cutoff", self.cutoff)
        check_cutoff("triplet_cutoff", self.triplet_cutoff)
        positive("r_min", self.r_min, "Å")
        if self.triplet_cutoff > self.cutoff:
            raise InputError(
                f"triplet_cutoff {self.triplet_cutoff} Å is above cutoff {self.cutoff} Å; it may be at most the cutoff"
            )
        smallest = min(self.cutoff, self.triplet_cutoff)
        if self.r_min >= smallest:
            raise InputError(f"r_min {self.r_min} Å came; it must lie below both cutoffs, that is below {smallest} Å")
        count("n_pair", self.n_pair, 0, MOST)
        count("n_triplet", self.n_triplet, 0, MOST)
        if self.n_pair + self.n_triplet == 0:
            raise InputError("n_pair and n_triplet are both 0; at least one filter is needed")
        count("n_knots", self.n_knots, 3, MOST_KNOTS)
        check_seed(self.seed)
        for name, value, last in (("ends", self.ends, tuple(LAST)), ("angular_ends", self.angular_ends, ENDS)):
            if isinstance(value, str) or not hasattr(value, "__len__") or len(value) != 2:
                raise InputError(f"{name} came as {value!r}; give two, each one of {', '.join(ENDS)}")
            for end, allowed in zip(value, (ENDS, last), strict=True):
                if end not in allowed:
                    raise InputError(
                        f"{name} holds {end!r}, which is not known{nearest(end, allowed)}; use {' or '.join(allowed)}"
                    )
        if not isinstance(self.shared, bool | np.bool_):
            raise InputError(f"shared came as {self.shared!r}; it must be True or False")
        check_names(self.knots)

    def cutoffs(self, dtype: DType) -> tuple[float, float]:
        """Cutoffs of pairs and of triplets (Å) as kernels want them: what lies within rounding of one is beyond it."""
        near = 1 - 8 * float(np.finfo(dtype).eps)
        return float(self.cutoff) * near, float(self.triplet_cutoff) * near

    def feature_names_out(self) -> list[str]:
        """Return names 'pair_0', .., 'triplet_0', ..: the filters that make each feature."""
        return [f"pair_{a}" for a in range(self.n_pair)] + [f"triplet_{b}" for b in range(self.n_triplet)]

    def spline(self, kind: Kind, a: int, element: int) -> Splines:
        """Return the Splines of one filter: its parameters are the first n_parameters of its row.

        Parameters
        ----------
        kind : {"pair", "triplet_radial", "triplet_angular"}
            Name of the parameter; its first axis is `a`, its second `element`.
        a, element : int
        """
        return self.filters[kind].of(a, element)

    def elements_of(self, kind: Kind) -> list[tuple[int, ...]]:
        """Return what the second axis of a parameter stands for: tuples of one or two indices of elements, or of all.

        One for each filter of a distance, two for one of an angle; with ``shared=True`` a single empty tuple.
        """
        n = range(len(self.species_numbers))
        if self.shared:
            return [()]
        return [(a, b) for a in n for b in n if a <= b] if kind == "triplet_angular" else [(a,) for a in n]

    def with_filters_of(self, other: "SplineFilters", elements: Mapping[str | int, str | int] | None = None) -> Arrays:
        """Return parameters with filters of another SplineFilters: see `transferred` in spline_filters/transfer.py."""
        return transfer.transferred(self, other, elements)

    @property
    def training_hints(self) -> SplineHints:
        """What training asks of filters: their range, and what keeps them smooth."""
        return SplineHints(self)

    # ------------------------------------------------------------------------------------------------- maps

    def forward(self, rij: Array, pairs: Pairs, species: Array, theta: Arrays) -> tuple[Array, Any]:
        """Return q ((2,) n_features, n_atoms), and knots and the coefficients of all pieces of all filters."""
        q = padded((*rij.shape[:-2], self.n_features, pairs.n_atoms), rij.dtype, rij)
        if KNOTS not in theta:
            theta = self.prepared(theta, rij.dtype)
        packed = self._backend(rij).packed
        knots, tables = theta[KNOTS], [packed(self, name, theta[PIECES.format(name)]) for name in KINDS]
        pair, radial, angular = tables
        self.kernels(rij, pairs, species, knots).sf_features(pair, radial, angular, q)
        return q, (knots, tables)

    def pullback(self, rij: Array, pairs: Pairs, species: Array, theta: Arrays, saved: Any, dq: Array) -> Array:
        """Return drij ((2,) 3, n_pairs)."""
        drij, (knots, tables) = padded(rij.shape, rij.dtype, rij), saved
        pair, radial, angular = tables
        self.kernels(rij, pairs, species, knots).sf_pullback(pair, radial, angular, dq, drij)
        return drij

    def pullback_parameters(
        self, rij: Array, pairs: Pairs, species: Array, theta: Arrays, saved: Any, dq: Array
    ) -> Arrays:
        """Return a dict like theta, ((2,) n_filters, n_elements, n_knots+2) in float64."""
        knots, tables = saved
        pair, radial, angular = tables
        found = self.kernels(rij, pairs, species, knots).sf_parameters_pullback(pair, radial, angular, dq)
        xp = namespace(rij)
        gradient: Arrays = {}
        for name, d in zip(KINDS, found, strict=True):
            filters, (planes, groups, n_elements, size) = self.filters[name], d.shape[:4]
            pieces = xp.asarray(filters.pieces.swapaxes(-1, -2))
            dtheta = xp.swapaxes(d.reshape(planes, groups, n_elements, size, 4 * filters.n_pieces) @ pieces, 2, 3)
            dtheta = xp.ascontiguousarray(dtheta).reshape(planes, groups * size, n_elements, filters.n_parameters)
            gradient[name] = dtheta if rij.ndim == 3 else dtheta[0]
        return gradient

    def prepared(self, theta: Arrays, dtype: DType) -> Arrays:
        """Return theta with knots and coefficients of all pieces, in dtype and where theta lies."""
        more = {PIECES.format(name): self._coefficients(theta[name], name, dtype) for name in KINDS}
        return {**theta, **more, KNOTS: namespace(theta["pair"]).asarray(knots_of(self).astype(dtype))}

    def _coefficients(self, p, name, dtype):
        """Coefficients of all pieces, (planes, groups, n_elements, filters of a group, pieces, 4), of parameters p.

        The planes are those of p: tangents of parameters cost nothing where there are none.
        """
        xp, filters = namespace(p), self.filters[name]
        p = p if p.ndim == 4 else p[None]
        p = p.reshape(len(p), len(filters.rows), filters.group, *p.shape[2:])
        c = xp.swapaxes(p, 2, 3).astype(np.float64) @ xp.asarray(filters.pieces)
        return c.astype(dtype).reshape(*c.shape[:4], filters.n_pieces, 4)

    def kernels(self, rij: Array, pairs: Pairs, species: Array, knots: Array) -> "cpu.Kernels | cuda.Kernels":
        """The kernels, on the backend that rij belongs to."""
        return self._backend(rij)(self, rij, pairs, species, knots)

    @staticmethod
    def _backend(rij):
        return (cuda if active_for(rij) else cpu).Kernels
