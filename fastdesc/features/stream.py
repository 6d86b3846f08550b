"""Reading, computing and writing at the same time: two threads around those that compute."""

import threading
import time
from functools import partial
from queue import Empty, Full, Queue

import numpy as np

from fastdesc.backend import threads
from fastdesc.backend.arrays import start_to_host, to_host
from fastdesc.backend.device_memory import enough_for
from fastdesc.backend.workspace import kept_memory
from fastdesc.descriptors import frame_chunks
from fastdesc.descriptors.frame_chunks import renumbered
from fastdesc.descriptors.jacobian import check_jacobian_memory
from fastdesc.descriptors.short_distances import ShortDistances
from fastdesc.errors import FastdescError, InputError
from fastdesc.io.frame_batch import Skipped

AHEAD = 2
"""Batches that may wait between two stages; bounds the memory."""
COMMIT_SECONDS = 2.0
COMMIT_BYTES = 1 << 27
TRANSPOSED = 1024
"""Atoms transposed at a time."""


class Computed:
    """What one batch became: the batch of good frames, features and Jacobian (None where there is nothing), and how
    many distances were short.

    Features may still be on their way from a device: whoever reads them first waits, as a rule the writer.
    """

    def __init__(self, batch, features=None, jacobian=None, short=None, wait=None):
        self.batch, self.jacobian = batch, jacobian
        self.short = short or ShortDistances()
        self._features, self._wait = features, wait

    @property
    def features(self):
        """(n_atoms or n_frames, n_features) NumPy array, or None."""
        if self._wait is not None:
            self._wait()
        return self._features


def compute(batch, descriptor, device, dtype, pool=None, jacobian=False, on_error="raise"):
    """Compute the features of a batch.

    Parameters
    ----------
    batch : FrameBatch
    pool : {None, "mean", "sum"}
    on_error : {"raise", "skip"}
        With "skip", frames the descriptor refuses move to the list of skipped ones.

    Returns
    -------
    Computed

    Raises
    ------
    InputError
        For the first frame that is refused, named by its number in the input.
    """
    return start(batch, descriptor, device, dtype, pool, jacobian, on_error)()


def start(batch, descriptor, device, dtype, pool=None, jacobian=False, on_error="raise"):
    """Begin to `compute` a batch; return the function that waits for it."""
    given = descriptor, device, dtype, pool, jacobian
    wait = _started(batch, *given)

    def finish():
        try:
            return wait()
        except InputError as error:
            if on_error == "raise":
                raise renumbered(error, batch.number) from error
        return _started(without_bad_frames(batch, descriptor, device, dtype), *given)()

    return finish


def one_ahead(started):
    """Yield the results of functions that wait, each when the one after it has been started, too.

    Where there is no next one because of an error, what was begun before is yielded first.
    """
    started, before, error = iter(started), None, None
    while error is None:
        try:
            wait = next(started)
        except StopIteration:
            break
        except Exception as problem:
            error = problem
        if before is not None:
            yield before()
        before = wait if error is None else None
    if before is not None:
        yield before()
    if error is not None:
        raise error


def _started(batch, descriptor, device, dtype, pool, jacobian):
    if not batch.n_frames:
        return lambda: Computed(batch)
    if device == "cpu" and not jacobian:
        return _in_pieces(batch, descriptor, device, dtype, pool)
    return lambda: _at_once(batch, descriptor, device, dtype, pool, jacobian)


def _at_once(batch, descriptor, device, dtype, pool, jacobian):
    structures, found = batch.structures, None
    structures.check()
    theta = descriptor.prepared(descriptor.theta(dtype, device), np.dtype(dtype))
    look = partial(ShortDistances.among, descriptor)    # before there is anything to wait for
    if jacobian:
        with enough_for(structures.n_atoms, device):
            rij, pairs, species = descriptor.prepare(structures, dtype, device)
            check_jacobian_memory(structures, pairs, descriptor.n_features, dtype)
            short = look(rij)
            q, saved = descriptor.forward(rij, pairs, species, theta)
            found = descriptor.jacobian(rij, pairs, species, theta, saved, structures)
    else:
        q, looked = descriptor.features_by_atom(structures, dtype, device, theta, look)
        short = sum(looked, ShortDistances())
    if pool is not None:
        return Computed(batch, pooled(to_host(q), structures.first, pool), found, short)
    # While these features travel, the pairs of the next batch are found.
    features, wait = start_to_host(q.T)
    return Computed(batch, features, found, short, wait)


def _in_pieces(batch, descriptor, device, dtype, pool):
    structures, theta = batch.structures, descriptor.prepared(descriptor.theta(dtype, device), dtype)
    rows = np.empty((structures.n_frames if pool else structures.n_atoms, descriptor.n_features), dtype)

    def fill(piece):
        piece.structures.check()
        with kept_memory():
            rij, pairs, species = descriptor.prepare(piece.structures, dtype, device)
            q, _ = descriptor.forward(rij, pairs, species, theta)
            if pool:
                rows[piece.frames] = pooled(q, piece.structures.first, pool)
            else:
                rows[piece.atoms] = q.T
            return ShortDistances.among(descriptor, rij)

    wait = frame_chunks.begin(fill, structures)
    return lambda: Computed(batch, rows, short=sum(wait(), ShortDistances()))


def rows_by_atom(q):
    """Turn q (n_features, n_atoms) into rows of atoms, contiguous, on all threads."""
    n_features, n_atoms = q.shape
    rows = np.empty((n_atoms, n_features), q.dtype)

    def transpose(a, b):
        rows[a:b] = q[:, a:b].T

    threads.for_chunks(transpose, n_atoms, TRANSPOSED)
    return rows


def pooled(q, first, pool):
    """Sum or mean of the features q (n_features, n_atoms) over the atoms of each frame: (n_frames, n_features).

    Added up in float64 whatever the dtype.
    """
    sums = np.add.reduceat(q, first[:-1], axis=1, dtype=np.float64)
    if pool == "mean":
        sums /= np.diff(first)
    return np.ascontiguousarray(sums.T, q.dtype)


def without_bad_frames(batch, descriptor, device, dtype):
    """Try frames one by one; the ones that are refused go to the list of skipped ones."""
    good = []
    for k in range(batch.n_frames):
        one = batch.structures.take([k])
        number = batch.number[k : k + 1]
        try:
            one.check()
            descriptor.prepare(one, dtype, device)
            good.append(k)
        except InputError as error:
            reason = str(renumbered(error, number))
            batch.skipped.append(Skipped(int(number[0]), int(batch.file[k]), int(batch.index[k]), reason))
    batch.skipped.sort(key=lambda x: x.number)
    return batch.take(good)


class Stage(threading.Thread):
    """A thread at one end of a bounded queue; `stop` ends it wherever it is."""

    def __init__(self, name):
        super().__init__(name=f"fastdesc-{name}", daemon=True)
        self.queue, self.stopping, self.error = Queue(AHEAD), threading.Event(), None

    def start(self):
        """Start the thread.

        Raises
        ------
        FastdescError
            Where the system gives none.
        """
        try:
            super().start()
        except RuntimeError as error:
            raise FastdescError(
                f"no thread could be started ({error}); end other programs, or raise the limit (ulimit -u)"
            ) from error

    def put(self, item):
        """Put an item; False when the stage was stopped meanwhile."""
        while not self.stopping.is_set():
            try:
                self.queue.put(item, timeout=0.2)
                return True
            except Full:
                continue
        return False

    def get(self):
        """Get an item; None when the stage was stopped meanwhile."""
        while not self.stopping.is_set():
            try:
                return self.queue.get(timeout=0.2)
            except Empty:
                continue
        return None

    def stop(self):
        """End the thread and wait for it."""
        self.stopping.set()
        if self.is_alive():
            self.join()


class Ahead(Stage):
    """An iterable, run ahead of its consumer."""

    def __init__(self, iterable):
        super().__init__("reader")
        self.iterable = iter(iterable)
        self.start()

    def run(self):
        try:
            for item in self.iterable:
                if not self.put((item,)):
                    break
        except BaseException as error:    # whatever it is, the consumer raises it
            self.error = error
        finally:
            close = getattr(self.iterable, "close", None)
            if close is not None:
                close()
            self.put(None)

    def __iter__(self):
        while (item := self.get()) is not None:
            yield item[0]
        if self.error is not None:
            raise self.error


class Behind(Stage):
    """Writes what was computed, in order, and commits now and then.

    Parameters
    ----------
    writer : FeaturesWriter
    """

    def __init__(self, writer):
        super().__init__("writer")
        self.writer = writer
        self.start()

    def run(self):
        last, size = time.monotonic(), 0
        try:
            while (item := self.get()) is not None and item != "end":
                features = item.features
                self.writer.append(item.batch, features, item.jacobian)
                size += 0 if features is None else features.nbytes
                if size >= COMMIT_BYTES or time.monotonic() - last >= COMMIT_SECONDS:
                    self.writer.commit()
                    last, size = time.monotonic(), 0
        except BaseException as error:    # raised where the results are handed over
            self.error = error
            self.stopping.set()

    def write(self, computed):
        """Hand over a Computed."""
        if not self.put(computed) and self.error is not None:
            raise self.error

    def end(self):
        """Wait until everything is written."""
        self.put("end")
        self.join()
        if self.error is not None:
            raise self.error

    def give_up(self):
        """Write what was handed over already, as far as that is possible, and commit it."""
        if self.error is None:
            self.put("end")
            self.join()
        if self.error is None:
            try:
                self.writer.commit()
            except (OSError, RuntimeError, ValueError) as error:
                self.error = error
