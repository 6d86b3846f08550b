"""A table with one row for each structure, in memory or in a features file, read in blocks and scaled."""

from contextlib import suppress

import numpy as np

from fastdesc.errors import InputError
from fastdesc.features.reader import FeaturesFile

BLOCK = 4096
"""Rows at a time."""
IN_MEMORY = 2**30
"""Bytes: a table that takes no more is read and scaled once, a larger one in every pass."""


class Rows:
    """Rows of features, centred and, with `scale`, divided by the standard deviation of each feature.

    Parameters
    ----------
    features : (n_rows, n_features) array, or FeaturesFile
        Features of a file that holds rows of atoms are averaged over each structure.
    scale : bool or None
        None leaves the rows as they are: neither centred nor scaled.

    Attributes
    ----------
    n, n_features : int

    Raises
    ------
    InputError
        For features that are no table, or not finite.
    """

    def __init__(self, features, scale):
        self._source = features if isinstance(features, FeaturesFile) else _table(features)
        self._mean, self._weights, self._kept = 0.0, None, None
        if isinstance(features, FeaturesFile):
            self.n, self.n_features = len(features), features.n_features
        else:
            self.n, self.n_features = self._source.shape
        if scale is not None:
            self._fit(scale)
        if 8 * self.n * self.n_features <= IN_MEMORY:
            kept = np.empty((self.n, self.n_features))
            for a, block in self.blocks():
                kept[a : a + len(block)] = block
            self._kept = kept

    def blocks(self, size=BLOCK):
        """Yield the number of the first row, and float64 rows, (n, n_features)."""
        if self._kept is not None:
            for a in range(0, self.n, size):
                yield a, self._kept[a : a + size]
            return
        for a, block in self._raw(size):
            block = block - self._mean
            if self._weights is not None:
                block *= self._weights
            yield a, block

    def take(self, which):
        """Rows by their numbers, in that order."""
        if self._kept is not None:
            return self._kept[which]
        out = np.empty((len(which), self.n_features))
        for a, block in self.blocks():
            inside = np.flatnonzero((which >= a) & (which < a + len(block)))
            out[inside] = block[which[inside] - a]
        return out

    def _fit(self, scale):
        """Mean and standard deviation of every feature, in two passes."""
        mean = sum(block.sum(0, dtype=np.float64) for _, block in self._raw()) / self.n
        self._mean = mean
        if scale:
            square = sum(((block - mean) ** 2).sum(0) for _, block in self._raw()) / self.n
            deviation = np.sqrt(square)
            # Features that do not change say nothing; round-off must not be scaled up.
            changes = deviation > 1e-10 * np.abs(mean)
            self._weights = np.where(changes, 1 / np.where(deviation > 0, deviation, 1), 0.0)

    def _raw(self, size=BLOCK):
        """Yield the number of the first row, and rows as they are."""
        if not isinstance(self._source, FeaturesFile):
            for a in range(0, self.n, size):
                yield a, self._source[a : a + size]
            return
        for part in self._source.batches(size):
            block = part.features
            if not self._source.pool:
                sums = np.add.reduceat(block, part.offsets[:-1], axis=0, dtype=np.float64)
                block = sums / np.diff(part.offsets)[:, None]
            _check_finite(block)
            yield part.first, block


def _table(features):
    """Return features as an array; InputError for what is no table of finite numbers."""
    x = None
    with suppress(ValueError, TypeError):    # rows of different lengths, and what is no array at all
        x = np.asarray(features)
    if x is None:
        raise InputError("features came that make no table; give finite rows of structures")
    if x.ndim != 2 or not len(x) or not np.issubdtype(x.dtype, np.floating):
        raise InputError(f"features of shape {x.shape} and type {x.dtype} arrived; give finite rows of structures")
    _check_finite(x)
    return x


def _check_finite(x):
    if not np.isfinite(x).all():
        raise InputError(f"features of shape {x.shape} hold NaN or infinite values; give finite rows of structures")
