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
                before = told["made_of"]
                fits = found["values"].shape == (before["rows"],) and found["chosen"].max() < before["rows"]
                if not fits or found["found"].shape != found["chosen"].shape or found["chosen"].min() < 0:
                    raise ValueError("rows that are not there")
        for key, value in self.made_of.items():
            if before.get(key) != value:
                raise InputError(
                    f"{self.path} was begun with {key} = {before.get(key)!r} and now it is {value!r}; keep it, or name "
                    "another file"
                )
        self.chosen, self.found, self.values, self.state = *found.values(), told["state"]
