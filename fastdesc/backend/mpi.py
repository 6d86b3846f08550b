"""Processes that mpiexec started, its ranks, through mpi4py: who is there, sums over all, shares of a node's cores."""

import os

import numpy as np

from fastdesc.backend import threads
from fastdesc.backend.arrays import namespace, to_host
from fastdesc.errors import InputError

COUNTS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")
"""What MPICH and Open MPI, by mpiexec, and Slurm, by srun, tell the processes that they start."""


def told(names):
    """The first whole number among some variables of the environment; None where there is none."""
    found = (os.environ.get(name, "") for name in names)
    return next((int(text) for text in found if text.isdecimal()), None)


def world():
    """Communicator of all processes that were started together; None where this one is alone.

    MPI is not touched in a process that is alone.

    Raises
    ------
    InputError
        Where mpi4py is missing, or is of another MPI than what started the processes.
    """
    n = told(COUNTS)
    if n is None or n < 2:
        return None
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:    # RuntimeError: it finds no library of MPI
        words = " ".join(str(error).split())
        raise InputError(
            f"{n} processes were started together and need mpi4py to share a run; pip install 'fastdesc[mpi]' ({words})"
        ) from error
    comm = MPI.COMM_WORLD
    if comm.size != n:
        library = MPI.Get_library_version().split("\n")[0].strip("\0 ")
        raise InputError(
            f"{n} processes were started together, and mpi4py, which uses {library}, sees {comm.size}; start them by "
            "the mpiexec of that MPI"
        )
    return comm


class MpiSum:
    """Sums of float64 arrays, NumPy or CuPy, over all ranks; those of CuPy travel through the host.

    Each rank adds up one part of the array, in the order of ranks: all get the same bits, which depend on the number of
    ranks alone and not on how an MPI reduces.
    """

    def __init__(self, comm):
        self._comm = comm

    def __call__(self, x):
        """Replace a flat array by its sum over all ranks."""
        n = self._comm.size
        part = -(-x.size // n)
        sent, parts = np.zeros((n, part)), np.empty((n, part))
        sent.reshape(-1)[: x.size] = to_host(x)
        self._comm.Alltoall(sent, parts)
        total = parts[0]
        for other in parts[1:]:
            total += other
        self._comm.Allgather(total, sent)
        x[...] = namespace(x).asarray(sent.reshape(-1)[: x.size])


def share_node(comm):
    """Give this rank its share of the cores of its node, unless NUMBA_NUM_THREADS says how many it has.

    Cores that several ranks may run on are shared among them; those that mpiexec bound to one are its own.

    Returns
    -------
    (int, int)
        Number of this rank on its node, and how many ranks the node has.
    """
    from mpi4py import MPI

    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    if told(["NUMBA_NUM_THREADS"]) is None:
        mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
        threads.set_threads(share(mine, node.allgather(mine)))
    return node.rank, node.size


def share(mine, masks):
    """Number of cores that are one rank's: of `mine`, a set, when the ranks of the node may use the sets `masks`."""
    return max(1, int(sum(1 / sum(core in mask for mask in masks) for core in mine) + 1e-9))
