"""What launches of all families' kernels share: rows as kernels read them, widths that they know, partial sums."""

from functools import cache

from fastdesc.backend import cuda

ROWS, ROWS_BYTES = 2048, 2**28
"""Partial sums: enough rows to fill a GPU, unless a row is so long that they would fill its memory. They depend on
shapes alone, so that results do not depend on the device."""


def with_whole_rows(xp, x):
    """Return `x`, or a copy of it whose rows are contiguous."""
    return x if x.strides[-1] == x.itemsize else xp.ascontiguousarray(x)


@cache
def slab_width(file, name, scalar, n):
    """Of n functions, those that a kernel takes at a time: the fewest that suffice, else the most there are.

    Parameters
    ----------
    file : str
        In kernels/, with specialisations ``name<scalar, width>``.
    """
    head = f"{name}<{scalar}, "
    widths = sorted(int(s[len(head) : -1]) for s in cuda.specialisations(file) if s.startswith(head))
    return next((w for w in widths if w >= n), widths[-1])


def atoms_per_warp(n_atoms, row_bytes):
    """Atoms whose contributions to a partial sum of `row_bytes` one warp adds up."""
    rows = max(64, min(ROWS, ROWS_BYTES // row_bytes))
    return max(1, -(-n_atoms // rows))
