"""HDF5 files of ours: opened with one sentence for each way they can be unusable, written whole or not at all."""

import errno
import json
import os
import uuid
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from fastdesc import __version__
from fastdesc.errors import FastdescError, FileFormatError, InputError
from fastdesc.hdf5.attributes import attribute, set_attributes
from fastdesc.hdf5.journal import Moved
from fastdesc.hdf5.locks import WriteLock, is_same, rename_whole
from fastdesc.hdf5.structure import CheckedFile

DAMAGE = (KeyError, OSError, ValueError, RuntimeError, TypeError, AttributeError, IndexError, OverflowError)
"""What reading a damaged file can raise."""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a file system without locks answers."""


def as_path(path):
    """Return `path` as a Path; InputError for what is no name of a file."""
    if not isinstance(path, str | os.PathLike) or not str(path) or "\0" in str(path):
        raise InputError(f"{path!r} came where the name of a file belongs; give a string or a Path")
    return Path(path)


def check_there(path):
    """InputError unless a Path is that of a file."""
    if not path.exists():
        raise InputError(f"{path} does not exist; check the name and the folder")
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it")


def is_hdf5(path):
    """Whether a file is one of HDF5; PermissionError, which is no damage, for one that may not be read."""
    with open(path, "rb"):
        pass
    with damage_named(path, "copy or make it again"):
        return h5py.is_hdf5(path)


def open_hdf5(path):
    """Open an HDF5 file for reading, after a look at its structure.

    Returns
    -------
    CheckedFile

    Raises
    ------
    InputError
        When there is no such file.
    FileFormatError
        When it is empty, truncated or not HDF5, points outside itself, or says that it holds what it does not.
    PermissionError
        When it may not be read.
    """
    path = as_path(path)
    check_there(path)
    if not is_hdf5(path):
        what = "empty" if path.stat().st_size == 0 else "not an HDF5 file"
        raise FileFormatError(f"{path} is {what}; give a file that fastdesc wrote, complete")
    try:
        with damage_named(path, "give a file that fastdesc wrote, complete", but=OSError):
            return open_unlocked_where_needed(path)
    except OSError as error:
        reason = "it is truncated" if "truncated" in str(error) else str(error).splitlines()[0]
        raise FileFormatError(f"{path} cannot be opened: {reason}; copy or make it again") from error


def open_unlocked_where_needed(path):
    """Open an HDF5 file for reading, also where the file system has no locks: nobody writes a file of ours in place.

    Raises
    ------
    InputError
        When another program has it open for writing, or locks can neither be had nor done without.
    OSError
        When it is damaged.
    """
    try:
        return CheckedFile(path)
    except BlockingIOError as error:
        raise InputError(
            f"{path} is in use: another program has it open for writing; close it there, or read a copy"
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    try:
        return CheckedFile(path, locking=False)
    except (OSError, ValueError, TypeError) as error:    # HDF5 was told otherwise, or is too old for this
        raise InputError(
            f"{path} is on a file system without locks; set HDF5_USE_FILE_LOCKING=FALSE in the environment, or copy it"
        ) from error


@contextmanager
def damage_named(path, advice="make it again", but=FastdescError):
    """Context in which what a damaged file makes HDF5, JSON or NumPy raise becomes a FileFormatError with its name.

    Errors of ours, and those of the kind `but`, stay as they are.
    """
    try:
        yield
    except (FastdescError, Moved, but):
        raise
    except DAMAGE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FileFormatError(f"{path} is damaged ({reason}); {advice}") from error


def check_format(file, path, wanted, version):
    """Judge the root attributes `format` and `format_version` of an open file.

    Raises
    ------
    FileFormatError
        For a file of another kind, or of a version newer than `version`.
    """
    with damage_named(path):
        kind = attribute(file, "format")
        found = int(attribute(file, "format_version", 0))
    if not (isinstance(kind, str) and kind == wanted):
        what = f"of the kind {kind!r}" if isinstance(kind, str) else "of a kind fastdesc does not know"
        raise FileFormatError(f"{path} is {what}; expected is {wanted!r}")
    if found > version:
        raise FileFormatError(
            f"{path} has version {found} of the format {wanted!r} "
            f"(fastdesc {attribute(file, 'fastdesc_version', '?')}) "
            f"and fastdesc {__version__} reads up to version {version}; upgrade fastdesc"
        )


def part_of(path):
    """Name under which a file is written before it takes its own; of a link, beside what it leads to."""
    path = followed(path)
    return path.parent / (path.name + ".part")


def followed(path):
    """What a symbolic link leads to, there or not yet; any other path as it is."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def check_target(path, kind=None):
    """Return `path` as a Path that can be written.

    Parameters
    ----------
    path : str or Path
    kind : str, optional
        Root attribute `format` of the HDF5 file that is to be written: a file of another kind that stands there, such
        as the frames to be read, is not overwritten by mistake.

    Raises
    ------
    InputError
        When it is a folder or a device, stands in no folder or in one that takes no files, or holds something else.
    """
    path = followed(as_path(path))
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a device or a pipe; name a file")
    if not path.parent.is_dir():
        why = f"there is no folder {path.parent}; create it first"
        if path.parent.exists():
            why = f"{path.parent} is no folder; choose one"
        raise InputError(f"{path} cannot be written: {why}")
    if kind is not None and path.exists() and path.stat().st_size and format_of(path) != kind:
        raise InputError(f"{path} exists and is not a file of the kind {kind!r}; choose another name, or remove it")
    part = part_of(path)
    # An unwritable folder raises here, before any work is done. No other file is touched: the name is our own.
    trial = part.with_name(f"{part.name}-{uuid.uuid4().hex[:12]}")
    try:
        if part.exists():
            os.close(os.open(part, os.O_RDWR))
        os.close(os.open(trial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
        mode = trial.stat().st_mode
        trial.unlink()
    except OSError as error:
        raise InputError(f"{path} cannot be written ({part.name}: {error.strerror}); choose another folder") from error
    if mode & 0o600 != 0o600:
        raise InputError(f"{path} could not be read after it was written: the umask forbids it; set umask 022")
    return path


def check_apart(outputs, inputs=()):
    """InputError when a file is to be written twice, or is to be read too; None stands for a file that is not there.

    An output takes the name under which it grows (`part_of`), too.
    """
    inputs = {os.path.realpath(as_path(path)) for path in inputs if path is not None}
    taken = set()
    for path in (as_path(path) for path in outputs if path is not None):
        names = {os.path.realpath(name) for name in (path, part_of(path))}
        if names & inputs:
            raise InputError(f"{path} would be written over a file that is read; give the output another name")
        if names & taken:
            raise InputError(f"{path} would be written twice; give each output a name of its own")
        taken |= names


def format_of(path):
    """The attribute `format` of an HDF5 file; None for anything else."""
    try:
        with open_unlocked_where_needed(path) as file:
            kind = attribute(file, "format")
            return kind if isinstance(kind, str) else None
    except InputError:
        raise
    except DAMAGE:
        return None


@contextmanager
def whole_or_nothing(path, kind=None, lock=None):
    """Give a temporary name beside `path`; it takes the name `path` when the block ends well and goes otherwise.

    `lock` is the WriteLock on that name where the caller holds it, and goes on holding it.
    """
    path = check_target(path, kind)
    part, fd = part_of(path), None
    own_lock = WriteLock(part) if lock is None else None
    try:
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        yield part
        rename_whole(fd, part, path)
    except BaseException as error:
        if fd is not None and is_same(fd, part):
            part.unlink()
        if isinstance(error, OSError) and error.errno and not error.filename:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise
    finally:
        if fd is not None:
            os.close(fd)
        if own_lock is not None:
            own_lock.release()


@contextmanager
def new_hdf5(path, kind, version):
    """Give an open HDF5 file to fill, whose image is written to `path` at the end, whole or not at all.

    It is made in memory: on a full disk HDF5 itself fails again at every later attempt to let go of the file, down to
    a crash when Python ends.
    """
    path = check_target(path, kind)
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        set_attributes(file, {"format": kind, "format_version": version, "fastdesc_version": __version__})
        yield file
        file.flush()
        image = file.id.get_file_image()
    with whole_or_nothing(path) as part:
        part.write_bytes(image)


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
