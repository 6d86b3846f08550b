"""A features file, open: what it says of itself, and rows of its datasets, wherever they lie.

Three kinds open alike: a finished file, one in the making as it was at its last commit (fastdesc/hdf5/journal.py), and
one whose rows lie in shards (fastdesc/features/shards.py).
"""

import json
import os
from numbers import Integral

import h5py
import numpy as np

from fastdesc.errors import InputError
from fastdesc.features.layout import FORMAT, ROWS, VERSION
from fastdesc.features.shards import Shards
from fastdesc.hdf5.files import as_path, check_format, damage_named, open_hdf5, part_of
from fastdesc.hdf5.journal import CommittedFile, journal_of
from fastdesc.hdf5.tables import check_rows, prepare_to_read


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


class OpenFeatures:
    """An open features file; a context manager.

    Safe to use from many processes: an object that was forked or pickled opens the file anew.

    Attributes
    ----------
    path : Path
    n_atoms, n_features : int
    dtype : dtype
        Of the features.
    pool : None, "mean" or "sum"
    names : list of str
    family : str
    parameters : dict
        Arguments of the descriptor's constructor.

    Raises
    ------
    InputError, FileFormatError
        As `open_features` says.
    """

    def __init__(self, path):
        self.path = as_path(path)
        self._file, self._process, self._shards = None, None, None
        f = self._open()
        try:
            with damage_named(self.path):
                self.family = f.attrs["family"]
                self.parameters = json.loads(f.attrs["parameters"])
                self.pool = f.attrs.get("pool") or None
                self.names = [name.decode() for name in f["names"][...].tolist()]
                self.n_features = f["features"].shape[1]
                self.dtype = f["features"].dtype
                self._n = int(f.attrs["n_frames"])
                self.n_atoms = int(f["offsets"][self._n])
                _check_sizes(f, self._n, self.n_atoms, self.pool)
                self._shards = Shards(f, self.path) if "shards" in f.attrs else None
        except BaseException:
            self.close()
            raise

    def _open(self):
        path = self.path
        if not path.exists() and part_of(path).exists():
            raise InputError(
                f"{path} is not finished; open {part_of(path)} to see what is in it, or go on writing with --resume"
            )
        self._beneath = None
        if journal_of(path).exists():
            self._beneath = CommittedFile(path)
            try:
                with damage_named(path):
                    f = h5py.File(self._beneath, "r")
            except BaseException:
                self._beneath.close()
                raise
        else:
            f = open_hdf5(path)
        try:
            check_format(f, path, FORMAT, VERSION)
            prepare_to_read(f)
        except BaseException:
            f.close()
            raise
        self._file, self._process = f, os.getpid()
        if self._shards is not None:
            self._shards.open = {}
        return f

    @property
    def file(self):
        """The open h5py.File."""
        if self._file is None:
            raise InputError(f"{self.path} was closed; open it again with open_features")
        return self._file if self._process == os.getpid() else self._open()

    def close(self):
        """Close the file."""
        if self._file is not None and self._process == os.getpid():
            self._file.close()
            if self._shards is not None:
                self._shards.close()
            if self._beneath is not None:
                self._beneath.close()
        self._file = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def __getstate__(self):
        return {"path": self.path}

    def __setstate__(self, state):
        self.__init__(state["path"])

    def __len__(self):
        return self._n

    def _read(self, name, rows):
        """Rows of a dataset, by name."""
        f = self.file
        with damage_named(self.path):
            shards = self._shards is not None and f[name].is_virtual
            found = self._shards.read(f, name, rows) if shards else f[name][rows]
            if name == "offsets" and (np.diff(found) < 0).any():
                raise ValueError("offsets descend")
            return found


def _check_sizes(file, n_frames, n_atoms, pool):
    """ValueError unless the sizes and kinds of the datasets are those of the layout, and agree with each other."""
    features = ("1", "n_frames" if pool else "n_atoms", (len(file["names"]),), np.float64)
    check_rows(file, {**ROWS, "features": features}, n_frames, n_atoms)
    if n_frames < 0 or file["offsets"].shape != (n_frames + 1,) or file["offsets"][0] != 0:
        raise ValueError(f"offsets are not those of {n_frames} frames")
