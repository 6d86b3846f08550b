"""Tensors of a file of PyTorch as read-only views of its bytes: nothing is allocated but what was read.

A tensor is a storage (a member of the archive), an offset, a size and strides, all numbers of the file. They are held
against the member's size before it is read, and against each other before a view is made, which never shows more
numbers than its storage has.
"""

import math
import re

import numpy as np

from fastdesc.errors import FileFormatError

DTYPES = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "LongStorage": "i8", "IntStorage": "i4",
    "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip
"""Name of a storage type -> NumPy's dtype."""
MOST_AXES = 16
LONGEST = 2**31
"""Product of the axes of an empty array that are not empty; it has no use for more."""
KEY = re.compile(r"\w{1,32}", re.ASCII)


class Storages:
    """Storages of an archive, each read once.

    Parameters
    ----------
    archive : Archive
    """

    def __init__(self, archive):
        self._archive, self._known = archive, {}
        self._order = ">" if archive.has("byteorder") and archive.read("byteorder").strip() == b"big" else "<"

    def storage(self, name, key, length):
        """Return the array of a storage: name of its type, key of its member, numbers that it is said to hold."""
        if not (isinstance(key, str) and KEY.fullmatch(key)) or not _is_count(length):
            raise self._refused(f"a storage {key!r} of {length!r} numbers")
        if (name, key) not in self._known:
            dtype = np.dtype(DTYPES[name]).newbyteorder(self._order)
            if self._archive.size_of(f"data/{key}") != length * dtype.itemsize:
                raise self._refused(f"a storage {key!r} of {length} numbers, and its member has another size")
            self._known[name, key] = np.frombuffer(self._archive.read(f"data/{key}"), dtype)
        found = self._known[name, key]
        if len(found) != length:
            raise self._refused(f"a storage {key!r} of two lengths")
        return found

    def tensor(self, storage, offset, size, strides):
        """Return a read-only view of a storage."""
        fits = (
            isinstance(storage, np.ndarray) and isinstance(size, tuple) and isinstance(strides, tuple)
            and len(size) == len(strides) <= MOST_AXES and all(map(_is_count, (offset, *size, *strides)))
        )  # fmt: skip
        if not fits:
            raise self._refused("a tensor without storage, offset, size and strides")
        n = math.prod(size)
        last = offset + sum((a - 1) * s for a, s in zip(size, strides, strict=True)) if n else 0
        longest = math.prod(a or 1 for a in size)
        if n > len(storage) or last >= max(len(storage), 1) or (not n and longest > LONGEST):
            raise self._refused(f"a tensor of size {size} that its storage of {len(storage)} numbers does not hold")
        if not n:
            return np.empty(size, storage.dtype)
        steps = [s * storage.itemsize for s in strides]
        return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)

    def _refused(self, what):
        return FileFormatError(f"{self._archive.path} describes {what}; get the file anew from where it came")


def _is_count(value):
    return type(value) is int and 0 <= value < 2**48
