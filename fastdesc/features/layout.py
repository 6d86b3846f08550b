"""The features file: HDF5, ragged by offsets, appendable, readable without fastdesc.

    features   (n_atoms, n_features)   rows in input order; (n_frames, n_features) of pooled features
    offsets    (n_frames + 1,)         frame f owns the atoms offsets[f] .. offsets[f + 1]
    numbers    (n_atoms,)              atomic numbers
    energies   (n_frames,)             eV; NaN where missing, as in the two below
    forces     (n_atoms, 3)            eV/Å
    stress     (n_frames, 3, 3)        eV/Å^3, positive in tension
    number     (n_frames,)             number of the frame in the input, counting skipped ones
    file, index (n_frames,)            where it came from: row of `files` (-1: memory), number in that file
    keys       (n_frames,)             uint64 hash of each frame's elements, positions, cell and periodicity
    info/<key> (n_frames,)             numbers and strings the frames carried
    info_json  (n_frames,)             JSON of what they carried besides, where there is any: see fastdesc/hdf5/info.py
    skipped/   number, file, index, reason of frames that could not be used
    jacobian/  centre, atom (n,), values (n, n_features, 3), offsets (n_frames + 1,): rows of each frame, whose
               atoms are counted from 0; only where it was asked for
    names      (n_features,)           what each feature is
    files      JSON for each input file: name, size, time of change, digest
    parameters/<name>                  trainable arrays of the descriptor

Every dataset carries the attributes `unit` and `shape`; text in attributes is bytes, UTF-8. Root attributes: format,
format_version, fastdesc_version, family, parameters (JSON of the constructor's arguments), pool, compression, n_frames,
n_seen (skipped ones too).
"""

import json
from pathlib import Path

import numpy as np

from fastdesc import __version__
from fastdesc.errors import InputError
from fastdesc.hdf5.attributes import attributes
from fastdesc.hdf5.files import check_format, open_hdf5, part_of, to_json
from fastdesc.hdf5.tables import TEXT
from fastdesc.io.frame_batch import structure_keys
from fastdesc.structures import Structures

FORMAT = "fastdesc-features"
VERSION = 1
ROWS = {    # name: (unit, shape in words, shape of a row, dtype)
    "numbers": ("1", "n_atoms", (), np.int32),
    "energies": ("eV", "n_frames", (), np.float64),
    "forces": ("eV/Å", "n_atoms, 3", (3,), np.float64),
    "stress": ("eV/Å^3", "n_frames, 3, 3", (3, 3), np.float64),
    "number": ("1", "n_frames", (), np.int64),
    "file": ("1", "n_frames", (), np.int32),
    "index": ("1", "n_frames", (), np.int64),
    "keys": ("1", "n_frames", (), np.uint64),
}
SKIPPED = {"number": np.int64, "file": np.int32, "index": np.int64, "reason": TEXT}
POOLS = (None, "mean", "sum")


def frame_key(atoms):
    """Return a hash of what features depend on, as uint64: the same frame has the same key anywhere."""
    return structure_keys(Structures(
        np.asarray(atoms.numbers), np.asarray(atoms.positions), atoms.cell.array[None], np.asarray(atoms.pbc)[None],
        np.array([0, len(atoms)]),
    ))[0]  # fmt: skip


def already_done(path, descriptor, dtype, source, **options):
    """True when `path` is the finished file of an input that was not touched since; frames in memory are not known.

    Raises
    ------
    InputError
        When it was made with other settings.
    """
    path = Path(path)
    if not source.files or not path.is_file() or part_of(path).exists():
        return False
    with open_hdf5(path) as f:
        check_settings(f, path, made_with(descriptor, **options), descriptor, dtype)
        return [json.loads(text) for text in f.text("files")] == source.fingerprint()


def check_settings(f, path, header, descriptor, dtype):
    """InputError unless the file `f` was made as we are asked to."""
    check_format(f, path, FORMAT, VERSION)
    ours, theirs = header, attributes(f)
    for what in ("family", "parameters", "pool", "jacobian"):
        if theirs.get(what) != ours[what]:
            difference = _difference(theirs.get(what), ours[what])
            raise InputError(
                f"{path} was begun with other settings ({what}: {difference}); "
                "choose another name or do not resume"
            )
    if f["features"].dtype != np.dtype(dtype):
        raise InputError(
            f"{path} was begun with another dtype ({f['features'].dtype}, now {np.dtype(dtype)}); "
            "choose another name or do not resume"
        )
    for name, array in descriptor.parameters.items():
        if not np.array_equal(f[f"parameters/{name}"][...], array):
            raise InputError(
                f"{path} was begun with other trained parameters ({name} differs); choose another name or do "
                "not resume"
            )


def made_with(descriptor, pool, jacobian, compression):
    """Root attributes that say what a file was made with."""
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "fastdesc_version": __version__,
        "family": descriptor.family,
        "parameters": to_json(descriptor.get_params()),
        "pool": pool or "",
        "jacobian": bool(jacobian),
        "compression": compression,
    }


def _difference(theirs, ours):
    if not (isinstance(theirs, str) and theirs.startswith("{")):
        return f"{theirs or 'none'}, now {ours or 'none'}"
    a, b = json.loads(theirs), json.loads(ours)
    return "; ".join(f"{k} {a.get(k)}, now {b.get(k)}" for k in {**a, **b} if a.get(k) != b.get(k))
