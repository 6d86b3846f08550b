"""A square of numbers turned in registers."""

import numba
import numpy as np
import pytest

from fastdesc.simd import kind_of, scratch
from fastdesc.simd.transpose import transpose


@numba.njit
def turned(kind, x, first, step, n):
    source, target = scratch(kind, len(x) // n), scratch(kind, n + 1)
    source[: len(x)] = x
    target[:] = 0
    transpose(kind, source, first, step, target, 1)
    return target[: (n + 1) * n].copy()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_become_columns(dtype):
    n = 64 // np.dtype(dtype).itemsize
    x = np.arange(3 * n * n, dtype=dtype)
    found = turned(kind_of(dtype, False), x, 2, 3, n).reshape(n + 1, n)
    np.testing.assert_array_equal(found[1:], x.reshape(-1, n)[2::3].T)
    assert not found[0].any()
