"""The CUDA text that CuPy makes of a formula by fusing it, which needs no GPU."""

import re

import pytest


def floating_types(formula, dtype, n_arrays, scalars):
    """Return the names of all floating types in the kernel made of formula(*arrays, *scalars).

    CuPy calculates with a literal and a Python scalar in float16, and some constants promote: both would show here.
    """
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    from cupy._core import fusion

    nowhere = cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(1 << 20, 1 << 10, None, 0), 0)
    arrays = [cupy.ndarray((3, 4), dtype, memptr=nowhere)] * n_arrays
    local = fusion._fusion_thread_local.thread_local
    local.history, local.is_old_fusing = fusion._FusionHistory(), True
    try:
        kernel, _ = local.history.get_fusion(formula, [*arrays, *scalars], "formula")
    finally:
        local.history, local.is_old_fusing = None, False
    return set(re.findall(r"\b(?:float|double|float16|half)\b", kernel.operation))
