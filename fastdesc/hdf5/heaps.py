"""Heaps of an HDF5 file, looked at before HDF5 reads from them.

Text of variable length lies in global heaps (HDF5 File Format Specification, III.E): a header with the size of the
heap, then objects, each with its size. HDF5 goes from object to object by these sizes, and for ever where one is wrong;
no signal ends it. So the sizes are followed here first.
"""

import os
import struct

import h5py
import numpy as np
from h5py._objects import phil

SIGNATURE = b"GCOL\x01"
HEADER = struct.Struct("<4sB3xQ")    # signature, version, size of the heap with this header
OBJECT = struct.Struct("<HH4xQ")    # index, count of references, size without this header and without padding
POINTER = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])
LARGEST = 1 << 30
HEAD = 1 << 26
"""Bytes at the beginning of a file in which heaps are looked for: those of attributes are made with the file."""
PIECE = 1 << 22


class Raw:
    """The bytes of an HDF5 file; of each heap that was found whole, the size of its largest object.

    Parameters
    ----------
    fd : int
        Of the open file.
    beneath : CommittedFile, optional
        Through which HDF5 reads the file, where it does; then there is no `fd`.
    """

    def __init__(self, fd, beneath=None):
        self.beneath, self.whole, self._fd = beneath, {}, fd
        self.size = beneath.length if beneath is not None else os.fstat(self._fd).st_size

    def read(self, offset, n):
        """Up to `n` bytes from `offset` on; no memory is made for more than the file has."""
        n = max(0, min(n, self.size - offset))
        if self.beneath is None:
            return os.pread(self._fd, n, offset)
        with phil:    # HDF5 says before every read from where, and does not read meanwhile
            self.beneath.seek(offset)
            return self.beneath.read(n)


def check_heap(raw, at):
    """ValueError unless the heap at an offset is whole: HDF5 comes to its end."""
    if at in raw.whole:
        return
    header = raw.read(at, HEADER.size)
    if len(header) < HEADER.size:
        raise ValueError(f"a heap of text is said to be at byte {at}, beyond the end")
    signature, version, size = HEADER.unpack(header)
    if signature != SIGNATURE[:4] or version != 1:
        raise ValueError(f"there is no heap of text at byte {at}")
    if not HEADER.size <= size <= min(LARGEST, raw.size - at):
        raise ValueError(f"the heap of text at byte {at} is said to have {size} bytes")
    data = raw.read(at, size)
    place, largest = HEADER.size, 0
    while place + OBJECT.size <= size:
        index, _, length = OBJECT.unpack_from(data, place)
        if index == 0:    # the free space, which is the rest; its size includes its header
            if length > size - place:
                raise ValueError(f"the free space of the heap of text at byte {at} goes beyond its end")
            if length < OBJECT.size:
                raise ValueError(f"the free space of the heap of text at byte {at} has no size")
            place += length
            continue
        place += OBJECT.size + (length + 7) // 8 * 8
        largest = max(largest, length)
        if place > size:
            raise ValueError(f"an object in the heap of text at byte {at} goes beyond its end")
    raw.whole[at] = largest


def heap_object(raw, at, number):
    """Bytes of an object in a heap, which is checked; ValueError where there is no such object."""
    check_heap(raw, at)
    data = raw.read(at, HEADER.unpack(raw.read(at, HEADER.size))[2])
    place = HEADER.size
    while place + OBJECT.size <= len(data):
        index, _, length = OBJECT.unpack_from(data, place)
        place += OBJECT.size
        if index == number:
            return data[place : place + length]
        if index == 0:
            break
        place += (length + 7) // 8 * 8
    raise ValueError(f"the heap of text at byte {at} has no object {number}")


def check_heaps(raw, end):
    """ValueError unless all heaps in the first `end` bytes of a file are whole."""
    at = 0
    while at < min(end, raw.size):
        data = raw.read(at, PIECE + len(SIGNATURE) - 1)
        place = data.find(SIGNATURE)
        while place >= 0:
            check_heap(raw, at + place)
            place = data.find(SIGNATURE, place + 1)
        at += PIECE


def check_text(raw, dataset, rows=slice(None)):
    """ValueError unless the heaps that rows of a dataset of text lie in are whole."""
    if h5py.check_string_dtype(dataset.dtype).length is not None:
        return
    if dataset.chunks is None:
        at = dataset.id.get_offset()
        _check_pointers(raw, raw.read(at, dataset.size * POINTER.itemsize) if at is not None else b"")
        return
    first, last, _ = rows.indices(len(dataset))
    size = dataset.chunks[0]
    for a in range(first // size * size, last, size):
        info = dataset.id.get_chunk_info_by_coord((a,) + (0,) * (dataset.ndim - 1))
        if info.byte_offset is not None:    # None: nothing was written there, and all is empty
            _check_pointers(raw, raw.read(info.byte_offset, info.size))


def _check_pointers(raw, data):
    pointers = np.frombuffer(data[: len(data) // POINTER.itemsize * POINTER.itemsize], POINTER)
    pointers = pointers[(pointers["length"] > 0) & (pointers["heap"] > 0)]
    heaps, which = np.unique(pointers["heap"], return_inverse=True)
    for at in heaps.tolist():
        check_heap(raw, at)
    largest = np.array([raw.whole[at] for at in heaps.tolist()], np.uint64)
    if (pointers["length"] > largest[which]).any():    # HDF5 makes memory for as much as the pointer says
        raise ValueError(f"a text is said to have {pointers['length'].max()} bytes, more than its heap holds")


def read_text(raw, dataset, rows=slice(None)):
    """Rows of a dataset of text as an array of str, after a look at the heaps they lie in.

    Parameters
    ----------
    raw : Raw
    dataset : h5py.Dataset
        (), (n,) or (n, ...), of text of variable length in chunks of whole rows, without filters, or of fixed length.
    rows : slice
    """
    check_text(raw, dataset, rows)
    return dataset.asstr()[rows if dataset.shape else ()]
