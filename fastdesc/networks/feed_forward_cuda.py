"""Layers of a network on the GPU: how the kernels of kernels/networks/feed_forward.cu are launched.

Small batches take one launch a layer, activation included; what makes a layer of a large one is cuBLAS and a fused
kernel, which are more launches, and fast ones. cuBLAS cannot become part of a CUDA graph
(fastdesc/potential/cuda_graph.py) either.
"""

from fastdesc.backend import cuda
from fastdesc.backend.arrays import namespace

FILE = "networks/feed_forward.cu"
TILE = 16
"""Rows and columns of a result that a block owns."""
MOST = 4096
"""Columns up to which a batch is small: the kernels reach a tenth of cuBLAS's rate (estimated, not measured)."""


def suits(x):
    """Whether columns `x` (rows, n) are few, on a GPU, and of a dtype that kernels know."""
    return cuda.active_for(x) and x.dtype.char in "fd" and x.shape[1] <= MOST


def layer(activation, w, b, x):
    """Value and gate (n_out, n) of z = w x + b; b (n_out, 1) or None."""
    h, s = _rows(w, x), _rows(w, x)
    _run("layer", activation, len(w), (w, w if b is None else b), (x,), (h, s), "x", biased=b is not None)
    return h, s


def affine(w, b, x):
    """z = w x + b, (n_out, n); b (n_out, 1) or None."""
    z = _rows(w, x)
    _run("affine", None, len(w), (w, w if b is None else b), (x,), (z,), "x", biased=b is not None)
    return z


def back(activation, w, dy, h, s):
    """g = w^T dy (n_in, n), and f'(z) g of the layer below, whose values and gates are h and s."""
    g, delta = _rows(w.T, dy), _rows(w.T, dy)
    _run("back", activation, w.shape[1], (w,), (dy, h, s), (g, delta), "dy")
    return g, delta


def transposed(w, dy):
    """w^T dy, (n_in, n)."""
    dx = _rows(w.T, dy)
    _run("transposed", None, w.shape[1], (w,), (dy,), (dx,), "dy")
    return dx


def _rows(w, x):
    """Uninitialised array for a product of w with the columns x."""
    return namespace(x).empty((w.shape[0], x.shape[1]), x.dtype)


def _run(name, activation, n_rows, weights, columns, out, multiplied, **scalars):
    """Launch a kernel for n_rows rows of results; the first of `columns`, `multiplied`, may be a slice."""
    first, *others = columns
    xp, n = namespace(first), first.shape[1]
    if n > 1 and first.strides[1] != first.itemsize:
        first = xp.ascontiguousarray(first)
    weights = [xp.ascontiguousarray(w) for w in weights]
    scalar = cuda.scalar_name(first.dtype, False)
    kernel = f"network_{name}<{scalar}{'' if activation is None else f', {activation.title()}'}>"
    scalars |= {"n": n, f"{multiplied}_stride": cuda.row_stride(first)}
    scalars["n_out"], scalars["n_in"] = weights[0].shape
    arrays = (*weights, first, *others, *out)
    cuda.launch(FILE, kernel, n, TILE, TILE * TILE, arrays, y=-(-n_rows // TILE), **scalars)
