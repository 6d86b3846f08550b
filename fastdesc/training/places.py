"""Where frames come from: file and index, for what is said about one of them."""

from pathlib import Path

import numpy as np

from fastdesc.io.frames import expand, iread_frames, read_frames
from fastdesc.io.labels import labels, taught


class Placed(list):
    """A list of frames that knows where each comes from.

    Attributes
    ----------
    places : list of (str, int)
        File, or "the training frames" where there is none, and index in it.
    """

    in_memory = True
    own_descriptor = None

    def __init__(self, frames, places):
        super().__init__(frames)
        self.places = list(places)

    def where(self, k):
        """Name frame k by its index and its file."""
        return place_name(*self.places[k])

    def take(self, which):
        """Some of these frames."""
        return Placed([self[k] for k in which], [self.places[k] for k in which])

    def elements(self):
        """Atomic numbers that occur, a set."""
        return {int(z) for atoms in self for z in np.unique(atoms.numbers)}

    @property
    def report(self):
        """What there is, in one line."""
        return taught(self, labels(self)).report(self)


def place_name(file, index):
    """Name a frame for what is said about it."""
    return f"frame {index} of {file}"


def read_placed(source, purpose, **keys):
    """Read frames as `read_frames` does, and note their places.

    Parameters
    ----------
    source : path or frames
    purpose : str
        What frames without a file are called, such as "training".
    **keys
        Of `read_frames`.
    """
    if isinstance(source, Placed):
        return source
    files = expand(source) if isinstance(source, str | Path) else []
    if len(files) > 1:
        parts = [list(iread_frames(file)) for file in files]
        frames = read_frames([atoms for part in parts for atoms in part], **keys)
        places = [(str(file), k) for file, part in zip(files, parts, strict=True) for k in range(len(part))]
        return Placed(frames, places)
    frames = read_frames(source, **keys)
    name = str(files[0]) if files else f"the {purpose} frames"
    return Placed(frames, [(name, k) for k in range(len(frames))])
