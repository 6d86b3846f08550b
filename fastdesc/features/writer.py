"""Writing the features file, batch by batch; its layout is described in fastdesc/features/layout.py."""

import json
import shutil
from contextlib import suppress

import numpy as np

from fastdesc.errors import InputError
from fastdesc.features.layout import FORMAT, ROWS, SKIPPED, VERSION, check_settings, made_with
from fastdesc.hdf5.attributes import attribute, set_attributes
from fastdesc.hdf5.files import DAMAGE, check_format, check_target, open_hdf5, part_of
from fastdesc.hdf5.heaps import read_text
from fastdesc.hdf5.info import InfoColumns
from fastdesc.hdf5.journal import JournaledFile, discard, journal_of
from fastdesc.hdf5.locks import WriteLock
from fastdesc.hdf5.structure import check_beginning, check_structure
from fastdesc.hdf5.tables import TEXT, append, create, describe, growing, open_to_append, prepare_to_read


class FeaturesWriter:
    """Writes a features file batch by batch under a temporary name; `finish` gives it its own.

    What `commit` has made permanent survives a kill at any moment (fastdesc/hdf5/journal.py).

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
        Of floating-point numbers; see tables.compression_options.

    Attributes
    ----------
    done : int
        Frames of the input that were dealt with, skipped ones included.
    begun_at : int
        What `done` was at first.
    n_frames, n_skipped : int
    """

    def __init__(self, path, descriptor, dtype, resume, pool=None, jacobian=False, compression="none"):
        self.path = check_target(path, FORMAT)
        self.part = part_of(self.path)
        self.header = made_with(descriptor, pool, jacobian, compression)
        self.finished = 0    # frames of a finished file that is being added to
        self.file = self.journaled = None
        self.lock = WriteLock(self.part)    # until the file has its name, or is given up
        try:
            self._begin(descriptor, np.dtype(dtype), resume, jacobian, compression)
        except BaseException:
            self._close()
            self.lock.release()
            raise

    def _begin(self, descriptor, dtype, resume, jacobian, compression):
        if not (resume and self._reopen(descriptor, dtype)):
            discard(self.part)
            self._create(descriptor, dtype, jacobian, compression)
        self.done = self.begun_at = int(self.file.attrs["n_seen"])
        self._count(int(self.file.attrs["n_frames"]))

    def _count(self, n_frames):
        """Go on behind the rows there are."""
        self.n_frames, self.n_skipped = n_frames, len(self.file["skipped/number"])
        self.info = InfoColumns(self.file["info"])
        self.tables = {name: growing(self.file[name]) for name in self._names()}
        self.n_atoms = int(self.file["offsets"][-1])
        self.n_blocks = int(self.file["jacobian/offsets"][-1]) if self.header["jacobian"] else 0

    def _create(self, descriptor, dtype, jacobian, compression):
        n = descriptor.n_features
        self.journaled = JournaledFile(self.part, new=True, lock=self.lock)
        f = self.file = open_to_append(self.journaled, "w")
        set_attributes(f, {**self.header, "n_frames": 0, "n_seen": 0})
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

    def _names(self):
        """Names of the datasets that grow with every batch, but for what frames carry in their info."""
        jacobian = ("offsets", "centre", "atom", "values") if self.header["jacobian"] else ()
        return (
            "features", "offsets", *ROWS, *(f"skipped/{name}" for name in SKIPPED),
            *(f"jacobian/{name}" for name in jacobian),
        )  # fmt: skip

    def _reopen(self, descriptor, dtype):
        """Take up an earlier file; False when there is none that can be taken up."""
        if not self._open_part():
            if not (self._copy_finished() and self._open_part()):
                return False
            self.finished = int(self.file.attrs["n_frames"])
        try:
            check_settings(self.file, self.path, self.header, descriptor, dtype)
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
        self.journaled = JournaledFile(self.part, new=False, lock=self.lock)
        try:
            check_beginning(self.part, self.journaled)
            self.file = open_to_append(self.journaled, "r+")
            self.raw = check_structure(self.file, self.journaled)
            prepare_to_read(self.file)
            self.file.attrs["n_seen"], self.file["skipped/number"], self.file["info"], self.file["offsets"]
        except DAMAGE:
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
        with JournaledFile(self.part, new=False, lock=self.lock) as file:
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
        before = [json.loads(text) for text in read_text(self.raw, d)] if len(d) else []
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

    def take_back(self, number):
        """Forget the frames from a number in the input on; nothing is permanent before the next commit."""
        f = self.file
        self._flush()
        k, skipped = (int(np.searchsorted(f[name], number)) for name in ("number", "skipped/number"))
        atoms, blocks = int(f["offsets"][k]), int(f["jacobian/offsets"][k]) if self.header["jacobian"] else 0
        rows = {"n_frames": k, "n_frames + 1": k + 1, "n_atoms": atoms, "n_blocks": blocks, "n_skipped": skipped}
        for d in (*(f[name] for name in self._names()), *self.info.datasets()):
            d.resize(rows[attribute(d, "shape").partition(",")[0]], axis=0)
        self.done, self.finished = number, min(self.finished, k)
        self._count(k)

    def append(self, batch, features=None, jacobian=None):
        """Add a batch.

        Parameters
        ----------
        batch : FrameBatch
        features : (n_atoms or n_frames, n_features), or None when the batch has no good frame
        jacobian : Jacobian, optional
        """
        tables = self.tables
        if batch.n_frames:
            s = batch.structures
            tables["features"].append(features)
            new = {"numbers": s.numbers, "keys": batch.keys(), "offsets": s.first[1:] + self.n_atoms}
            for name in (*ROWS, "offsets"):
                tables[name].append(new[name] if name in new else getattr(batch, name))
            self.info.append(batch.infos, self.n_frames)
            if jacobian is not None:
                self._append_jacobian(jacobian, s)
        for name in SKIPPED if batch.skipped else ():
            column = [getattr(x, name) for x in batch.skipped]
            tables[f"skipped/{name}"].append(np.array(column, object if name == "reason" else None))
        self.done += batch.n_seen
        self.n_frames += batch.n_frames
        self.n_atoms += batch.structures.n_atoms if batch.n_frames else 0
        self.n_skipped += len(batch.skipped)

    def _append_jacobian(self, jacobian, s):
        if (np.diff(jacobian.centre) < 0).any():
            raise ValueError("rows of a Jacobian come in the order of their centres")
        start = s.first[s.frame_of_atom[jacobian.centre]]
        ends = np.searchsorted(jacobian.centre, s.first[1:])
        new = {
            "centre": jacobian.centre - start, "atom": jacobian.atom - start, "values": jacobian.values,
            "offsets": ends + self.n_blocks,
        }  # fmt: skip
        for name, rows in new.items():
            self.tables[f"jacobian/{name}"].append(rows)
        self.n_blocks += len(jacobian.centre)

    def commit(self):
        """Make permanent what was appended."""
        self._flush()
        self.file.flush()
        self.journaled.commit()

    def _flush(self):
        """Hand over to HDF5 what waits."""
        for table in (*self.tables.values(), self.info):
            table.flush()
        self.file.attrs.update(n_frames=self.n_frames, n_seen=self.done)

    def finish(self):
        """Close the file and give it its name."""
        self._flush()
        self.file.close()
        self.journaled.commit()
        self.journaled.close_for_good(self.path)
        self.lock.release()

    def abandon(self):
        """Close after a failure. What was committed stays under its temporary name; nothing else does."""
        committed = False
        with suppress(OSError, RuntimeError, ValueError):
            committed = journal_of(self.part).exists() and self.n_committed() > self.finished
        self._close()
        if not committed:
            discard(self.part)
        self.lock.release()

    def n_committed(self):
        """Frames of the last commit."""
        from fastdesc.features.reader import open_features

        with open_features(self.part) as f:
            return len(f)

    def _close(self):
        if self.file is not None:
            with suppress(OSError, RuntimeError, ValueError):
                self.file.close()
        if self.journaled is not None:
            with suppress(OSError):
                self.journaled.close()
