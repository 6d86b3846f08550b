"""Frames of training that stay on the disk: which do, and how much of them is in memory."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastdesc.errors import FastdescWarning, InputError
from fastdesc.io.frames import expand
from fastdesc.io.frames_file import is_frames_file
from fastdesc.io.frames_on_disk import FramesOnDisk
from fastdesc.training.places import place_name

PER_FRAME, PER_ATOM = 4000, 300
"""Bytes that frames take in memory where none are streamed: as ase.Atoms, as arrays, and what is made of these."""
SHARES = {"training": 0.75, "validation": 0.25}
"""Parts of frame_memory."""


@dataclass(frozen=True)
class Streamed:
    """Some frames of files of ours, on the disk.

    Attributes
    ----------
    files : FramesOnDisk
    frames : (n,) int array, ascending
    memory : float
        Bytes that training and validation frames may take in memory together.
    """

    files: FramesOnDisk
    frames: np.ndarray
    memory: float

    in_memory = False
    own_descriptor = None

    def __len__(self):
        return len(self.frames)

    def take(self, which):
        """Some of these frames."""
        return Streamed(self.files, self.frames[which], self.memory)

    def where(self, k):
        """Name frame k by its index and its file."""
        return place_name(*self.files.place(self.frames[k]))

    def elements(self):
        """Atomic numbers that occur in the files, a set."""
        return self.files.elements()

    @property
    def names(self):
        """The files, in words."""
        paths = self.files.paths
        return str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"

    @property
    def report(self):
        """What there is, in one line."""
        n = len(self)
        return f"{n} frame{'s'[: n != 1]} ({self.files.n_atoms[self.frames].sum()} atoms) on disk, in {self.names}"


def open_streamed(source, frame_memory, purpose="training", keys=None):
    """Open frames that are to be streamed.

    Parameters
    ----------
    source : path, or frames
    frame_memory : float
        GB, as of Settings.
    purpose : {"training", "validation"}
        It has a share of the memory.
    keys : dict, optional
        Names of labels, as `read_frames` wants them.

    Returns
    -------
    Streamed, or None
        None for frames in memory, for files of which any is not one of ours, and for those that fit.

    Raises
    ------
    InputError
        For labels of other names, which the tables of a file of ours do not have.
    """
    paths = [source] if isinstance(source, str | Path) else source
    if not (isinstance(paths, list | tuple) and paths and all(isinstance(x, str | Path) for x in paths)):
        return None
    paths = [path for x in paths for path in expand(x)]
    memory = frame_memory * 1e9
    if not all(path.is_file() and path.stat().st_size and _is_ours(path) for path in paths):
        _tell_of_large(paths, memory * SHARES[purpose])
        return None
    files = FramesOnDisk(paths)
    if len(files) * PER_FRAME + int(files.n_atoms.sum()) * PER_ATOM <= memory * SHARES[purpose]:
        return None
    found = Streamed(files, np.arange(len(files)), memory)
    for name, key in (keys or {}).items():
        if key is not None:
            raise InputError(
                f"{name} is {key!r}, but {found.names} takes more than frame_memory and is streamed, with labels of "
                f"standard names alone; make it again with fastdesc convert --{name.replace('_', '-')} {key}"
            )
    return found


def _tell_of_large(paths, memory):
    """Warn of files that take more than `memory` bytes and are read into it all the same."""
    size = sum(path.stat().st_size for path in paths if path.is_file())
    if size > memory:
        text = f"{paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
        warnings.warn(
            f"{text} ({size / 1e9:.3g} GB) is read into memory whole, which is more than frame_memory; "
            "fastdesc convert makes a file from which frames stream",
            FastdescWarning,
            stacklevel=4,
        )


def _is_ours(path):
    return path.suffix.lower() in (".h5", ".hdf5") and is_frames_file(path)
