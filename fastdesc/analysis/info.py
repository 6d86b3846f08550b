"""What is in a file of ours, in words, and how to read it without us."""

import json
import time
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np

from fastdesc.errors import FastdescError, FileFormatError, InputError
from fastdesc.hdf5.attributes import attribute, attributes
from fastdesc.hdf5.files import damage_named, open_hdf5
from fastdesc.hdf5.journal import TRIES, CommittedFile, Moved, journal_of
from fastdesc.hdf5.structure import CheckedFile
from fastdesc.hdf5.tables import prepare_to_read

READ_AT_MOST = 1 << 24
"""Numbers of a dataset that are looked at for its range."""
FRAMES_AT_MOST = 100_000
"""Frames whose labels and elements are looked at."""

READERS = {
    "fastdesc-features": """\
import h5py
with h5py.File("{name}") as f:
    a, b = f["offsets"][0], f["offsets"][1]      # rows of frame 0
    q = f["features"][a:b]                       # (atoms of frame 0, features)
    energy, forces = f["energies"][0], f["forces"][a:b]""",
    "fastdesc-frames": """\
import h5py
with h5py.File("{name}") as f:
    a, b = f["offsets"][0], f["offsets"][1]      # atoms of frame 0
    numbers, positions = f["numbers"][a:b], f["positions"][a:b]
    cell, energy, forces = f["cells"][0], f["energies"][0], f["forces"][a:b]""",
    "fastdesc-model": """\
import h5py, json
with h5py.File("{name}") as f:
    settings = json.loads(f.attrs["descriptor"]), json.loads(f.attrs["potential"])
    parameters = {{}}
    f["parameters"].visititems(lambda k, v: parameters.update({{k: v[()]}}) if hasattr(v, "dtype") else None)""",
    "fastdesc-predictions": """\
import h5py
with h5py.File("{name}") as f:
    error = f["forces"][:] - f["reference_forces"][:]
    per_atom = (f["energy"][:] - f["reference_energy"][:]) / f["n_atoms"][:]""",
}


def describe(path):
    """Return text that says what a features, frames, model, predictions or checkpoint file holds.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    str
        Kind and version, settings, every dataset with shape, unit and range, and a few lines of h5py that read it.

    Raises
    ------
    InputError
        When there is no such file.
    FileFormatError
        When it is truncated, or no HDF5 file of fastdesc.
    """


    def read(f):
        with damage_named(path):
            kind = attribute(f, "format")
        if not isinstance(kind, str) or not kind.startswith("fastdesc-"):
            raise FileFormatError(f"{path} is an HDF5 file, but none that fastdesc wrote; h5dump can show it")
        with damage_named(path):
            prepare_to_read(f)
            return kind, [_head(f, path, kind), _settings(f), _contents(f, kind), _datasets(f)]

    kind, blocks = _look(path, read)
    if kind in READERS:
        blocks.append("read it without fastdesc:\n\n" + _indented(READERS[kind].format(name=Path(path).name)))
    return "\n\n".join(b for b in blocks if b)


def headline(path):
    """Return one line that says how much a features file holds."""
    return _look(path, lambda f: f"{path}: {_contents(f, attribute(f, 'format'))}")


def _look(path, read):
    """Return `read(file)` of an open file; of one that is being written, as it was at its last commit."""
    for tried in range(TRIES):
        if not journal_of(path).exists():
            with open_hdf5(path) as f:
                return read(f)
        with suppress(Moved), CommittedFile(path) as beneath:
            try:
                with damage_named(path), CheckedFile(beneath) as f:
                    found = read(f)
                if not beneath.failed:
                    return found
            except FastdescError:
                if not beneath.failed:
                    raise
        time.sleep(1e-3 * min(tried, 10))
    raise InputError(f"{path} is written faster than it can be read; wait until it is finished")


def _head(f, path, kind):
    size = Path(path).stat().st_size
    return (
        f"{path}: {kind.removeprefix('fastdesc-')} file, {_bytes(size)}, format version "
        f"{attribute(f, 'format_version')}, written by fastdesc {attribute(f, 'fastdesc_version')}"
    )


def _settings(f):
    """Root attributes that are not the file's own label; JSON is spread out."""
    lines = []
    for name, value in attributes(f).items():
        if name in ("format", "format_version", "fastdesc_version", "n_frames"):
            continue
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, str) and value.startswith("{"):
            lines.append(name)
            lines += [f"    {k} = {v}" for k, v in _flat(json.loads(value))]
        else:
            lines.append(f"{name} = {value}")
    return "\n".join(lines)


def _flat(table):
    """Key and JSON text of a dict, whose inner dicts are taken apart."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value)
        else:
            yield key, json.dumps(value, ensure_ascii=False)


def _contents(f, kind):
    """Counts in words, for the files that hold frames."""
    if kind in ("fastdesc-features", "fastdesc-frames"):
        return _frames(f, kind)
    if kind == "fastdesc-predictions":
        return f"{len(f['n_atoms'])} frames, {int(f['n_atoms'][...].sum())} atoms"
    return ""


def _frames(f, kind):
    """How many frames, with which labels and elements; of a large file, the labels of its first frames."""
    from ase.data import chemical_symbols

    n = int(f.attrs["n_frames"])
    looked_at = min(n, FRAMES_AT_MOST)
    offsets = f["offsets"][: looked_at + 1]
    n_atoms = int(f["offsets"][n])
    known = np.isfinite(f["forces"][: offsets[-1]]).all(1)
    complete = np.concatenate([[0], np.cumsum(known)])[offsets]
    counts = {
        "energy": int(np.isfinite(f["energies"][:looked_at]).sum()),
        "forces": int((np.diff(complete) == np.diff(offsets)).sum()),
        "stress": int(np.isfinite(f["stress"][:looked_at]).all((1, 2)).sum()),
    }
    symbols = [chemical_symbols[z] for z in np.unique(f["numbers"][: offsets[-1]])]
    have = ", ".join(f"{count} with {name}" for name, count in counts.items())
    have = have if looked_at == n else f"of the first {looked_at}: {have}"
    text = f"{n} frames ({have}), {n_atoms} atoms of {', '.join(symbols)}"
    if kind == "fastdesc-frames":
        return text
    pool = attribute(f, "pool")
    text += f", {f['features'].shape[1]} features per " + (f"structure ({pool} over its atoms)" if pool else "atom")
    skipped = len(f["skipped/number"])
    return text + (f", {skipped} frame{'s'[: skipped != 1]} skipped" if skipped else "")


def skipped_frames(path, at_most=3):
    """Return one line on the frames that were skipped, '' when there are none."""
    from fastdesc.features.reader import open_features

    with open_features(path) as f:
        rows = f.skipped
    if not rows:
        return ""
    words = [f"{'frame' if r['file'] is None else r['file']} {r['index']}: {r['reason']}" for r in rows[:at_most]]
    more = f"; and {len(rows) - at_most} more" if len(rows) > at_most else ""
    return f"skipped {len(rows)} frame{'s'[: len(rows) != 1]} (listed in {path}): {'; '.join(words)}{more}"


def _datasets(f):
    rows = [("dataset", "shape", "type", "unit", "range")]

    def add(name, d):
        if isinstance(d, h5py.Dataset):
            words = str(attribute(d, "shape", ""))
            shape = "(" + ", ".join(map(str, d.shape)) + ")" + (f" {words}" if any(c.isalpha() for c in words) else "")
            kind = "string" if d.dtype.kind in "SO" else str(d.dtype)
            rows.append((name, shape, kind, str(attribute(d, "unit", "")), _range(d)))

    f.visititems(add)
    widths = [max(len(r[k]) for r in rows) for k in range(5)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows)


def _range(d):
    if d.dtype.kind not in "fiu" or d.size == 0 or d.name.endswith("keys"):
        return ""
    n = len(d) if d.shape else 0
    row = max(1, d.size // max(n, 1))
    part = d[()] if not n else d[: max(1, min(n, READ_AT_MOST // row))]
    part = np.asarray(part)
    finite = part[np.isfinite(part)]
    if not finite.size:
        return "all NaN"
    text = f"{finite.min():.5g} .. {finite.max():.5g}" if finite.size > 1 else f"{finite.flat[0]:.5g}"
    missing = part.size - finite.size
    text += f", {missing} NaN" if missing else ""
    return text if part.size == d.size else f"{text} (first {len(part)} rows)"


def _bytes(n):
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


def _indented(text):
    return "\n".join("    " + line for line in text.splitlines())
