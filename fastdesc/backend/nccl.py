"""Sums over several GPUs by NVIDIA's NCCL, through CuPy."""

import warnings


def gpus():
    """Number of GPUs, and whether NCCL is there to connect several."""
    import cupy

    count = cupy.cuda.runtime.getDeviceCount()
    return (count, False) if count < 2 else (count, available())


def available():
    """Whether NCCL is there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")    # CuPy's words where NCCL is missing; whoever needs it says so
        from cupy.cuda import nccl

        return bool(nccl.available)


def one_each(ranks):
    """Whether NCCL is there, and a GPU of its own for each of the ranks of this machine."""
    import cupy

    return ranks <= cupy.cuda.runtime.getDeviceCount() and available()


class NcclSum:
    """Sums of CuPy arrays over all members by NCCL.

    Parameters
    ----------
    rank, size : int
    key : what `key` returned, once for all members
    device : int, optional
        GPU of this member; by default that of its rank.
    """

    @staticmethod
    def key():
        """What members must know to find each other."""
        from cupy.cuda import nccl

        return nccl.get_unique_id()

    def __init__(self, rank, size, key, device=None):
        import cupy
        from cupy.cuda import nccl

        cupy.cuda.Device(rank if device is None else device).use()
        self._nccl, self._stream = nccl, cupy.cuda.get_current_stream
        self._communicator = nccl.NcclCommunicator(size, key, rank)

    def __call__(self, x):
        """Replace a contiguous float64 array by its sum over all members."""
        kind, operation = self._nccl.NCCL_FLOAT64, self._nccl.NCCL_SUM
        self._communicator.allReduce(x.data.ptr, x.data.ptr, x.size, kind, operation, self._stream().ptr)

    def abort(self):
        """End all waiting: a member is gone."""
        self._communicator.abort()
