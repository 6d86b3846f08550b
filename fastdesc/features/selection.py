"""Which structures to take, or to label: diverse ones, typical ones, uncertain ones.

Every rule gives each row a value (its distance to the nearest row that was chosen, or what is left of its variance)
that can only shrink when another row is chosen. So what was found some choices ago bounds what is true now, and most
rows need not be looked at for every choice: rows with the largest values are set apart (POOL of them) and brought up to
date after each choice; as long as the largest value among them is above all values outside, the choice is the one that
a look at all rows would have given. Then all rows are brought up to date in one pass, as products of matrices, for all
choices since the last pass. Nothing is approximate but for round-off.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdesc.checks import count, flag, positive
from fastdesc.checks import seed as check_seed
from fastdesc.errors import InputError
from fastdesc.features.reader import FeaturesFile
from fastdesc.features.rows import Rows
from fastdesc.types import Float64

POOL = 2048
"""Rows that are set apart."""
AT_ONCE = 2**22
"""Numbers in one product of matrices: 32 MB."""
NEAR = 1e-6
"""Of the squared lengths: a squared distance below has lost digits in the product, and is computed from differences."""
LEAST_ACCEPTED = 0.25
"""Share of draws that hit: below, all rows are brought up to date."""


def select_diverse(
    features: ArrayLike | FeaturesFile, n: int, scale: bool = True, first: int | None = None
) -> tuple[NDArray[np.int64], Float64]:
    """Choose structures one by one, each the farthest from those chosen so far.

    Gonzalez, Theor. Comput. Sci. 38, 293 (1985): the largest distance that remains is at most twice the smallest
    possible. It finds the corners of a set; `select_typical` follows its density.

    Parameters
    ----------
    features : (n_structures, n_features) array, or FeaturesFile
        Features of a file that holds rows of atoms are averaged over each structure. A file of any size: what takes
        more than 1 GB is read again in each pass.
    n : int
        Structures to choose.
    scale : bool
        Divide every feature by its standard deviation first.
    first : int, optional
        Where to begin; by default with the structure farthest from the mean of all.

    Returns
    -------
    chosen : (n,) int64
        In the order of choice: the first k are the choice for n = k.
    distances : (n,) float64
        Of each to the ones before it; of the first one to the mean.

    Raises
    ------
    InputError
        For features that are not finite or no table, and for more structures than there are.
    """
    flag("scale", scale)
    rows = _rows(features, n, bool(scale))
    if first is not None:
        count("first", first, 0, rows.n - 1)
    from_mean = _squares(rows)
    begin = int(from_mean.argmax()) if first is None else int(first)
    chosen, values = _largest_first(rows, n, Distances(), np.full(rows.n, np.inf), begin)
    values[0] = from_mean[begin]
    return chosen, np.sqrt(values)


def select_typical(
    features: ArrayLike | FeaturesFile, n: int, scale: bool = True, seed: int = 0
) -> NDArray[np.int64]:
    """Choose structures at random, each with a probability that goes by its squared distance to those chosen so far.

    The start of k-means++ (Arthur, Vassilvitskii, SODA 2007): diverse like `select_diverse`, but regions that hold many
    structures get more of them, and single outliers seldom count. The draws have exactly these probabilities: a draw by
    values of some choices ago is accepted with the share of it that is left.

    Parameters
    ----------
    features, n, scale
        As of `select_diverse`.
    seed : int

    Returns
    -------
    (n,) int64
        In the order of choice.

    Raises
    ------
    InputError
        As `select_diverse` does.
    """
    flag("scale", scale)
    check_seed(seed)
    rows = _rows(features, n, bool(scale))
    return _drawn(rows, n, Distances(), np.random.default_rng(seed))


def select_uncertain(
    features: ArrayLike | FeaturesFile, n: int, noise: float = 0.1, first: int | None = None
) -> tuple[NDArray[np.int64], Float64]:
    """Choose structures one by one, each the one whose variance is largest once the others are known.

    A row x stands for a quantity of variance x·x, two rows for a covariance x·y, such as those of
    `fastdesc.last_layer_features`. What a choice says of the other rows is taken off their variances before the next:
    greedy D-optimal design, which does not choose the same thing twice.

    Parameters
    ----------
    features : (n_structures, n_features) array, or FeaturesFile
        Neither centred nor scaled.
    n : int
        Structures to choose.
    noise : float
        Variance of a label over the mean of the rows' variances.
    first : int, optional
        Where to begin; by default with the largest variance.

    Returns
    -------
    chosen : (n,) int64
        In the order of choice: the first k are the choice for n = k.
    deviations : (n,) float64
        Standard deviation of each, given the ones before it.

    Raises
    ------
    InputError
        As `select_diverse` does; for a noise that is not above zero.
    """
    positive("noise", noise, "of the mean variance")
    rows = _rows(features, n, None)
    if first is not None:
        count("first", first, 0, rows.n - 1)
    values = _squares(rows)
    begin = int(values.argmax()) if first is None else int(first)
    rule = Variances(rows.n_features, float(noise) * max(values.mean(), np.finfo(float).tiny))
    chosen, values = _largest_first(rows, n, rule, values, begin)
    return chosen, np.sqrt(np.maximum(values, 0.0))


class Distances:
    """Squared distances to the nearest row that was chosen."""

    def __init__(self):
        self.new = []    # chosen since the last pass over all rows

    def choose(self, row):
        """Take note of a row that is chosen."""
        self.new.append(row)

    def shrunk(self, values, rows):
        """Values of rows after the last choice."""
        return _nearer(values, rows, self.new[-1][None])

    def current(self, values, rows):
        """Values of rows after all choices since the last pass."""
        new = np.array(self.new)
        size = max(64, AT_ONCE // len(new))
        parts = range(0, len(rows), size)
        return np.concatenate([_nearer(values[a : a + size], rows[a : a + size], new) for a in parts])

    def passed(self):
        """All rows were brought up to date."""
        self.new = []


class Variances:
    """Variances of rows, given labels of those that were chosen."""

    def __init__(self, n_features, noise):
        self.s, self.noise = np.eye(n_features), noise

    def choose(self, row):
        """Take note of a row that is chosen: the covariance shrinks by s x x^T s / (noise + x^T s x)."""
        along = self.s @ row
        self.last = along / np.sqrt(self.noise + row @ along)
        self.s -= np.outer(self.last, self.last)

    def shrunk(self, values, rows):
        """Values of rows after the last choice."""
        return values - (rows @ self.last) ** 2

    def current(self, values, rows):
        """Values of rows after all choices."""
        return np.einsum("ij,ij->i", rows @ self.s, rows)

    def passed(self):
        """All rows were brought up to date."""


def _nearer(values, rows, new):
    """The smaller of values and squared distances of rows to the nearest of `new`, (m, n_features)."""
    lengths, of_new = _lengths(rows), _lengths(new)
    squared = (rows @ new.T) * -2.0
    squared += lengths[:, None]
    squared += of_new
    nearest = squared.argmin(axis=1)
    found = squared[np.arange(len(rows)), nearest]
    near = np.flatnonzero(found < NEAR * (lengths + of_new[nearest]))
    found[near] = _lengths(rows[near] - new[nearest[near]])
    return np.minimum(values, found)


def _rows(features, n, scale):
    """Rows of features, of which n are asked for."""
    rows = Rows(features, scale)
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 1 <= n <= rows.n:
        raise InputError(f"{n} structures were asked for; choose between 1 and the {rows.n} there are")
    return rows


def _lengths(x):
    return np.einsum("ij,ij->i", x, x)


def _squares(rows):
    """Squared lengths of all rows."""
    return np.concatenate([_lengths(block) for _, block in rows.blocks()])


def _refresh(rows, rule, values, taken, never):
    """Bring the values of all rows up to date; rows that were taken have the value `never`."""
    for a, block in rows.blocks():
        values[a : a + len(block)] = rule.current(values[a : a + len(block)], block)
    rule.passed()
    values[taken] = never    # none twice, also among equal structures


def _largest_first(rows, n, rule, values, begin):
    """The chosen rows, and their values when they were chosen; `values` (n_rows,) are those without any choice."""
    chosen, found, taken = [begin], [values[begin]], np.zeros(rows.n, bool)
    taken[begin] = True
    rule.choose(rows.take(np.array([begin]))[0])
    while len(chosen) < n:
        _refresh(rows, rule, values, taken, -1.0)
        apart, outside = _set_apart(values)
        own, own_rows = values[apart], rows.take(apart)
        first = True
        while len(chosen) < n:
            k = int(own.argmax())
            if not (first or own[k] > outside):
                break
            first = False
            chosen.append(int(apart[k]))
            found.append(own[k])
            taken[apart[k]] = True
            rule.choose(own_rows[k])
            own = rule.shrunk(own, own_rows)
            own[k] = -1.0
            still = own > outside    # the others cannot be chosen before the next pass
            if 2 * still.sum() < len(own):
                if not still.any():
                    break
                apart, own, own_rows = apart[still], own[still], own_rows[still]
            own[taken[apart]] = -1.0
    return np.array(chosen, np.int64), np.array(found)


def _set_apart(values):
    """Numbers of the rows of the largest values, ascending, and the largest value elsewhere."""
    if len(values) <= POOL:
        return np.arange(len(values)), -np.inf
    order = np.argpartition(values, len(values) - POOL - 1)
    return np.sort(order[-POOL:]), values[order[-POOL - 1]]


def _drawn(rows, n, rule, rng):
    """Rows drawn with probabilities that go by their values, the first one uniformly."""
    begin = int(rng.integers(rows.n))
    chosen, taken, values = [begin], np.zeros(rows.n, bool), np.full(rows.n, np.inf)
    taken[begin] = True
    rule.choose(rows.take(np.array([begin]))[0])
    while len(chosen) < n:
        _refresh(rows, rule, values, taken, 0.0)
        total = np.cumsum(values)
        if not total[-1] > 0:    # only equals of those that were chosen are left
            rest = np.flatnonzero(~taken)[: n - len(chosen)]
            return np.array([*chosen, *rest], np.int64)
        draws = np.searchsorted(total, total[-1] * rng.random(POOL), side="right")
        different, place = np.unique(np.minimum(draws, rows.n - 1), return_inverse=True)
        drawn_rows, before, hits = rows.take(different), values[different], 0
        own = before.copy()
        for tried, (k, accept) in enumerate(zip(place, rng.random(POOL), strict=True)):
            if hits and hits < LEAST_ACCEPTED * tried:
                break
            if accept * before[k] >= own[k]:
                continue
            hits += 1
            chosen.append(int(different[k]))
            taken[different[k]] = True
            rule.choose(drawn_rows[k])
            own = rule.shrunk(own, drawn_rows)
            own[k] = 0.0
            if len(chosen) == n:
                break
    return np.array(chosen, np.int64)
