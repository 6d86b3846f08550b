"""Appendable HDF5 datasets, each with its unit and shape in words, and how they are compressed."""

import zlib

import h5py
import numpy as np

from fastdesc.errors import InputError, nearest
from fastdesc.hdf5.attributes import attribute, set_attributes


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
    """Strings at the end of a dataset, written at once: there is no telling how much memory they would take.

    Their checksums, where there is a dataset for them (`create_text`), are written beside them.
    """

    missing = ""

    def __init__(self, dataset):
        self.dataset = dataset
        sums = dataset.file.get(SUMS + dataset.name)
        self.sums = None if sums is None else Growing(sums)

    def __len__(self):
        return len(self.dataset)

    def append(self, rows):
        """Add an object array of strings."""
        append(self.dataset, rows)
        if self.sums is not None:
            self.sums.append(text_sums(rows))

    def flush(self):
        """Hand over the checksums that wait."""
        if self.sums is not None:
            self.sums.flush()

    def datasets(self):
        """The dataset, and that of its checksums."""
        return [self.dataset] if self.sums is None else [self.dataset, self.sums.dataset]


def text_sums(rows):
    """CRC-32 of the UTF-8 of each string, an array of uint32; 0 for empty ones."""
    rows = np.asarray(rows, object)
    sums = [zlib.crc32(text.encode("utf-8", "surrogateescape")) for text in rows.flat]
    return np.array(sums, np.uint32).reshape(rows.shape)


def create_text(group, name, unit, shape, n=0, row=()):
    """Create a dataset of text of `n` empty rows that grows by rows, and one of the checksums of its rows.

    The latter, as integers, has a checksum of its own: deflate's.

    Returns
    -------
    h5py.Dataset
    """
    d = create(group, name, unit, shape, row, TEXT)
    for one in (d, create(group.file, SUMS.strip("/") + d.name, "1", shape, row, np.uint32)):
        one.resize(n, axis=0)
    return d


def check_text_sums(file, name, rows, text):
    """ValueError unless the text in some rows of a dataset has the checksums that the file has, where it has any."""
    sums = file.get(SUMS + name)
    if sums is None:
        return
    found, first = sums[rows], rows.indices(len(sums))[0]
    if found.shape != text.shape:
        raise ValueError(f"{name} has checksums of the shape {sums.shape}")
    wrong = np.flatnonzero((found != text_sums(text)).reshape(len(text), -1).any(1))
    if len(wrong):
        raise ValueError(f"the text in row {first + wrong[0]} of {name} is not what was written")


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

    def datasets(self):
        """The dataset, in a list."""
        return [self.dataset]

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


CHUNK_BYTES = 1 << 20
STORED_BYTES = 1 << 24
"""Of a chunk of an array that is written at once."""
SUMS = "/checksums"
"""Group of the checksums of text, in datasets of the same names."""
COMPRESSIONS = ("none", "lzf", "gzip", "zstd", "blosc2")
TEXT = h5py.string_dtype("utf-8")


def compression_options(compression):
    """Keywords of h5py's create_dataset for a compression by name.

    "none", "lzf" and "gzip" are read by every h5py; "zstd" and "blosc2" need the package hdf5plugin, also to read.

    Raises
    ------
    InputError
        For another name, and where hdf5plugin is missing.
    """
    if not isinstance(compression, str) or compression not in COMPRESSIONS:
        raise InputError(
            f"compression {compression!r} is not known{nearest(compression, COMPRESSIONS)}; "
            f"use one of {', '.join(COMPRESSIONS)}"
        )
    if compression == "none":
        return {}
    if compression == "gzip":
        return {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    if compression == "lzf":
        return {"compression": "lzf", "shuffle": True}
    plugin = load_plugin(compression)
    if compression == "zstd":
        return dict(plugin.Zstd(clevel=3), shuffle=True)
    return dict(plugin.Blosc2(cname="zstd", clevel=3, filters=plugin.Blosc2.SHUFFLE))


def load_plugin(compression):
    """Import hdf5plugin, which teaches HDF5 more compressions.

    Raises
    ------
    InputError
        Where it is not installed.
    """
    try:
        import hdf5plugin
    except ImportError as error:
        raise InputError(
            f"compression {compression!r} needs the package hdf5plugin: pip install 'fastdesc[compression]'"
        ) from error
    return hdf5plugin


def prepare_to_read(file):
    """Load hdf5plugin where the open file needs it.

    Raises
    ------
    InputError
        Where it is not installed.
    """
    compression = attribute(file, "compression")
    if isinstance(compression, str) and compression in ("zstd", "blosc2"):
        load_plugin(compression)


def store(group, name, array):
    """Write an array, all of it, with a checksum that HDF5 compares when the array is read."""
    array = np.asarray(array)
    if array.ndim == 0 or array.size == 0:    # what has no rows has no chunks, and no checksum
        return group.create_dataset(name, data=array)
    rows = max(1, STORED_BYTES * len(array) // max(array.nbytes, 1))
    return group.create_dataset(name, data=array, chunks=(min(rows, len(array)), *array.shape[1:]), fletcher32=True)


def open_to_append(file, mode):
    """Open a file to write datasets from their first row to their last.

    Of each, HDF5 keeps one chunk in memory, not the 8 MB of its version 2: a written chunk is never looked at again.
    """
    return h5py.File(file, mode, rdcc_nbytes=CHUNK_BYTES)


def describe(dataset, unit, shape):
    """Write the attributes every dataset has."""
    set_attributes(dataset, {"unit": unit, "shape": shape})


def create(group, name, unit, shape, row=(), dtype=np.float64, compression="none", chunk_rows=None, summed=False):
    """Create an empty dataset that grows by rows.

    Integers, which repeat themselves, are always deflated; `compression` is for floating-point numbers. With `summed`
    numbers have checksums, which HDF5 compares when they are read: always a whole chunk.
    """
    kind = np.dtype(dtype) if dtype is not TEXT else None
    row_bytes = max(1, int(np.prod(row))) * (kind.itemsize if kind is not None else 16)
    if chunk_rows is None:
        chunk_rows = max(1, min(CHUNK_BYTES // row_bytes, 1 << 14))
    packed = {} if kind is None else compression_options("gzip" if kind.kind in "iub" else compression)
    if summed and kind is not None:
        packed["fletcher32"] = True
    d = group.create_dataset(name, (0, *row), dtype, maxshape=(None, *row), chunks=(chunk_rows, *row), **packed)
    describe(d, unit, shape)
    return d


def check_rows(file, tables, n_frames, n_atoms):
    """ValueError unless datasets have the sizes and kinds they should have.

    Parameters
    ----------
    file : h5py.File
    tables : dict
        name: (unit, shape in words, shape of a row, dtype); words begin with n_atoms or n_frames.
    """
    for name, (_, words, row, dtype) in tables.items():
        wanted = (n_atoms if words.startswith("n_atoms") else n_frames, *row)
        found = file[name]
        if found.shape != wanted or not np.can_cast(found.dtype, dtype, "same_kind"):
            raise ValueError(
                f"{name} has the shape {found.shape} and the type {found.dtype} where {wanted} and {np.dtype(dtype)} "
                "belong"
            )
