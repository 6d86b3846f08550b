"""Choosing rows one by one by values that only shrink: the largest, or drawn.

Every rule gives each row a value (its distance to the nearest row that was chosen, or what is left of its variance)
that can only shrink when another row is chosen. So what was found some choices ago bounds what is true now, and most
rows need not be looked at for every choice: rows with the largest values are set apart (POOL of them) and brought up to
date after each choice; as long as the largest value among them is above all values outside, the choice is the one that
a look at all rows would have given. Then all rows are brought up to date in one pass, as products of matrices, for all
choices since the last pass. Nothing is approximate but for round-off.
"""

import numpy as np

from fastdesc.features.rows import check_squares

POOL = 2048
"""Rows that are set apart; of large tables up to eight times as many, for a pass costs more than choices do."""
ANEW, LEAST_NOISE = 256, 1e-8
"""Choices from which on variances are found anew; of the mean variance, below which they are at each pass."""
AT_ONCE = 2**17
"""Numbers in one product of matrices: 1 MB, which stays in the cache."""
NEAR = 1e-6
"""Of the squared lengths: a squared distance below has lost digits in the product, and is computed from differences."""
LEAST_ACCEPTED = 0.25
"""Share of draws that hit: below, all rows are brought up to date."""


class Distances:
    """Squared distances to the nearest row that was chosen."""

    def __init__(self):
        self.new = []    # chosen since the last pass over all rows

    def choose(self, row):
        """Take note of a row that is chosen."""
        self.new.append(row)

    def shrunk(self, values, rows, lengths, weights):
        """Values of rows, times their weights, after the last choice; `lengths` are their squared lengths."""
        return _nearer(values, rows, lengths, self.new[-1][None], weights)

    def current(self, rows, values, weights):
        """Values of rows, times their weights, after all choices since the last pass."""
        new = np.array(self.new)
        size = max(64, AT_ONCE // max(new.shape))
        parts = [slice(a, a + size) for a in range(0, len(rows), size)]
        return np.concatenate([_nearer(values[p], rows[p], lengths(rows[p]), new, weights[p]) for p in parts])

    def passed(self):
        """All rows were brought up to date."""
        self.new = []


class Variances:
    """Variances of rows, given labels of those that were chosen.

    A pass takes off what choices since the last one say, products of all rows with as few vectors, and finds variances
    anew from the covariance each time that `anew` more rows were chosen, so that round-off does not add up.
    """

    def __init__(self, n_features, noise, anew):
        self.s, self.noise, self.anew = np.eye(n_features), noise, anew
        self.n = self.n_passed = 0
        self.new = []

    def choose(self, row):
        """Take note of a row that is chosen: the covariance shrinks by s x x^T s / (noise + x^T s x)."""
        along = self.s @ row
        self.last = along / np.sqrt(self.noise + row @ along)
        self.s -= np.outer(self.last, self.last)
        self.new.append(self.last)
        self.n += 1

    def shrunk(self, values, rows, lengths, weights):
        """Values of rows, times their weights, after the last choice."""
        return values - weights * (rows @ self.last) ** 2

    def current(self, rows, values, weights):
        """Values of rows, times their weights, after all choices."""
        if self.n // self.anew > self.n_passed // self.anew or 2 * len(self.new) > len(self.s):
            return weights * np.einsum("ij,ij->i", rows @ self.s, rows)
        along = rows @ np.array(self.new).T
        return values - weights * lengths(along)

    def passed(self):
        """All rows were brought up to date."""
        self.new, self.n_passed = [], self.n


def largest_first(rows, n, rule, values, begin, weights, kept=None):
    """Choose n rows, each the one of the largest value.

    Parameters
    ----------
    rows : Rows
    n : int
    rule : Distances or Variances
    values : (n_rows,) float64
        Without any choice, times weights.
    begin : int
        The first choice.
    weights : (n_rows,) float64
        Of the values.
    kept : KeptChoice, optional
        Where the choice is kept, and gone on with.

    Returns
    -------
    chosen : (n,) int64
    values : (n,) float64
        Of each when it was chosen, times weights.
    """
    chosen, found = [begin], [values[begin]]
    if kept is not None and kept.chosen is not None:
        chosen, found, values = kept.chosen[:n].tolist(), kept.found[:n].tolist(), kept.values
    taken, first_pass = np.zeros(rows.n, bool), True
    taken[chosen] = True
    if len(chosen) < n:
        for row in rows.take(np.array(chosen)):
            rule.choose(row)
    while len(chosen) < n:
        if first_pass and kept is not None and kept.chosen is not None:
            rule.passed()    # values are those after all these choices
        else:
            _refresh(rows, rule, values, weights, taken, -1.0)
        first_pass = False
        if kept is not None:
            kept.keep(chosen, found, values)
        apart, outside = _set_apart(values, max(POOL, min(rows.n // 64, 8 * POOL)))
        own, own_rows, own_weights = values[apart], rows.take(apart), weights[apart]
        own_lengths, first = lengths(own_rows), True
        while len(chosen) < n:
            k = int(own.argmax())
            if not (first or own[k] > outside):
                break
            first = False
            chosen.append(int(apart[k]))
            found.append(own[k])
            taken[apart[k]] = True
            rule.choose(own_rows[k])
            own = rule.shrunk(own, own_rows, own_lengths, own_weights)
            own[k] = -1.0
            still = own > outside    # the others cannot be chosen before the next pass
            if 2 * still.sum() < len(own):
                if not still.any():
                    break
                apart, own, own_weights = apart[still], own[still], own_weights[still]
                own_rows, own_lengths = own_rows[still], own_lengths[still]
            own[taken[apart]] = -1.0
    return np.array(chosen, np.int64), np.array(found)


def drawn(rows, n, rule, rng, weights, kept=None):
    """Draw n rows with probabilities that go by their values, the first one by the weights.

    Parameters
    ----------
    rng : numpy.random.Generator
    rows, n, rule, weights, kept
        As of `largest_first`.

    Returns
    -------
    (n,) int64
    """
    going_on = kept is not None and kept.chosen is not None
    if going_on:
        chosen, values = kept.chosen[:n].tolist(), kept.values
        rng.bit_generator.state = kept.state
    else:
        equal = (weights == weights[0]).all()
        begin = int(rng.integers(rows.n)) if equal else int(rng.choice(rows.n, p=weights / weights.sum()))
        chosen, values = [begin], np.full(rows.n, np.inf)
        rule.choose(rows.take(np.array([begin]))[0])
    taken = np.zeros(rows.n, bool)
    taken[chosen] = True
    while len(chosen) < n:
        if not going_on:
            _refresh(rows, rule, values, weights, taken, 0.0)
        going_on = False
        if kept is not None:
            kept.keep(chosen, [0.0] * len(chosen), values, rng.bit_generator.state)
        total = np.cumsum(values)
        if not total[-1] > 0:    # only equals of those that were chosen are left
            rest = np.flatnonzero(~taken)[: n - len(chosen)]
            return np.array([*chosen, *rest], np.int64)
        draws = np.searchsorted(total, total[-1] * rng.random(POOL), side="right")
        different, place = np.unique(np.minimum(draws, rows.n - 1), return_inverse=True)
        drawn_rows, before, hits = rows.take(different), values[different], 0
        own, own_weights, own_lengths = before.copy(), weights[different], lengths(drawn_rows)
        for tried, (k, accept) in enumerate(zip(place, rng.random(POOL), strict=True)):
            if hits and hits < LEAST_ACCEPTED * tried:
                break
            if accept * before[k] >= own[k]:
                continue
            hits += 1
            chosen.append(int(different[k]))
            taken[different[k]] = True
            rule.choose(drawn_rows[k])
            own = rule.shrunk(own, drawn_rows, own_lengths, own_weights)
            own[k] = 0.0
            if len(chosen) == n:
                break
    return np.array(chosen, np.int64)


def lengths(x):
    """Squared lengths of rows."""
    return np.einsum("ij,ij->i", x, x)


def squares(rows):
    """Squared lengths of all rows."""
    with np.errstate(over="ignore"):    # told in a sentence
        found = np.concatenate([found for _, found in rows.each(lengths)])
    check_squares(found)
    return found


def _nearer(values, rows, own, new, weights):
    """The smaller of values and weighted squared distances of rows to the nearest of `new`, (m, n_features).

    `own` are the rows' squared lengths.
    """
    of_new = lengths(new)
    squared = rows @ (-2.0 * new.T)
    squared += of_new
    nearest = squared.argmin(axis=1)
    found = squared[np.arange(len(rows)), nearest] + own
    near = np.flatnonzero(found < NEAR * (own + of_new[nearest]))
    found[near] = lengths(rows[near] - new[nearest[near]])
    return np.minimum(values, weights * found)


def _refresh(rows, rule, values, weights, taken, never):
    """Bring the values of all rows up to date; rows that were taken have the value `never`."""
    for a, found in rows.each(_current, (values, weights), (rule,)):
        values[a : a + len(found)] = found
    rule.passed()
    values[taken] = never    # none twice, also among equal structures


def _current(rows, values, weights, rule):
    return rule.current(rows, values, weights)


def _set_apart(values, pool):
    """Numbers of the rows of the largest values, ascending, and the largest value elsewhere."""
    if len(values) <= pool:
        return np.arange(len(values)), -np.inf
    order = np.argpartition(values, len(values) - pool - 1)
    return np.sort(order[-pool:]), values[order[-pool - 1]]
