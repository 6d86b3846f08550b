"""A features file, open: what it says of itself, and rows of its datasets, wherever they lie.

Three kinds open alike: a finished file, one in the making as it was at its last commit (fastdesc/hdf5/journal.py), and
one whose rows lie in shards (fastdesc/features/shards.py).
"""

import json
import os
import time
from collections.abc import Callable
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np

from fastdesc.errors import FastdescError, InputError
from fastdesc.features.layout import FORMAT, ROWS, VERSION
from fastdesc.features.shards import Shards
from fastdesc.hdf5.attributes import attribute
from fastdesc.hdf5.files import as_path, check_format, check_there, damage_named, open_hdf5, part_of
from fastdesc.hdf5.journal import TRIES, CommittedFile, Moved, journal_of
from fastdesc.hdf5.structure import CheckedFile
from fastdesc.hdf5.tables import check_rows, prepare_to_read
from fastdesc.types import Array, FilePath, Pool


def row_of(which: Any) -> Array:
    """What rows are chosen by as an array; one without rows, of two axes, for what makes none."""
    try:
        return np.asarray(which)
    except ValueError:    # rows of different lengths
        return np.empty((0, 0), object)


class AtomRows:
    """Rows of atoms of a features file: `rows[3]`, `rows[a:b]`, `rows[mask]`, `rows[a:b, columns]`.

    Parameters
    ----------
    path : Path
    shape : (n_atoms, n_features)
    read : callable
        Takes what HDF5 can choose rows by.
    """

    def __init__(self, path: Path, shape: tuple[int, int], read: Callable[[Any], Array]) -> None:
        self.path, self.shape, self._read = path, shape, read

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: Any) -> Array:
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
            rows = row_of(rows)
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

    path: Path
    n_atoms: int
    n_features: int
    dtype: np.dtype[Any]
    pool: Pool | None
    names: list[str]
    family: str
    parameters: dict[str, Any]

    def __init__(self, path: FilePath) -> None:
        self.path = as_path(path)
        self._file, self._process, self._shards, self._beneath, self._last_key = None, None, None, None, None
        try:
            self._open()
            self._look(self._read_head)
        except BaseException:
            self.close()
            raise

    def _read_head(self, f):
        self.family = attribute(f, "family")
        self.parameters = json.loads(attribute(f, "parameters"))
        self.pool = attribute(f, "pool") or None
        self.names = [name.decode() for name in f["names"][...].tolist()]
        self.n_features = f["features"].shape[1]
        self.dtype = f["features"].dtype
        n = int(f.attrs["n_frames"])
        n_atoms, n_skipped = int(f["offsets"][n]), len(f["skipped/number"])
        _check_sizes(f, n, n_atoms, self.pool)
        last_key = f["keys"][n - 1] if n else None
        self._shards = Shards(f, self.path) if "shards" in f.attrs else None
        self._n, self.n_atoms, self._n_skipped, self._last_key = n, n_atoms, n_skipped, last_key

    def _open(self):
        """Open the file, as it was at its last commit where it is in the making."""
        for tried in range(TRIES):
            try:
                return self._open_once()
            except Moved:
                time.sleep(1e-3 * min(tried, 10))
        raise self._too_fast()

    def _open_once(self):
        path, final = self.path, self.path.with_name(self.path.name.removesuffix(".part"))
        if not path.exists() and part_of(path).exists():
            raise InputError(
                f"{path} is not finished; open {part_of(path)} to see what is in it, or go on writing with --resume"
            )
        if self._process is not None and not path.exists() and final.exists():
            path = final    # it was finished while we read it
        beneath = CommittedFile(path) if journal_of(path).exists() else None
        if beneath is None:
            if path.name.endswith(".part"):
                check_there(path)
                raise InputError(f"nothing is committed of {path} yet; wait, or go on writing with --resume")
            f = open_hdf5(path)
        else:
            try:
                with damage_named(path):
                    f = CheckedFile(beneath)
            except BaseException as error:
                beneath.close()
                if beneath.failed and isinstance(error, FastdescError):
                    raise Moved(f"{path} was of a later commit") from error
                raise
        try:
            check_format(f, path, FORMAT, VERSION)
            with damage_named(path):
                prepare_to_read(f)
            if self._last_key is not None and not _holds(f, self._n, self._last_key):
                raise InputError(f"{path} was begun anew since it was opened; open it again")
        except BaseException:
            f.close()
            if beneath is not None:
                beneath.close()
            raise
        self._file, self._process, self._beneath = f, os.getpid(), beneath
        if self._shards is not None:
            self._shards.open = {}
        return f

    def _look(self, read):
        """Return `read(file)`; again where a commit came in between, of rows that every later commit has too."""
        for tried in range(TRIES):
            f, error, found = self.file, None, None
            try:
                with damage_named(self.path):
                    found = read(f)
            except (Moved, FastdescError, IndexError) as problem:
                error = problem
            if self._beneath is None or not self._beneath.failed:
                if error is not None:
                    raise error
                return found
            self.close()
            time.sleep(1e-3 * min(tried, 10))
            self._open()
        raise self._too_fast()

    def _too_fast(self):
        return InputError(f"{self.path} is written faster than it can be read; wait until it is finished")

    @property
    def file(self) -> CheckedFile:
        """The open CheckedFile (an h5py.File)."""
        if self._file is None:
            raise InputError(f"{self.path} was closed; open it again with open_features")
        return self._file if self._process == os.getpid() else self._open()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None and self._process == os.getpid():
            self._file.close()
            if self._shards is not None:
                self._shards.close()
            if self._beneath is not None:
                self._beneath.close()
        self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getstate__(self):
        return {"path": self.path}

    def __setstate__(self, state):
        self.__init__(state["path"])

    def __len__(self) -> int:
        return self._n

    def _read(self, name, rows):
        """Rows of a dataset, by name."""

        def read(f):
            d = f[name]
            chosen = self._among_known(d, name, rows)
            shards = self._shards is not None and d.is_virtual
            found = self._shards.read(f, name, chosen) if shards else d[chosen]
            if name == "offsets" and (np.diff(found) < 0).any():
                raise ValueError("offsets descend")
            return found

        return self._look(read)

    def _among_known(self, d, name, rows):
        """Rows of a dataset without those that were added since the file was opened."""
        first, *columns = rows if isinstance(rows, tuple) else (rows,)
        words = attribute(d, "shape", "") if isinstance(first, slice) else ""
        known = {"n_frames": self._n, "n_frames + 1": self._n + 1, "n_atoms": self.n_atoms}
        n = known.get(str(words).partition(",")[0])
        if n is None:
            return rows
        first = slice(*first.indices(n))
        return (first, *columns) if columns else first


def _holds(file, n, key):
    """Whether the frames that were known are still there."""
    return int(file.attrs["n_frames"]) >= n and file["keys"][n - 1] == key


def _check_sizes(file, n_frames, n_atoms, pool):
    """ValueError unless the sizes and kinds of the datasets are those of the layout, and agree with each other."""
    features = ("1", "n_frames" if pool else "n_atoms", (len(file["names"]),), np.float64)
    check_rows(file, {**ROWS, "features": features}, n_frames, n_atoms)
    if n_frames < 0 or file["offsets"].shape != (n_frames + 1,) or file["offsets"][0] != 0:
        raise ValueError(f"offsets are not those of {n_frames} frames")
