"""Reading a features file: all of it into memory, or lazily, whatever its size; by structure, by atom, as a table."""

import json
from collections.abc import Iterator
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdesc.checks import count
from fastdesc.descriptors import descriptor_from
from fastdesc.descriptors.descriptor import Descriptor
from fastdesc.descriptors.jacobian import Jacobian
from fastdesc.errors import InputError, nearest
from fastdesc.features.open import AtomRows, OpenFeatures, row_of
from fastdesc.hdf5.files import damage_named
from fastdesc.hdf5.info import read_info_column, read_info_keys
from fastdesc.types import Array, Arrays, FilePath, Float64


class Features(NamedTuple):
    """What a features file holds; shapes and units in the text of fastdesc/features/layout.py."""

    features: np.ndarray
    offsets: np.ndarray
    numbers: np.ndarray
    energies: np.ndarray
    forces: np.ndarray
    stress: np.ndarray
    names: list[str]
    family: str
    parameters: dict[str, Any]


class FeatureRows(NamedTuple):
    """Some consecutive structures of a features file.

    Attributes
    ----------
    first : int
        Number of the first structure in the file.
    features : (n_atoms, n_features), or (n_structures, n_features) of pooled features
    offsets : (n_structures + 1,), beginning with 0
    numbers : (n_atoms,)
    energies : (n_structures,), eV
    forces : (n_atoms, 3), eV/Å
    stress : (n_structures, 3, 3), eV/Å^3
    """

    first: int
    features: np.ndarray
    offsets: np.ndarray
    numbers: np.ndarray
    energies: np.ndarray
    forces: np.ndarray
    stress: np.ndarray


def read_features(path: FilePath) -> Features:
    """Read a features file into memory.

    Returns
    -------
    Features

    Raises
    ------
    InputError
        When there is no such file.
    FileFormatError
        When it is truncated, foreign, unfinished or of a newer version.
    """
    with open_features(path) as f:
        arrays: list[Any] = [f._read(name, slice(None)) for name in Features._fields[:6]]
        return Features._make([*arrays, f.names, f.family, f.parameters])


def open_features(path: FilePath) -> "FeaturesFile":
    """Open a features file; nothing is read before it is asked for.

    A file in the making, or one that an interruption left (`<name>.part`), opens as it was at its last commit.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    FeaturesFile
        A context manager and a sequence of structures.

    Raises
    ------
    InputError
        When there is no such file.
    FileFormatError
        When it is truncated, foreign or of a newer version.
    """
    return FeaturesFile(path)


class FeaturesFile(OpenFeatures):
    """A features file, opened for reading: `f[i]`, `f[a:b]`, `f[[3, 1]]`, `f.atoms[a:b]`, `f.batches()`, `f.table()`.

    Structures are counted from 0; what there is to know of the file is in its attributes (`OpenFeatures`).
    """

    def __repr__(self) -> str:
        rows = f"{self.pool} of each structure" if self.pool else "each atom"
        return f"<{self.path}: {self._n} structures, {self.n_atoms} atoms, {self.n_features} features of {rows}>"

    def __iter__(self) -> Iterator[Array]:
        for rows in self.batches():
            if self.pool:
                yield from rows.features
            else:
                yield from np.split(rows.features, rows.offsets[1:-1])

    def __getitem__(self, which: Any) -> Array:
        """Features of one structure, or of several, one below the other.

        Parameters
        ----------
        which : int, slice, or array of int or bool

        Returns
        -------
        ndarray
            (n_atoms of these, n_features), and of pooled features (n_features,) or (n_structures, n_features).
        """
        if isinstance(which, int | np.integer):
            k = self._index(which)
            return self._read("features", k) if self.pool else self._rows("features", k, k + 1)
        if isinstance(which, slice):
            a, b, step = which.indices(self._n)
            if step == 1:
                b = max(a, b)
                return self._read("features", slice(a, b)) if self.pool else self._rows("features", a, b)
            which = np.arange(a, b, step)
        return self._chosen("features", which)

    def _chosen(self, name, which):
        """Rows of structures that a row of integers or booleans chooses, in its order, read in few pieces."""
        which = row_of(which)
        if which.dtype == bool:
            if which.shape != (self._n,):
                raise InputError(f"a mask of shape {which.shape} arrived; there are {self._n} structures")
            which = np.flatnonzero(which)
        if which.ndim != 1 or (which.size and which.dtype.kind not in "iu"):
            raise InputError("structures are chosen by an integer, a slice, or one row of integers or booleans")
        which, parts = np.array([self._index(k) for k in which.tolist()], int), {}
        for a, b in _spans(np.unique(which)):
            of_atoms = name != "features" or not self.pool
            ends = (self._read("offsets", slice(a, b + 1)) if of_atoms else np.arange(a, b + 1)).tolist()
            rows = self._read(name, slice(ends[0], ends[-1]))
            parts |= {k: rows[ends[k - a] - ends[0] : ends[k - a + 1] - ends[0]] for k in range(a, b)}
        return np.concatenate([parts[k] for k in which.tolist()]) if len(which) else self._read(name, slice(0, 0))

    @property
    def atoms(self) -> AtomRows:
        """Rows by atom instead of by structure: `f.atoms[a:b]`, NumPy."""
        if self.pool:
            raise InputError(f"{self.path} holds the {self.pool} of each structure; rows of atoms were not kept")
        return AtomRows(self.path, (self.n_atoms, self.n_features), lambda which: self._read("features", which))

    @property
    def offsets(self) -> NDArray[np.int64]:
        """(n_structures + 1,) int64: structure i owns the atoms offsets[i] .. offsets[i + 1]."""
        return self._read("offsets", slice(None))

    @property
    def energies(self) -> Float64:
        """(n_structures,) eV; NaN where missing."""
        return self._read("energies", slice(None))

    def forces(self, i: int) -> Float64:
        """(n_atoms of structure i, 3) eV/Å."""
        i = self._index(i)
        return self._rows("forces", i, i + 1)

    def numbers(self, i: int | slice | NDArray[Any]) -> Array:
        """(n_atoms of structure i,) atomic numbers; of several for a slice, or an array of int or bool."""
        if isinstance(i, np.ndarray):
            return self._chosen("numbers", i)
        if not isinstance(i, slice):
            k = self._index(i)
            return self._rows("numbers", k, k + 1)
        if i.step not in (None, 1):
            raise InputError(f"step {i.step!r} came; structures are consecutive here: leave it out")
        return self._rows("numbers", *i.indices(self._n)[:2])

    def jacobian(self, i: int) -> Jacobian:
        """Derivatives of the features of structure i: a Jacobian, as compute(..., jacobian=True) returns it."""
        i = self._index(i)
        if not self._look(lambda f: "jacobian" in f):
            raise InputError(f"{self.path} holds no Jacobian; featurize with jacobian=True")
        ends = self._read("jacobian/offsets", slice(i, i + 2)).tolist()
        with damage_named(self.path):
            a, b = ends
        centre, atom, values = (self._read(f"jacobian/{x}", slice(a, b)) for x in ("centre", "atom", "values"))
        return Jacobian(centre, atom, values, len(self.numbers(i)))

    def batches(self, n: int = 1024) -> Iterator[FeatureRows]:
        """Iterate over the file as FeatureRows of `n` structures."""
        count("n", n)
        return (self.rows(a, min(a + n, self._n)) for a in range(0, self._n, n))

    def rows(self, a: int, b: int) -> FeatureRows:
        """Structures a .. b as FeatureRows, 0 <= a < b <= len(self)."""
        count("a", a, 0, self._n - 1)
        count("b", b, a + 1, self._n)
        offsets = self._read("offsets", slice(a, b + 1))
        rows = slice(int(offsets[0]), int(offsets[-1]))
        return FeatureRows(
            a, self._read("features", slice(a, b) if self.pool else rows), offsets - offsets[0],
            self._read("numbers", rows), self._read("energies", slice(a, b)), self._read("forces", rows),
            self._read("stress", slice(a, b)),
        )  # fmt: skip

    @property
    def info_keys(self) -> list[str]:
        """Keys of the frames' info."""
        return self._look(lambda f: read_info_keys(f, "info", self._n))

    def info(self, key: str) -> Array:
        """Values of one key of the frames' info, (n_structures,): NaN or an empty string where a frame lacks it.

        Numbers and booleans are float64; lists are JSON; a key that is text for any frame is text for all.
        """
        keys = self.info_keys
        if key not in keys:
            raise InputError(
                f"no frame of {self.path} carries info {key!r}{nearest(key, keys)}; "
                f"they carry {', '.join(keys) or 'none'}"
            )
        return self._look(lambda f: read_info_column(f, "info", key, self._n))

    def table(self) -> Arrays:
        """Values of each structure: a dict of arrays, (n_structures,) each.

        n_atoms, energy (eV), number, file, index, and what the frames carried in their info.
        """
        columns = {"n_atoms": np.diff(self.offsets), "energy": self.energies}
        columns |= {name: self._read(name, slice(None)) for name in ("number", "file", "index")}
        for key in self.info_keys:
            columns[key if key not in columns else f"info {key}"] = self.info(key)
        return columns

    def dataframe(self) -> Any:
        """`table` as a pandas.DataFrame; needs pandas."""
        import pandas

        return pandas.DataFrame(self.table())

    @property
    def files(self) -> list[str]:
        """Names of the files the frames came from."""
        return self._look(lambda f: [json.loads(text)["name"] for text in f.text("files")])

    @property
    def skipped(self) -> list[dict[str, Any]]:
        """Frames that could not be used: a list of dicts with number, file, index and reason."""

        names = self.files

        def read(f):
            group, n = f["skipped"], self._n_skipped
            rows = zip(
                *(group[name][:n].tolist() for name in ("number", "file", "index")),
                f.text("skipped/reason", slice(0, n)),
                strict=True,
            )  # fmt: skip
            return [
                {"number": n, "file": names[f] if f >= 0 else None, "index": i, "reason": str(r)} for n, f, i, r in rows
            ]

        return self._look(read)

    def descriptor(self) -> Descriptor:
        """Rebuild the descriptor that made the features."""
        arrays = self._look(lambda f: {name: d[...] for name, d in f["parameters"].items()})
        held = sum(array.size for array in arrays.values() if isinstance(array, np.ndarray))
        return descriptor_from(self.family, self.parameters, arrays, self.path, held)

    def _index(self, i):
        if not isinstance(i, Integral):
            raise InputError(f"structure {i!r} was asked for; give its number")
        k = int(i) + self._n if i < 0 else int(i)
        if not 0 <= k < self._n:
            raise IndexError(f"structure {i} was asked for; {self.path} holds {self._n}")
        return k

    def _rows(self, name, a, b):
        """Rows of the atoms of structures a .. b."""
        if a >= b:
            return self._read(name, slice(0, 0))
        ends = self._read("offsets", slice(a, b + 1))
        return self._read(name, slice(int(ends[0]), int(ends[-1])))


def _spans(numbers):
    """Ranges (first, last exclusive) that hold ascending numbers, and at most as many others.

    One left out between two does not end a range: reading it, too, takes less time than to begin anew.
    """
    if not len(numbers):
        return []
    edges = np.flatnonzero(np.diff(numbers) > 2) + 1
    return [(int(part[0]), int(part[-1]) + 1) for part in np.split(numbers, edges)]
