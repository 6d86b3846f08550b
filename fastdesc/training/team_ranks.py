"""A team of the processes that mpiexec started: they read the same, begin with the same numbers, and end together.

Each holds all frames and takes its share of every step. Rank 0 alone shows progress, writes and evaluates.
"""

import signal
import threading
import time
from contextlib import contextmanager

from fastdesc.backend import threads
from fastdesc.backend.arrays import resolve_device
from fastdesc.backend.cuda import take_gpu
from fastdesc.backend.mpi import MpiSum
from fastdesc.backend.nccl import NcclSum, one_each
from fastdesc.errors import FastdescError, InputError
from fastdesc.training.checkpoint import fetched
from fastdesc.training.team import Team, of_all
from fastdesc.training.trainer_state import restore, state_of

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class TeamOfRanks(Team):
    """The ranks of a communicator.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
    place : (int, int)
        Number of this rank on its node, and how many ranks the node has.
    """

    def __init__(self, comm, place=(0, 1)):
        super().__init__(comm.rank, comm.size, MpiSum(comm))
        self.comm, self.place, self._handlers = comm, place, {}

    def take_device(self, device):
        """Use a GPU of the node where the device is one; sums go by NCCL where every rank has a GPU of its own."""
        on_gpu = self.agreed(lambda: resolve_device(device)) == "cuda"
        if on_gpu:
            take_gpu(self.place[0])
        if all(self.comm.allgather(on_gpu and one_each(self.place[1]))):
            key = self.comm.bcast(NcclSum.key() if self.rank == 0 else None)
            self._add = NcclSum(self.rank, self.size, key, self.place[0])

    def agreed(self, work):
        """What work() returns, after it has returned in all ranks.

        Raises
        ------
        FastdescError, OSError, MemoryError
            In all ranks what one of them met, the first's own if there are several.
        """
        found, error = None, None
        try:
            found = work()
        except (FastdescError, OSError, MemoryError) as failure:
            error = failure
        told = self.comm.allgather(None if error is None else str(error))
        rank = next((k for k, text in enumerate(told) if text is not None), None)
        if rank is None:
            return found
        if error is None:
            error = InputError(f"rank {rank} of {self.size}: {told[rank]}")
        raise of_all(error)

    def check_alike(self, **about):
        """InputError unless all ranks name the same values, which are plain; says which of them differ."""
        first, *others = self.comm.allgather(about)
        for rank, theirs in enumerate(others, 1):
            for name, value in first.items():
                if theirs[name] != value:
                    text = f"{name.replace('_', ' ')} of rank {rank} of {self.size} is not that of rank 0"
                    raise of_all(InputError(f"{text}; all must read the same files with the same fastdesc"))

    def begin_alike(self, trainer):
        """Bring the trainers of all ranks, which were made of the same, to the numbers of the first."""
        state = self.comm.bcast(fetched(state_of(trainer)) if self.rank == 0 else None)
        if self.rank:
            restore(trainer, state, "the state of rank 0")

    @contextmanager
    def signals_agreed(self):
        """Context in which a signal that ends the program waits for the next step, where all ranks stop together.

        A second one does not wait.
        """
        ours = SIGNALS if threading.current_thread() is threading.main_thread() else ()
        before = {number: signal.getsignal(number) for number in ours}
        before = self._handlers = {number: handler for number, handler in before.items() if callable(handler)}
        for number in before:
            signal.signal(number, self._arrived)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.asked and not self.stopped:    # after the last step
            self._handlers[self.asked](self.asked, None)

    def _arrived(self, number, frame):
        if self.asked:
            self._handlers[number](number, frame)
        self.asked = number

    def stop(self):
        """End the run of all ranks, as the signal would have ended the one that got it."""
        self.stopped = True
        if self.asked:
            self._handlers[self.asked](self.asked, None)
        raise KeyboardInterrupt

    def rest(self):
        """Give all cores to the first rank, for the others wait without using theirs."""
        if self.rank == 0:
            threads.set_threads(None)

    def wait_for_all(self):
        """Wait, without using a core, until all ranks have come here."""
        done = self.comm.Ibarrier()
        while not done.Test():
            time.sleep(0.02)
