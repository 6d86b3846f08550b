"""Which structures to take, or to label: diverse, typical, uncertain ones; how is in fastdesc/features/greedy.py."""

import hashlib
from contextlib import contextmanager

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdesc.checks import brief, count, flag, positive
from fastdesc.checks import seed as check_seed
from fastdesc.errors import InputError
from fastdesc.features.dask import client_of, require_dask
from fastdesc.features.greedy import ANEW, LEAST_NOISE, Distances, Variances, drawn, largest_first, squares
from fastdesc.features.kept_choice import KeptChoice
from fastdesc.features.reader import FeaturesFile
from fastdesc.features.rows import Rows
from fastdesc.features.rows_on_dask import RowsOnDask
from fastdesc.types import FilePath, Float64

LEAST_WEIGHT = 1e-100
"""Of the largest: squares of smaller ones would vanish."""


def select_diverse(
    features: ArrayLike | FeaturesFile,
    n: int,
    scale: bool = True,
    first: int | None = None,
    *,
    weights: ArrayLike | None = None,
    environments: bool = False,
    checkpoint: FilePath | None = None,
    scheduler: str | None = None,
) -> tuple[NDArray[np.int64], Float64]:
    """Choose structures one by one, each the farthest from those chosen so far.

    Gonzalez, Theor. Comput. Sci. 38, 293 (1985): the largest distance that remains is at most twice the smallest
    possible. It finds the corners of a set; `select_typical` follows its density.

    Parameters
    ----------
    features : (n_structures, n_features) array, or FeaturesFile
        Features of a file that holds rows of atoms are averaged over each structure. A file of any size: what takes
        more than 1 GB is read again in each pass, and memory is needed for two numbers of each row.
    n : int
        Structures to choose.
    scale : bool
        Divide every feature by its standard deviation first.
    first : int, optional
        Where to begin; by default with the structure farthest from the mean of all.
    weights : (n_structures,) array, optional
        By which distances are multiplied in the choice, such as those of `rarity`; positive.
    environments : bool
        Choose among the rows of atoms of a file. Atom k is of structure
        ``np.searchsorted(file.offsets, k, "right") - 1``.
    checkpoint : str or Path, optional
        A file in which the choice is kept every few seconds. Where it exists, the same call goes on from there, also
        with a larger `n`, and ends as if it had not been interrupted.
    scheduler : str, optional
        Address of a Dask scheduler, or "local": its workers go through the rows. For a file that they can read under
        the same name. The choice is the same to the last bit.

    Returns
    -------
    chosen : (n,) int64
        In the order of choice: the first k are the choice for n = k.
    distances : (n,) float64
        Of each to the ones before it; of the first one to the mean. Without weights.

    Raises
    ------
    InputError
        For features that are not finite or no table, for more structures than there are, and for a checkpoint of
        another choice.
    """
    flag("scale", scale)
    with asked_rows(features, n, bool(scale), environments, scheduler) as rows:
        factors = _factors(weights, rows.n) ** 2
        if first is not None:
            count("first", first, 0, rows.n - 1)
        from_mean = squares(rows)
        begin = int((from_mean * factors).argmax()) if first is None else int(first)
        told = {"rule": "diverse", "scale": bool(scale), "first": begin}
        kept = _kept(checkpoint, from_mean, rows, factors, told)
        chosen, values = largest_first(rows, n, Distances(), np.full(rows.n, np.inf), begin, factors, kept)
    values[0] = from_mean[begin] * factors[begin]
    return chosen, np.sqrt(values / factors[chosen])


def select_typical(
    features: ArrayLike | FeaturesFile,
    n: int,
    scale: bool = True,
    seed: int = 0,
    *,
    weights: ArrayLike | None = None,
    environments: bool = False,
    checkpoint: FilePath | None = None,
    scheduler: str | None = None,
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
    weights : (n_structures,) array, optional
        By which probabilities are multiplied; positive.
    environments, checkpoint, scheduler
        As of `select_diverse`.

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
    with asked_rows(features, n, bool(scale), environments, scheduler) as rows:
        factors = _factors(weights, rows.n)
        told = {"rule": "typical", "scale": bool(scale), "seed": int(seed)}
        kept = None if checkpoint is None else _kept(checkpoint, squares(rows), rows, factors, told)
        return drawn(rows, n, Distances(), np.random.default_rng(seed), factors, kept)


def select_uncertain(
    features: ArrayLike | FeaturesFile,
    n: int,
    noise: float = 0.1,
    first: int | None = None,
    *,
    weights: ArrayLike | None = None,
    environments: bool = False,
    checkpoint: FilePath | None = None,
    scheduler: str | None = None,
) -> tuple[NDArray[np.int64], Float64]:
    """Choose structures one by one, each the one whose variance is largest once the others are known.

    A row x stands for a quantity of variance x·x, two rows for a covariance x·y, such as those of
    `fastdesc.last_layer_features`. What a choice says of the other rows is taken off their variances before the next:
    greedy D-optimal design, which does not choose the same thing twice. `select_spanning` goes on with exchanges.

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
    weights : (n_structures,) array, optional
        By which standard deviations are multiplied in the choice; positive.
    environments, checkpoint, scheduler
        As of `select_diverse`.

    Returns
    -------
    chosen : (n,) int64
        In the order of choice: the first k are the choice for n = k.
    deviations : (n,) float64
        Standard deviation of each, given the ones before it. Without weights.

    Raises
    ------
    InputError
        As `select_diverse` does; for a noise that is not above zero.
    """
    positive("noise", noise, "of the mean variance")
    with asked_rows(features, n, None, environments, scheduler) as rows:
        factors = _factors(weights, rows.n) ** 2
        if first is not None:
            count("first", first, 0, rows.n - 1)
        chosen, values, _ = greatest_variance(rows, n, noise, factors, first, checkpoint)
    return chosen, np.sqrt(np.maximum(values / factors[chosen], 0.0))


def greatest_variance(rows, n, noise, factors, first=None, checkpoint=None):
    """Rows chosen by variance, their variances times `factors`, and the variance of the noise, in units of the rows."""
    values = squares(rows)
    own_noise = float(noise) * max(values.mean(), np.finfo(float).tiny)
    told = {"rule": "uncertain", "noise": float(noise)}
    before, values = values, values * factors
    begin = int(values.argmax()) if first is None else int(first)
    kept = _kept(checkpoint, before, rows, factors, {**told, "first": begin})
    rule = Variances(rows.n_features, own_noise, ANEW if noise >= LEAST_NOISE else 1)
    return *largest_first(rows, n, rule, values, begin, factors, kept), own_noise


@contextmanager
def asked_rows(features, n, scale, environments=False, scheduler=None):
    """Rows of features, of which n are asked for; on workers where a scheduler is named."""
    flag("environments", environments)
    environments = bool(environments)
    if environments and not isinstance(features, FeaturesFile):
        raise InputError("environments=True came with features that are no file; leave it out")
    if scheduler is None:
        rows = Rows(features, scale, environments)
        yield _enough(rows, n)
        return
    if not isinstance(scheduler, str):
        raise InputError(f"scheduler came as {brief(scheduler)}; give the address of a Dask scheduler, or 'local'")
    require_dask()
    with client_of(scheduler, None) as client:
        yield _enough(RowsOnDask(features, scale, environments, client), n)


def _enough(rows, n):
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 1 <= n <= rows.n:
        raise InputError(f"{n} structures were asked for; choose between 1 and the {rows.n} there are")
    return rows


def _factors(weights, n):
    """Weights as (n,) float64 with a mean of one; ones where none came."""
    if weights is None:
        return np.ones(n)
    try:
        w = np.asarray(weights)
        w = w.astype(np.float64) if w.dtype.kind in "iuf" else None
    except (ValueError, TypeError, OverflowError):
        w = None
    if w is None or w.shape != (n,) or not (np.isfinite(w).all() and (w > 0).all() and np.isfinite(w.sum())):
        raise InputError(f"weights came as {brief(weights)}; give {n} positive numbers, one for each row")
    if not w.min() > LEAST_WEIGHT * w.max():
        raise InputError(f"weights came from {w.min():.2g} to {w.max():.2g}; give some of more alike sizes")
    return w / w.mean()


def _kept(checkpoint, lengths, rows, factors, told):
    """The KeptChoice of a call for rows of these squared lengths, None without a checkpoint."""
    if checkpoint is None:
        return None
    digest = hashlib.blake2b(factors.tobytes(), digest_size=8)
    digest.update(lengths.tobytes())
    ends = np.array([0, rows.n // 2, rows.n - 1])
    digest.update(rows.take(ends).tobytes())
    made_of = {"rows": rows.n, "features": rows.n_features, "numbers": digest.hexdigest(), **told}
    return KeptChoice(checkpoint, made_of)
