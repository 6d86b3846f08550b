"""Who runs the trials of a sweep: this process, processes of this machine, or the workers of a Dask cluster.

Each has `free` (how many more trials it takes now), `start(folder)`, and `ended()`: the folders of trials that are no
longer at work, with what to say of those that left no result.
"""

import os
import subprocess
import sys
from contextlib import contextmanager

from fastdesc.backend import threads
from fastdesc.cli.sweep_trial import run_trial
from fastdesc.features.dask import client_of
from fastdesc.learn.labelling import environment

WORKER = "fastdesc.cli.sweep_trial"


class Here:
    """This process, one trial after the other."""

    def __init__(self, say):
        self._say, self._done = say, []

    @property
    def free(self):
        return int(not self._done)

    def start(self, folder):
        run_trial(folder, self._say)
        self._done.append((folder, None))

    def ended(self):
        done, self._done = self._done, []
        return done


class Processes:
    """Processes of this machine, one for each trial; they end with this one."""

    def __init__(self, workers):
        self._workers, self._running = workers, {}
        own = {} if os.environ.get("NUMBA_NUM_THREADS") else {
            "NUMBA_NUM_THREADS": str(max(1, threads.n_threads() // workers))}    # fmt: skip
        self._environment = {**environment(), **own}

    @property
    def free(self):
        return self._workers - len(self._running)

    def start(self, folder):
        with open(folder / "trial.log", "ab") as log:
            self._running[folder] = subprocess.Popen(
                [sys.executable, "-m", WORKER, str(folder)], stdin=subprocess.PIPE, stdout=log, stderr=log,
                start_new_session=True, env=self._environment,
            )  # fmt: skip

    def ended(self):
        done = [folder for folder, process in self._running.items() if process.poll() is not None]
        found = []
        for folder in done:
            process = self._running.pop(folder)
            process.stdin.close()
            code = process.returncode
            words = (folder / "trial.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            found.append((folder, f"its process ended with code {code}: {words[-1] if words else 'without a word'}"))
        return found

    def close(self):
        for process in self._running.values():
            process.stdin.close()    # which ends it
        for process in self._running.values():
            process.wait()


class Cluster:
    """Workers of a Dask cluster, which see the same folders."""

    def __init__(self, client):
        self._client, self._running = client, {}

    @property
    def free(self):
        return sum(self._client.nthreads().values()) - len(self._running)

    def start(self, folder):
        self._running[folder] = self._client.submit(run_trial, str(folder), pure=False)

    def ended(self):
        done = [folder for folder, future in self._running.items() if future.done()]
        found = []
        for folder in done:
            future = self._running.pop(folder)
            failed = future.status != "finished"
            found.append((folder, f"its worker failed: {future.exception() or future.status}" if failed else None))
        return found


@contextmanager
def workers_for(workers, scheduler, say):
    """Context of those that run trials.

    Parameters
    ----------
    workers : int
        Processes, where there is no scheduler or it is "local".
    scheduler : str or None
        Address of a Dask scheduler, or "local".
    say : callable
        Takes what trials of this process tell.
    """
    if scheduler is not None:
        with client_of(scheduler, workers) as client:
            yield Cluster(client)
        return
    if workers == 1:
        yield Here(say)
        return
    processes = Processes(workers)
    try:
        yield processes
    finally:
        processes.close()
