"""Featurizing on many processes or machines with Dask: workers write shards, and the file joins them.

    OUT.h5                      rows of frames, offsets, and virtual datasets that join the shards' rows of atoms
    OUT.h5.shards/000000.h5     features files of consecutive frames, each written by one task, whole or not at all
    OUT.h5.shards/run.json      what they were made of: a resume with anything else is refused

The client reads the input and hands out its batches, the same as in a serial run, so results are the same bit for bit.
Workers need the package and the folder of the output, not the input. A task whose worker dies runs again elsewhere
(fastdesc/features/dask_tasks.py).
"""

import json
import os
import uuid
from contextlib import contextmanager
from itertools import islice

import numpy as np

from fastdesc.descriptors.short_distances import ShortDistances
from fastdesc.errors import InputError
from fastdesc.features.dask_tasks import Tasks
from fastdesc.features.reader import open_features
from fastdesc.features.shards import join, shards_of
from fastdesc.features.stream import compute
from fastdesc.features.writer import FORMAT, FeaturesWriter
from fastdesc.hdf5.files import check_target, damage_named, part_of, to_json, write_text
from fastdesc.hdf5.locks import WriteLock
from fastdesc.io.sources import build

SHARD_BATCHES = 32
"""Batches in a shard."""
TIMEOUT = "10s"
"""For a scheduler to answer."""
NOTE = "run.json"


def featurize_distributed(
    source, out, descriptor, device, dtype, workers, resume, progress, chunk_atoms, on_error, scheduler, options
):
    """Do what featurize does, on the workers of a Dask cluster; see there.

    Parameters
    ----------
    source : Source
    scheduler : str
        Address, or "local".
    options : dict
        pool, jacobian, compression.
    """
    require_dask()
    out = check_target(out, FORMAT)
    folder = shards_of(out)
    settings = {
        "family": descriptor.family,
        "parameters": json.loads(to_json(descriptor.get_params())),
        "trained": {name: _digest(array) for name, array in descriptor.parameters.items()},
        "device": device, "dtype": str(np.dtype(dtype)), "chunk_atoms": chunk_atoms, "shard_batches": SHARD_BATCHES,
        "on_error": on_error, "keys": source.keys, **options,
    }  # fmt: skip
    made_of = json.loads(json.dumps({"settings": settings, "input": source.fingerprint()}))
    job = (descriptor, device, dtype, on_error, options, [str(path) for path in source.files], source.keys)
    with WriteLock(part_of(out)) as lock:    # from the first look at the shards to the name of what joins them
        kept = resume and _is_begun(folder, made_of, out)
        with client_of(scheduler, workers) as client:
            _prepare(folder, made_of, kept)    # nothing goes, and nothing is made, for a scheduler that does not answer
            n, short = _run(client, source, folder, job, chunk_atoms, progress)
        join(out, n, source, options, lock)
        _discard_unfinished(folder)
    ShortDistances(*short).warn(descriptor, "the frames")
    return out


def make_shard(batches, path, job):
    """Compute batches and write them as one features file; runs on a worker.

    Parameters
    ----------
    batches : list of raw batches
    path : str
    job : tuple
        Descriptor, device, dtype, on_error, options of FeaturesWriter, names of the input files and of labels.

    Returns
    -------
    (int, int, int)
        Frames, skipped ones included; short distances and all distances.
    """
    from pathlib import Path

    descriptor, device, dtype, on_error, options, files, keys = job
    path = Path(path)
    # Two workers may have the same task when one was believed dead: each writes a file of its own.
    own = path.with_name(f"{path.stem}-{uuid.uuid4().hex}.h5")
    writer, short = FeaturesWriter(own, descriptor, dtype, False, **options), ShortDistances()
    try:
        for raw in batches:
            batch = build(raw, [Path(name) for name in files], on_error, True, keys)
            done = compute(batch, descriptor, device, dtype, options["pool"], options["jacobian"], on_error)
            writer.append(done.batch, done.features, done.jacobian)
            short += done.short
        n = writer.done
        writer.finish()
    except BaseException:
        writer.abandon()
        raise
    os.replace(own, path)
    return n, short.n_short, short.n_all


def _run(client, source, folder, job, chunk_atoms, progress):
    """Hand out shards, a bounded number at a time; return how many there are, and of distances the short and all."""
    from tqdm import tqdm

    raw = source.raw_batches(chunk_atoms)
    tasks = Tasks(client, make_shard, job)
    k, seen, short = 0, 0, np.zeros(2, int)

    def take_one():
        n, *distances = tasks.next()
        bar.update(n)
        short[:] += distances

    bar = tqdm(total=source.n_frames, unit=" structures", desc="featurize", disable=None if progress else True)
    with bar:
        while shard := list(islice(raw, SHARD_BATCHES)):
            path = folder / f"{k:06d}.h5"
            k += 1
            frames = sum(map(len, shard))
            seen += frames
            if path.exists():
                _check_shard(path, seen - frames, shard, source)
                bar.update(frames)
                continue
            while tasks.full():
                take_one()
            tasks.submit(shard, str(path))
            if not bar.disable:
                bar.total = source.estimate(seen)
        while tasks.waiting:
            take_one()
    return k, short.tolist()


def _is_begun(folder, made_of, out):
    """Whether the folder holds shards of this run; InputError when it holds those of another."""
    note = folder / NOTE
    if not note.exists():
        return False
    with damage_named(note, "remove it, or do not resume"):
        old = json.loads(note.read_text())
    if old != made_of:
        raise InputError(
            f"{out} was begun with other settings or another input ({_first_difference(old, made_of)}); choose another "
            "name or do not resume"
        )
    return True


def _prepare(folder, made_of, kept):
    """Make the folder of the shards, with none in it unless they are to be kept."""
    _discard_unfinished(folder)
    for path in folder.glob("[0-9]*.h5") if not kept else ():
        path.unlink()
    folder.mkdir(exist_ok=True)
    write_text(folder / NOTE, json.dumps(made_of, indent=1) + "\n")


def _discard_unfinished(folder):
    """Remove what workers that died have left: unfinished shards have a dash in their names."""
    for path in folder.glob("[0-9]*-*.h5*"):
        path.unlink(missing_ok=True)


def _first_difference(old, new, name=""):
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            if old.get(key) != new.get(key):
                return _first_difference(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for k, (a, b) in enumerate(zip(old, new, strict=True)):
            if a != b:
                return _first_difference(a, b, f"{name} {k}")
    return f"{name}: {old}, now {new}"


def _check_shard(path, first, shard, source):
    """InputError unless a shard of an earlier run has the frames from `first` on, and begins and ends as they do."""
    with open_features(path) as f:
        keys, numbers = f.file["keys"][...], f.file["number"][...]
        there = np.sort(np.concatenate([numbers, f.file["skipped/number"][...]]))
        same = np.array_equal(there, np.arange(first, first + sum(map(len, shard))))
        for raw in (shard[0], shard[-1]) if same and not source.files else ():
            batch = build(raw, source.files, "skip")
            known = np.isin(batch.number, numbers)
            same &= bool(np.isin(batch.keys()[known], keys).all())
    if not same:
        raise InputError(f"the frames in {path} are not those of the input; choose another name or do not resume")


def _digest(array):
    import hashlib

    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=8).hexdigest()


def require_dask():
    """InputError where Dask's distributed is not installed."""
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise InputError("scheduler needs the package distributed: pip install 'fastdesc[distributed]'") from error


@contextmanager
def client_of(scheduler, workers):
    """A client of the cluster at an address; or, for "local", of one of our own, of one process for each core."""
    require_dask()
    from distributed import Client, LocalCluster

    from fastdesc.backend import threads

    if scheduler != "local":
        if not (scheduler.isascii() and scheduler.isprintable()):    # a client that fails with these may never end
            raise InputError(f"no Dask scheduler can be at {scheduler!r}; give an address such as tcp://10.0.0.1:8786")
        try:
            client = Client(scheduler, timeout=TIMEOUT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(f"no Dask scheduler answers at {scheduler} ({error}); check the address") from error
        with client:
            yield client
        return
    cluster = LocalCluster(
        n_workers=workers or threads.n_threads(), threads_per_worker=1, processes=True, dashboard_address=":0",
        env={"NUMBA_NUM_THREADS": "1"}, memory_limit=0, silence_logs=40,
    )  # fmt: skip
    with cluster, Client(cluster, set_as_default=False) as client:
        yield client
