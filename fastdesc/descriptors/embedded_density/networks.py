"""Embedded density, the networks of the recursion: c^(t) - c^(t-1) = N_t(q^(t-1)).

Parameters are flat, network.<t>.<element>.<layer>.weight (n_out, n_in) and .bias (n_out,). A network shared by all
elements is called "shared" in place of the element and is told the element by further inputs, one for each element:
their weights are a learned embedding.

On dual numbers both slots are needed, and weights may carry tangents, so the tangent and the dual pullback are
fastdesc.networks.feed_forward's with the terms of moving weights added; with tz_l = W_l th_{l-1} + tW_l h_{l-1} + tb_l,

    eps_l = f'(z_l) (W_{l+1}^T eps_{l+1} + tW_{l+1}^T delta_{l+1}) + f''(z_l) tz_l g_l                      (1)

and all else as there.
"""

from fastdesc.backend.arrays import namespace
from fastdesc.networks import feed_forward
from fastdesc.networks.activations import passes

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
        layers = feed_forward.initial(len(sizes), hidden, n_out, activation, rng)
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

    def _columns(self, species, known):
        """Return [(number of the network, its columns of a block)]; a slice where all are its."""
        if self.shared or self.n_species == 1:
            return [(0, slice(None))]
        if known is None:
            known = [namespace(species).flatnonzero(species == z) for z in range(self.n_species)]
        return [(z, slice(None) if len(k) == len(species) else k) for z, k in enumerate(known) if len(k)]

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
        """Values of a block of atoms.

        Parameters
        ----------
        q : array ((2,) n_in, n_atoms)
        species : (n_atoms,) int32 array
        columns : list of int arrays, optional
            Atoms of each element; searched here when not given, which makes the host wait for a device.

        Returns
        -------
        y : array ((2,) n_out, n_atoms)
        saved
            What the pullbacks want back.
        """
        y = namespace(q).empty((*q.shape[:-2], self.layers[0][-1][0].shape[0], q.shape[-1]), q.dtype)
        saved = []
        for z, k in self._columns(species, columns):
            x = self._inputs(q[..., k], species[k])
            if q.ndim == 2:
                y[:, k], kept = feed_forward.forward(self.layers[z], self.activation, x)
            else:
                y[0][:, k], kept = feed_forward.forward(self.layers[z], self.activation, x[0])
                y[1][:, k], tangents = _tangent(self.layers[z], self.tangents[z], self.activation, kept, x[1])
                kept = kept, tangents
            saved.append((z, k, kept))
        return y, saved

    def pullback(self, q, saved, dy):
        """Return dq like q, from dy ((2,) n_out, n_atoms), and None."""
        if q.ndim == 3:
            return self.backward(q, saved, dy)[0], None
        dq = namespace(q).empty(q.shape, q.dtype)
        for z, k, kept in saved:
            dq[:, k] = feed_forward.pullback(self.layers[z], self.activation, kept, dy[:, k])[0][: len(dq)]
        return dq, None

    def backward(self, q, saved, dy):
        """Return dq like q, and what `add` takes: [(number of the network, cotangents of its layers)]."""
        dq, found = namespace(q).empty(q.shape, q.dtype), []
        n_in = q.shape[-2]
        for z, k, kept in saved:
            layers = self.layers[z]
            if q.ndim == 2:
                dlayers, dx = feed_forward.backward(layers, self.activation, kept, dy[:, k])
                dq[:, k] = dx[:n_in]
            else:
                dlayers, dx, tdx = _dual_pullback(layers, self.tangents[z], self.activation, kept, dy[..., k])
                dq[0][:, k], dq[1][:, k] = dx[:n_in], tdx[:n_in]
            found.append((z, dlayers))
        return dq, found

    def zeros(self, dual):
        """Return the dict of cotangents of all parameters that `add` adds to, float64, dual if asked."""
        xp, planes, total = namespace(self.layers[0][0][0]), (2,) if dual else (), {}
        for names_z, layers in zip(self.names, self.layers, strict=True):
            for (w, b), (W, B) in zip(names_z, layers, strict=True):
                total[w], total[b] = xp.zeros((*planes, *W.shape)), xp.zeros((*planes, len(B)))
        return total

    def add(self, total, found):
        """Add what `backward` found in a block to `total`."""
        for z, dlayers in found:
            for (w, b), (dW, db) in zip(self.names[z], dlayers, strict=True):
                total[w] += dW
                total[b] += db[..., 0]


def _tangent(layers, tlayers, activation, saved, tx):
    """network.tangent, with weights that may move."""
    if tlayers is None:
        return feed_forward.tangent(layers, activation, saved, tx)
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
    dx, chain = feed_forward.pullback(layers, activation, (inputs, gates), dy[0])
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
