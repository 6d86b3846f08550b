"""The frames file: structures and their labels in HDF5, read many times faster than text.

    numbers    (n_atoms,)           atomic numbers
    positions  (n_atoms, 3)         Å
    offsets    (n_frames + 1,)      frame f owns atoms offsets[f] .. offsets[f + 1]
    cells      (n_frames, 3, 3)     Å, vectors in rows; zeros where there is none
    pbc        (n_frames, 3)
    energies   (n_frames,)          eV; NaN where missing, as in the two below
    forces     (n_atoms, 3)         eV/Å
    stress     (n_frames, 3, 3)     eV/Å^3, positive in tension
    info/<key> (n_frames,)          numbers or strings
    info_json  (n_frames,)          JSON of what frames carry besides, where there is any: see fastdesc/hdf5/info.py
    arrays/.., atom_results/.., results/.., state/..    what frames carry besides: see fastdesc/io/frame_extras.py

`fastdesc convert` writes it. Numbers and texts have checksums (checksums/<name>: see fastdesc/hdf5/info.py), with which
what is read is compared; files of earlier versions have none. Every dataset carries the attributes `unit` and `shape`.
"""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastdesc import __version__
from fastdesc.hdf5.attributes import set_attributes
from fastdesc.hdf5.files import check_format, damage_named, open_hdf5, whole_or_nothing
from fastdesc.hdf5.info import InfoColumns, check_info, read_info
from fastdesc.hdf5.journal import StreamedFile
from fastdesc.hdf5.tables import append, check_rows, create, growing, open_to_append, prepare_to_read
from fastdesc.io.frame_batch import FrameBatch
from fastdesc.io.frame_extras import ExtrasWriter, check_extras, read_extras
from fastdesc.structures import Structures

FORMAT = "fastdesc-frames"
VERSION = 1
SUFFIXES = (".h5", ".hdf5")
TABLES = {    # name: (unit, shape in words, shape of a row, dtype)
    "numbers": ("1", "n_atoms", (), np.int32),
    "positions": ("Å", "n_atoms, 3", (3,), np.float64),
    "cells": ("Å", "n_frames, 3, 3", (3, 3), np.float64),
    "pbc": ("1", "n_frames, 3", (3,), np.bool_),
    "energies": ("eV", "n_frames", (), np.float64),
    "forces": ("eV/Å", "n_atoms, 3", (3,), np.float64),
    "stress": ("eV/Å^3", "n_frames, 3, 3", (3, 3), np.float64),
}
SLAB = 1024
"""Frames read at a time."""


def is_frames_file(path):
    """True for an HDF5 file of frames; FileFormatError for an HDF5 file of another kind."""
    if Path(path).suffix.lower() not in SUFFIXES:
        return False
    with open_hdf5(path) as f:
        check_format(f, path, FORMAT, VERSION)
    return True


def write_frames_file(batches, path, compression="none"):
    """Write batches to a frames file, whole or not at all.

    Returns
    -------
    dict
        Number of frames by the name of what they carry and the file does not.
    """
    n = 0
    with whole_or_nothing(path, FORMAT) as part, StreamedFile(part) as raw, open_to_append(raw, "w") as f:
        kind = {"format": FORMAT, "format_version": VERSION, "fastdesc_version": __version__}
        set_attributes(f, {**kind, "n_frames": 0, "compression": compression})
        for name, (unit, shape, row, dtype) in TABLES.items():
            create(f, name, unit, shape, row, dtype, compression, summed=np.dtype(dtype).kind == "f")
        append(create(f, "offsets", "1", "n_frames + 1", dtype=np.int64), [0])
        info = InfoColumns(f.create_group("info"))
        tables = {name: growing(f[name]) for name in (*TABLES, "offsets")}
        extras = ExtrasWriter(f, compression)
        for batch in batches:
            if batch.n_frames == 0:
                continue
            s = batch.structures
            extras.append(batch.extras, np.diff(s.first).tolist(), n, len(tables["numbers"]))
            tables["offsets"].append(s.first[1:] + len(tables["numbers"]))
            for name in TABLES:
                tables[name].append(getattr(s if name in ("numbers", "positions", "cells", "pbc") else batch, name))
            info.append(batch.infos, n)
            n += batch.n_frames
            raw.check()
        for table in (*tables.values(), info, extras):
            table.flush()
        f.attrs["n_frames"] = n
    return extras.left_out


def count_frames(path):
    """Number of frames in a frames file."""
    with open_hdf5(path) as f, damage_named(path):
        return int(f.attrs["n_frames"])


def iread_frames_file(path):
    """Yield a StoredFrame for each frame.

    Raises
    ------
    FileFormatError
        When the file is damaged.
    """
    with open_hdf5(path) as f:
        n_frames = check_frames_file(f, path)
        for a in range(0, n_frames, SLAB):
            with damage_named(path):    # not around the yield: what the caller raises is not ours
                slab = Slab(f, a, min(a + SLAB, n_frames))
            yield from slab


def check_frames_file(f, path):
    """Return the number of frames of an open file of frames; FileFormatError where it is another, or damaged."""
    check_format(f, path, FORMAT, VERSION)
    with damage_named(path):
        prepare_to_read(f)
        n_frames = int(f.attrs["n_frames"])
        _check_tables(f, n_frames)
    return n_frames


def _check_tables(f, n_frames):
    """ValueError unless datasets are those of TABLES, with as many rows as offsets say; kernels trust them."""
    offsets = f["offsets"]
    if offsets.dtype.kind not in "iu" or offsets.ndim != 1 or not 0 <= n_frames < len(offsets) or offsets[0] != 0:
        raise ValueError(f"offsets are not those of {n_frames} frames")
    check_rows(f, TABLES, n_frames, int(offsets[n_frames]))
    check_info(f, "info", n_frames)
    check_extras(f, n_frames, int(offsets[n_frames]))


class Slab:
    """Consecutive frames of a file, read at once: iteration yields a StoredFrame for each.

    Attributes
    ----------
    first : list of int
        Frame k owns the atoms first[k] .. first[k + 1].
    numbers, positions, forces, cells, pbc, energies, stress : arrays, as in the file
    infos : list of dict
        What each frame has in its info.
    extras : list of dict, or None
        What else they carry; see fastdesc/io/frame_extras.py.
    """

    def __init__(self, f, a, b):
        offsets = f["offsets"][a : b + 1]
        if (np.diff(offsets) < 0).any():
            raise ValueError("offsets descend")
        for name, (_, words, _, _) in TABLES.items():
            rows = slice(*offsets[[0, -1]]) if words.startswith("n_atoms") else slice(a, b)
            setattr(self, name, f[name][rows])
        self.first = (offsets - offsets[0]).tolist()
        self.infos = read_info(f, "info", a, b)
        self.extras = read_extras(f, a, b, *offsets[[0, -1]].tolist())

    def __iter__(self):
        for k in range(len(self.first) - 1):
            yield StoredFrame(self, k)

    def extra(self, k):
        """What else frame k carries: a dict of arrays, results and constraints."""
        if self.extras is None:
            return {"arrays": {}, "results": {}, "constraints": []}
        found = self.extras[k]
        return {
            "arrays": found["arrays"], "results": {**found["results"], **found["atom_results"]},
            "constraints": found["state"].get("constraints", []),
        }  # fmt: skip

    def frame(self, k):
        """Frame k as a dict of numbers, positions, cell, pbc, labels (None where missing), info, and what else it has.
        """
        i, j = self.first[k], self.first[k + 1]
        return {
            "numbers": self.numbers[i:j],
            "positions": self.positions[i:j],
            "cell": self.cells[k],
            "pbc": self.pbc[k],
            "energy": None if np.isnan(self.energies[k]) else float(self.energies[k]),
            "forces": self.forces[i:j],
            "stress": None if np.isnan(self.stress[k]).all() else self.stress[k],
            "info": self.infos[k],
            **self.extra(k),
        }


class StoredFrame(NamedTuple):
    """Frame k of a Slab; it travels to another process as a dict, without the rest of the slab."""

    slab: Slab
    k: int

    @property
    def n_atoms(self):
        return self.slab.first[self.k + 1] - self.slab.first[self.k]

    def as_dict(self):
        """See Slab.frame."""
        return self.slab.frame(self.k)

    def __reduce__(self):
        return dict, (self.as_dict(),)


def stored_batch(frames, number, file, index):
    """Gather StoredFrames that all have atoms, of whole runs of a slab at once.

    Parameters
    ----------
    frames : list of StoredFrame
    number, file, index : sequences of int, one for each

    Returns
    -------
    FrameBatch
        That of `make_batch`, of their dicts.
    """
    steps = [k for k, (x, y) in enumerate(pairwise(frames), 1) if y.slab is not x.slab or y.k != x.k + 1]
    runs = [(frames[a].slab, frames[a].k, frames[b - 1].k + 1) for a, b in pairwise([0, *steps, len(frames)])]

    def column(name):
        atoms = TABLES[name][1].startswith("n_atoms")
        parts = [getattr(s, name)[s.first[a] : s.first[b]] if atoms else getattr(s, name)[a:b] for s, a, b in runs]
        return np.concatenate(parts).astype(TABLES[name][3], copy=False)

    first = np.concatenate([[0], np.cumsum([x.n_atoms for x in frames], dtype=np.int64)])
    structures = Structures(*map(column, ("numbers", "positions", "cells", "pbc")), first)
    rows = (np.array(x, t) for x, t in ((number, np.int64), (file, np.int32), (index, np.int64)))
    infos = [x.slab.infos[x.k] for x in frames]
    return FrameBatch(structures, *map(column, ("energies", "forces", "stress")), infos, *rows)
