"""HDF5 files of ours: opened with one sentence for each way they can be unusable, written whole or not at all."""

import json
import os
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np

from fastdesc import __version__
from fastdesc.errors import FileFormatError, InputError


def open_hdf5(path):
    """Open an HDF5 file for reading.

    Raises
    ------
    InputError
        When there is no such file.
    FileFormatError
        When it is empty, truncated or not HDF5.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; check the name and the folder")
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it")
    if not h5py.is_hdf5(path):
        with open(path, "rb") as f:    # a file that may not be read says so here, in one sentence
            what = "empty" if not f.read(1) else "not an HDF5 file"
        raise FileFormatError(f"{path} is {what}; give a file that fastdesc wrote, complete")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        reason = "it is truncated" if "truncated" in str(error) else str(error).splitlines()[0]
        raise FileFormatError(f"{path} cannot be opened: {reason}; copy or make it again") from error


def check_format(file, path, wanted, version):
    """Judge the root attributes `format` and `format_version` of an open file.

    Raises
    ------
    FileFormatError
        For a file of another kind, or of a version newer than `version`.
    """
    kind = file.attrs.get("format")
    if kind != wanted:
        what = f"of the kind {kind!r}" if isinstance(kind, str) else "of a kind fastdesc does not know"
        raise FileFormatError(f"{path} is {what}; expected is {wanted!r}")
    found = int(file.attrs.get("format_version", 0))
    if found > version:
        raise FileFormatError(
            f"{path} has version {found} of the format {wanted!r} (fastdesc {file.attrs.get('fastdesc_version', '?')}) "
            f"and fastdesc {__version__} reads up to version {version}; upgrade fastdesc"
        )


def part_of(path):
    """Name under which a file is written before it takes its own."""
    return path.with_name(path.name + ".part")


def check_target(path):
    """Return `path` as a Path that can be written, or raise InputError or OSError in one sentence."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no folder {path.parent}; create it first")
    part = part_of(path)
    existed = part.exists()
    with open(part, "ab"):    # an unwritable folder speaks here, before any work is done
        pass
    if not existed:
        part.unlink()
    return path


@contextmanager
def whole_or_nothing(path):
    """Give a temporary name beside `path`; it takes the name `path` when the block ends well and goes otherwise."""
    path = check_target(path)
    part = part_of(path)
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        with suppress(FileNotFoundError):
            part.unlink()
        raise


def write_text(path, text):
    """Write a text file, whole or not at all."""
    with whole_or_nothing(path) as part:
        part.write_text(text, encoding="utf-8")


def to_json(value):
    """JSON of plain values, NumPy numbers and arrays; NaN becomes null."""
    return json.dumps(_plain(value), allow_nan=False)


def _plain(value):
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
