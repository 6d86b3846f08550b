"""What frames carry by name, in HDF5: a column for each key, and JSON for what has no place in one.

    info/<key>   (n_frames,)   numbers (NaN where a frame has none) or text (empty where it has none)
    info_json    (n_frames,)   JSON of a dict by key: what does not fit the column of its key, or is of a further key

The attribute `kind` of a column says what its values are: number, integer, boolean, text or json (lists and the like).
A value of another kind than its column goes to `info_json` (a whole number among other numbers is one of them), and so
does what a column cannot tell from nothing (NaN, an empty text), whole numbers above 2^53, text that HDF5 cannot hold,
and every key after the first MOST_COLUMNS: files of free text, whose words are keys to some, cost no more than others.
"""

import json
import re

import h5py
import numpy as np

from fastdesc.hdf5.attributes import attribute, set_attributes
from fastdesc.hdf5.tables import create, create_text, growing

MOST_COLUMNS = 64
LONGEST_KEY = 200    # bytes
EXACT = 2**53    # whole numbers up to here are themselves as float64
NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""What a text in HDF5 cannot hold."""
BLANK = {"text": "", "json": ""}


class InfoColumns:
    """Values by key of frames, found as they arrive.

    Parameters
    ----------
    group : h5py.Group
        The columns; the JSON stands beside it.
    """

    def __init__(self, group):
        self.group, self.beside = group, group.name.rpartition("/")[2] + "_json"
        self.kinds = {key: kind_of(d) for key, d in group.items()}
        self.columns = {key: growing(d) for key, d in group.items()}
        self.rest = growing(group.parent[self.beside]) if self.beside in group.parent else None

    def append(self, infos, n_before):
        """Add the values of some frames; `n_before` frames are there already.

        Parameters
        ----------
        infos : list of dict
            Values as `json.dumps` takes them.
        """
        n, new, rest = len(infos), {}, {}
        for k, info in enumerate(infos):
            for key, value in info.items():
                kind = self._kind_for(key, value)
                if kind is None:
                    rest.setdefault(k, {})[key] = value
                    continue
                if key not in new:
                    new[key] = np.full(n, "", object) if kind in BLANK else np.full(n, np.nan)
                new[key][k] = json.dumps(value) if kind == "json" else value
        for key in new:
            if key not in self.columns:
                self._begin(key, n_before)
        for key, column in self.columns.items():
            column.append(new[key] if key in new else np.full(n, column.missing))
        if rest and self.rest is None:
            self.rest = growing(create_text(self.group.parent, self.beside, "as in the input", "n_frames", n_before))
        if self.rest is not None:
            self.rest.append(np.array([json.dumps(rest[k]) if k in rest else "" for k in range(n)], object))

    def _kind_for(self, key, value):
        """Kind of the column that takes a value; None where it has no place in one."""
        kind = _kind(value)
        known = self.kinds.get(key)
        if known is None and kind is not None and len(self.kinds) < MOST_COLUMNS and _is_name(key):
            self.kinds[key] = known = kind
        if kind == "number" and known == "integer":
            self.kinds[key] = known = kind
            if key in self.columns:
                set_attributes(self.columns[key].dataset, {"kind": kind})
        return known if known is not None and (kind == known or (kind, known) == ("integer", "number")) else None

    def _begin(self, key, n):
        """A column for a new key, without values in the first `n` frames."""
        if self.kinds[key] in BLANK:
            d = create_text(self.group, key, "as in the input", "n_frames", n)
        else:
            d = create(self.group, key, "as in the input", "n_frames")
            d.resize(n, axis=0)
            if n:
                d[:] = np.nan
        set_attributes(d, {"kind": self.kinds[key]})
        self.columns[key] = growing(d)

    def flush(self):
        """Hand over to HDF5 what waits."""
        for column in self._all():
            column.flush()

    def datasets(self):
        """All of them."""
        return [d for column in self._all() for d in column.datasets()]

    def _all(self):
        return [*self.columns.values(), *([] if self.rest is None else [self.rest])]


def _kind(value):
    """Kind of a value; None where no column can hold it."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if -EXACT <= value <= EXACT else None
    if isinstance(value, float):
        return "number" if value == value else None
    if isinstance(value, str):
        return "text" if value and not NO_TEXT.search(value) else None
    return "json"


def _is_name(key):
    """Whether a key can be the name of a dataset."""
    fits = isinstance(key, str) and key.strip(".") and "/" not in key and not NO_TEXT.search(key)
    return bool(fits) and len(key.encode()) <= LONGEST_KEY


def kind_of(dataset):
    """What the values of a column are; files of earlier versions do not say."""
    text = h5py.check_string_dtype(dataset.dtype) is not None
    kind = attribute(dataset, "kind")
    allowed = ("text", "json") if text else ("number", "integer", "boolean")
    return kind if isinstance(kind, str) and kind in allowed else allowed[0]


def check_info(file, name, n_frames):
    """ValueError unless the columns of a group, and the JSON beside it, have as many rows as there are frames."""
    for key, d in file[name].items():
        text = h5py.check_string_dtype(d.dtype) is not None
        if d.shape != (n_frames,) or not (text or d.dtype.kind in "fiub"):
            raise ValueError(f"{name} {key} has the shape {d.shape} and the type {d.dtype}")
    rest = file.get(f"{name}_json")
    if rest is not None and (rest.shape != (n_frames,) or h5py.check_string_dtype(rest.dtype) is None):
        raise ValueError(f"{name}_json has the shape {rest.shape} and the type {rest.dtype}")


def read_info(file, name, a, b):
    """Values by key of the frames a .. b, a list of dict.

    Parameters
    ----------
    name : str
        Of the group.
    """
    infos = [{} for _ in range(b - a)]
    for key, d in file[name].items():
        kind = kind_of(d)
        text = kind in BLANK
        for k, value in enumerate(file.text(f"{name}/{key}", slice(a, b)) if text else d[a:b].tolist()):
            if (value != "") if text else (value == value):
                infos[k][key] = CONVERSIONS[kind](value)
    if f"{name}_json" in file:
        for k, value in enumerate(file.text(f"{name}_json", slice(a, b))):
            if value:
                rest = json.loads(value)
                infos[k].update(rest)
    return infos


def read_info_keys(file, name, n):
    """All keys of the first n frames: those of columns, and then those that only JSON has."""
    keys = dict.fromkeys(file[name])
    if f"{name}_json" in file:
        for value in file.text(f"{name}_json", slice(0, n)):
            if value:
                keys.update(dict.fromkeys(json.loads(value)))
    return list(keys)


def read_info_column(file, name, key, n):
    """Values of one key, (n,): numbers and NaN, or text and empty ones where it is text for any frame."""
    d = file[name].get(key) if _is_name(key) else None
    text = d is not None and kind_of(d) in BLANK
    rows = [None] * n if d is None else file.text(f"{name}/{key}", slice(0, n)) if text else d[:n]
    column = [None if v == "" or v != v else v for v in rows]
    boolean = d is not None and kind_of(d) == "boolean"
    if f"{name}_json" in file:
        for k, value in enumerate(file.text(f"{name}_json", slice(0, n))):
            if value:
                rest = json.loads(value)
                if key in rest:
                    column[k] = rest[key] if isinstance(rest[key], str | int | float) else json.dumps(rest[key])
                    text = text or isinstance(column[k], str)
    if not text:
        return np.array([np.nan if v is None else _to_float(v) for v in column], np.float64)
    return np.array(["" if v is None else _to_text(v, boolean) for v in column], object)


def _to_float(value):
    try:
        return float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf


def _to_text(value, boolean):
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(bool(value)) if boolean else str(int(value))
    return str(value)


def alive(info):
    """What was read, as frames carry it: lists of numbers are arrays, as in extended XYZ."""
    return {key: _array(value) if isinstance(value, list) else value for key, value in info.items()}


def _array(value):
    try:
        array = np.array(value)
    except ValueError:    # rows of different lengths
        return value
    return array if array.dtype.kind in "iufb" else value


CONVERSIONS = {"number": float, "integer": int, "boolean": bool, "text": str, "json": json.loads}
