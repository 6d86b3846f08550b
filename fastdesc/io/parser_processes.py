"""Batches of frames, read ahead: in this process, or by processes of their own that share the parsing of text.

The processes are plain Python interpreters started with `python -c`, not forks: they inherit no threads, no GPU, and do
not run the caller's script again. One that dies is replaced and its batch parsed again.
"""

import os
import socket
import subprocess
import sys
from collections import deque
from multiprocessing.connection import Connection
from pathlib import Path

import fastdesc
from fastdesc.errors import FastdescError
from fastdesc.io.sources import build

SERVE = "import sys; from fastdesc.io.parser_processes import serve; serve(int(sys.argv[1]))"
WORTH_PROCESSES = 64 << 20
"""Bytes of text from which on processes pay for their start."""
TRIES = 3


def default_readers(source, cores):
    """Number of processes that parse: none where one thread keeps up with the cores or the input is no text."""
    text = sum(path.stat().st_size for path, kind in zip(source.files, source.kinds, strict=True) if kind == "text")
    return min(8, cores // 4) if text >= WORTH_PROCESSES else 0


def batches(source, raw, on_error="raise", readers=0, with_extras=False):
    """Yield a FrameBatch for each raw batch, in order.

    Parameters
    ----------
    source : Source
    raw : iterable of raw batches, from `source`
    on_error : {"raise", "skip"}
    readers : int
        Processes; 0 reads in this one.
    with_extras : bool
        See `build`.
    """
    if readers == 0:
        for one in raw:
            yield build(one, source.files, on_error, True, source.keys, with_extras)
        return
    workers = [_Worker(source.files, on_error, True, source.keys, with_extras) for _ in range(readers)]
    try:
        idle, busy = deque(workers), deque()
        for one in raw:
            if not idle:
                worker = busy.popleft()
                batch = worker.result()
                idle.append(worker)
                yield batch
            worker = idle.popleft()
            worker.begin(one)
            busy.append(worker)
        while busy:
            yield busy.popleft().result()
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    """A process that builds one batch at a time."""

    def __init__(self, files, *settings):
        self.settings = [str(path) for path in files], *settings
        self.process = None

    def _start(self):
        ours, theirs = socket.socketpair()
        package = str(Path(fastdesc.__path__[0]).resolve().parent)
        path = os.pathsep.join(x for x in (package, os.environ.get("PYTHONPATH")) if x)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": path},
            )
        self.connection = Connection(ours.detach())
        self.connection.send(self.settings)

    def begin(self, raw):
        """Hand over a raw batch."""
        self.raw = raw
        for last in range(TRIES):
            try:
                if self.process is None:
                    self._start()
                self.connection.send(raw)
                return
            except (EOFError, OSError) as error:
                self._died(error, last)

    def result(self):
        """Wait for the batch."""
        for last in range(TRIES):
            try:
                found = self.connection.recv()
            except (EOFError, OSError) as error:
                self._died(error, last)
                self.begin(self.raw)
                continue
            if isinstance(found, Exception):
                raise found
            return found
        raise FastdescError("unreachable")

    def _died(self, error, tries):
        code = self.process.wait() if self.process else None
        self.stop()
        if tries + 1 == TRIES:
            raise FastdescError(
                f"a process that parses frames died {TRIES} times on one batch (exit code {code}); is there enough "
                "memory? readers=0 parses without such processes"
            ) from error

    def stop(self):
        """End the process."""
        if self.process is not None:
            self.connection.close()
            self.process.wait()
            self.process = None


def serve(fd):
    """The life of a process that parses: raw batches in, Batches or exceptions out, until the pipe closes."""
    import signal

    # Ctrl-C reaches the whole group; the one who started us decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(fd)
    try:
        files, *settings = connection.recv()
        files = [Path(name) for name in files]
        while True:
            raw = connection.recv()
            try:
                answer = build(raw, files, *settings)
            except FastdescError as error:
                answer = type(error)(str(error))
            connection.send(answer)
    except (EOFError, OSError):
        return
