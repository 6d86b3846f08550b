"""Frames of files of ours (`fastdesc convert`), any number of which stay on the disk until they are asked for."""

import threading
from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastdesc.errors import FileFormatError, InputError
from fastdesc.hdf5.files import damage_named, open_hdf5
from fastdesc.hdf5.info import read_info
from fastdesc.io.frames import check_file
from fastdesc.io.frames_file import TABLES, check_frames_file
from fastdesc.structures import Structures, ranges

OPEN = 8
"""Files that are open at a time."""
ATOMS_AT_ONCE = 1 << 20
"""Whose elements are read at a time."""


class Rows(NamedTuple):
    """Consecutive frames as they are in the files; NaN where a label is missing.

    Attributes
    ----------
    structures : Structures
    energies : (n_frames,) float64, eV
    forces : (n_atoms, 3) float64, eV/Å
    stress : (n_frames, 3, 3) float64, eV/Å^3
    """

    structures: Structures
    energies: np.ndarray
    forces: np.ndarray
    stress: np.ndarray

    def take(self, frames):
        """Some of these frames, in the order asked for."""
        first = self.structures.first
        atoms = ranges(first[frames], np.diff(first)[frames])
        return Rows(self.structures.take(frames), self.energies[frames], self.forces[atoms], self.stress[frames])


class FramesOnDisk:
    """Frames of one or several files, numbered through; several threads may read.

    Parameters
    ----------
    paths : list of path

    Attributes
    ----------
    n_atoms : (n_frames,) int64
        Number of atoms of every frame.

    Raises
    ------
    InputError, FileFormatError
        For a file that is missing, damaged, without frames, or not one of frames, and for a frame without atoms.
    """

    def __init__(self, paths):
        self.paths, counts = [Path(path) for path in paths], []
        self._offsets, self._stamps = [], []
        for path in self.paths:
            check_file(path)
            self._stamps.append(_stamp(path))
            with open_hdf5(path) as f:
                n_frames = check_frames_file(f, path)
                with damage_named(path):
                    offsets = f["offsets"][: n_frames + 1].astype(np.int64)
                    if (np.diff(offsets) < 0).any():
                        raise ValueError("offsets descend")
            if not n_frames:
                raise FileFormatError(f"{path} holds no frames; it should hold at least one")
            if (np.diff(offsets) == 0).any():
                k = int(np.flatnonzero(np.diff(offsets) == 0)[0])
                raise InputError(f"frame {k} of {path} has no atoms; leave it out when the file is made")
            counts.append(np.diff(offsets))
            self._offsets.append(offsets)
        self.n_atoms = np.concatenate(counts)
        self._first = np.cumsum([0, *map(len, counts)])    # number of the first frame of each file
        self._reset()

    def _reset(self):
        self._open, self._lock = OrderedDict(), threading.Lock()

    def __getstate__(self):
        return {name: x for name, x in self.__dict__.items() if name not in ("_open", "_lock")}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._reset()

    def __len__(self):
        return len(self.n_atoms)

    def place(self, frame):
        """File of a frame, and its number there."""
        file = int(np.searchsorted(self._first, frame, side="right")) - 1
        return str(self.paths[file]), int(frame - self._first[file])

    def rows(self, a, b):
        """Read the frames a .. b.

        Returns
        -------
        Rows

        Raises
        ------
        FileFormatError
            For a file that is gone, is not what it was when it was first looked at, or is damaged.
        """
        parts = [self._part(file, lo, hi) for file, lo, hi in self._parts(a, b)]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in TABLES}
        first = np.concatenate([[0], np.cumsum(self.n_atoms[a:b])])
        s = Structures(*(columns[name] for name in ("numbers", "positions", "cells", "pbc")), first)
        return Rows(s, *(columns[name] for name in ("energies", "forces", "stress")))

    def weights(self, a, b):
        """``info["weight"]`` of the frames a .. b, a list; 1 where a frame has none."""
        out = []
        for file, lo, hi in self._parts(a, b):
            with self._lock, damage_named(self.paths[file]):
                f = self._file(file)
                if "weight" in f["info"] or "info_json" in f:
                    out += [info.get("weight", 1.0) for info in read_info(f, "info", lo, hi)]
                else:
                    out += [1.0] * (hi - lo)
        return out

    def elements(self):
        """Atomic numbers that occur, a set."""
        found = set()
        for file in range(len(self.paths)):
            n = int(self._offsets[file][-1])
            for a in range(0, n, ATOMS_AT_ONCE):
                with self._lock, damage_named(self.paths[file]):
                    found |= set(np.unique(self._file(file)["numbers"][a : min(a + ATOMS_AT_ONCE, n)]).tolist())
        return found

    def _parts(self, a, b):
        """(file, a, b) of the consecutive frames a .. b, numbered in their files."""
        for file, (start, end) in enumerate(pairwise(self._first.tolist())):
            if max(a, start) < min(b, end):
                yield file, max(a, start) - start, min(b, end) - start

    def _part(self, file, a, b):
        """Frames a .. b of a file by the names of TABLES."""
        atoms = slice(*self._offsets[file][[a, b]].tolist())
        with self._lock, damage_named(self.paths[file]):
            f = self._file(file)
            return {
                name: f[name][atoms if words.startswith("n_atoms") else slice(a, b)].astype(dtype, copy=False)
                for name, (_, words, _, dtype) in TABLES.items()
            }

    def _file(self, k):
        """The open file k, which is what it was."""
        path = self.paths[k]
        if _stamp(path) != self._stamps[k]:
            what = "was changed" if path.exists() else "is gone"
            raise FileFormatError(
                f"{path} {what} while frames are read from it; bring back what was there, and go on from the checkpoint"
            )
        if k in self._open:
            self._open.move_to_end(k)
            return self._open[k]
        while len(self._open) >= OPEN:
            self._open.popitem(last=False)[1].close()
        self._open[k] = f = open_hdf5(path)
        check_frames_file(f, path)
        return f


def _stamp(path):
    """What changes when a file does; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ino
