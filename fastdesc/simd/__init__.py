"""SIMD value types for Numba: kernels as for one atom, like a CUDA thread, and the same text for dual numbers.

Numba leaves vectorisation to LLVM, which gives up on anything but the simplest inner loop. Here a value is a hardware
vector, `Lanes(scalar, width)`, or a pair (value, tangent) of them, `DualLanes(scalar, width)`. A lane is one atom, or
one neighbour, or one filter. Arithmetic on values compiles to packed instructions on any processor (LLVM splits vectors
where registers are narrower). A kernel learns which type to use from its argument `kind`, see `kind_of`.

Values are read and written by `load`, `store`, `add` and `broadcast`, at rows and columns of memory, see memory.py.
A kernel that finds the lengths of n vectors,

    def lengths(kind, n, x, d):
        for i in range(0, n, lanes(kind)):
            m = min(lanes(kind), n - i)
            a, b, c = load(kind, x, 0, i, m), load(kind, x, 1, i, m), load(kind, x, 2, i, m)
            store(d, 0, i, m, sqrt(a * a + b * b + c * c))

does what NumPy does with

    d[0] = np.sqrt(x[0] * x[0] + x[1] * x[1] + x[2] * x[2])

for x (3, n), and for dual numbers x (2, 3, n) it finds d (2, 1, n), values and tangents. It is called with
`lengths(kind_of(x.dtype, dual), n, rows_of(x, dual), rows_of(d, dual))`.
"""

from fastdesc.simd.arithmetic import kind_of, lanes, planes_of, slots, splat, width
from fastdesc.simd.codegen import DualLanes, Lanes
from fastdesc.simd.memory import (
    add,
    add_sum,
    borrowed,
    broadcast,
    integer,
    keep,
    load,
    peek,
    poke,
    rows_of,
    scratch,
    set_integer,
    store,
)

__all__ = [
    "DualLanes", "Lanes", "add", "add_sum", "borrowed", "broadcast", "integer", "keep", "kind_of", "lanes", "load",
    "peek", "planes_of", "poke", "rows_of", "scratch", "set_integer", "slots", "splat", "store", "width",
]  # fmt: skip
