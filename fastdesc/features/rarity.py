"""How rare rows are, as weights."""

import numpy as np
from numpy.typing import ArrayLike

from fastdesc.checks import flag, positive
from fastdesc.features.reader import FeaturesFile
from fastdesc.features.selection import asked_rows
from fastdesc.types import Float64


def rarity(
    features: ArrayLike | FeaturesFile,
    scale: bool = True,
    ridge: float = 1e-3,
    *,
    environments: bool = False,
    scheduler: str | None = None,
) -> Float64:
    """Weights of structures or atoms that are large where few others lie in the same direction from the mean.

    They are leverages,

        w_i = c x_i · (X^T X / N + ridge <x·x> / n_features)^-1 x_i,

    with c such that their mean is one: a direction that few rows have carries as much weight as one that many have. Two
    passes, whatever the number of rows. `select_diverse`, `select_typical` and `select_uncertain` take them as
    `weights`.

    Parameters
    ----------
    features : (n_structures, n_features) array, or FeaturesFile
        Features of a file that holds rows of atoms are averaged over each structure.
    scale : bool
        Divide every feature by its standard deviation first.
    ridge : float
        Of the mean variance of a feature: directions with less do not count.
    environments, scheduler
        As of `select_diverse`; with `environments` weights of atoms.

    Returns
    -------
    (n,) float64
        Positive, their mean is one.

    Raises
    ------
    InputError
        For features that are not finite or no table, and a ridge that is not above zero.

    Examples
    --------
    >>> chosen = fd.select_typical(f, 100, weights=fd.rarity(f))    # doctest: +SKIP
    """
    flag("scale", scale)
    positive("ridge", ridge, "of the mean variance")
    with asked_rows(features, 1, bool(scale), environments, scheduler) as rows:
        second = sum(found for _, found in rows.each(_products)) / rows.n
        size = np.trace(second) / rows.n_features
        if not size > 0:    # all rows are the same
            return np.ones(rows.n)
        inverse = np.linalg.inv(second + float(ridge) * size * np.eye(rows.n_features))
        found = np.concatenate([part for _, part in rows.each(_leverages, (), (inverse,))])
    found = np.maximum(found, LEAST * found.mean())
    return found / found.mean()


LEAST = 1e-6
"""Smallest weight over the mean: a row at the mean of all would have none."""


def _products(block):
    return block.T @ block


def _leverages(block, inverse):
    return np.einsum("ij,ij->i", block @ inverse, block)
