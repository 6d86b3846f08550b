"""A diverse subset of structures: farthest-point selection on features."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdesc.checks import count, flag
from fastdesc.errors import InputError
from fastdesc.features.reader import FeaturesFile
from fastdesc.types import Float64

ROWS = 8192


def select_diverse(
    features: ArrayLike | FeaturesFile, n: int, scale: bool = True, first: int | None = None
) -> tuple[NDArray[np.int64], Float64]:
    """Choose structures one by one, each the farthest from those chosen so far.

    Gonzalez, Theor. Comput. Sci. 38, 293 (1985): the largest distance that remains is at most twice the smallest
    possible. Every choice costs one pass over the rows.

    Parameters
    ----------
    features : (n_structures, n_features) array, or FeaturesFile
        Features of a file that holds rows of atoms are averaged over each structure.
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
    if isinstance(features, FeaturesFile):
        from fastdesc.features.transformer import pooled_features

        features = pooled_features(features)
    try:
        x = np.asarray(features)
    except ValueError as error:    # rows of different lengths
        raise InputError(f"features came that make no table ({error}); give finite rows of structures") from error
    if x.ndim != 2 or not np.issubdtype(x.dtype, np.floating) or not np.isfinite(x).all():
        raise InputError(f"features of shape {x.shape} and type {x.dtype} arrived; give finite rows of structures")
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 1 <= n <= len(x):
        raise InputError(f"{n} structures were asked for; choose between 1 and the {len(x)} there are")
    flag("scale", scale)
    if first is not None:
        count("first", first, 0, len(x) - 1)
    mean = x.mean(0, dtype=np.float64)
    weights = np.ones(x.shape[1])
    if scale:
        deviation = x.std(0, dtype=np.float64)
        # Features that do not change say nothing; round-off must not be scaled up.
        weights = np.where(deviation > 1e-10 * np.abs(mean), 1 / np.where(deviation > 0, deviation, 1), 0.0)
    from_mean = _distances(x, mean, weights)
    chosen = [int(from_mean.argmax()) if first is None else int(first)]
    distances = [from_mean[chosen[0]]]
    nearest = np.full(len(x), np.inf)
    while len(chosen) < n:
        np.minimum(nearest, _distances(x, x[chosen[-1]], weights), out=nearest)
        nearest[chosen[-1]] = -1.0    # never twice, also among equal structures
        chosen.append(int(nearest.argmax()))
        distances.append(nearest[chosen[-1]])
    return np.array(chosen, np.int64), np.sqrt(distances)


def _distances(x, centre, weights):
    """Squared distances of rows to a centre, (n_rows,), in float64."""
    found = np.empty(len(x))
    for a in range(0, len(x), ROWS):
        difference = (x[a : a + ROWS] - centre) * weights
        found[a : a + ROWS] = np.einsum("ij,ij->i", difference, difference)
    return found
