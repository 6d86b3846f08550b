"""Many frames in pieces that stay in a processor's cache, each computed by one thread from pairs to features."""

import re
from contextlib import contextmanager
from typing import NamedTuple

from fastdesc.backend import threads
from fastdesc.errors import InputError
from fastdesc.structures import Structures

PIECE = 2048
"""Atoms of a piece: few enough for a cache (pairs of 2 MB in float32), many against what Python does for each."""
ENOUGH = 8
"""Pieces that are enough for any number of threads: about as many as one writer can follow."""


class Piece(NamedTuple):
    """Consecutive frames, and which frames and atoms (slices) of the whole they are."""

    structures: Structures
    frames: slice
    atoms: slice


def begin(task, structures):
    """Start task(Piece) for all pieces of all frames; return a function that waits and gives the results in order.

    Pieces do not depend on the number of threads, so neither do results. Where there are fewer than threads, they go
    one by one, when they are waited for, and `task` has all threads for itself.

    Raises
    ------
    InputError
        From the function: the first of those that `task` raised, a frame counted from the first of `structures`.
    """
    parts = list(pieces(structures, PIECE))

    def run(k):
        try:
            return task(parts[k])
        except InputError as error:
            return renumbered(error, range(structures.n_frames)[parts[k].frames])

    if len(parts) > 1 and len(parts) >= min(threads.n_threads(), ENOUGH):
        wait = threads.begin(run, len(parts))
    else:

        def wait():
            return [run(k) for k in range(len(parts))]

    def results():
        found = wait()
        for result in found:
            if isinstance(result, InputError):
                raise result
        return found

    return results


def pieces(structures, n_atoms):
    """Yield all frames as Pieces that begin within `n_atoms` atoms of each other."""
    frame, atom = 0, 0
    for part in structures.blocks(n_atoms):
        frames, atoms = slice(frame, frame + part.n_frames), slice(atom, atom + part.n_atoms)
        yield Piece(part, frames, atoms)
        frame, atom = frames.stop, atoms.stop


@contextmanager
def numbered(piece, structures):
    """Context in which an InputError that names a frame of a piece names it by its number in `structures`."""
    try:
        yield
    except InputError as error:
        raise renumbered(error, range(structures.n_frames)[piece.frames]) from error


def renumbered(error, numbers):
    """The same error with "frame k" called "frame numbers[k]"."""
    text = re.sub(r"\bframe (\d+)", lambda m: f"frame {numbers[int(m[1])]}", str(error))
    return type(error)(text).with_traceback(error.__traceback__)
