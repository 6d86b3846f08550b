"""A choice in the making on disk, so that it goes on after an interruption."""

import json
import time

import h5py
import numpy as np

from fastdesc.errors import InputError
from fastdesc.hdf5.files import as_path, check_format, check_target, damage_named, new_hdf5, open_hdf5
from fastdesc.hdf5.heaps import read_text
from fastdesc.hdf5.tables import store

FORMAT, VERSION = "fastdesc-choice", 1
EVERY = 10.0
"""Seconds between two times that a choice is written."""


class KeptChoice:
    """What was chosen so far, in a file, written after passes over all rows.

    Parameters
    ----------
    path : str or Path
        Read where it exists.
    made_of : dict
        Plain values that must be the same to go on.

    Attributes
    ----------
    chosen, found : (m,) arrays, or None
        Rows that were chosen, and their values when they were; None where there is nothing yet.
    values : (n_rows,) float64
        Of all rows after that.
    state : dict
        Of the generator.

    Raises
    ------
    InputError
        For a file that was begun with something else, or cannot be written.
    FileFormatError
        For a file of another kind, or a damaged one.
    """

    def __init__(self, path, made_of):
        self.path, self.made_of = as_path(path), json.loads(json.dumps(made_of))
        self.chosen = self.found = self.values = self.state = None
        self._written = time.monotonic()
        if self.path.exists():
            self._read()
        else:
            check_target(self.path, FORMAT)

    def keep(self, chosen, found, values, state=None):
        """Write it, unless it was written a moment ago."""
        if time.monotonic() - self._written < EVERY:
            return
        with new_hdf5(self.path, FORMAT, VERSION) as file:
            for name, array in (("chosen", chosen), ("found", found), ("values", values)):
                store(file, name, np.asarray(array, np.int64 if name == "chosen" else np.float64))
            text = json.dumps({"made_of": self.made_of, "state": state}).encode()
            store(file, "told", np.array([text], h5py.string_dtype("utf-8", len(text))))
        self._written = time.monotonic()

    def _read(self):
        with open_hdf5(self.path) as file:
            check_format(file, self.path, FORMAT, VERSION)
            with damage_named(self.path, "remove it to begin anew"):
                told = json.loads(read_text(file.raw, file["told"])[0])
                found = {name: file[name][()] for name in ("chosen", "found", "values")}
                before, chosen = told["made_of"], found["chosen"]
                kinds = "".join(found[name].dtype.kind for name in ("chosen", "found", "values"))
                if kinds != "iff" or chosen.ndim != 1 or not len(chosen) or found["found"].shape != chosen.shape:
                    raise ValueError("it holds no choice")
                if found["values"].shape != (before["rows"],) or np.isnan(found["values"]).any():
                    raise ValueError("values that are none")
                if not 0 <= chosen.min() <= chosen.max() < before["rows"] or len(np.unique(chosen)) < len(chosen):
                    raise ValueError("rows that are not there, or twice")
        for key, value in self.made_of.items():
            if key == "numbers" and before.get(key) != value:
                raise InputError(
                    f"{self.path} was begun with other features, weights or scales; keep it, or name another file"
                )
            if before.get(key) != value:
                raise InputError(
                    f"{self.path} was begun with {key} = {before.get(key)!r} and now it is {value!r}; keep it, or name "
                    "another file"
                )
        self.chosen, self.found, self.values, self.state = *found.values(), told["state"]
