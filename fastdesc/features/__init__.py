"""Descriptors of many frames into one features file: a stream from the readers, through the descriptor, to the disk."""

import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, overload

from fastdesc.backend import threads
from fastdesc.backend.arrays import resolve_device, resolve_dtype
from fastdesc.checks import count, flag, word
from fastdesc.descriptors.descriptor import Descriptor
from fastdesc.descriptors.short_distances import ShortDistances
from fastdesc.errors import FastdescWarning, InputError
from fastdesc.features.layout import POOLS, already_done
from fastdesc.features.reader import Features, open_features, read_features
from fastdesc.features.resume import new_batches
from fastdesc.features.stream import Ahead, Behind, one_ahead, start, without_bad_frames
from fastdesc.features.writer import FeaturesWriter
from fastdesc.hdf5.files import check_apart
from fastdesc.hdf5.tables import compression_options
from fastdesc.io.frames import iread_frames, read_frames
from fastdesc.io.frames_file import write_frames_file
from fastdesc.io.labels import Labels, LabelsSeen, label_keys, labels
from fastdesc.io.parser_processes import batches, default_readers
from fastdesc.io.sources import Source
from fastdesc.types import Compression, Device, DType, FilePath, Frames, OnError, Pool

__all__ = [
    "Features", "Labels", "convert", "featurize", "iread_frames", "labels", "open_features", "read_features",
    "read_frames",
]  # fmt: skip

CHUNK_ATOMS = 8192
ON_ERROR = ("raise", "skip")
MOST_WORKERS = 1024
"""More threads or processes are refused."""


def featurize(
    frames: Frames,
    out: FilePath,
    descriptor: Descriptor,
    device: Device = "cpu",
    dtype: DType = "float64",
    workers: int | None = None,
    resume: bool = False,
    progress: bool = True,
    chunk_atoms: int = CHUNK_ATOMS,
    *,
    pool: Pool | None = None,
    jacobian: bool = False,
    on_error: OnError = "raise",
    compression: Compression = "none",
    readers: int | None = None,
    scheduler: str | None = None,
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
) -> Path:
    """Compute the features of frames and write them, with what the frames carry, to an HDF5 file.

    Frames stream through: reading, computing and writing overlap, and memory does not grow with the input. What was
    written is made permanent every few seconds; after a crash, even a kill, ``resume=True`` goes on from there.

    Parameters
    ----------
    frames : str, Path, ase.Atoms, list of ase.Atoms, or list of paths
        A path may be a glob; files are whatever ASE reads, ASE databases, and what `convert` writes, which is read
        fastest. Extended XYZ, databases, trajectories and our own files are read as streams.
    out : str or Path
        The features file; its layout is described in fastdesc/features/layout.py. It appears under this name only
        when it is complete (until then it has `.part` appended, which `open_features` opens too).
    descriptor : a descriptor, such as GaussianMoments
    device : {"cpu", "cuda", "auto"}
    dtype : {"float64", "float32"}
        Of the features, computed and stored.
    workers : int, optional
        Threads that compute; by default NUMBA_NUM_THREADS or all cores. With `scheduler`, local worker processes.
    resume : bool
        Take up an interrupted file, or add the frames that came after those of a finished one. Frames that were
        skipped are tried again where the input has changed; one with other labels than before is refused.
    progress : bool
        Show a progress bar when the output is a terminal.
    chunk_atoms : int
        Atoms computed and written at a time.
    pool : {None, "mean", "sum"}
        Store one row for each structure instead of one for each atom.
    jacobian : bool
        Store derivatives with respect to positions too; large.
    on_error : {"raise", "skip"}
        What becomes of frames that cannot be used. Skipped ones are listed in the file with their reason.
    compression : {"none", "lzf", "gzip", "zstd", "blosc2"}
        Of floating-point numbers (integers are deflated always). The last two need hdf5plugin, also to read.
    readers : int, optional
        Processes that parse text; by default as many as the size of the input and the number of cores make useful.
    scheduler : str, optional
        Address of a Dask scheduler, or "local" for a cluster of processes on this machine: the work is shared out,
        and the file joins the shards that workers wrote (needs dask.distributed).
    energy_key, forces_key, stress_key : str, optional
        Names of the labels where the frames use their own, as of `read_frames`.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    InputError
        For frames that cannot be used (named by their number in the input), an output that cannot be written, or an
        earlier file made with other settings or from another input.
    """
    if not hasattr(descriptor, "feature_names_out") or isinstance(descriptor, type):
        what = "its descriptor" if hasattr(descriptor, "descriptor") else "one such as GaussianMoments(species=[..])"
        raise InputError(f"descriptor came as a {type(descriptor).__name__}; give {what}")
    _check_count("workers", workers, 1, MOST_WORKERS)
    _check_count("readers", readers, 0, MOST_WORKERS)
    count("chunk_atoms", chunk_atoms, 1)
    word("pool", pool, POOLS)
    word("on_error", on_error, ON_ERROR)
    for name, value in (("resume", resume), ("progress", progress), ("jacobian", jacobian)):
        flag(name, value)
    compression_options(compression)
    device, dtype = resolve_device(device), resolve_dtype(dtype)
    options = {"pool": pool, "jacobian": jacobian, "compression": compression}
    source = Source(frames, label_keys(energy_key, forces_key, stress_key))
    check_apart([out], source.files)
    if scheduler is not None:
        from fastdesc.features.dask import featurize_distributed

        return featurize_distributed(
            source, out, descriptor, device, dtype, workers, resume, progress, chunk_atoms, on_error, scheduler, options
        )
    if resume and already_done(out, descriptor, dtype, source, **options):
        return Path(out)
    writer = FeaturesWriter(out, descriptor, dtype, resume, **options)
    try:
        with _threads(workers):
            if readers is None:
                readers = default_readers(source, threads.n_threads())

            def usable(batch):
                return without_bad_frames(batch, descriptor, device, dtype)

            new = new_batches(source, writer, chunk_atoms, on_error, readers, usable)
            settings = {"pool": pool, "jacobian": jacobian, "on_error": on_error}
            with _bar(source, writer.done, progress) as bar:
                seen = LabelsSeen(source.keys)
                short = _stream(new, descriptor, device, dtype, settings, writer, bar, source, seen)
        writer.finish()
        short.warn(descriptor, "the frames")
        if writer.begun_at == 0:    # a resumed run sees only some of the frames
            _tell(seen.advice())
    except BaseException:
        writer.abandon()
        raise
    return Path(out)


@overload
def convert(
    frames: Frames, out: FilePath, progress: bool = True, on_error: OnError = "raise",
    compression: Compression = "none", report: Literal[False] = False, *, energy_key: str | None = None,
    forces_key: str | None = None, stress_key: str | None = None,
) -> Path: ...  # fmt: skip


@overload
def convert(
    frames: Frames, out: FilePath, progress: bool = True, on_error: OnError = "raise",
    compression: Compression = "none", *, report: Literal[True], energy_key: str | None = None,
    forces_key: str | None = None, stress_key: str | None = None,
) -> tuple[Path, list[dict[str, Any]]]: ...  # fmt: skip


def convert(
    frames: Frames,
    out: FilePath,
    progress: bool = True,
    on_error: OnError = "raise",
    compression: Compression = "none",
    report: bool = False,
    *,
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
) -> Path | tuple[Path, list[dict[str, Any]]]:
    """Write frames, with what they carry, to an HDF5 file that is read many times faster than text.

    Parameters
    ----------
    frames, progress, on_error, compression, energy_key, forces_key, stress_key
        As of `featurize`.
    out : str or Path
        The frames file; its layout is described in fastdesc/io/frames_file.py.
    report : bool
        Also return the skipped frames.

    Returns
    -------
    Path
        `out`; with ``report=True`` also a list of dicts with number, file, index and reason.
    """
    word("on_error", on_error, ON_ERROR)
    for name, value in (("progress", progress), ("report", report)):
        flag(name, value)
    compression_options(compression)
    source = Source(frames, label_keys(energy_key, forces_key, stress_key))
    skipped: list[Any] = []
    check_apart([out], source.files)
    reader, seen = Ahead(batches(source, source.raw_batches(CHUNK_ATOMS), on_error, 0, True)), LabelsSeen(source.keys)
    try:
        with _bar(source, 0, progress, "convert") as bar:
            left_out = write_frames_file(_counted(reader, source, bar, skipped, seen), out, compression)
    finally:
        reader.stop()
    _tell(seen.advice())
    for name, n in left_out.items():
        _tell(f"{name!r} of {n} frame{'s'[: n != 1]} was left out: it is not of one type and shape in all frames")
    rows = [{**vars(s), "file": source.files[s.file].name if s.file >= 0 else None} for s in skipped]
    return (Path(out), rows) if report else Path(out)


def _stream(new, descriptor, device, dtype, settings, writer, bar, source, seen):
    """Read, compute and write at the same time; return the ShortDistances found."""
    reader, behind, n, short = Ahead(new), Behind(writer), writer.done, ShortDistances()
    try:
        for computed in one_ahead(start(batch, descriptor, device, dtype, **settings) for batch in reader):
            seen.note(computed.batch)
            behind.write(computed)
            n += computed.batch.n_seen
            short += computed.short
            _advance(bar, source, n)
        behind.end()
        return short
    except BaseException:
        reader.stop()
        behind.give_up()
        raise
    finally:
        reader.stop()
        behind.stop()


def _tell(sentence):
    if sentence:
        warnings.warn(sentence, FastdescWarning, stacklevel=3)


def _counted(reader, source, bar, skipped, seen):
    n = 0
    for batch in reader:
        seen.note(batch)
        yield batch
        skipped += batch.skipped
        n += batch.n_seen
        _advance(bar, source, n)


def _advance(bar, source, n):
    """Move the bar to `n` structures; how many there are in all is estimated until it is known."""
    if not bar.disable:
        total = source.estimate(n)
        bar.total = max(total, n) if total else None
    bar.update(n - bar.n)


def _bar(source, done, progress, what="featurize"):
    from tqdm import tqdm

    return tqdm(
        total=source.n_frames, initial=done, unit=" structures", desc=what, disable=None if progress else True,
        dynamic_ncols=True,
    )  # fmt: skip


def _check_count(name, value, *limits):
    if value is not None:
        count(name, value, *limits)


@contextmanager
def _threads(n):
    """Context in which `n` threads work; None leaves things as they are."""
    before = threads._threads
    if n is not None:
        threads.set_threads(n)
    try:
        yield
    finally:
        threads.set_threads(before)
