"""Spline filters: knots. All filters may share one grid of them, or filters and elements have grids of their own.

Filters on a common grid are evaluated together: pair filters go in groups, as many consecutive ones each as share
their grids, so that a distance is located once a group; the filters of triplets are one group.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import numpy as np

from fastdesc.checks import count
from fastdesc.descriptors.spline_filters.initial import mixtures, of_waves
from fastdesc.errors import InputError, nearest
from fastdesc.numerics.splines import FEWEST_KNOTS, MOST_KNOTS, Splines

Kind: TypeAlias = Literal["pair", "triplet_radial", "triplet_angular"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Names of the parameters, too."""
BEYOND = {"pair": 1, "triplet_radial": 1, "triplet_angular": 0}
"""Pieces behind those of a spline: radial filters are zero from the cutoff on, however they end."""


@dataclass(frozen=True)
class FilterSplines:
    """The splines of all filters of one kind.

    Parameters
    ----------
    rows : tuple of tuples of Splines
        rows[g][e] serves group g of filters for element (or pair of elements) e; a row of one serves all elements.
    n_filters, n_elements : int
    beyond : int
        Pieces, all zero, behind the last.
    """

    rows: tuple
    n_filters: int
    n_elements: int
    beyond: int = 0

    @property
    def alike(self):
        """Whether all elements share their knots."""
        return len(self.rows[0]) == 1

    @property
    def group(self):
        """Number of filters that share their knots."""
        return self.n_filters // len(self.rows)

    @cached_property
    def n_parameters(self):
        """Of the longest spline: parameters of shorter ones are followed by ignored columns."""
        return max(s.n_parameters for row in self.rows for s in row)

    @property
    def n_pieces(self):
        return self.n_parameters - 1 + self.beyond

    def of(self, a, element):
        """Return the Splines of filter `a` for an element, or a pair of elements, by its number."""
        row = self.rows[a // self.group]
        return row[0 if self.alike else element]

    @cached_property
    def pieces(self):
        """(groups, n_elements or 1, n_parameters, 4 n_pieces): coefficients of all pieces in powers of the distance
        (Å), or the cosine, from the knot where the piece ends, by the parameters."""
        matrices = np.zeros((len(self.rows), len(self.rows[0]), self.n_parameters, self.n_pieces, 4))
        for g, row in enumerate(self.rows):
            for e, s in enumerate(row):
                own = s.pieces / s.dx ** np.arange(4)[:, None]
                matrices[g, e, : s.n_parameters, : len(own)] = np.moveaxis(own, 2, 0)
        return matrices.reshape(*matrices.shape[:3], -1)

    @cached_property
    def knots(self):
        """(groups, n_elements, 4): first knot, 1/dx, dx, number of knots."""
        rows = [[(s.x0, 1 / s.dx, s.dx, s.n_knots) for s in row] for row in self.rows]
        return np.broadcast_to(np.array(rows), (len(self.rows), self.n_elements, 4))

    def initial(self, tapered, rng):
        """Random smooth filters, each element's of its own."""
        parameters = np.zeros((self.n_filters, self.n_elements, self.n_parameters))
        for element in range(self.n_elements):
            for a, c in enumerate(mixtures(self.n_filters, rng)):
                splines = self.of(a, element)
                parameters[a, element, : splines.n_parameters] = of_waves(splines, c, tapered)
        return parameters


def shared(splines, n_filters, n_elements, beyond):
    """Return FilterSplines that are all the same."""
    return FilterSplines(((splines,),), n_filters, n_elements, beyond)


def of_each(kind, given, n_filters, n_elements, ends, cutoff):
    """Return FilterSplines with the knots that a caller gives.

    Parameters
    ----------
    kind : str
        One of KINDS.
    given : list
        [first knot, last knot, number of knots] by element or pair of elements; of pair filters by filter and element.
    ends : (str, str)
        As fastdesc.numerics.splines has them.
    cutoff : float
        Å, which no last knot of a distance exceeds; infinity for cosines.

    Raises
    ------
    InputError
        For another shape, and for knots out of range.
    """
    per_filter = kind == "pair"
    shape = (n_filters, n_elements) if per_filter else (n_elements,)
    what = "a list by filter of lists by element" if per_filter else "a list by element or pair of elements"
    made = {}

    def splines(entry, where):
        if isinstance(entry, str) or not hasattr(entry, "__len__") or len(entry) != 3:
            raise InputError(f"knots{where} came as {entry!r}; give [first knot, last knot, number of knots]")
        x0, x1, n_knots = entry
        count(f"the number of knots{where}", n_knots, FEWEST_KNOTS, MOST_KNOTS)
        try:
            s = Splines(float(x0), float(x1), int(n_knots), tuple(ends))
        except (TypeError, ValueError, InputError) as error:
            raise InputError(f"knots{where} came as {entry!r}: {error}") from error
        if s.x1 > cutoff:
            raise InputError(f"knots{where} go to {s.x1:g} Å, beyond the cutoff of {cutoff:g} Å; raise the cutoff")
        return made.setdefault(s, s)

    def row(entries, where, n, each):
        if isinstance(entries, str) or not hasattr(entries, "__len__") or len(entries) != n:
            raise InputError(f"knots{where} came as {entries!r}; give {what}, shaped {shape}")
        return tuple(each(entry, f"{where}[{k}]") for k, entry in enumerate(entries))

    def elements(entries, where):
        return row(entries, where, n_elements, splines)

    where = f"[{kind!r}]"
    rows = row(given, where, n_filters, elements) if per_filter else (elements(given, where),)
    if not rows:
        raise InputError(f"knots{where} came and there is no such filter; leave it out")
    return FilterSplines(_without_repeats(rows), n_filters, n_elements, BEYOND[kind])


def _without_repeats(rows):
    """One row for each group of filters, and one entry in each where elements do not differ."""
    n = len(rows)
    if n:
        # The largest groups of equal size, the same for all filters.
        size = max(m for m in range(1, n + 1) if n % m == 0 and all(rows[a] == rows[a - a % m] for a in range(n)))
        rows = rows[::size]
    return tuple(row[:1] for row in rows) if all(len(set(row)) == 1 for row in rows) else rows


def check_names(knots):
    """InputError unless `knots` is None, or a mapping from kinds of filters."""
    if knots is None:
        return
    if not isinstance(knots, Mapping):
        raise InputError(f"knots came as {knots!r}; give a dict with keys among {', '.join(KINDS)}, or None")
    for name in knots:
        if name not in KINDS:
            raise InputError(f"knots has {name!r}{nearest(name, KINDS)}; its keys are {', '.join(KINDS)}")


def knots_of(family):
    """Return the knots of all filters of a SplineFilters as kernels want them, (n, 4).

    First knot, 1/dx, dx and number of knots: of each group and element of pair filters, then, of the filters of
    triplets, of each element and of each pair of elements.
    """
    return np.ascontiguousarray(np.concatenate([family.filters[kind].knots.reshape(-1, 4) for kind in KINDS]))
