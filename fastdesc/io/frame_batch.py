"""A batch: some consecutive frames of the input as flat arrays, with what they carry and where they came from."""

import datetime
import hashlib
from dataclasses import dataclass, field
from itertools import pairwise
from numbers import Real
from pathlib import PurePath

import numpy as np

from fastdesc.errors import InputError
from fastdesc.io.labels import real
from fastdesc.structures import Structures, ranges

MOST_BITS = 10_000
"""Of a whole number in a frame's info; Python itself refuses to write longer ones."""


@dataclass
class Skipped:
    """A frame that could not be used.

    Attributes
    ----------
    number : int
        Its number in the whole input, counting every frame.
    file : int
        Index into the list of files; -1 for frames in memory.
    index : int
        Its number in that file.
    reason : str
    """

    number: int
    file: int
    index: int
    reason: str


@dataclass(eq=False)
class FrameBatch:
    """Frames of the input; shapes with n_frames good frames and their n_atoms atoms.

    Attributes
    ----------
    structures : Structures, or None when no frame is good
    energies : (n_frames,) float64, eV; NaN where missing, as in the two below
    forces : (n_atoms, 3) float64, eV/Å
    stress : (n_frames, 3, 3) float64, eV/Å^3
    infos : list of dict
        By key, what `json.dumps` takes.
    number, index : (n_frames,) int64
        Number of each frame in the input, and in its file.
    file : (n_frames,) int32
    skipped : list of Skipped
    extras : list of dict, or None
        What else each frame carries, where it was asked for: see fastdesc/io/frame_extras.py.
    array_names : tuple of str
        Names of the arrays of the first frame.
    """

    structures: Structures | None
    energies: np.ndarray
    forces: np.ndarray
    stress: np.ndarray
    infos: list
    number: np.ndarray
    file: np.ndarray
    index: np.ndarray
    skipped: list = field(default_factory=list)
    extras: list | None = None
    array_names: tuple = ()

    @property
    def n_frames(self):
        """Good frames."""
        return len(self.number)

    @property
    def n_seen(self):
        """All frames, skipped ones too."""
        return len(self.number) + len(self.skipped)

    def take(self, frames):
        """The batch of some of the good frames; the list of skipped ones stays."""
        frames = np.asarray(frames, np.int64)
        s = self.structures
        structures = s.take(frames) if len(frames) else None
        atoms = ranges(s.first[frames], np.diff(s.first)[frames])
        rows = (x[frames] for x in (self.number, self.file, self.index))
        return FrameBatch(
            structures, self.energies[frames], self.forces[atoms], self.stress[frames],
            [self.infos[k] for k in frames.tolist()], *rows, self.skipped,
        )  # fmt: skip

    def keys(self):
        """uint64 (n_frames,): a hash of what features depend on; the same frame has the same key anywhere."""
        return structure_keys(self.structures) if self.n_frames else np.zeros(0, np.uint64)


def structure_keys(s):
    """uint64 (n_frames,): hashes of elements, positions, cell and periodicity of each frame."""
    parts = [np.ascontiguousarray(x, t) for x, t in (
        (s.numbers, "<i4"), (s.positions, "<f8"), (s.cells, "<f8"), (s.pbc, "?"))]  # fmt: skip
    views = [memoryview(p.reshape(len(p), -1).view(np.uint8).reshape(-1)) for p in parts]
    first = s.first.tolist()
    keys = []
    for f, (a, b) in enumerate(pairwise(first)):
        h = hashlib.blake2b(views[0][4 * a : 4 * b], digest_size=8)
        h.update(views[1][24 * a : 24 * b])
        h.update(views[2][72 * f : 72 * f + 72])
        h.update(views[3][3 * f : 3 * f + 3])
        keys.append(int.from_bytes(h.digest(), "little"))
    return np.array(keys, np.uint64)


def make_batch(frames, number, file, index, on_error):
    """Gather parsed frames.

    Parameters
    ----------
    frames : list of dict, or Exception
        A dict has numbers, positions, cell, pbc and, where there are any, energy, forces, stress and info.
    number, file, index : sequences of int, one for each
    on_error : {"raise", "skip"}
        What becomes of exceptions, and of frames that Structures refuses.
    """
    good, skipped = [], []
    for k, frame in enumerate(frames):
        if not isinstance(frame, Exception):
            frame = _judged(frame, number[k])
        if not isinstance(frame, Exception):
            good.append(k)
        elif on_error == "raise":
            raise frame
        else:
            skipped.append(Skipped(number[k], file[k], index[k], str(frame)))
    chosen = [frames[k] for k in good]
    counts = [len(f["numbers"]) for f in chosen]
    n, n_atoms = len(chosen), sum(counts)
    energies = np.full(n, np.nan)
    forces, stress = np.full((n_atoms, 3), np.nan), np.full((n, 3, 3), np.nan)
    first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    for k, frame in enumerate(chosen):
        if frame.get("energy") is not None:
            energies[k] = frame["energy"]
        if frame.get("forces") is not None:
            forces[first[k] : first[k + 1]] = frame["forces"]
        if frame.get("stress") is not None:
            stress[k] = frame["stress"]
    structures = None
    if chosen:
        structures = Structures(
            np.concatenate([f["numbers"] for f in chosen]).astype(np.int32),
            np.concatenate([f["positions"] for f in chosen]).astype(np.float64),
            np.array([f["cell"] for f in chosen], np.float64),
            np.array([f["pbc"] for f in chosen], bool),
            first,
        )
    rows = (np.array(x, t)[good] for x, t in ((number, np.int64), (file, np.int32), (index, np.int64)))
    extras = [f.get("extras") for f in chosen]
    return FrameBatch(
        structures, energies, forces, stress, [f.get("info") or {} for f in chosen], *rows, skipped,
        None if None in extras else extras, tuple(map(str, chosen[0].get("arrays") or ())) if chosen else (),
    )  # fmt: skip


def _judged(frame, number):
    """The frame, or the InputError that says what is wrong with its shapes."""
    n = len(frame["numbers"])
    try:
        if n == 0:
            raise InputError(f"frame {number} has no atoms; remove it from the list")
        for name, shape in (("energy", ()), ("forces", (n, 3)), ("stress", (3, 3))):
            if frame.get(name) is not None:
                value = real(frame[name])
                if value.shape != shape:
                    raise ValueError(f"{name} of shape {value.shape}, expected {shape}")
    except InputError as error:
        return error
    except (ValueError, TypeError) as error:
        return InputError(f"frame {number} has a label of the wrong shape or kind ({error})")
    return frame


def plain_info(info, number):
    """What JSON can say of a frame's info, by key: numbers, text, booleans, None, lists and dicts of these.

    Parameters
    ----------
    info : dict
    number : int
        Of the frame, for messages.

    Raises
    ------
    InputError
        For a value that no file can hold.
    """
    plain = {}
    for key, value in info.items():
        try:
            plain[key if isinstance(key, str) else str(key)] = _plain(value)
        except (TypeError, ValueError, RecursionError, OverflowError) as error:
            why = "it contains itself" if isinstance(error, RecursionError) else str(error)
            raise InputError(
                f"frame {number} carries an info {str(key)[:60]!r} that cannot be stored ({why}); make it numbers or "
                "text, or remove it"
            ) from error
    return plain


def _plain(value):
    """A value as JSON takes it; ValueError or TypeError for what it cannot take."""
    if value is None or isinstance(value, str | bool | float):
        return str(value) if type(value) is not str and isinstance(value, str) else value
    if isinstance(value, int):
        if value.bit_length() > MOST_BITS:
            raise ValueError(f"a whole number of {value.bit_length()} bits")
        return int(value)
    if isinstance(value, np.bool_ | np.integer | np.floating | np.str_):
        return _plain(float(value) if isinstance(value, np.longdouble) else value.item())
    if isinstance(value, np.ndarray):
        return [_plain(x) for x in value.tolist()] if value.ndim else _plain(value.item())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(x) for x in value]
    if isinstance(value, dict):
        return {str(key): _plain(x) for key, x in value.items()}
    if isinstance(value, complex | np.complexfloating):
        return {"__complex__": [float(value.real), float(value.imag)]}    # as ASE writes them
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, Real):    # fractions
        return float(value)
    if isinstance(value, np.datetime64 | np.timedelta64 | datetime.date | datetime.timedelta | PurePath):
        return str(value)
    if hasattr(value, "todict"):
        return _plain(value.todict())
    raise TypeError(f"a {type(value).__name__}")
