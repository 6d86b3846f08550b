"""Embedded density, the networks of the recursion: c^(t) - c^(t-1) = N_t(q^(t-1)).

Parameters are flat, network.<t>.<element>.<layer>.weight (n_out, n_in) and .bias (n_out,). A network shared by all
elements is called "shared" in place of the element and is told the element by further inputs, one for each element:
their weights are a learned embedding.

On dual numbers both slots are needed, and weights may carry tangents, so the tangent and the dual pullback are
fastdesc.network's with the terms of moving weights added; with tz_l = W_l th_{l-1} + tW_l h_{l-1} + tb_l,

    eps_l = f'(z_l) (W_{l+1}^T eps_{l+1} + tW_{l+1}^T delta_{l+1}) + f''(z_l) tz_l g_l                      (1)

and all else as there.
"""

import numpy as np

from fastdesc import network
from fastdesc.activations import passes
from fastdesc.arrays import namespace
from fastdesc.parallel import for_chunks, single_threaded_blas

CHUNK = 256
SHARED = "shared"


def names(iteration, label, n_layers):
    """Return [(name of W, name of b), ..] of one network."""
    return [tuple(f"network.{iteration}.{label}.{l}.{x}" for x in ("weight", "bias")) for l in range(n_layers)]


def initial(sizes, hidden, n_out, activation, labels, iteration, rng):
    """Return the parameters of all networks of one iteration, for inputs of given sizes (n_in,).

    The last layer is zero.
    """
    parameters = {}
    for label in labels:
        layers = network.initial(len(sizes), hidden, n_out, activation, rng)
        layers[0] = (layers[0][0] / sizes, layers[0][1])
        layers[-1] = (0 * layers[-1][0], layers[-1][1])
        for (w, b), (W, B) in zip(names(iteration, label, len(layers)), layers, strict=True):
            parameters[w], parameters[b] = W, B[:, 0]
    return parameters


class Networks:
    """The networks of one iteration, with parameters out of theta.

    Parameters
    ----------
    theta : dict
        Plain, or dual: arrays with a leading axis of two.
    labels : list of str
        The elements by index, or ["shared"].
    n_species : int
    """

    def __init__(self, theta, iteration, labels, n_layers, n_species, activation):
        self.names = [names(iteration, label, n_layers) for label in labels]
        self.shared, self.n_species, self.activation = labels == [SHARED], n_species, activation
        moving = theta[self.names[0][0][0]].ndim == 3
        self.layers = [self._layers(theta, x, 0 if moving else None) for x in self.names]
        self.tangents = [self._layers(theta, x, 1) if moving else None for x in self.names]

    @staticmethod
    def _layers(theta, names, plane):
        at = slice(None) if plane is None else plane
        return [(theta[w][at], theta[b][at][:, None]) for w, b in names]

    def _columns(self, species, known, first, last):
        """Return [(number of the network, its columns of a chunk)]; a slice where all are its."""
        if self.shared or self.n_species == 1:
            return [(0, slice(None))]
        if known is not None and last - first == len(species):
            return [(z, slice(None) if len(k) == last - first else k) for z, k in enumerate(known) if len(k)]
        xp = namespace(species)
        found = [(z, xp.flatnonzero(species[first:last] == z)) for z in range(self.n_species)]
        return [(z, slice(None) if len(k) == last - first else k) for z, k in found if len(k)]

    def _inputs(self, q, species):
        """Return q with the element's ones and zeros below, if a network is shared."""
        if not self.shared:
            return q
        xp = namespace(q)
        element = (xp.arange(self.n_species)[:, None] == species).astype(q.dtype)
        if q.ndim == 3:
            element = xp.stack([element, xp.zeros_like(element)])
        return xp.concatenate([q, element], axis=-2)

    def forward(self, q, species, columns=None):
        """Return y ((2,) n_out, n_atoms) and what the pullback wants back.

        Parameters
        ----------
        q : ((2,) n_in, n_atoms)
        species : (n_atoms,) int array
        columns : list of int arrays, optional
            Atoms of each element (Pairs.columns); searched here when not given, which makes the host wait for a device.
        """
        n_out, n = self.layers[0][-1][0].shape[0], len(species)
        y = namespace(q).empty((*q.shape[:-2], n_out, n), q.dtype)

        def task(first, last):
            saved = []
            for z, k in self._columns(species, columns, first, last):
                x = self._inputs(q[..., first:last][..., k], species[first:last][k])
                out, kept = network.forward(self.layers[z], self.activation, x if q.ndim == 2 else x[0])
                if q.ndim == 3:
                    tout, tkept = _tangent(self.layers[z], self.tangents[z], self.activation, kept, x[1])
                    y[1, :, first:last][:, k] = tout
                    y[0, :, first:last][:, k] = out
                    kept = (kept, tkept)
                else:
                    y[:, first:last][:, k] = out
                saved.append((z, k, kept))
            return saved

        return y, _in_chunks(task, q, n)

    def pullback(self, q, saved, dy, parameters=False):
        """Return dq like q, and with `parameters` the dict of the parameters' cotangents, float64."""
        n = q.shape[-1]
        dq = namespace(q).empty(q.shape, q.dtype)
        n_in = q.shape[-2]

        def task(first, last):
            results = []
            for z, k, kept in saved[first // CHUNK if len(saved) > 1 else 0]:
                g = dy[..., first:last][..., k]
                if q.ndim == 2:
                    if parameters:
                        dlayers, dx = network.backward(self.layers[z], self.activation, kept, g)
                    else:
                        dlayers, dx = None, network.pullback(self.layers[z], self.activation, kept, g)[0]
                    dq[:, first:last][:, k] = dx[:n_in]
                else:
                    dlayers, dx, tdx = _dual_pullback(self.layers[z], self.tangents[z], self.activation, kept, g)
                    dq[0, :, first:last][:, k] = dx[:n_in]
                    dq[1, :, first:last][:, k] = tdx[:n_in]
                results.append((z, dlayers))
            return results

        results = _in_chunks(task, q, n)
        if not parameters:
            return dq, None
        return dq, self._summed(results, q.ndim == 3, namespace(q))

    def _summed(self, results, dual, xp):
        """Sum the cotangents of all chunks in order."""
        planes = (2,) if dual else ()
        total = {}
        for all_names, layers in zip(self.names, self.layers, strict=True):
            for (w, b), (W, B) in zip(all_names, layers, strict=True):
                total[w], total[b] = xp.zeros((*planes, *W.shape)), xp.zeros((*planes, len(B)))
        for chunk in results:
            for z, dlayers in chunk:
                for (w, b), (dW, db) in zip(self.names[z], dlayers, strict=True):
                    total[w] += dW
                    total[b] += db[..., 0]
        return total


def _in_chunks(task, q, n):
    """Run over chunks of atoms on the CPU, over all of them at once on a GPU."""
    if namespace(q) is not np:
        return [task(0, n)]
    with single_threaded_blas():
        return for_chunks(task, n, CHUNK)


def _tangent(layers, tlayers, activation, saved, tx):
    """network.tangent, with weights that may move."""
    if tlayers is None:
        return network.tangent(layers, activation, saved, tx)
    inputs, gates = saved
    slopes = passes(activation, inputs[0]).slopes
    tangents = [tx]
    for l, ((w, _), (tw, tb)) in enumerate(zip(layers, tlayers, strict=True)):
        tz = w @ tx
        tz += tw @ inputs[l]
        tz += tb
        if l < len(layers) - 1:
            tangents.append(tz)
            tx = slopes(inputs[l + 1], gates[l], tz)
    return tz, tangents


def _dual_pullback(layers, tlayers, activation, saved, dy):
    """Both slots of the pullback of dual numbers: dlayers with a leading axis of two, dx, tdx; formula (1)."""
    (inputs, gates), tangents = saved
    duals = passes(activation, inputs[0]).duals
    dx, chain = network.pullback(layers, activation, (inputs, gates), dy[0])
    xp = namespace(dx)
    delta, eps = dy
    dlayers = []
    for l in range(len(layers) - 1, -1, -1):
        u = layers[l][0].T @ eps
        if tlayers is not None:
            u += tlayers[l][0].T @ delta
        if l > 0:
            below, th, delta_below = duals(inputs[l], gates[l - 1], u, tangents[l], chain[l - 1], 1.0)
        else:
            below, th, delta_below = u, tangents[0], None
        dw = eps @ inputs[l].T
        dw += delta @ th.T
        db = xp.stack([delta.sum(axis=1, keepdims=True), eps.sum(axis=1, keepdims=True)])
        dlayers.append((xp.stack([delta @ inputs[l].T, dw]), db))
        eps, delta = below, delta_below
    return dlayers[::-1], dx, eps
