"""Activation and normalisation of residual blocks on the GPU: how kernels/networks/residual.cu is launched."""

from fastdesc.backend import cuda
from fastdesc.backend.arrays import namespace

FILE = "networks/residual.cu"
COLUMNS, THREADS = 32, 256
"""Atoms of a block, and its threads: eight for each atom."""
UNITS = {"trained_silu": "TrainedSilu", "trained_isru": "TrainedIsru"}


def suits(z):
    """Whether `z` is on a GPU."""
    return cuda.active_for(z)


def value(activation, z, alpha, beta, gain, shift):
    """norm(a(z)), (width, n); gain and shift None where it is not normalised."""
    h = namespace(z).empty(z.shape, z.dtype)
    normed = gain is not None
    _run("value", activation, normed, (alpha, beta, *((gain, shift) if normed else (alpha, beta))), (z,), h)
    return h


def pullback(activation, z, dh, alpha, beta, gain):
    """Cotangent of z from that of norm(a(z)), (width, n)."""
    dz, normed = namespace(z).empty(z.shape, z.dtype), gain is not None
    _run("pullback", activation, normed, (alpha, beta, gain if normed else alpha), (z, dh), dz)
    return dz


def _run(name, activation, normed, own, columns, out):
    xp = namespace(out)
    columns, own = [xp.ascontiguousarray(a) for a in columns], [xp.ascontiguousarray(a) for a in own]
    scalar = cuda.scalar_name(out.dtype, False)
    kernel = f"residual_{name}<{scalar}, {UNITS[activation]}, {'true' if normed else 'false'}>"
    width, n = out.shape
    cuda.launch(FILE, kernel, n, COLUMNS, THREADS, (*columns, *own, out), n=n, width=width)
