"""The features file: HDF5, ragged by offsets, appendable, readable without fastdesc.

    features   (n_atoms, n_features)   rows in input order
    offsets    (n_frames + 1,)         frame f owns rows offsets[f] .. offsets[f + 1]
    numbers    (n_atoms,)              atomic numbers
    energies   (n_frames,)             eV; NaN where missing, as in the two below
    forces     (n_atoms, 3)            eV/Å
    stress     (n_frames, 3, 3)        eV/Å^3, positive in tension
    keys       (n_frames,)             uint64 hash of each frame's elements, positions, cell and periodicity
    names      (n_features,)           what each feature is
    parameters/<name>                  trainable arrays of the descriptor

Every dataset carries the attributes `unit` and `shape`. Root attributes: format, format_version, fastdesc_version,
family, parameters (JSON of the constructor's arguments), n_frames (complete ones).
"""

import hashlib
import json
import os
import shutil
from contextlib import suppress
from typing import NamedTuple

import h5py
import numpy as np

from fastdesc import __version__
from fastdesc.errors import FileFormatError, InputError
from fastdesc.files import check_format, check_target, open_hdf5, part_of, to_json
from fastdesc.frames import labels

FORMAT = "fastdesc-features"
VERSION = 1
ROWS = {    # name: (unit, shape in words, shape of a row, dtype)
    "numbers": ("1", "n_atoms", (), np.int32),
    "energies": ("eV", "n_frames", (), np.float64),
    "forces": ("eV/Å", "n_atoms, 3", (3,), np.float64),
    "stress": ("eV/Å^3", "n_frames, 3, 3", (3, 3), np.float64),
    "keys": ("1", "n_frames", (), np.uint64),
}
BLOCK_BYTES = 1 << 20


class Features(NamedTuple):
    """What a features file holds; shapes and units in the module's text."""

    features: np.ndarray
    offsets: np.ndarray
    numbers: np.ndarray
    energies: np.ndarray
    forces: np.ndarray
    stress: np.ndarray
    names: list
    family: str
    parameters: dict


def read_features(path):
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
    with open_hdf5(path) as f:
        check_format(f, path, FORMAT, VERSION)
        try:
            _check_sizes(f, path)
            return Features(
                *(f[name][...] for name in Features._fields[:6]),
                names=[name.decode() for name in f["names"][...].tolist()],
                family=f.attrs["family"],
                parameters=json.loads(f.attrs["parameters"]),
            )
        except (KeyError, OSError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            raise FileFormatError(f"{path} is damaged ({str(error).splitlines()[0]}); make it again") from error


def _check_sizes(file, path):
    """ValueError unless the sizes of the datasets agree with each other and with the size of the file."""
    if sum(file[name].nbytes for name in [*ROWS, "features", "offsets"]) > os.path.getsize(path):
        raise ValueError("datasets larger than the file")
    for name, n in _rows(int(file.attrs["n_frames"]), int(file["offsets"][-1])).items():
        if len(file[name]) != n:
            raise ValueError(f"{name} has {len(file[name])} rows where {n} belong")


def _rows(n_frames, n_atoms):
    """Number of rows of each dataset that grows with the frames."""
    rows = {name: n_atoms if shape.startswith("n_atoms") else n_frames for name, (_, shape, _, _) in ROWS.items()}
    return {**rows, "features": n_atoms, "offsets": n_frames + 1}


def frame_key(atoms):
    """Return a hash of what features depend on, as uint64: the same frame has the same key anywhere."""
    h = hashlib.blake2b(digest_size=8)
    for array, dtype in ((atoms.numbers, "<i4"), (atoms.positions, "<f8"), (atoms.cell.array, "<f8"), (atoms.pbc, "?")):
        h.update(np.ascontiguousarray(array, dtype).tobytes())
    return np.uint64(int.from_bytes(h.digest(), "little"))


class FeaturesWriter:
    """Writes a features file chunk by chunk under a temporary name; `finish` gives it its own.

    Parameters
    ----------
    path : str or Path
    descriptor : a descriptor, whose settings go into the file
    dtype : dtype of the features
    resume : bool
        Go on where an interrupted file, or the finished file of the first frames, ended; `abandon` then keeps what
        is there. Otherwise start anew, and `abandon` leaves nothing.

    Attributes
    ----------
    done : int
        Frames in the file.
    """

    def __init__(self, path, descriptor, dtype, resume):
        self.path = check_target(path)
        self.part = part_of(self.path)
        self.resume = resume
        self.finished = 0    # frames of a finished file that is being added to
        if not (resume and self._reopen(descriptor, dtype)):
            self.part.unlink(missing_ok=True)
            self._create(descriptor, np.dtype(dtype))
        self.done = int(self.file.attrs["n_frames"])
        self.keys = self.file["keys"][...]

    def _create(self, descriptor, dtype):
        n = descriptor.n_features
        f = self.file = h5py.File(self.part, "w")
        f.attrs.update(_header(descriptor))
        f.attrs["n_frames"] = 0
        rows = {**ROWS, "features": ("1", "n_atoms, n_features", (n,), dtype)}
        for name, (unit, shape, row, kind) in rows.items():
            row_bytes = max(1, int(np.prod(row))) * np.dtype(kind).itemsize
            chunk = max(1, min(BLOCK_BYTES // row_bytes, 1 << 14))
            d = f.create_dataset(name, (0, *row), kind, maxshape=(None, *row), chunks=(chunk, *row))
            _describe(d, unit, shape)
        _describe(f.create_dataset("offsets", (1,), np.int64, maxshape=(None,), chunks=(1 << 14,)), "1", "n_frames + 1")
        names = np.array([s.encode() for s in descriptor.feature_names_out()])
        _describe(f.create_dataset("names", data=names), "1", "n_features")
        for name, array in descriptor.parameters.items():
            d = f.create_dataset(f"parameters/{name}", data=array)
            _describe(d, "1", ", ".join(map(str, array.shape)))

    def _reopen(self, descriptor, dtype):
        """Take up an earlier file; False when there is none that can be taken up."""
        if not self._open_part():
            if not (self._copy_finished() and self._open_part()):
                return False
            self.finished = int(self.file.attrs["n_frames"])
        f = self.file
        try:
            self._check_settings(descriptor, dtype)
        except BaseException:
            f.close()
            if self.finished:
                self.part.unlink()
            raise
        n_frames = int(f.attrs["n_frames"])
        for name, n in _rows(n_frames, int(f["offsets"][n_frames])).items():
            f[name].resize(n, axis=0)
        return True

    def _open_part(self):
        """Open what an interruption left; False when there is nothing, or nothing to be trusted (killed in a write)."""
        file = None
        try:
            file = h5py.File(self.part, "r+")
            n_frames = int(file.attrs["n_frames"])
            if any(len(file[n]) < rows for n, rows in _rows(n_frames, int(file["offsets"][n_frames])).items()):
                raise ValueError
        except (OSError, KeyError, ValueError, IndexError):
            if file is not None:
                file.close()
            return False
        self.file = file
        return True

    def _copy_finished(self):
        """Begin from a copy of the finished file, if there is one."""
        if not self.path.exists():
            return False
        with open_hdf5(self.path) as f:
            check_format(f, self.path, FORMAT, VERSION)
        shutil.copyfile(self.path, self.part)
        return True

    def _check_settings(self, descriptor, dtype):
        f = self.file
        check_format(f, self.part, FORMAT, VERSION)
        ours, theirs = _header(descriptor), dict(f.attrs)
        for what in ("family", "parameters"):
            if theirs[what] != ours[what]:
                raise InputError(
                    f"{self.path} was begun with other settings ({what}: {_difference(theirs[what], ours[what])}); "
                    "choose another name or do not resume"
                )
        same = f["features"].dtype == np.dtype(dtype) and all(
            np.array_equal(f[f"parameters/{name}"][...], array) for name, array in descriptor.parameters.items()
        )
        if not same:
            raise InputError(
                f"{self.path} was begun with another dtype or other trained parameters; choose another name or do not "
                "resume"
            )

    def check_key(self, k, atoms):
        """InputError unless frame `k` of the file is this one."""
        if self.keys[k] != frame_key(atoms):
            raise InputError(
                f"frame {k} of the input is not the one in {self.path}; resuming needs the same frames in the "
                "same order, with new ones at the end"
            )

    def append(self, features, frames):
        """Add frames: features (n_atoms of these, n_features) and the labels the frames carry."""
        f = self.file
        counts = [len(a) for a in frames]
        got = labels(frames)
        new = {
            "features": features,
            "numbers": np.concatenate([a.numbers for a in frames]),
            "keys": np.array([frame_key(a) for a in frames], np.uint64),
            **got._asdict(),
            "offsets": f["offsets"][-1] + np.cumsum(counts),
        }
        for name, rows in new.items():
            d = f[name]
            n = len(d)
            d.resize(n + len(rows), axis=0)
            d[n:] = rows
        # The count comes last, after the rows are on disk: what it counts is complete.
        f.flush()
        self.done += len(frames)
        f.attrs["n_frames"] = self.done
        f.flush()

    def finish(self):
        """Close the file and give it its name."""
        self.file.close()
        os.replace(self.part, self.path)

    def abandon(self):
        """Close after a failure: a file that can be resumed stays under its temporary name, any other goes."""
        with suppress(OSError, RuntimeError):
            self.file.close()
        if not (self.resume and self.done > self.finished):
            self.part.unlink(missing_ok=True)


def _header(descriptor):
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "fastdesc_version": __version__,
        "family": descriptor.family,
        "parameters": to_json(descriptor.get_params()),
    }


def _describe(dataset, unit, shape):
    dataset.attrs["unit"] = unit
    dataset.attrs["shape"] = shape


def _difference(theirs, ours):
    if not theirs.startswith("{"):
        return f"{theirs}, now {ours}"
    a, b = json.loads(theirs), json.loads(ours)
    return "; ".join(f"{k} {a.get(k)}, now {b.get(k)}" for k in {**a, **b} if a.get(k) != b.get(k))
