"""Whether arrays still hold what they held: all of them looked at in one call, nothing copied."""

from collections.abc import Sequence

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastdesc.backend.jit import kernel


class Unchanged:
    """Knows some NumPy arrays as they are now.

    Parameters
    ----------
    arrays : sequence of arrays
    """

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        self._arrays = list(arrays)    # held: memory of theirs is not used again
        self._copies = [np.array(a, order="C") for a in arrays]
        self._flat = all(a.flags.c_contiguous for a in arrays)
        both = zip(self._arrays, self._copies, strict=True)
        self._places = np.array([(a.ctypes.data, c.ctypes.data, c.nbytes) for a, c in both], np.int64).reshape(-1, 3)

    def holds(self, arrays: Sequence[np.ndarray]) -> bool:
        """Whether these have the same shapes, types and bytes as those that came first."""
        if len(arrays) != len(self._arrays):
            return False
        if self._flat and all(a is b for a, b in zip(arrays, self._arrays, strict=True)):
            return same_bytes(self._places)
        both = zip(arrays, self._copies, strict=True)
        return all(a.shape == c.shape and a.dtype == c.dtype and a.tobytes() == c.tobytes() for a, c in both)


@intrinsic
def _memcmp(typingctx, a, b, n):
    """C's memcmp of n bytes at two addresses."""

    def codegen(ctx, builder, sig, args):
        byte, size = ir.IntType(8).as_pointer(), ir.IntType(64)
        signature = ir.FunctionType(ir.IntType(32), [byte, byte, size])
        function = cgutils.get_or_insert_function(builder.module, signature, "memcmp")
        pointers = [builder.inttoptr(x, byte) for x in args[:2]]
        return builder.call(function, [*pointers, args[2]])

    return types.int32(types.int64, types.int64, types.int64), codegen


@kernel
def same_bytes(places):
    """Whether memory is the same in all rows (address, address, number of bytes) of an int64 array."""
    for k in range(len(places)):    # noqa: SIM110 - compiled
        if _memcmp(places[k, 0], places[k, 1], places[k, 2]) != 0:
            return False
    return True
