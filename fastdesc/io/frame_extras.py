"""What else frames carry, for files of frames: arrays of their atoms, further results, constraints.

    arrays/<name>/values        (n_atoms, ...)   as in ``atoms.arrays``; zeros or empty texts where a frame has none
    arrays/<name>/has           (n_frames,)      which frames have one
    atom_results/<name>/...     as above         results of an atom each: charges, magnetic moments
    results/<name>, state/<name>                 other results of a frame, its constraints: as in fastdesc/hdf5/info.py

Each is there only where a frame has one.
"""

from math import prod

import h5py
import numpy as np

from fastdesc.hdf5.info import InfoColumns, check_info, read_info
from fastdesc.hdf5.structure import WIDEST_TEXT
from fastdesc.hdf5.tables import Strings, append, create, create_text
from fastdesc.io.frame_batch import plain_info

LABELS = ("energy", "forces", "stress")
PER_ATOM = ("arrays", "atom_results")
PER_FRAME = ("results", "state")
TYPES = {"f": np.float64, "i": np.int64, "u": np.int64, "b": np.bool_, "U": None}
"""By the kind of an array; text is written otherwise."""


def extras_of(frame, number):
    """What a frame carries besides its structure, labels and info.

    Parameters
    ----------
    frame : dict
        With arrays (by name), results (by name) and constraints (ASE's, or what they are made of), where there are any.
    number : int

    Returns
    -------
    dict of dict
        By the names of `PER_ATOM` and `PER_FRAME`; values of the latter as JSON takes them.
    """
    n = len(frame["numbers"])
    arrays = {name: x for name, x in (frame.get("arrays") or {}).items() if name not in ("numbers", "positions")}
    results = {name: x for name, x in (frame.get("results") or {}).items() if name not in LABELS and x is not None}
    by_atom = {name: np.asarray(x) for name, x in results.items() if np.ndim(x) and len(x) == n and name[-1] == "s"}
    constraints = [c if isinstance(c, dict) else c.todict() for c in frame.get("constraints") or ()]
    return {
        "arrays": arrays,
        "atom_results": by_atom,
        "results": plain_info({name: x for name, x in results.items() if name not in by_atom}, number),
        "state": plain_info({"constraints": constraints} if constraints else {}, number),
    }


class ExtrasWriter:
    """Writes extras of frames to an open file, beside its other tables.

    Attributes
    ----------
    left_out : dict
        Number of frames by the name of what they carry and no column takes.
    """

    def __init__(self, file, compression):
        self.file, self.compression, self.left_out, self.infos = file, compression, {}, {}

    def append(self, extras, counts, n_frames, n_atoms):
        """Add those of some frames.

        Parameters
        ----------
        extras : list of dict
            As `extras_of` returns them.
        counts : sequence of int
            Atoms of each frame.
        n_frames, n_atoms : int
            What is in the file already.
        """
        for group in PER_FRAME:
            if group not in self.infos and any(x[group] for x in extras):
                self.infos[group] = InfoColumns(self.file.create_group(group))
            if group in self.infos:
                self.infos[group].append([x[group] for x in extras], n_frames)
        for group in PER_ATOM:
            names = {name for x in extras for name in x[group]} | set(self.file.get(group, ()))
            for name in sorted(names):
                self._append(group, name, [x[group].get(name) for x in extras], counts, n_frames, n_atoms)

    def _append(self, group, name, arrays, counts, n_frames, n_atoms):
        known = self.file.get(f"{group}/{name}") if _is_name(name) else None
        if known is None:
            first = next(x for x in map(_asarray, arrays) if x is not None)
            if not _is_name(name) or not _can_be_stored(first):
                self._leave_out(name, sum(x is not None for x in arrays))
                return
            known = self._begin(f"{group}/{name}", first, n_frames, n_atoms)
        values, has = known["values"], np.zeros(len(arrays), bool)
        text = h5py.check_string_dtype(values.dtype) is not None
        rows = np.full((sum(counts), *values.shape[1:]), "" if text else 0, object if text else values.dtype)
        first = 0
        for k, (array, n) in enumerate(zip(arrays, counts, strict=True)):
            if array is not None:
                array = np.asarray(array)
                fits = array.dtype.kind == "U" if text else np.can_cast(array.dtype, values.dtype, "safe")
                if fits and array.shape == (n, *values.shape[1:]):
                    rows[first : first + n], has[k] = array, True
                else:
                    self._leave_out(name, 1)
            first += n
        if text:
            column = Strings(values)
            column.append(rows)
            column.flush()
        else:
            append(values, rows)
        append(known["has"], has)

    def _begin(self, path, array, n_frames, n_atoms):
        """Datasets for a new name, without values in the first frames."""
        row, kind = array.shape[1:], array.dtype.kind
        where, words = (self.file, f"{path}/values", "as in ASE"), ", ".join(["n_atoms", *map(str, row)])
        if kind == "U":
            create_text(*where, words, n_atoms, row)
        else:
            create(*where, words, row, TYPES[kind], self.compression, summed=kind == "f").resize(n_atoms, axis=0)
        create(self.file, f"{path}/has", "1", "n_frames", (), np.bool_).resize(n_frames, axis=0)
        return self.file[path]

    def _leave_out(self, name, n):
        self.left_out[name] = self.left_out.get(name, 0) + n

    def flush(self):
        """Hand over to HDF5 what waits."""
        for info in self.infos.values():
            info.flush()


def _asarray(array):
    return None if array is None else np.asarray(array)


def _can_be_stored(array):
    """Whether a file can hold an array of atoms, and be read again: of texts only so many are expected in a row."""
    width = prod(array.shape[1:])
    return array.dtype.kind in TYPES and width > 0 and (array.dtype.kind != "U" or width <= WIDEST_TEXT)


def _is_name(name):
    return isinstance(name, str) and bool(name.strip(".")) and "/" not in name and "\0" not in name


def check_extras(file, n_frames, n_atoms):
    """ValueError unless extras have as many rows as there are frames and atoms."""
    for group in PER_FRAME:
        if group in file:
            check_info(file, group, n_frames)
    for group in PER_ATOM:
        for name, one in file.get(group, {}).items():
            if len(one["values"]) != n_atoms or one["has"].shape != (n_frames,) or one["has"].dtype != bool:
                raise ValueError(f"{group} {name} has {len(one['values'])} rows of {n_atoms}")


def read_extras(file, a, b, first, last):
    """Extras of the frames a .. b, whose atoms are first .. last: a list of dict, or None where the file has none."""
    if not any(group in file for group in (*PER_ATOM, *PER_FRAME)):
        return None
    found = [{group: {} for group in (*PER_ATOM, *PER_FRAME)} for _ in range(b - a)]
    for group in PER_FRAME:
        if group in file:
            for one, values in zip(found, read_info(file, group, a, b), strict=True):
                one[group] = values
    starts = (file["offsets"][a : b + 1] - first).tolist()
    for group in PER_ATOM:
        for name, one in file.get(group, {}).items():
            has = one["has"][a:b]
            if has.any():
                text = h5py.check_string_dtype(one["values"].dtype) is not None
                rows, where = slice(first, last), f"{group}/{name}/values"
                values = file.text(where, rows).astype(str) if text else file[where][rows]
                for k in np.flatnonzero(has).tolist():
                    found[k][group][name] = values[starts[k] : starts[k + 1]]
    return found
