"""Small random networks, and all functions of fastdesc.networks.feed_forward in one call."""

import numpy as np

from fastdesc.networks.activations import ACTIVATIONS
from fastdesc.networks.feed_forward import backward, dual_gradients, forward, initial, pullback, tangent, transposed

STEP = 1e-30
EXACT = {"rtol": 1e-12, "atol": 1e-12}
NAMES = list(ACTIVATIONS)
HIDDEN = [(), (5,), (7, 6), (4, 5, 6)]


def network(hidden, n_out, bias, activation, seed=0):
    rng = np.random.default_rng(seed)
    layers = initial(9, hidden, n_out, activation, rng, bias=bias)
    return [(w, None if b is None else rng.normal(size=b.shape)) for w, b in layers]


def arrays(n_out, n=11, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(m, n)) for m in (9, 9, n_out, n_out)]


def moved(layers, directions):
    """Layers a complex step along directions."""
    return [
        (w + 1j * STEP * dw, None if b is None else b + 1j * STEP * db)
        for (w, b), (dw, db) in zip(layers, directions, strict=True)
    ]


def random_like(layers, seed=2):
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=w.shape), None if b is None else rng.normal(size=b.shape)) for w, b in layers]


def inner(a, b):
    return sum(
        (wa * wb).sum() + (0 if ba is None else (ba * bb).sum()) for (wa, ba), (wb, bb) in zip(a, b, strict=True)
    )


def cast(layers, dtype):
    return [(w.astype(dtype), None if b is None else b.astype(dtype)) for w, b in layers]


def everything(layers, activation, x, tx, dy, c):
    y, saved = forward(layers, activation, x)
    cx, chain = pullback(layers, activation, saved, c)
    ty, tsaved = tangent(layers, activation, saved, tx)
    dual = dual_pullback(layers, activation, saved, tsaved, chain, dy, -1.0)
    return [y, cx, ty, *leaves(dual), *leaves(backward(layers, activation, saved, dy))], (saved, tsaved, chain)


def leaves(tree):
    if isinstance(tree, np.ndarray):
        return [tree]
    return [] if tree is None else [a for branch in tree for a in leaves(branch)]


def dual_pullback(layers, activation, saved, tsaved, chain, dy, sign):
    """Gradient of <dy, y> + sign <c, ty> with respect to parameters and inputs."""
    dlayers, eps = dual_gradients(layers, activation, saved, tsaved, chain, dy, sign)
    return dlayers, transposed(layers[0][0], eps)
