"""Reading a features file that joins shards, without the limits of virtual datasets.

HDF5 keeps every source of a virtual dataset open, and where one cannot be opened (too many files, a file that is gone)
reads zeros without a word. Here a few shards are open at a time, and a missing one is an error.
"""

import os

import h5py
import numpy as np

from fastdesc.errors import FileFormatError

OPEN_AT_MOST = 16


class Shards:
    """The shards of an open features file.

    Parameters
    ----------
    file : h5py.File
    path : Path

    Raises
    ------
    FileFormatError
        When one of them is missing.
    """

    def __init__(self, file, path):
        self.folder = path.parent / file.attrs["shards"]
        self.open = {}
        there = set(os.listdir(self.folder)) if self.folder.is_dir() else set()
        missing = [name for k in range(int(file.attrs["n_shards"])) if (name := _name(k)) not in there]
        if missing:
            raise FileFormatError(
                f"{path} joins the files in {self.folder}, of which {missing[0]} is missing ({len(missing)} in all); "
                "keep the two together, or make them again"
            )
        self.bounds = {name: d[...] for name, d in file["shards"].items()}

    def read(self, file, name, rows):
        """Rows of a virtual dataset: one by an int, several by a slice, others by what h5py takes."""
        d = file[name]
        if isinstance(rows, int | np.integer):
            return self._rows(d, name, int(rows), int(rows) + 1)[0]
        if not isinstance(rows, slice) or rows.step not in (None, 1):
            return self._rows(d, name, 0, len(d))[rows]
        a, b, _ = rows.indices(len(d))
        return self._rows(d, name, a, max(a, b))

    def _rows(self, d, name, a, b):
        if name.startswith("jacobian/"):
            bounds = self.bounds["blocks"]
        else:
            bounds = self.bounds["atoms" if d.attrs["shape"].startswith("n_atoms") else "frames"]
        found = np.empty((b - a, *d.shape[1:]), d.dtype)
        k = int(np.searchsorted(bounds, a, side="right")) - 1
        at = a
        while at < b:
            last = min(b, int(bounds[k + 1]))
            if last > at:
                found[at - a : last - a] = self._shard(k)[name][at - bounds[k] : last - bounds[k]]
                at = last
            k += 1
        return found

    def _shard(self, k):
        if k not in self.open:
            while len(self.open) >= OPEN_AT_MOST:
                self.open.pop(next(iter(self.open))).close()
            self.open[k] = h5py.File(self.folder / _name(k), "r")
        return self.open[k]

    def close(self):
        """Close the shards."""
        for file in self.open.values():
            file.close()
        self.open = {}


def _name(k):
    return f"{k:06d}.h5"
