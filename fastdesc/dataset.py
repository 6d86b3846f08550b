"""Descriptors of many frames into one features file: a stream from the reader, through the descriptor, to the disk."""

import re
from contextlib import contextmanager
from pathlib import Path

from ase import Atoms

from fastdesc import parallel
from fastdesc.arrays import resolve_device, resolve_dtype
from fastdesc.errors import InputError
from fastdesc.features import Features, FeaturesWriter, read_features
from fastdesc.frames import Labels, iread_frames, labels, read_frames

__all__ = ["Features", "Labels", "featurize", "iread_frames", "labels", "read_features", "read_frames"]

CHUNK_ATOMS = 8192


def featurize(
    frames,
    out,
    descriptor,
    device="cpu",
    dtype="float64",
    workers=None,
    resume=False,
    progress=True,
    chunk_atoms=CHUNK_ATOMS,
):
    """Compute the features of frames and write them, with the labels the frames carry, to an HDF5 file.

    Parameters
    ----------
    frames : str, Path, ase.Atoms or list of ase.Atoms
        A file is read as a stream where its format allows (extended XYZ does): memory stays bounded by a chunk.
    out : str or Path
        The features file; its layout is described in fastdesc/features.py. It appears under this name only when it
        is complete (until then it has `.part` appended).
    descriptor : a descriptor, such as GaussianMoments
    device : {"cpu", "cuda", "auto"}
    dtype : {"float64", "float32"}
        Of the features, computed and stored.
    workers : int, optional
        Threads; by default NUMBA_NUM_THREADS or all cores.
    resume : bool
        Take up an interrupted file, or add the frames that came after those of a finished one. With it, what was
        written before an interruption is kept for the next call.
    progress : bool
        Show a progress bar when the output is a terminal.
    chunk_atoms : int
        Atoms computed and written at a time.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    InputError
        For frames that cannot be used (named by their number in the input), an output that cannot be written, or an
        earlier file made with other settings.
    """
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise InputError(f"workers came as {workers!r}; it must be an integer of at least 1")
    device, dtype = resolve_device(device), resolve_dtype(dtype)
    if not isinstance(frames, str | Path | Atoms):
        frames = read_frames(frames)
    writer = FeaturesWriter(out, descriptor, dtype, resume)
    try:
        with _threads(workers), _bar(frames, progress) as bar:
            for chunk in chunks(_new_frames(frames, writer, bar), chunk_atoms):
                try:
                    features = descriptor.compute(chunk, device=device, dtype=dtype)
                except InputError as error:
                    raise _renumbered(error, writer.done) from error
                writer.append(features, chunk)
                bar.update(len(chunk))
        writer.finish()
    except BaseException:
        writer.abandon()
        raise
    return writer.path


def chunks(frames, chunk_atoms):
    """Group an iterable of frames into lists of about `chunk_atoms` atoms, at least one frame each."""
    chunk, n = [], 0
    for atoms in frames:
        if chunk and n + len(atoms) > chunk_atoms:
            yield chunk
            chunk, n = [], 0
        chunk.append(atoms)
        n += len(atoms)
    if chunk:
        yield chunk


def _new_frames(frames, writer, bar):
    """Yield the frames that are not in the file yet, after making sure that the others are the same."""
    done, k = writer.done, -1
    for k, atoms in enumerate(iread_frames(frames)):
        if k < done:
            writer.check_key(k, atoms)
            bar.update()
        else:
            yield atoms
    if k + 1 < done:
        raise InputError(
            f"{writer.path} holds {done} frames and the input only {k + 1}; resuming adds frames and drops none"
        )


def _bar(frames, progress):
    from tqdm import tqdm

    total = None if isinstance(frames, str | Path) else 1 if isinstance(frames, Atoms) else len(frames)
    return tqdm(total=total, unit="structures", desc="featurize", disable=None if progress else True)


def _renumbered(error, first):
    """The same error with frames counted from the start of the input instead of the start of a chunk."""
    text = re.sub(r"\bframe (\d+)", lambda m: f"frame {int(m[1]) + first}", str(error))
    return type(error)(text)


@contextmanager
def _threads(n):
    """Context in which `n` threads work; None leaves things as they are."""
    before = parallel._threads
    if n is not None:
        parallel.set_threads(n)
    try:
        yield
    finally:
        parallel.set_threads(before)
