"""Sums over several GPUs by NVIDIA's NCCL, through CuPy."""

import warnings


def gpus():
    """Number of GPUs, and whether NCCL is there to connect several."""
    import cupy

    count = cupy.cuda.runtime.getDeviceCount()
    if count < 2:
        return count, False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")    # CuPy's words where NCCL is missing; whoever needs it says so
        from cupy.cuda import nccl

        return count, bool(nccl.available)


class NcclSum:
    """Sums of CuPy arrays over all members by NCCL; a member's device is that of its rank."""

    @staticmethod
    def key():
        """What members must know to find each other."""
        from cupy.cuda import nccl

        return nccl.get_unique_id()

    def __init__(self, rank, size, key):
        import cupy
        from cupy.cuda import nccl

        cupy.cuda.Device(rank).use()
        self._nccl, self._stream = nccl, cupy.cuda.get_current_stream
        self._communicator = nccl.NcclCommunicator(size, key, rank)

    def __call__(self, x):
        """Replace a contiguous float64 array by its sum over all members."""
        kind, operation = self._nccl.NCCL_FLOAT64, self._nccl.NCCL_SUM
        self._communicator.allReduce(x.data.ptr, x.data.ptr, x.size, kind, operation, self._stream().ptr)

    def abort(self):
        """End all waiting: a member is gone."""
        self._communicator.abort()
