"""Features by atom, chosen as rows of an array are; what cannot be chosen is told apart from a damaged file."""

from numbers import Integral

import numpy as np

from fastdesc.errors import InputError


class AtomRows:
    """Rows of atoms of a features file: `rows[3]`, `rows[a:b]`, `rows[mask]`, `rows[a:b, columns]`.

    Parameters
    ----------
    path : Path
    shape : (n_atoms, n_features)
    read : callable
        Takes what HDF5 can choose rows by.
    """

    def __init__(self, path, shape, read):
        self.path, self.shape, self._read = path, shape, read

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, which):
        rows, *columns = which if isinstance(which, tuple) else (which,)
        _ = np.empty((1, self.shape[1]))[(0, *columns)]    # IndexError for columns that are not there
        rows = self._chosen(rows)
        return self._read((rows, *columns) if columns else rows)

    def _chosen(self, rows):
        """What HDF5 can choose rows by."""
        n = len(self)
        if isinstance(rows, Integral):
            if not -n <= rows < n:
                raise IndexError(f"atom {rows} was asked for; {self.path} holds {n}")
            return int(rows) % n
        if isinstance(rows, slice):
            a, b, step = rows.indices(n)
            if step >= 1:
                return slice(a, max(a, b), step)
        else:
            rows = np.asarray(rows)
            if rows.dtype == bool and rows.shape == (n,):
                return np.flatnonzero(rows)
            whole = rows.ndim == 1 and rows.dtype.kind in "iu" and len(rows) > 0
            if whole and (np.diff(rows) > 0).all() and rows[0] >= 0 and rows[-1] < n:
                return rows
        raise InputError(
            "rows are chosen by an integer, a slice with a positive step, "
            f"a mask of {n} or ascending integers below {n}"
        )
