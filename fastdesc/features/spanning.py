"""Rows that span all others: D-optimal design by exchanges, which for as many rows as features is MaxVol.

With noise s² the volume of chosen rows X (n, n_features) is

    V = det(s² + X^T X)                                                                                        (1)

and putting row x in the place of the chosen row y changes it, with S = (s² + X^T X)^-1, by the factor

    g = (1 + x·S x) (1 - y·S y) + (x·S y)²                                                                     (2)

For n = n_features and s -> 0 the first term vanishes and (x·S y)² is the square of an entry of A X^-1, by which MaxVol
goes (Goreinov et al., in: Matrix Methods, 247 (2010); for other n: Mikhalev, Oseledets, Linear Algebra Appl. 538, 187
(2018), and Fedorov's exchange). The greedy choice comes first; then rows are looked at block by block, and those
of a block that are worth an exchange are exchanged, the best first, until a whole pass finds none.
"""

from copy import copy

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdesc.checks import positive
from fastdesc.features.greedy import AT_ONCE
from fastdesc.features.reader import FeaturesFile
from fastdesc.features.selection import asked_rows, greatest_variance
from fastdesc.types import FilePath

MOST_PASSES = 100
"""Each makes the volume larger: more are needed where round-off alone does."""
LOOKED_AT = 256
"""Rows of a block that are tried at most."""


def select_spanning(
    features: ArrayLike | FeaturesFile,
    n: int,
    noise: float = 1e-6,
    tolerance: float = 0.05,
    *,
    environments: bool = False,
    checkpoint: FilePath | None = None,
    scheduler: str | None = None,
) -> NDArray[np.int64]:
    """Choose structures whose rows span the others: the largest volume that exchanges find (D-optimal, MaxVol).

    `select_uncertain` takes one row after the other and keeps it; here what was chosen early goes again where another
    row does better. It is meant for rows in which something is linear: `last_layer_features`, or features of a linear
    model.

    Parameters
    ----------
    features : (n_structures, n_features) array, or FeaturesFile
        Neither centred nor scaled. A file of any size: what takes more than 1 GB is read again in each pass.
    n : int
        Structures to choose. MaxVol is for as many as there are features.
    noise : float
        s² of (1) over the mean of the rows' squared lengths: directions that hold less do not count.
    tolerance : float
        Exchanges that make the volume of the chosen rows (a length per row) larger by no more than this share are not
        made.
    environments, checkpoint, scheduler
        As of `select_diverse`. The checkpoint is that of the greedy choice, which exchanges begin with.

    Returns
    -------
    (n,) int64
        Ascending. The choice for fewer is another one.

    Raises
    ------
    InputError
        As `select_uncertain` does; for a tolerance that is not above zero.
    """
    positive("noise", noise, "of the mean squared length")
    positive("tolerance", tolerance, "a share")
    with asked_rows(features, n, None, environments, scheduler) as rows:
        chosen, _, own_noise = greatest_variance(rows, n, noise, np.ones(rows.n), None, checkpoint)
        design = Design(rows.take(chosen), own_noise, (1 + float(tolerance)) ** 2)
        for _ in range(MOST_PASSES):
            exchanged = 0
            for a, (worth, found) in rows.each(_worth, (), (copy(design),)):    # as it is when the pass begins
                exchanged += design.improve(found, a + worth, chosen)
            if not exchanged:
                break
    return np.sort(chosen)


def _worth(block, design):
    """Rows of a block that are worth an exchange, the best ones where they are many: their numbers, and they."""
    size = max(64, AT_ONCE // len(design.x))
    gains = np.concatenate([design.gains(block[a : a + size]).max(axis=1) for a in range(0, len(block), size)])
    worth = np.flatnonzero(gains > design.least)
    if len(worth) > LOOKED_AT:
        worth = np.sort(worth[np.argpartition(gains[worth], -LOOKED_AT)[-LOOKED_AT:]])
    return worth, block[worth]


class Design:
    """Chosen rows, and the exchanges that make their volume larger.

    Parameters
    ----------
    chosen : (n, n_features) float64
    noise : float
        s² of (1).
    least : float
        Exchanges with g of (2) up to this are not made.
    """

    def __init__(self, chosen, noise, least):
        self.x, self.noise, self.least = chosen.copy(), noise, least
        self._solve()

    def _solve(self):
        self.s = np.linalg.inv(self.noise * np.eye(self.x.shape[1]) + self.x.T @ self.x)
        self.left = np.maximum(1 - np.einsum("ij,ij->i", self.x @ self.s, self.x), 0.0)

    def gains(self, rows):
        """Formula (2) for each of some rows and each of the chosen ones, (n_rows, n)."""
        along = rows @ self.s
        gain = (along @ self.x.T) ** 2
        gain += (1 + np.einsum("ij,ij->i", along, rows))[:, None] * self.left
        return gain

    def improve(self, rows, which, chosen):
        """Exchange until none of some rows is worth it; return how often.

        Parameters
        ----------
        rows : (m, n_features)
        which : (m,) int
            Their numbers.
        chosen : (n,) int
            Numbers of the chosen rows, which are brought up to date.
        """
        exchanged = 0
        while len(rows) and exchanged < len(self.x):
            gain = self.gains(rows)
            gain[np.isin(which, chosen)] = 0.0    # none twice
            i, j = np.unravel_index(int(gain.argmax()), gain.shape)
            if not gain[i, j] > self.least:
                break
            self.x = self.x.copy()    # of which a pass may hold a copy
            self.x[j], chosen[j] = rows[i], which[i]
            self._solve()
            exchanged += 1
        return exchanged
