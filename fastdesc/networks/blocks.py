"""A feed-forward network on a block of atoms, one SIMD lane each: value and gradient within a kernel.

The formulas are (1) and (2) of fastdesc/networks/feed_forward.py. Weights are packed so that those of TILE outputs,
which stay in registers while the inputs go by, are consecutive.
"""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from llvmlite import binding

from fastdesc.backend.jit import inner
from fastdesc.networks.activations import ACTIVATIONS
from fastdesc.simd import elementary as _functions_of_lanes  # noqa: F401
from fastdesc.simd import load, splat, store
from fastdesc.simd.tuples import axpy_numbers, store_tuple, zeros


def _tile():
    """Outputs whose sums fit in the registers beside what they are made of: vectors are halved without AVX-512."""
    wide = numba.config.CPU_NAME is None and binding.get_host_cpu_features().get("avx512f", False)
    return 16 if wide else 6


TILE = _tile()
NAMES = tuple(ACTIVATIONS)
"""Activations are known to the kernel by their number."""
SILU, TANH, CELU = (NAMES.index(name) for name in ("silu", "tanh", "celu"))
N_IN, N_OUT, FORWARD, BIAS, BACK, BELOW, ABOVE = range(7)
"""Columns of a plan: widths; where weights, biases, transposed weights begin; slots of a layer's input and output."""

_silu, _tanh, _celu, _softplus = (ACTIVATIONS[name].value for name in NAMES)
_silu_slope, _tanh_slope, _celu_slope, _softplus_slope = (ACTIVATIONS[name].slope for name in NAMES)


@dataclass(eq=False)
class PackedNetworks:
    """Feed-forward networks of one shape, for `network_block`.

    Attributes
    ----------
    weights : (n_networks, n) array
    plan : int64 (n_layers, 7)
    activation : int
        Index into NAMES.
    n_slots : int
        Of scratch memory for inputs and the outputs of all layers.
    """

    weights: Any
    plan: Any
    activation: int
    n_slots: int


def packed_networks(networks):
    """Pack running FeedForward heads (fastdesc/networks/heads.py) of equal widths.

    Parameters
    ----------
    networks : list of FeedForward

    Returns
    -------
    PackedNetworks
    """
    layers = networks[0].layers
    plan, at, slot = [], 0, _up(layers[0][0].shape[1])
    below = 0
    for w, _ in layers:
        n_out, n_in = w.shape
        forward, bias, back = at, at + n_in * _up(n_out), at + (n_in + 1) * _up(n_out)
        plan.append((n_in, n_out, forward, bias, back, below, slot))
        at = back + n_out * _up(n_in)
        below, slot = slot, slot + _up(n_out)
    weights = np.array([np.concatenate([x for layer in own.layers for x in _packed_layer(*layer)]) for own in networks])
    return PackedNetworks(weights, np.array(plan), NAMES.index(networks[0].activation), slot)


def _up(n):
    """The next multiple of TILE."""
    return -(-n // TILE) * TILE


def _packed_layer(w, b):
    bias = np.zeros(_up(len(w)), w.dtype)
    if b is not None:
        bias[: len(w)] = b[:, 0]
    return tiles(w), bias, tiles(w.T)


def tiles(w):
    """Rows in tiles of TILE, each with its columns one after the other, flat."""
    full = np.zeros((_up(len(w)), w.shape[1]), w.dtype)
    full[: len(w)] = w
    return full.reshape(-1, TILE, w.shape[1]).transpose(0, 2, 1).reshape(-1)


@inner
def products(kind, weights, at, bias, n_in, n_out, source, source_at, target, target_at):
    """target = W source + b for outputs in tiles; bias negative: none."""
    one = splat(kind, 1.0)
    for o in range(0, n_out, TILE):
        total = zeros(one, TILE)
        if bias >= 0:
            total = axpy_numbers(weights, bias + o, one, total)
        for k in range(n_in):
            total = axpy_numbers(weights, at, load(kind, source, source_at + k), total)
            at += TILE
        store_tuple(target, target_at + o, total)


@inner
def _value(kind, function, one, values, gates, first, last):
    for k in range(first, last):
        h, s = function(load(kind, values, k), one)
        store(values, k, h)
        store(gates, k, s)


@inner
def _activated(kind, activation, one, values, gates, first, last):
    if activation == SILU:
        _value(kind, _silu, one, values, gates, first, last)
    elif activation == TANH:
        _value(kind, _tanh, one, values, gates, first, last)
    elif activation == CELU:
        _value(kind, _celu, one, values, gates, first, last)
    else:
        _value(kind, _softplus, one, values, gates, first, last)


@inner
def _slope(kind, function, one, values, gates, cotangents, first, last):
    for k in range(first, last):
        slope = function(load(kind, values, k), load(kind, gates, k), one)
        store(cotangents, k, slope * load(kind, cotangents, k))


@inner
def _sloped(kind, activation, one, values, gates, cotangents, first, last):
    if activation == SILU:
        _slope(kind, _silu_slope, one, values, gates, cotangents, first, last)
    elif activation == TANH:
        _slope(kind, _tanh_slope, one, values, gates, cotangents, first, last)
    elif activation == CELU:
        _slope(kind, _celu_slope, one, values, gates, cotangents, first, last)
    else:
        _slope(kind, _softplus_slope, one, values, gates, cotangents, first, last)


@inner
def network_block(kind, weights, begin, plan, activation, values, gates):
    """Return the output (1) of one network, and keep what its pullbacks need.

    Parameters
    ----------
    weights : (n,) array
        Of all networks; those of this one begin at `begin`.
    plan, activation
        Of PackedNetworks.
    values, gates : scratch
        Inputs are the first slots of `values`.
    """
    n_layers, one = len(plan), weights.dtype.type(1)
    for l in range(n_layers):
        n_in, n_out, below, above = plan[l, N_IN], plan[l, N_OUT], plan[l, BELOW], plan[l, ABOVE]
        forward, bias = begin + plan[l, FORWARD], begin + plan[l, BIAS]
        products(kind, weights, forward, bias, n_in, n_out, values, below, values, above)
        if l < n_layers - 1:
            _activated(kind, activation, one, values, gates, above, above + n_out)
    return load(kind, values, plan[n_layers - 1, ABOVE])


@inner
def network_pullback_block(kind, weights, begin, plan, activation, last, last_at, values, gates, cotangents):
    """Write the gradient (2) of the inputs of the last layer times given numbers; may be called often after one value.

    Parameters
    ----------
    weights, begin, plan, activation
        As of network_block.
    last : (n,) array
        The numbers; those of this network begin at `last_at`: its last layer's weights, or others in their place.
    values, gates : scratch
        As network_block left them.
    cotangents : scratch
        Written: those of the network's inputs are its first slots.
    """
    n_layers, one = len(plan), weights.dtype.type(1)
    n_last, hidden = plan[n_layers - 1, N_IN], plan[n_layers - 1, BELOW]
    for h in range(n_last):
        store(cotangents, hidden + h, splat(kind, last[last_at + h]))
    for l in range(n_layers - 2, -1, -1):
        n_in, n_out, below, above = plan[l, N_IN], plan[l, N_OUT], plan[l, BELOW], plan[l, ABOVE]
        _sloped(kind, activation, one, values, gates, cotangents, above, above + n_out)
        products(kind, weights, begin + plan[l, BACK], -1, n_out, n_in, cotangents, above, cotangents, below)


@inner
def network_outputs_pullback_block(kind, weights, begin, plan, activation, values, gates, cotangents):
    """Write the pullback of all outputs of one network, whose cotangents are in the slots of its outputs.

    Arguments as of network_pullback_block.
    """
    n_layers, one = len(plan), weights.dtype.type(1)
    for l in range(n_layers - 1, -1, -1):
        n_in, n_out, below, above = plan[l, N_IN], plan[l, N_OUT], plan[l, BELOW], plan[l, ABOVE]
        if l < n_layers - 1:
            _sloped(kind, activation, one, values, gates, cotangents, above, above + n_out)
        products(kind, weights, begin + plan[l, BACK], -1, n_out, n_in, cotangents, above, cotangents, below)
