"""Checkpoints of training: nested dicts of arrays and plain values in one HDF5 file, whole or not at all."""

import json

import h5py
import numpy as np

from fastdesc.backend.arrays import to_host
from fastdesc.errors import InputError
from fastdesc.hdf5.files import check_format, damage_named, new_hdf5, open_hdf5
from fastdesc.hdf5.heaps import read_text
from fastdesc.hdf5.tables import store

FORMAT, VERSION = "fastdesc-checkpoint", 1
FREE = ("epochs", "time_limit", "device", "devices", "patience", "checkpoint_every", "pair_memory", "uncertainty")
"""Settings that may change when a run goes on."""


def snapshot(state):
    """Return a copy of a nested dict of arrays and plain values that later steps do not change."""
    if isinstance(state, dict):
        return {name: snapshot(value) for name, value in state.items()}
    return state.copy() if isinstance(state, list) or hasattr(state, "dtype") else state


def fetched(state):
    """Return a nested dict of arrays and plain values with all arrays on the host."""
    if isinstance(state, dict):
        return {name: fetched(value) for name, value in state.items()}
    return to_host(state) if hasattr(state, "dtype") else state


def write_checkpoint(path, state):
    """Write a nested dict of arrays and JSON values."""
    with new_hdf5(path, FORMAT, VERSION) as file:
        _write(file, state)


def _write(group, state):
    for name, value in state.items():
        key = name.replace("/", "|")
        if isinstance(value, dict):
            _write(group.create_group(key, track_order=True), value)
        elif hasattr(value, "dtype") and getattr(value, "ndim", 0) > 0:
            store(group, key, to_host(value))
        else:
            # JSON keeps every bit of a double and integers of any size, such as the state of a generator.
            plain = value.item() if isinstance(value, np.generic) else value
            text = json.dumps(plain).encode()
            store(group, key, np.array([text], h5py.string_dtype("utf-8", len(text))))


def read_checkpoint(path):
    """Read what `write_checkpoint` wrote.

    Raises
    ------
    InputError
        When there is no such file.
    FileFormatError
        When it is truncated, foreign or newer.
    """
    with open_hdf5(path) as file:
        check_format(file, path, FORMAT, VERSION)
        with damage_named(path, "start training anew"):
            return _read(file, file.raw)


def check_settings(made_with, settings, path):
    """InputError unless a run of these settings goes on as that of a checkpoint would have; names the difference."""
    for name, value in settings.items():
        if name not in FREE and made_with[name] != value:
            raise InputError(
                f"{path} was made with {name}={made_with[name]!r} and this run has {value!r}; "
                "use the same settings, or another checkpoint file"
            )


def _read(group, raw):
    out = {}
    for key, item in group.items():
        name = key.replace("|", "/")
        if isinstance(item, h5py.Group):
            out[name] = _read(item, raw)
        elif h5py.check_string_dtype(item.dtype) is not None:
            (text,) = np.atleast_1d(read_text(raw, item))    # one value; without an axis in files of earlier versions
            out[name] = json.loads(text)
        else:
            out[name] = item[()]
    return out
