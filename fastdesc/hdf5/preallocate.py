"""Room on the disk, reserved in large steps: cheaper than page by page, as they are written."""

import ctypes
import os
from functools import cache

STEP = 1 << 26
"""Bytes asked for at a time, at most; a file asks for no more than it has already."""
KEEP_SIZE = 1    # of linux/falloc.h
NEVER = float("inf")    # as the end of the room: none is asked for


class Room:
    """Space for a file that grows at its end. Where a system cannot reserve any, nothing happens.

    Parameters
    ----------
    fd : int
    """

    def __init__(self, fd):
        self.fd, self.end = fd, 0

    def make(self, end):
        """See to it that there is room up to `end`; the size of the file stays as it is."""
        if end <= self.end:
            return
        reserve, step = _fallocate(), min(end, STEP)
        reserved = reserve is not None and reserve(self.fd, KEEP_SIZE, end - step, 2 * step) == 0
        # Never again where that failed: a full disk is for those who write to tell.
        self.end = end + step if reserved else NEVER

    def cut(self, length):
        """End the file at `length`; what room there is behind it goes back."""
        os.ftruncate(self.fd, length)
        self.end = NEVER if self.end == NEVER else min(self.end, length)


@cache
def _fallocate():
    """Linux's fallocate, which unlike posix_fallocate fails where a file system has none, instead of writing zeros."""
    try:
        call = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError, TypeError):
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return call
