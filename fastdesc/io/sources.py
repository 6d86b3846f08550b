"""Where frames come from: files, globs of them, databases, our own HDF5, or memory; one after another, any size.

Reading has two halves. `Source.raw_batches` takes the input apart into batches of raw frames, in order: cheap, in one
place. `build` turns a raw batch into a `FrameBatch`; for text that is the parsing, perhaps in another process.
"""

import hashlib
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from fastdesc.errors import FastdescError, FileFormatError, InputError
from fastdesc.io.extxyz import parsed
from fastdesc.io.extxyz_split import Blocks
from fastdesc.io.frame_batch import make_batch, plain_info
from fastdesc.io.frame_extras import extras_of
from fastdesc.io.frames import EXTXYZ, check_file, expand, iread_ase
from fastdesc.io.frames_file import StoredFrame, count_frames, iread_frames_file, is_frames_file, stored_batch
from fastdesc.io.labels import full_stress, is_virial, label_of_name, stored_results, stress_of_virial

BATCH_FRAMES = 1024
DATABASES = (".db",)
DIGEST_BYTES = 1 << 16


class Source:
    """Frames of one or several inputs, numbered through.

    Parameters
    ----------
    frames : str, Path, ase.Atoms, or a list of paths or of Atoms
        A path may be a glob; its files are taken in alphabetical order.
    keys : dict, optional
        Names of energy, forces and stress where the frames use their own; None stands for the standard name.

    Attributes
    ----------
    files : list of Path
        Empty for frames in memory.
    n_frames : int or None
        Where it is known without reading.

    Raises
    ------
    InputError
        For a missing file, a glob without match, or something that is neither path nor frames.
    """

    def __init__(self, frames, keys=None):
        self.files, self.frames = [], None
        self.keys = {name: key for name, key in (keys or {}).items() if key is not None}
        if isinstance(frames, Atoms):
            self.frames = [frames]
        elif isinstance(frames, str | Path):
            self.files = expand(frames)
        else:
            try:
                frames = list(frames)
            except TypeError:    # no list; arrays without dimensions only look like one
                frames = [frames]
            if frames and all(isinstance(x, str | Path) for x in frames):
                self.files = [path for x in frames for path in expand(x)]
            else:
                self.frames = _checked_list(frames)
        for path in self.files:
            check_file(path)
        kinds = [kind_of(path) for path in self.files]
        self.kinds = kinds
        self.n_frames = None
        if self.frames is not None:
            self.n_frames = len(self.frames)
        elif all(kind in ("h5", "db") for kind in kinds):
            self.n_frames = sum(map(count, self.files, kinds))
        self._at, self._blocks = 0, None

    def estimate(self, done):
        """Number of all frames, known or estimated from the part of the input that was read; None at first."""
        if self.n_frames is not None:
            return self.n_frames
        sizes = [path.stat().st_size for path in self.files]
        part = self._blocks.fraction() if self._blocks is not None else 0.0
        read = sum(sizes[: self._at]) + part * sizes[self._at] if self._at < len(sizes) else sum(sizes)
        return round(done * sum(sizes) / read) if read > 0 and done else None

    def fingerprint(self):
        """A dict for each file: name, size, time of change, hash of its first and last part."""
        return [{"name": path.name, **_stamp(path)} for path in self.files]

    def raw_frames(self):
        """Yield (file, index, n_atoms, payload): text, a dict, or an exception for what could not be read."""
        if self.frames is not None:
            for index, atoms in enumerate(self.frames):
                yield -1, index, len(atoms), atoms
            return
        for file, (path, kind) in enumerate(zip(self.files, self.kinds, strict=True)):
            self._at, index = file, 0
            for n_atoms, payload in self._payloads(path, kind):
                yield file, index, n_atoms, payload
                index += 1
            if index == 0:
                yield file, 0, 0, FileFormatError(f"{path} holds no frames; it should hold at least one")
        self._at = len(self.files)

    def _payloads(self, path, kind):
        if kind == "text":
            self._blocks = Blocks(path)
            for block in self._blocks:
                yield (0, block) if isinstance(block, Exception) else (block[1], block)
            return
        self._blocks = None
        frames = {"h5": iread_frames_file, "db": _iread_database, "ase": iread_ase}[kind](path)
        while True:
            try:
                frame = next(frames, None)
            except FastdescError as error:
                yield 0, error
                return
            if frame is None:
                return
            yield (frame.n_atoms if kind == "h5" else len(frame)), frame

    def raw_batches(self, batch_atoms, start=0, cut=0):
        """Yield raw batches of about `batch_atoms` atoms, each a list of (number, file, index, payload).

        Parameters
        ----------
        start : int
            Frames to leave out; batches are those of an uninterrupted run when one of its batches began there.
        cut : int
            A batch begins at this frame.
        """
        batch, n = [], 0
        for number, (file, index, n_atoms, payload) in enumerate(self.raw_frames()):
            if number < start:
                continue
            full = n + n_atoms > batch_atoms or len(batch) >= BATCH_FRAMES
            if batch and (full or number == cut):
                yield batch
                batch, n = [], 0
            batch.append((number, file, index, payload))
            n += n_atoms
        if batch:
            yield batch

    def elements(self):
        """Atomic numbers that occur, a set; text is not parsed further than that.

        Raises
        ------
        FileFormatError
            When no frame can be read.
        """
        found, first_error = set(), None
        for file, _, _, payload in self.raw_frames():
            try:
                found |= _elements(payload, self.files[file] if file >= 0 else None)
            except FastdescError as error:
                first_error = first_error or error
        if not found and first_error is not None:
            raise first_error
        return found


def build(raw, files, on_error="raise", with_info=True, keys=None, with_extras=False):
    """Turn a raw batch into a FrameBatch.

    Parameters
    ----------
    raw : list of (number, file, index, payload)
    files : list of Path
    on_error : {"raise", "skip"}
    with_info : bool
        Judge and keep what frames carry in their info.
    keys : dict, optional
        Names of energy, forces and stress where the frames use their own.
    with_extras : bool
        Keep what else they carry, too.

    Raises
    ------
    InputError, FileFormatError
        For the first frame that cannot be used, with "raise".
    """
    number, file, index, payloads = zip(*raw, strict=True)
    if all(isinstance(x, StoredFrame) and x.n_atoms for x in payloads) and not keys and not with_extras:
        return stored_batch(payloads, number, file, index)
    frames = [
        _completed(_frame(payload, files[file] if file >= 0 else None), number, with_info, keys, with_extras)
        for number, file, _, payload in raw
    ]
    return make_batch(frames, number, file, index, on_error)


def kind_of(path):
    """How a file is read: "text" (extended XYZ), "h5" (ours), "db" (an ASE database) or "ase"."""
    name = path.name.lower()
    if name.endswith(EXTXYZ):
        return "text"
    if is_frames_file(path):
        return "h5"
    return "db" if name.endswith(DATABASES) else "ase"


def count(path, kind):
    """Number of frames of a file whose kind says it without reading."""
    if kind == "h5":
        return count_frames(path)
    import ase.db

    try:
        with ase.db.connect(path.absolute(), type="db", serial=True) as db:
            return db.count()
    except Exception as error:    # sqlite has failures of its own
        raise FileFormatError(f"{path} could not be read by ASE ({error}); check that it is complete") from error


def _iread_database(path):
    import ase.db

    try:
        with ase.db.connect(path.absolute(), type="db", serial=True) as db:
            for row in db.select():
                atoms = row.toatoms()
                atoms.info.update(row.key_value_pairs)
                yield atoms
    except GeneratorExit:
        raise
    except Exception as error:    # sqlite has failures of its own
        raise FileFormatError(f"{path} could not be read by ASE ({error}); check that it is complete") from error


def _checked_list(frames):
    if not frames:
        raise InputError("the list of frames is empty; give at least one ase.Atoms")
    wrong = [x for x in frames if not isinstance(x, Atoms)]
    if wrong:
        raise InputError(
            "frames must be an ase.Atoms, a list of them, a path or a list of paths, and a list with a "
            f"{type(wrong[0]).__name__} arrived"
        )
    return frames


def _completed(frame, number, with_info, keys, with_extras):
    """A frame with its labels, what a file can hold of its info, and its extras; or the InputError that it is."""
    if isinstance(frame, Exception):
        return frame
    try:
        if keys:
            frame = {**frame, **_labels_of_names(frame, keys, number)}
        frame = _with_stress(frame, number)
        if with_extras:
            _check_finite(frame, number)
        extras = extras_of(frame, number) if with_extras else None
        return {**frame, "info": plain_info(frame["info"], number) if with_info else {}, "extras": extras}
    except InputError as error:
        return error


def _check_finite(frame, number):
    """InputError for positions or a cell that are not finite; descriptors judge them themselves."""
    positions = np.asarray(frame["positions"])
    if not np.isfinite(positions).all():
        atom = int(np.flatnonzero(~np.isfinite(positions).all(1))[0])
        raise InputError(f"frame {number}, atom {atom} is at {positions[atom]}; positions must be finite")
    if not np.isfinite(frame["cell"]).all():
        raise InputError(f"the cell of frame {number} is {np.asarray(frame['cell']).tolist()}; it must be finite")


def _labels_of_names(frame, keys, number):
    """Labels that a frame carries under names of its own, by their standard names; None where it has none."""
    found = {}
    for name, key in keys.items():
        results = frame["results"] | {label: frame.get(label) for label in ("energy", "forces", "stress")}
        found[name] = label_of_name(
            name, key, frame["info"], frame["arrays"], results, len(frame["numbers"]), number
        )
        if name == "stress" and found[name] is not None and is_virial(key):
            found[name] = stress_of_virial(found[name], Atoms(cell=frame["cell"]))
    return found


def _frame(payload, path):
    """A payload as a dict of `make_batch`, or the error that it is."""
    if isinstance(payload, Exception | dict):
        return payload
    if isinstance(payload, StoredFrame):
        return payload.as_dict()
    if isinstance(payload, Atoms):
        results = stored_results(payload)
        frame = {
            "numbers": payload.numbers, "positions": payload.positions, "cell": payload.cell.array, "pbc": payload.pbc,
            "info": payload.info, "arrays": payload.arrays, "results": results, "constraints": payload.constraints,
        }  # fmt: skip
    else:
        try:
            frame = parsed(*payload, path)
        except FileFormatError as error:
            return error
    return {**frame, **{name: frame["results"].get(name) for name in ("energy", "forces", "stress")}}


def _with_stress(frame, number):
    """Stress as (3, 3), whichever way it was given."""
    if frame.get("stress") is None:
        return frame
    try:
        return {**frame, "stress": full_stress(frame["stress"])}
    except (ValueError, TypeError) as error:
        raise InputError(f"frame {number} has a label of the wrong shape or kind ({error})") from error


def _elements(payload, path):
    if isinstance(payload, Exception):
        raise payload
    if isinstance(payload, Atoms):
        return set(payload.numbers.tolist())
    if isinstance(payload, StoredFrame):
        return set(payload.as_dict()["numbers"].tolist())
    comment, *lines = payload[2].split("\n")
    if "Properties=" not in comment or "Properties=species:S:1:" in comment:
        symbols = {line.split(None, 1)[0].capitalize() for line in lines if line.strip()}
        if all(s in atomic_numbers for s in symbols):
            return {atomic_numbers[s] for s in symbols}
    return set(parsed(*payload, path)["numbers"].tolist())


def _stamp(path):
    stat = path.stat()
    with open(path, "rb") as f:
        h = hashlib.blake2b(f.read(DIGEST_BYTES), digest_size=8)
        f.seek(max(0, stat.st_size - DIGEST_BYTES))
        h.update(f.read(DIGEST_BYTES))
    return {"size": stat.st_size, "changed": stat.st_mtime_ns, "digest": h.hexdigest()}


def elements(source):
    """Return the chemical symbols of all frames, ordered by atomic number; frames that cannot be read do not count.

    Raises
    ------
    InputError, FileFormatError
        For a missing file, or when no frame can be read.
    """
    from ase.data import chemical_symbols

    return [chemical_symbols[z] for z in sorted(Source(source).elements())]
