"""Reading a features file that joins shards, without the limits of virtual datasets.

HDF5 keeps every source of a virtual dataset open, and where one cannot be opened (too many files, a file that is gone)
reads zeros without a word. Here a few shards are open at a time, and a missing one is an error.
"""

import json
import os

import h5py
import numpy as np

from fastdesc.errors import FileFormatError
from fastdesc.features.layout import FORMAT, ROWS, SKIPPED
from fastdesc.hdf5.attributes import attribute, attributes, set_attributes
from fastdesc.hdf5.files import open_hdf5, whole_or_nothing
from fastdesc.hdf5.info import InfoColumns, read_info
from fastdesc.hdf5.journal import StreamedFile
from fastdesc.hdf5.structure import FOLDER, SMALL
from fastdesc.hdf5.tables import TEXT, append, create, describe

OPEN_AT_MOST = 16


class Shards:
    """The shards of an open features file.

    Parameters
    ----------
    file : h5py.File
    path : Path

    Raises
    ------
    FileFormatError
        When one of them is missing.
    ValueError
        When they are said to be elsewhere than beside the file, or more or less than there are bounds.
    """

    def __init__(self, file, path):
        name = attribute(file, "shards")
        if not FOLDER.fullmatch(name):
            raise ValueError(f"shards are said to be in {name!r}, which is not beside the file")
        self.folder, self.open = path.parent / name, {}
        self.bounds = {name: d[...] for name, d in file["shards"].items() if len(d) > 1}    # no Jacobian, no blocks
        n_shards = int(file.attrs["n_shards"])
        for bounds in self.bounds.values():
            if bounds.shape != (n_shards + 1,) or bounds[0] != 0 or (np.diff(bounds) < 0).any():
                raise ValueError(f"the bounds of {n_shards} shards are no such bounds")
        there = set(os.listdir(self.folder)) if self.folder.is_dir() else set()
        missing = [name for k in range(n_shards) if (name := _name(k)) not in there]
        if missing:
            raise FileFormatError(
                f"{path} joins the files in {self.folder}, of which {missing[0]} is missing ({len(missing)} in all); "
                "keep the two together, or make them again"
            )

    def read(self, file, name, rows):
        """Rows of a virtual dataset: one by an int, several by a slice, others by what h5py takes."""
        d = file[name]
        if isinstance(rows, int | np.integer):
            return self._rows(d, name, int(rows), int(rows) + 1)[0]
        if not isinstance(rows, slice) or rows.step not in (None, 1):
            return self._rows(d, name, 0, len(d))[rows]
        a, b, _ = rows.indices(len(d))
        return self._rows(d, name, a, max(a, b))

    def _rows(self, d, name, a, b):
        if name.startswith("jacobian/"):
            bounds = self.bounds["blocks"]
        else:
            bounds = self.bounds["atoms" if attribute(d, "shape").startswith("n_atoms") else "frames"]
        self._check(d, name, bounds, a, b)
        found = np.empty((b - a, *d.shape[1:]), d.dtype)
        k = int(np.searchsorted(bounds, a, side="right")) - 1
        at = a
        while at < b:
            last = min(b, int(bounds[k + 1]))
            if last > at:
                found[at - a : last - a] = self._shard(k)[name][at - bounds[k] : last - bounds[k]]
                at = last
            k += 1
        return found

    def _check(self, d, name, bounds, a, b):
        """ValueError unless shards hold the rows a .. b that the file says they hold; few rows show it themselves."""
        if len(d) != bounds[-1]:
            raise ValueError(f"{name} has {len(d)} rows, and its shards have {bounds[-1]}")
        if (b - a) * int(np.prod(d.shape[1:])) * d.dtype.itemsize <= SMALL:
            return
        for k in range(int(np.searchsorted(bounds, a, side="right")) - 1, int(np.searchsorted(bounds, b))):
            if self._shard(k)[name].shape != (bounds[k + 1] - bounds[k], *d.shape[1:]):
                raise ValueError(f"{_name(k)} does not hold the rows of {name} that it should hold")

    def _shard(self, k):
        if k not in self.open:
            while len(self.open) >= OPEN_AT_MOST:
                self.open.pop(next(iter(self.open))).close()
            self.open[k] = open_hdf5(self.folder / _name(k))
        return self.open[k]

    def close(self):
        """Close the shards."""
        for file in self.open.values():
            file.close()
        self.open = {}


def _name(k):
    return f"{k:06d}.h5"


JOINED = ("features", "numbers", "forces")
JOINED_JACOBIAN = ("jacobian/centre", "jacobian/atom", "jacobian/values")


def shards_of(out):
    """Folder of the shards of a features file."""
    return out.with_name(out.name + ".shards")


def join(out, n_shards, source, options, lock=None):
    """Write the features file whose datasets join those of the shards; `lock` as of `whole_or_nothing`."""
    folder = shards_of(out)
    names = [folder / f"{k:06d}.h5" for k in range(n_shards)]
    with whole_or_nothing(out, FORMAT, lock) as part, StreamedFile(part) as raw, h5py.File(raw, "w") as f:
        f.create_group("info")
        info, n_frames, n_atoms, n_blocks, n_seen = InfoColumns(f["info"]), 0, 0, 0, 0
        joined = JOINED + (JOINED_JACOBIAN if options["jacobian"] else ())
        parts = {name: [] for name in joined}
        bounds = {"frames": [], "atoms": [], "blocks": []}
        for k, name in enumerate(names):
            with open_hdf5(name) as g:
                if k == 0:
                    _begin(f, g, source, options)
                for key in (*ROWS, *(f"skipped/{x}" for x in SKIPPED)):
                    if key not in JOINED:
                        append(f[key], g.text(key) if key.endswith("reason") else g[key][...])
                append(f["offsets"], g["offsets"][1:] + n_atoms)
                info.append(read_info(g, "info", 0, int(g.attrs["n_frames"])), n_frames)
                for key in joined:
                    parts[key].append((f"{folder.name}/{name.name}", g[key].shape))
                if options["jacobian"]:
                    append(f["jacobian/offsets"], g["jacobian/offsets"][1:] + n_blocks)
                    bounds["blocks"].append(int(g["jacobian/offsets"][-1]))
                    n_blocks += bounds["blocks"][-1]
                n_frames += int(g.attrs["n_frames"])
                n_seen += int(g.attrs["n_seen"])
                n_atoms += len(g["numbers"])
                bounds["frames"].append(int(g.attrs["n_frames"]))
                bounds["atoms"].append(len(g["numbers"]))
                words = {key: (g[key].dtype, attributes(g[key])) for key in joined}
        info.flush()
        for key, rows in bounds.items():
            describe(f.create_dataset(f"shards/{key}", data=np.cumsum([0, *rows])), "1", "n_shards + 1")
        for key in joined:
            _virtual(f, key, parts[key], *words[key])
        set_attributes(f, {"n_frames": n_frames, "n_seen": n_seen, "shards": folder.name, "n_shards": n_shards})


def _begin(f, g, source, options):
    """Root attributes and empty datasets, as in the first shard."""
    set_attributes(f, attributes(g))
    for name, (unit, shape, row, kind) in ROWS.items():
        if name not in JOINED:
            create(f, name, unit, shape, row, kind, options["compression"])
    append(create(f, "offsets", "1", "n_frames + 1", dtype=np.int64), [0])
    for name, kind in SKIPPED.items():
        create(f, f"skipped/{name}", "1", "n_skipped", (), kind)
    if options["jacobian"]:
        append(create(f, "jacobian/offsets", "1", "n_frames + 1", dtype=np.int64), [0])
    files = create(f, "files", "1", "n_files", (), TEXT)
    append(files, np.array([json.dumps(x) for x in source.fingerprint()], object))
    for name in ("names", "parameters"):
        g.copy(name, f)


def _virtual(f, name, parts, dtype, words):
    rows = sum(shape[0] for _, shape in parts)
    layout = h5py.VirtualLayout((rows, *parts[0][1][1:]), dtype)
    first = 0
    for path, shape in parts:
        if shape[0]:
            layout[first : first + shape[0]] = h5py.VirtualSource(path, name, shape)
        first += shape[0]
    d = f.create_virtual_dataset(name, layout)
    describe(d, words["unit"], words["shape"])
