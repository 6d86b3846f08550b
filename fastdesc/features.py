"""The features file: HDF5, ragged by offsets, appendable, readable without fastdesc.

    features   (n_atoms, n_features)   rows in input order; (n_frames, n_features) of pooled features
    offsets    (n_frames + 1,)         frame f owns the atoms offsets[f] .. offsets[f + 1]
    numbers    (n_atoms,)              atomic numbers
    energies   (n_frames,)             eV; NaN where missing, as in the two below
    forces     (n_atoms, 3)            eV/Å
    stress     (n_frames, 3, 3)        eV/Å^3, positive in tension
    number     (n_frames,)             number of the frame in the input, counting skipped ones
    file, index (n_frames,)            where it came from: row of `files` (-1: memory), number in that file
    keys       (n_frames,)             uint64 hash of each frame's elements, positions, cell and periodicity
    info/<key> (n_frames,)             numbers and strings the frames carried
    skipped/   number, file, index, reason of frames that could not be used
    jacobian/  centre, atom (n,), values (n, n_features, 3), offsets (n_frames + 1,): rows of each frame, whose
               atoms are counted from 0; only where it was asked for
    names      (n_features,)           what each feature is
    files      JSON for each input file: name, size, time of change, digest
    parameters/<name>                  trainable arrays of the descriptor

Every dataset carries the attributes `unit` and `shape`. Root attributes: format, format_version, fastdesc_version,
family, parameters (JSON of the constructor's arguments), pool, compression, n_frames, n_seen (skipped ones too).
"""

import json
import shutil
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np

from fastdesc import __version__
from fastdesc.batch import structure_keys
from fastdesc.errors import InputError
from fastdesc.files import check_format, check_target, open_hdf5, part_of, to_json
from fastdesc.journal import JournaledFile, check_unused, discard, journal_of
from fastdesc.structures import Structures
from fastdesc.tables import TEXT, InfoColumns, append, create, describe, prepare_to_read

FORMAT = "fastdesc-features"
VERSION = 1
ROWS = {    # name: (unit, shape in words, shape of a row, dtype)
    "numbers": ("1", "n_atoms", (), np.int32),
    "energies": ("eV", "n_frames", (), np.float64),
    "forces": ("eV/Å", "n_atoms, 3", (3,), np.float64),
    "stress": ("eV/Å^3", "n_frames, 3, 3", (3, 3), np.float64),
    "number": ("1", "n_frames", (), np.int64),
    "file": ("1", "n_frames", (), np.int32),
    "index": ("1", "n_frames", (), np.int64),
    "keys": ("1", "n_frames", (), np.uint64),
}
SKIPPED = {"number": np.int64, "file": np.int32, "index": np.int64, "reason": TEXT}
POOLS = (None, "mean", "sum")


def frame_key(atoms):
    """Return a hash of what features depend on, as uint64: the same frame has the same key anywhere."""
    return structure_keys(Structures(
        np.asarray(atoms.numbers), np.asarray(atoms.positions), atoms.cell.array[None], np.asarray(atoms.pbc)[None],
        np.array([0, len(atoms)]),
    ))[0]  # fmt: skip


class FeaturesWriter:
    """Writes a features file batch by batch under a temporary name; `finish` gives it its own.

    What `commit` has made permanent survives a kill at any moment (fastdesc/journal.py).

    Parameters
    ----------
    path : str or Path
    descriptor : a descriptor, whose settings go into the file
    dtype : dtype of the features
    resume : bool
        Go on where an interrupted file, or the finished file of the first frames, ended; otherwise start anew.
    pool : {None, "mean", "sum"}
        One row for each frame instead of one for each atom.
    jacobian : bool
        Room for derivatives too.
    compression : str
        Of floating-point numbers; see tables.filters.

    Attributes
    ----------
    done : int
        Frames of the input that were dealt with, skipped ones included.
    n_frames, n_skipped : int
    """

    def __init__(self, path, descriptor, dtype, resume, pool=None, jacobian=False, compression="none"):
        self.path = check_target(path)
        self.part = part_of(self.path)
        check_unused(self.part)
        self.header = _header(descriptor, pool, jacobian, compression)
        self.finished = 0    # frames of a finished file that is being added to
        self.file = None
        if not (resume and self._reopen(descriptor, dtype)):
            discard(self.part)
            self._create(descriptor, np.dtype(dtype), jacobian, compression)
        self.done, self.n_frames = int(self.file.attrs["n_seen"]), int(self.file.attrs["n_frames"])
        self.n_skipped = len(self.file["skipped/number"])
        self.info = InfoColumns(self.file["info"])

    def _create(self, descriptor, dtype, jacobian, compression):
        n = descriptor.n_features
        self.journaled = JournaledFile(self.part, new=True)
        f = self.file = h5py.File(self.journaled, "w")
        f.attrs.update(self.header)
        f.attrs.update(n_frames=0, n_seen=0)
        for name, (unit, shape, row, kind) in ROWS.items():
            create(f, name, unit, shape, row, kind, compression)
        words = "n_frames, n_features" if self.header["pool"] else "n_atoms, n_features"
        create(f, "features", "1", words, (n,), dtype, compression)
        append(create(f, "offsets", "1", "n_frames + 1", dtype=np.int64), [0])
        create(f, "files", "1", "n_files", (), TEXT)
        f.create_group("info")
        for name, kind in SKIPPED.items():
            create(f, f"skipped/{name}", "1", "n_skipped", (), kind)
        if jacobian:
            append(create(f, "jacobian/offsets", "1", "n_frames + 1", dtype=np.int64), [0])
            for name in ("centre", "atom"):
                create(f, f"jacobian/{name}", "1", "n_blocks", dtype=np.int32)
            create(f, "jacobian/values", "1/Å", "n_blocks, n_features, 3", (n, 3), dtype, compression)
        names = np.array([s.encode() for s in descriptor.feature_names_out()])
        describe(f.create_dataset("names", data=names), "1", "n_features")
        for name, array in descriptor.parameters.items():
            d = f.create_dataset(f"parameters/{name}", data=array)
            describe(d, "1", ", ".join(map(str, array.shape)))

    def _reopen(self, descriptor, dtype):
        """Take up an earlier file; False when there is none that can be taken up."""
        if not self._open_part():
            if not (self._copy_finished() and self._open_part()):
                return False
            self.finished = int(self.file.attrs["n_frames"])
        try:
            _check_settings(self.file, self.path, self.header, descriptor, dtype)
        except BaseException:
            self._close()
            if self.finished:
                discard(self.part)
            raise
        return True

    def _open_part(self):
        """Open what an interruption left: the last commit. Without a journal nothing was ever committed."""
        if not (self.part.exists() and journal_of(self.part).exists()):
            return False
        self.journaled = JournaledFile(self.part, new=False)
        try:
            self.file = h5py.File(self.journaled, "r+")
            prepare_to_read(self.file)
            self.file.attrs["n_seen"], self.file["skipped/number"], self.file["info"], self.file["offsets"]
        except (OSError, KeyError, ValueError):
            self._close()
            return False
        return True

    def _copy_finished(self):
        """Begin from a copy of the finished file, if there is one."""
        if not self.path.exists():
            return False
        with open_hdf5(self.path) as f:
            check_format(f, self.path, FORMAT, VERSION)
            if f["features"].is_virtual:
                raise InputError(f"{self.path} is joined from shards and cannot grow; choose another name")
        discard(self.part)
        shutil.copyfile(self.path, self.part)
        with JournaledFile(self.part, new=False) as file:
            file.commit()
        return True

    def check_input(self, source):
        """Compare the input with that of an earlier run, and write down what it is now.

        Returns
        -------
        bool
            True when the files are untouched since, so that their frames need not be compared.

        Raises
        ------
        InputError
            When another file stands where one was read from.
        """
        now = source.fingerprint()
        d = self.file["files"]
        before = [json.loads(text) for text in d.asstr()[...]]
        if self.done:
            for k, old in enumerate(before):
                name = now[k]["name"] if k < len(now) else "missing" if now else "frames in memory"
                if name != old["name"] and now:
                    raise InputError(
                        f"{self.path} was begun with another input (file {k} was {old['name']}, now {name}); resuming "
                        "needs the same files in the same order, with new ones at the end"
                    )
        d.resize(len(now), axis=0)
        d[:] = np.array([json.dumps(x) for x in now], object)
        return bool(before) and now[: len(before)] == before

    def check_keys(self, batch):
        """InputError unless the frames of a batch, all from before `done`, are those of the file."""
        f = self.file
        kept = np.flatnonzero(~np.isin(batch.number, f["skipped/number"][...]))
        if not len(kept):
            return
        ours, keys = batch.number[kept], batch.keys()[kept]
        a = int(np.searchsorted(f["number"], ours[0]))
        theirs = f["number"][a : a + len(kept)], f["keys"][a : a + len(kept)]
        n = len(theirs[0])
        same = np.zeros(len(kept), bool)
        same[:n] = (theirs[0] == ours[:n]) & (theirs[1] == keys[:n])
        if not same.all():
            raise InputError(
                f"frame {ours[~same][0]} of the input is not the one in {self.path}; resuming needs the same frames in "
                "the same order, with new ones at the end"
            )

    def append(self, batch, features=None, jacobian=None):
        """Add a batch.

        Parameters
        ----------
        batch : Batch
        features : (n_atoms or n_frames, n_features), or None when the batch has no good frame
        jacobian : Jacobian, optional
        """
        f = self.file
        if batch.n_frames:
            s = batch.structures
            append(f["features"], features)
            new = {"numbers": s.numbers, "keys": batch.keys(), "offsets": s.first[1:] + f["offsets"][-1]}
            for name in (*ROWS, "offsets"):
                append(f[name], new[name] if name in new else getattr(batch, name))
            self.info.append(batch.infos, self.n_frames)
            if jacobian is not None:
                if (np.diff(jacobian.centre) < 0).any():
                    raise ValueError("rows of a Jacobian come in the order of their centres")
                start = s.first[s.frame_of_atom[jacobian.centre]]
                append(f["jacobian/centre"], jacobian.centre - start)
                append(f["jacobian/atom"], jacobian.atom - start)
                append(f["jacobian/values"], jacobian.values)
                ends = np.searchsorted(jacobian.centre, s.first[1:])
                append(f["jacobian/offsets"], ends + f["jacobian/offsets"][-1])
        for name in SKIPPED if batch.skipped else ():
            column = [getattr(x, name) for x in batch.skipped]
            append(f[f"skipped/{name}"], np.array(column, object if name == "reason" else None))
        self.done += batch.n_seen
        self.n_frames += batch.n_frames
        self.n_skipped += len(batch.skipped)

    def commit(self):
        """Make permanent what was appended."""
        self.file.attrs.update(n_frames=self.n_frames, n_seen=self.done)
        self.file.flush()
        self.journaled.commit()

    def finish(self):
        """Close the file and give it its name."""
        self.commit()
        self.file.close()
        self.journaled.commit()
        self.journaled.close_for_good(self.path)

    def abandon(self):
        """Close after a failure. What was committed stays under its temporary name; nothing else does."""
        committed = False
        with suppress(OSError, RuntimeError, ValueError):
            committed = journal_of(self.part).exists() and self.n_committed() > self.finished
        self._close()
        if not committed:
            discard(self.part)

    def n_committed(self):
        """Frames of the last commit."""
        from fastdesc.features_file import open_features

        with open_features(self.part) as f:
            return len(f)

    def _close(self):
        if self.file is not None:
            with suppress(OSError, RuntimeError, ValueError):
                self.file.close()
        with suppress(OSError):
            self.journaled.close()


def already_done(path, descriptor, dtype, source, **options):
    """True when `path` is the finished file of an input that was not touched since; frames in memory are not known.

    Raises
    ------
    InputError
        When it was made with other settings.
    """
    path = Path(path)
    if not source.files or not path.is_file() or part_of(path).exists():
        return False
    with open_hdf5(path) as f:
        _check_settings(f, path, _header(descriptor, **options), descriptor, dtype)
        return [json.loads(text) for text in f["files"].asstr()[...]] == source.fingerprint()


def _check_settings(f, path, header, descriptor, dtype):
    """InputError unless the file `f` was made as we are asked to."""
    check_format(f, path, FORMAT, VERSION)
    ours, theirs = header, dict(f.attrs)
    for what in ("family", "parameters", "pool", "jacobian"):
        if theirs.get(what) != ours[what]:
            difference = _difference(theirs.get(what), ours[what])
            raise InputError(
                f"{path} was begun with other settings ({what}: {difference}); "
                "choose another name or do not resume"
            )
    if f["features"].dtype != np.dtype(dtype):
        raise InputError(
            f"{path} was begun with another dtype ({f['features'].dtype}, now {np.dtype(dtype)}); "
            "choose another name or do not resume"
        )
    for name, array in descriptor.parameters.items():
        if not np.array_equal(f[f"parameters/{name}"][...], array):
            raise InputError(
                f"{path} was begun with other trained parameters ({name} differs); choose another name or do "
                "not resume"
            )


def _header(descriptor, pool, jacobian, compression):
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "fastdesc_version": __version__,
        "family": descriptor.family,
        "parameters": to_json(descriptor.get_params()),
        "pool": pool or "",
        "jacobian": bool(jacobian),
        "compression": compression,
    }


def _difference(theirs, ours):
    if not (isinstance(theirs, str) and theirs.startswith("{")):
        return f"{theirs or 'none'}, now {ours or 'none'}"
    a, b = json.loads(theirs), json.loads(ours)
    return "; ".join(f"{k} {a.get(k)}, now {b.get(k)}" for k in {**a, **b} if a.get(k) != b.get(k))
