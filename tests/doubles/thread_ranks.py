"""A communicator of MPI without MPI: ranks are threads of this process."""

import threading

import numpy as np


class ThreadRanks:
    """What is used of mpi4py's Comm; make one for all ranks, and take `of(rank)` in each thread."""

    def __init__(self, size):
        self.size, self.rank, self._room = size, None, [None] * size
        self._meeting = threading.Barrier(size, timeout=120)

    def of(self, rank):
        own = object.__new__(ThreadRanks)
        own.__dict__ |= {**vars(self), "rank": rank}
        return own

    def allgather(self, value):
        self._room[self.rank] = value
        self._meeting.wait()
        found = list(self._room)
        self._meeting.wait()
        return found

    def bcast(self, value, root=0):
        return self.allgather(value)[root]

    def Alltoall(self, sent, received):
        received[...] = np.stack([parts[self.rank] for parts in self.allgather(sent.copy())])

    def Allgather(self, part, received):
        received[...] = np.stack(self.allgather(part.copy()))

    def abort(self):
        self._meeting.abort()


def on_ranks(size, work):
    """Run work(communicator) on every rank; results by rank, or what all met in their place.

    What one rank met alone is raised.
    """
    ranks, results, alone = ThreadRanks(size), [None] * size, []

    def one(rank):
        try:
            results[rank] = work(ranks.of(rank))
        except BaseException as error:
            results[rank] = error
            if not getattr(error, "of_all", False):
                if not isinstance(error, threading.BrokenBarrierError):
                    alone.append(error)
                ranks.abort()

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if alone:
        raise alone[0]
    return results
