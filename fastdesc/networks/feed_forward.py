"""A feed-forward network as plain functions, components first: value, gradient, tangent and their gradients.

Layers are a list of (W, b) with W (n_out, n_in) and b (n_out, 1) or None. With h_0 = x, for layers l = 1..L:

    z_l = W_l h_{l-1} + b_l,    h_l = f(z_l) for l < L,    y = z_L                                         (1)

Cotangents of the value, from dy down (g_l belongs to h_l, delta_l to z_l; delta_L = dy):

    g_l = W_{l+1}^T delta_{l+1},    delta_l = f'(z_l) g_l,    dx = W_1^T delta_1                           (2)

The tangent along tx:

    tz_l = W_l th_{l-1},    th_l = f'(z_l) tz_l,    th_0 = tx,    ty = tz_L                                (3)

Gradient of <dy, y> + sign <c, ty>, where c is the cotangent with which (2) was run. The cotangent of tz_l is
sign delta_l of that run, so only the cotangent eps_l of z_l is new:

    eps_L = dy,    eps_l = f'(z_l) W_{l+1}^T eps_{l+1} + f''(z_l) tz_l sign g_l                            (4)
    dW_l = eps_l h_{l-1}^T + sign delta_l th_{l-1}^T,    db_l = sum eps_l,    dx = W_1^T eps_1             (5)

With c = 1 and sign = -1 this is the training pass for forces: dy holds dL/dE, tx the features' tangent along dL/dF.

Arrays are NumPy or CuPy; columns are atoms. Nothing is copied but what must be: x may be a slice of columns of a
larger array. Float32 stays float32. Functions hold no state, so threads may share layers.
"""

import threading
from itertools import pairwise

import numpy as np

from fastdesc.backend.arrays import namespace
from fastdesc.errors import InputError
from fastdesc.networks import feed_forward_cuda
from fastdesc.networks.activations import ACTIVATIONS, check_activation, host_loops, passes


def initial(n_in, hidden, n_out, activation, rng, bias=True):
    """Random layers in float64, made so that every layer passes variance on unchanged.

    W_l ~ N(0, a^2 / n_in), b = 0, with a = 1 in the first layer (its inputs are scaled to unit variance) and

        a = E[f(z)^2]^(-1/2),  z ~ N(0, 1)                                                                 (6)

    after an activation f (1.6765 for silu): LeCun's rule with the gain of He et al., ICCV 2015, for any f.

    Parameters
    ----------
    n_in, n_out : int
        Numbers of inputs and outputs.
    hidden : sequence of int
        Widths of the hidden layers; empty for a linear map.
    activation : str
        "silu", "tanh", "celu" or "softplus".
    rng : numpy.random.Generator
    bias : bool
        False leaves out every b.

    Returns
    -------
    list of (W, b)
        W (n_out, n_in) float64; b (n_out, 1) float64 or None.

    Raises
    ------
    InputError
        For an unknown activation or a width below 1.
    """
    check_activation(activation)
    widths = [n_in, *hidden, n_out]
    if any(int(w) != w or w < 1 for w in widths):
        raise InputError(f"a network's widths must be whole numbers >= 1, but {widths} (in, hidden, out) arrived")
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    value, _ = ACTIVATIONS[activation].value(nodes, 1.0)
    gain = (weights @ value**2 / weights.sum()) ** -0.5
    layers = []
    for fan_in, width in pairwise(widths):
        w = rng.standard_normal((width, fan_in)) * ((gain if layers else 1.0) / np.sqrt(fan_in))
        layers.append((w, np.zeros((width, 1)) if bias else None))
    return layers


def forward(layers, activation, x):
    """Value of the network (1).

    Parameters
    ----------
    layers : list of (W, b)
    activation : str
    x : array (n_in, n)
        Atoms along the contiguous last axis.

    Returns
    -------
    y : array (n_out, n)
    saved
        What the other functions want handed back; it keeps a reference to `x`.
    """
    check_activation(activation)
    inputs, gates = [x], []
    for w, b in layers[:-1]:
        h, s = _layer(activation, w, b, inputs[-1])
        inputs.append(h)
        gates.append(s)
    return affine(*layers[-1], inputs[-1]), (inputs, gates)


def pullback(layers, activation, saved, dy):
    """Gradient with respect to the inputs (2).

    Parameters
    ----------
    dy : array (n_out, n)
        Cotangent of y.

    Returns
    -------
    dx : array (n_in, n)
    chain
        Cotangents of every layer's output, for dual_gradients.
    """
    inputs, gates = saved
    chain = [dy]
    for (w, _), h, s in zip(layers[:0:-1], inputs[:0:-1], gates[::-1], strict=True):
        g, dy = _back(activation, w, dy, h, s)
        chain.append(g)
    return transposed(layers[0][0], dy), chain[::-1]


def value_and_gradient(layers, activation, x, dy, dx):
    """Value (1) and gradient (2) on the host, in memory of the calling thread that the next call uses again.

    Parameters
    ----------
    x : array (n_in, n)
    dy : array (1, n) or (n_out, n)
    dx : array (n_in, n)
        Written: the gradient with respect to the inputs.

    Returns
    -------
    y : array (n_out, n)
        To be read before the next call.
    """
    memory = _memory(tuple([len(w) for w, _ in layers]), x.shape[1], x.dtype)
    loops, h = host_loops(activation), x
    for (w, b), (z, s, _) in zip(layers[:-1], memory, strict=False):
        np.matmul(w, h, out=z)
        if b is None:
            b = np.zeros((len(w), 1), w.dtype)
        loops.values(z, b, s)
        h = z
    w, b = layers[-1]
    y = np.matmul(w, h, out=memory[-1][0])
    if b is not None:
        y += b
    g = dy
    for (w, _), (z, s, below) in zip(layers[:0:-1], memory[-2::-1], strict=True):
        _transposed_into(w, g, below)
        loops.slopes(z, s, below, below)
        g = below
    _transposed_into(layers[0][0], g, dx)
    return y


def last_after(layers, x):
    """What the last layer multiplies, right after `value_and_gradient` of the same x in the same thread."""
    return _memory(tuple([len(w) for w, _ in layers]), x.shape[1], x.dtype)[-2][0] if len(layers) > 1 else x


def _transposed_into(w, dy, out):
    if len(w) == 1:
        np.multiply(w.T, dy, out=out)
    else:
        np.matmul(w.T, dy, out=out)


_here = threading.local()
_KEPT = 16
"""Shapes of networks and chunks whose memory a thread keeps."""


def _memory(widths, n, dtype):
    """Three arrays (width, n) for each layer: values, gates and cotangents."""
    known = _here.__dict__
    key = widths, n, dtype.char
    if key not in known:
        if len(known) >= _KEPT:
            known.clear()
        known[key] = [np.empty((3, width, n), dtype) for width in widths]
    return known[key]


def tangent(layers, activation, saved, tx):
    """Derivative of y along `tx` (3).

    Parameters
    ----------
    tx : array (n_in, n)
        Tangent of x.

    Returns
    -------
    ty : array (n_out, n)
    tsaved
        Tangents, for dual_gradients.
    """
    inputs, gates = saved
    slopes = passes(activation, inputs[0]).slopes
    tangents = [tx]
    for (w, _), h, s in zip(layers[:-1], inputs[1:], gates, strict=True):
        tangents.append(w @ tx)
        tx = slopes(h, s, tangents[-1])
    return layers[-1][0] @ tx, tangents


def dual_gradients(layers, activation, saved, tsaved, chain, dy, sign):
    """Gradient of <dy, y> + sign <c, ty> with respect to parameters (4, 5).

    Parameters
    ----------
    saved, tsaved, chain
        From forward(x), tangent(tx) and pullback(c); none of them is changed.
    dy : array (n_out, n)
        Cotangent of the value y.
    sign : float
        Factor of the cotangent c of the tangent output ty.

    Returns
    -------
    dlayers : list of (dW, db)
        As `layers`; db None where b is.
    eps : array (width of the first layer, n)
        eps_1, which the gradient with respect to x is made of.
    """
    inputs, gates = saved
    duals = passes(activation, inputs[0]).duals
    dtz = sign * chain[-1]
    dlayers = []
    for l in range(len(layers) - 1, -1, -1):
        w, b = layers[l]
        below, th, dtz_below = dy, tsaved[0], None
        if l > 0:
            u = transposed(w, dy)
            below, th, dtz_below = duals(inputs[l], gates[l - 1], u, tsaved[l], chain[l - 1], sign)
        dw = dy @ inputs[l].T
        dw += dtz @ th.T  # measured: two products and a sum are never slower than one of stacked copies
        dlayers.append((dw, None if b is None else dy.sum(axis=1, keepdims=True)))
        dy, dtz = below, dtz_below
    return dlayers[::-1], dy


def gradients(layers, activation, saved, dy):
    """Gradient of <dy, y> with respect to parameters.

    Parameters
    ----------
    dy : array (n_out, n)
        Cotangent of y.

    Returns
    -------
    dlayers : list of (dW, db)
        As `layers`; db None where b is.
    dz : array (width of the first layer, n)
        Cotangent of z_1, which the gradient with respect to x is made of.
    """
    inputs, gates = saved
    dlayers = []
    for l in range(len(layers) - 1, -1, -1):
        w, b = layers[l]
        dlayers.append((dy @ inputs[l].T, None if b is None else dy.sum(axis=1, keepdims=True)))
        if l > 0:
            _, dy = _back(activation, w, dy, inputs[l], gates[l - 1])
    return dlayers[::-1], dy


def backward(layers, activation, saved, dy):
    """Gradient of <dy, y> with respect to parameters and inputs: dlayers as of `gradients`, dx (n_in, n)."""
    dlayers, dz = gradients(layers, activation, saved, dy)
    return dlayers, transposed(layers[0][0], dz)


def pullback_below(layers, activation, saved, dh):
    """Gradient with respect to the inputs of <dh, h_{L-1}>, what the last layer multiplies.

    Parameters
    ----------
    dh : array (width, n) or (width, 1)
        Cotangent of h_{L-1}; of x itself where there is no hidden layer. One column serves all atoms.

    Returns
    -------
    dx : array (n_in, n)
    """
    inputs, gates = saved
    dy = namespace(dh).empty_like(inputs[-1])
    dy[...] = dh
    if not gates:
        return dy
    dy = passes(activation, inputs[-1]).slopes(inputs[-1], gates[-1], dy)
    for (w, _), h, s in zip(layers[-2:0:-1], inputs[-2:0:-1], gates[-2::-1], strict=True):
        _, dy = _back(activation, w, dy, h, s)
    return transposed(layers[0][0], dy)


def last_tangent(activation, saved, tangents):
    """Tangent of h_{L-1} from what `tangent` saved."""
    inputs, gates = saved
    if not gates:
        return tangents[-1]
    return passes(activation, inputs[-1]).slopes(inputs[-1], gates[-1], tangents[-1])


# A layer is a product and a pass over its result; few columns on a GPU take kernels that do both at once.


def affine(w, b, x):
    """W x + b, (n_out, n); b (n_out, 1) or None."""
    if feed_forward_cuda.suits(x):
        return feed_forward_cuda.affine(w, b, x)
    z = w @ x
    if b is not None:
        z += b
    return z


def transposed(w, dy):
    """W^T dy; for one output the outer product, which BLAS does five times slower than a broadcast."""
    if feed_forward_cuda.suits(dy):
        return feed_forward_cuda.transposed(w, dy)
    return w.T * dy if w.shape[0] == 1 else w.T @ dy


def _layer(activation, w, b, x):
    """Value and gate of z = W x + b."""
    if feed_forward_cuda.suits(x):
        return feed_forward_cuda.layer(activation, w, b, x)
    return passes(activation, x).values(w @ x, namespace(x).zeros((w.shape[0], 1), w.dtype) if b is None else b)


def _back(activation, w, dy, h, s):
    """g = W^T dy, and f'(z) g of the layer below, whose values and gates are h and s."""
    if feed_forward_cuda.suits(dy):
        return feed_forward_cuda.back(activation, w, dy, h, s)
    g = transposed(w, dy)
    return g, passes(activation, h).slopes(h, s, g)
