"""Tasks on a Dask cluster that outlive its workers: each travels with all it needs and is run again when lost."""

import time

from fastdesc.errors import FastdescError

AHEAD = 2
"""Tasks for each worker that are handed out ahead."""
WITHOUT_WORKERS = 300.0
"""Seconds that a run waits for a worker to come, or to come back."""
LOOK = 0.02
"""Seconds between two looks at the tasks."""
LOOK_AT_CLUSTER = 1.0
"""Seconds between two looks at the cluster."""
MOST_LOSSES = 10
"""Times that one task is handed out again."""
KEPT = "what is done is kept: go on with --resume (resume=True)"


class Tasks:
    """Calls of one function on the workers of a cluster.

    Nothing is put on the cluster beforehand: what workers were given to keep goes with them. A task whose worker dies
    is run again by the scheduler; one that the scheduler forgot, as it was started anew, is handed out again here.

    Parameters
    ----------
    client : distributed.Client
    function : callable
        Safe to run twice, also at the same time.
    *common
        Last arguments of every call.
    killed : callable, optional
        Arguments of a call on which several workers died -> what is its result; without it that ends the run.
    """

    def __init__(self, client, function, *common, killed=None):
        self.client, self.function, self.common, self.killed = client, function, common, killed
        self.waiting = {}    # future: (arguments, times it was lost)
        self._looked, self._without_since, self.n_workers = -LOOK_AT_CLUSTER, None, 0

    def submit(self, *arguments):
        """Hand out one call."""
        self._submit(arguments, 0)

    def _submit(self, arguments, losses):
        from distributed.client import ClosedClientError

        self._look_at_cluster()
        try:
            # Large arguments and a function with side effects: results are not shared between equal calls.
            future = self.client.submit(self.function, *arguments, *self.common, pure=False)
        except (OSError, ClosedClientError) as error:
            raise self._gone() from error
        self.waiting[future] = arguments, losses

    def full(self):
        """Whether as many tasks wait as workers have to do."""
        return len(self.waiting) >= AHEAD * max(1, self.n_workers)

    def next(self):
        """Return the result of the next task that ends, in whatever order.

        Raises
        ------
        FastdescError
            When the scheduler is gone, no worker comes back, or several died on one task.
        Exception
            What the task raised.
        """
        while True:
            for future in list(self.waiting):
                if future.status == "cancelled":
                    self._again(future)
                elif future.status == "error":
                    error = future.exception()
                    if self.killed is None or not _of_killed_workers(error):
                        raise self._error(error)
                    arguments, _ = self.waiting.pop(future)
                    return self.killed(*arguments)
                elif future.status == "finished":
                    try:
                        result = future.result(timeout=LOOK_AT_CLUSTER)
                    except Exception:    # its worker is gone: the scheduler runs it again, or the cluster is gone, too
                        continue
                    del self.waiting[future]
                    return result
            self._look_at_cluster()
            time.sleep(LOOK)

    def _again(self, future):
        arguments, losses = self.waiting.pop(future)
        if losses >= MOST_LOSSES:
            raise FastdescError(f"the Dask cluster cancelled one task {losses} times; {KEPT}")
        while self.client.status == "connecting":
            time.sleep(LOOK)
        self._submit(arguments, losses + 1)

    def _look_at_cluster(self):
        """FastdescError when there is no scheduler, or has been no worker for long."""
        if self.client.status in ("closing", "closed"):
            raise self._gone()
        now = time.monotonic()
        if now - self._looked < LOOK_AT_CLUSTER or self.client.status != "running":
            return
        self._looked = now
        try:
            self.n_workers = len(self.client.ncores())
        except Exception:    # a scheduler that is about to go: the client's status will tell
            return
        if self.n_workers:
            self._without_since = None
        elif self._without_since is None:
            self._without_since = now
        elif now - self._without_since > WITHOUT_WORKERS:
            raise FastdescError(
                f"the Dask scheduler has had no workers for {WITHOUT_WORKERS:g} s; start some; {KEPT}"
            )

    def _gone(self):
        return FastdescError(f"the Dask scheduler is gone; start it and its workers again; {KEPT}")

    def _error(self, error):
        if _of_killed_workers(error):
            return FastdescError(f"several workers died on one task ({error}); is there memory enough for them? {KEPT}")
        return error


def _of_killed_workers(error):
    from distributed.scheduler import KilledWorker

    return isinstance(error, KilledWorker)
