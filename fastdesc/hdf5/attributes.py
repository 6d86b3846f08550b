"""Text in attributes of HDF5 objects, of fixed length.

Text of variable length lies in heaps that all objects of a file share, and HDF5 does not come back from one whose sizes
are damaged (fastdesc/hdf5/heaps.py). Files that were written before this have such text; it is read all the same.
"""

import h5py
import numpy as np

from fastdesc.errors import InputError

LONGEST = 60_000
"""Bytes of a piece: HDF5 allows 64 kB for an attribute. Longer text goes on under `<name> (2)` and so on."""


def set_attributes(item, values):
    """Write attributes: text of fixed length, UTF-8; numbers as they are.

    Parameters
    ----------
    item : h5py.File, Group or Dataset
    values : dict
    """
    for name, value in values.items():
        if not isinstance(value, str):
            item.attrs[name] = value
            continue
        data = value.encode("utf-8")
        if b"\0" in data:
            raise InputError(f"{name} came as {value!r}; text with a NUL cannot be written")
        for k in range(0, max(len(data), 1), LONGEST):
            piece = data[k : k + LONGEST]
            kind = h5py.string_dtype("utf-8", max(len(piece), 1))
            item.attrs.create(_piece(name, k // LONGEST), np.array(piece, kind), dtype=kind)


def attribute(item, name, default=None):
    """Value of an attribute: text as str, whichever way it was written; `default` where there is none.

    Raises
    ------
    ValueError
        When text is no UTF-8.
    """
    value = item.attrs.get(name)
    if value is None:
        return default
    if not isinstance(value, bytes):
        return value
    pieces = [value]
    while (more := item.attrs.get(_piece(name, len(pieces)))) is not None:
        pieces.append(more)
    return b"".join(pieces).decode("utf-8")


def attributes(item):
    """All attributes as a dict, text as str."""
    names = list(item.attrs)
    later = {_piece(name, k) for name in names for k in range(1, 1 + sum(n.startswith(f"{name} (") for n in names))}
    return {name: attribute(item, name) for name in names if name not in later}


def _piece(name, k):
    return f"{name} ({k + 1})" if k else name
