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

`fastdesc convert` writes it. Every dataset carries the attributes `unit` and `shape`.
"""

from pathlib import Path

import h5py
import numpy as np

from fastdesc import __version__
from fastdesc.files import check_format, damage_named, open_hdf5, whole_or_nothing
from fastdesc.growing import append, growing
from fastdesc.journal import StreamedFile
from fastdesc.tables import InfoColumns, create, prepare_to_read

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
    int
        Number of frames.
    """
    n = 0
    with whole_or_nothing(path, FORMAT) as part, StreamedFile(part) as raw, h5py.File(raw, "w") as f:
        f.attrs.update(format=FORMAT, format_version=VERSION, fastdesc_version=__version__, n_frames=0)
        f.attrs["compression"] = compression
        for name, (unit, shape, row, dtype) in TABLES.items():
            create(f, name, unit, shape, row, dtype, compression)
        append(create(f, "offsets", "1", "n_frames + 1", dtype=np.int64), [0])
        info = InfoColumns(f.create_group("info"))
        tables = {name: growing(f[name]) for name in (*TABLES, "offsets")}
        for batch in batches:
            if batch.n_frames == 0:
                continue
            s = batch.structures
            tables["offsets"].append(s.first[1:] + len(tables["numbers"]))
            for name in TABLES:
                tables[name].append(getattr(s if name in ("numbers", "positions", "cells", "pbc") else batch, name))
            info.append(batch.infos, n)
            n += batch.n_frames
            raw.check()
        for table in (*tables.values(), info):
            table.flush()
        f.attrs["n_frames"] = n
    return n


def count_frames(path):
    """Number of frames in a frames file."""
    with open_hdf5(path) as f, damage_named(path):
        return int(f.attrs["n_frames"])


def iread_frames_file(path, start=0):
    """Yield a dict for each frame from number `start` on: numbers, positions, cell, pbc, labels and info.

    Raises
    ------
    FileFormatError
        When the file is damaged.
    """
    with open_hdf5(path) as f:
        check_format(f, path, FORMAT, VERSION)
        prepare_to_read(f)
        frames = _frames(f, start)
        while True:
            with damage_named(path):    # not around the yield: what the caller raises is not ours
                frame = next(frames, None)
            if frame is None:
                return
            yield frame


def _frames(f, start):
    n_frames = int(f.attrs["n_frames"])
    keys = list(f["info"])
    text = {key: h5py.check_string_dtype(f["info"][key].dtype) is not None for key in keys}
    for a in range(start, n_frames, SLAB):
        b = min(a + SLAB, n_frames)
        offsets = f["offsets"][a : b + 1]
        if len(offsets) != b - a + 1:
            raise ValueError("offsets are missing")
        atoms = {name: f[name][offsets[0] : offsets[-1]] for name in ("numbers", "positions", "forces")}
        frames = {name: f[name][a:b] for name in ("cells", "pbc", "energies", "stress")}
        infos = {key: (f["info"][key].asstr() if text[key] else f["info"][key])[a:b] for key in keys}
        if len(atoms["forces"]) != offsets[-1] - offsets[0] or len(frames["stress"]) != b - a:
            raise ValueError("rows are missing")
        missing = {
            "energy": np.isnan(frames["energies"]), "stress": np.isnan(frames["stress"]).all((1, 2)),
        }  # fmt: skip
        bounds = (offsets - offsets[0]).tolist()
        for k in range(b - a):
            i, j = bounds[k], bounds[k + 1]
            info = {
                key: column[k] if text[key] else float(column[k])
                for key, column in infos.items()
                if (column[k] != "" if text[key] else column[k] == column[k])
            }
            yield {
                "numbers": atoms["numbers"][i:j],
                "positions": atoms["positions"][i:j],
                "cell": frames["cells"][k],
                "pbc": frames["pbc"][k],
                "energy": None if missing["energy"][k] else float(frames["energies"][k]),
                "forces": atoms["forces"][i:j],
                "stress": None if missing["stress"][k] else frames["stress"][k],
                "info": info,
            }
