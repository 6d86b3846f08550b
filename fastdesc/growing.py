"""Datasets that grow while a file is written: rows wait until they fill a chunk."""

import h5py
import numpy as np


def growing(dataset):
    """A Growing, or Strings, of a dataset."""
    return Growing(dataset) if h5py.check_string_dtype(dataset.dtype) is None else Strings(dataset)


def append(dataset, rows):
    """Add rows at the end of a dataset at once."""
    n = len(dataset)
    if len(rows):
        dataset.resize(n + len(rows), axis=0)
        dataset[n:] = rows


class Strings:
    """Strings at the end of a dataset, written at once: there is no telling how much memory they would take."""

    missing = ""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def append(self, rows):
        """Add an object array of strings."""
        append(self.dataset, rows)

    def flush(self):
        """Nothing waits."""


class Growing:
    """Rows at the end of a dataset, which HDF5 gets in whole chunks.

    A chunk without filters goes to the file as it is, past the selections, conversions and caches of HDF5, which cost
    more than the rest of writing. A dataset stays open: closed and opened for every batch, its last chunk would be
    written and read back, and inflated and deflated, every time.

    Parameters
    ----------
    dataset : h5py.Dataset
        Chunked along its first axis only, as `tables.create` makes it. Until `flush` it lacks the rows that wait.
    """

    missing = np.nan

    def __init__(self, dataset):
        self.dataset = dataset
        plain = dataset.dtype.kind in "iuf" and dataset.id.get_create_plist().get_nfilters() == 0
        self._put = _put_chunk if plain else _put_rows
        self._chunk = np.zeros(dataset.chunks, dataset.dtype)
        self._first = len(dataset) - len(dataset) % len(self._chunk)    # row of the file where the chunk begins
        self._filled = self._stored = len(dataset) - self._first    # rows of the chunk, and those the file has
        if plain and self._filled:
            self._chunk[: self._filled] = dataset[self._first :]

    def __len__(self):
        return self._first + self._filled

    def append(self, rows):
        """Add rows at the end; they are copied, or written."""
        size = len(self._chunk)
        if self._filled + len(rows) >= size:
            rows = np.ascontiguousarray(rows, self._chunk.dtype)
            self.dataset.resize((len(self) + len(rows)) // size * size, axis=0)
        while self._filled + len(rows) >= size:
            n = size - self._filled
            chunk = rows[:n]
            if self._filled:
                self._chunk[self._filled :], chunk = chunk, self._chunk
            self._put(self.dataset, self._first, self._stored, size, chunk)
            self._first, self._filled, self._stored, rows = self._first + size, 0, 0, rows[n:]
        self._chunk[self._filled : self._filled + len(rows)] = rows
        self._filled += len(rows)

    def flush(self):
        """Hand over the rows that wait."""
        if self._stored < self._filled:
            self.dataset.resize(len(self), axis=0)
            self._put(self.dataset, self._first, self._stored, self._filled, self._chunk)
            self._stored = self._filled

def _put_chunk(dataset, first, stored, filled, chunk):
    """Write the chunk that begins at row `first` as bytes; those of its rows that the file has are the same."""
    chunk[filled:] = 0
    dataset.id.write_direct_chunk((first,) + (0,) * (chunk.ndim - 1), chunk)


def _put_rows(dataset, first, stored, filled, chunk):
    """Write the rows stored .. filled of the chunk that begins at row `first`."""
    dataset[first + stored : first + filled] = chunk[stored:filled]
