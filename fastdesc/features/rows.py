"""A table with one row for each structure or atom, in memory or in a features file, read in blocks and scaled."""

from contextlib import suppress

import numpy as np

from fastdesc.backend.threads import in_order
from fastdesc.errors import InputError
from fastdesc.features.reader import FeaturesFile

BLOCK = 4096
"""Rows at a time."""
PART = 2**16
"""Numbers that are scaled at a time: they stay in the cache."""
IN_MEMORY = 2**30
"""Bytes: a table that takes no more is read and scaled once, a larger one in every pass."""
FEW = 3
"""Rows of a block are read one by one where they are no more."""


class Rows:
    """Rows of features, centred and, with `scale`, divided by the standard deviation of each feature.

    Parameters
    ----------
    features : (n_rows, n_features) array, or FeaturesFile
        Features of a file that holds rows of atoms are averaged over each structure.
    scale : bool or None
        None leaves the rows as they are: neither centred nor scaled.
    environments : bool
        Take the rows of atoms of a file one by one.

    Attributes
    ----------
    n, n_features : int

    Raises
    ------
    InputError
        For features that are no table, or not finite.
    """

    def __init__(self, features, scale, environments=False):
        self._source = _file(features, environments) if isinstance(features, FeaturesFile) else _table(features)
        self._mean, self._weights, self._kept = 0.0, None, None
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
        return self._blocks(0, self.n, size)

    def each(self, function, of_rows=(), common=()):
        """Yield the number of the first row, and function(rows, ..) of each block, in order.

        Blocks are read one after the other, and threads do the rest.

        Parameters
        ----------
        function : callable
            At the top of a module.
        of_rows : sequence of (n_rows,) arrays
            The function is handed the part that belongs to the block.
        common : sequence
            Its last arguments.
        """

        def task(part):
            a, block = part
            own = [values[a : a + len(block)] for values in of_rows]
            return a, function(self._ready(block), *own, *common)

        yield from in_order(task, self._read(0, self.n, BLOCK))

    def take(self, which):
        """Rows by their numbers, in that order."""
        if self._kept is not None:
            return self._kept[which]
        out, order = np.empty((len(which), self.n_features)), np.argsort(which, kind="stable")
        for own in np.split(order, np.flatnonzero(np.diff(which[order] // BLOCK)) + 1):
            if len(own) <= FEW:
                for k in own:
                    out[k] = self._ready(self._source[int(which[k]) : int(which[k]) + 1])[0]
            else:
                a = int(which[own[0]]) // BLOCK * BLOCK
                ((_, block),) = self._read(a, min(a + BLOCK, self.n), BLOCK)
                out[own] = self._ready(block[which[own] - a])
        return out

    def _blocks(self, first, end, size=BLOCK):
        """`blocks` of the rows first .. end."""
        for a, block in self._read(first, end, size):
            yield a, self._ready(block)

    def _read(self, first, end, size):
        """The same as they are in memory or in the file."""
        source = self._source if self._kept is None else self._kept
        for a in range(first, end, size):
            yield a, source[a : min(a + size, end)]

    def _ready(self, block):
        """Rows as they were read, centred and scaled in float64."""
        if self._kept is not None:
            return block
        out, size = np.empty(block.shape), max(1, PART // block.shape[1])
        for a in range(0, len(block), size):
            own = out[a : a + size]
            np.subtract(block[a : a + size], self._mean, out=own)
            if self._weights is not None:
                own *= self._weights
        return out

    def _fit(self, scale):
        """Mean and standard deviation of every feature, in one pass over differences from the mean of some rows."""
        some = self._source[0 : min(BLOCK, self.n)].mean(0, dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):    # told in a sentence
            sums, squares = sum(found for _, found in self.each(_sums, (), (some,))) / self.n
        check_squares(squares)
        mean = some + sums
        if scale:
            deviation = np.sqrt(np.maximum(squares - sums**2, 0.0))
            # Features that do not change say nothing; round-off must not be scaled up.
            changes = deviation > 1e-10 * np.abs(mean)
            self._weights = np.where(changes, 1 / np.where(deviation > 0, deviation, 1), 0.0)
        self._mean = mean


def _sums(block, some):
    """Sums of differences from `some`, and of their squares."""
    block = block - some
    return np.stack([block.sum(0), np.einsum("ij,ij->j", block, block)])


class _Averages:
    """Rows of structures of a features file: `rows[a:b]`."""

    def __init__(self, file):
        self.file, self.shape = file, (len(file), file.n_features)

    def __getitem__(self, which):
        part = self.file.rows(which.start, which.stop)
        block = part.features
        if not self.file.pool:
            sums = np.add.reduceat(block, part.offsets[:-1], axis=0, dtype=np.float64)
            block = sums / np.diff(part.offsets)[:, None]
        _check_finite(block)
        return block


class _Environments:
    """Rows of atoms of a features file: `rows[a:b]`."""

    def __init__(self, file):
        self.atoms, self.shape = file.atoms, file.atoms.shape

    def __getitem__(self, which):
        block = self.atoms[which]
        _check_finite(block)
        return block


def _file(file, environments):
    if not len(file):
        raise InputError(f"{file.path} holds no structures; give a file that holds some")
    return _Environments(file) if environments else _Averages(file)


def _table(features):
    """Return features as an array; InputError for what is no table of finite numbers."""
    x = None
    with suppress(ValueError, TypeError):    # rows of different lengths, and what is no array at all
        x = np.asarray(features)
    if x is None:
        raise InputError("features came that make no table; give finite rows of structures")
    if x.ndim != 2 or not x.size or not np.issubdtype(x.dtype, np.floating):
        raise InputError(f"features of shape {x.shape} and type {x.dtype} arrived; give finite rows of structures")
    _check_finite(x)
    return x


def check_squares(squares):
    """InputError for squares that are not finite."""
    if not np.isfinite(squares).all():
        raise InputError("features are so large that their squares are infinite; give them in another unit")


def _check_finite(x):
    if not np.isfinite(x).all():
        raise InputError(f"features of shape {x.shape} hold NaN or infinite values; give finite rows of structures")
