"""What this machine can do at best: fused multiply-adds per second on one core, and matrix products by BLAS.

Both are cases of a worker (bench/harness/serve.py), so they are measured pinned and in turns like everything else.
"""

import numpy as np
from numba import njit

from fastdesc.simd import lanes, load, width
from fastdesc.simd.tuples import axpy, load_tuple, store_tuple

REPEATS = 200_000


@njit(error_model="numpy")
def fma_10(kind, n, memory):
    """Ten independent chains x <- a x + c, enough for two units of latency five; fills registers of AVX-512."""
    a, c = load(kind, memory, 10), load(kind, memory, 11)  # constants in the text would be folded across rounds
    cs = (c, c, c, c, c, c, c, c, c, c)
    x = load_tuple(kind, memory, 0, 10)
    for _ in range(n):
        x = axpy(a, x, cs)
    store_tuple(memory, 0, x)
    return n * 10 * 2 * lanes(kind)


@njit(error_model="numpy")
def fma_5(kind, n, memory):
    """Five chains of 512 bits, which are ten of 256 bits: what the sixteen registers of AVX2 can hold."""
    a, c = load(kind, memory, 10), load(kind, memory, 11)
    cs = (c, c, c, c, c)
    x = load_tuple(kind, memory, 0, 5)
    for _ in range(n):
        x = axpy(a, x, cs)
    store_tuple(memory, 0, x)
    return n * 5 * 2 * lanes(kind)


def fma(dtype="float32", chains=10):
    """Case of a worker: REPEATS rounds of independent fused multiply-adds."""
    kind = np.dtype(dtype).type(0)
    kernel = {10: fma_10, 5: fma_5}[chains]
    memory = np.full(12 * width(dtype), 0.5, dtype)
    return lambda: kernel(kind, REPEATS, memory), {"operations": kernel(kind, REPEATS, memory), "dtype": dtype}


def gemm(m=256, k=360, n=256, dtype="float32"):
    """Case of a worker: one matrix product (m, k) @ (k, n) by NumPy's BLAS."""
    from threadpoolctl import threadpool_info

    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=shape).astype(dtype) for shape in ((m, k), (k, n)))
    out = np.empty((m, n), dtype)
    blas = [info for info in threadpool_info() if info["user_api"] == "blas"]
    names = ", ".join(f"{x['internal_api']} {x['version']} {x.get('architecture', '')}".strip() for x in blas)
    return lambda: np.matmul(a, b, out=out), {"operations": 2 * m * k * n, "dtype": dtype, "blas": names}
