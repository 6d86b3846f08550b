"""One network of the recursion, of either form, on plain or dual numbers.

On dual numbers both slots are needed, and weights may carry tangents. Residual blocks are written in dual numbers; for
feed-forward networks the tangent and the dual pullback are fastdesc.networks.feed_forward's with the terms of moving
weights added; with tz_l = W_l th_{l-1} + tW_l h_{l-1} + tb_l,

    eps_l = f'(z_l) (W_{l+1}^T eps_{l+1} + tW_{l+1}^T delta_{l+1}) + f''(z_l) tz_l g_l                      (1)

and all else as there.
"""

from fastdesc.backend.arrays import namespace
from fastdesc.networks import feed_forward, residual
from fastdesc.networks.activations import passes
from fastdesc.networks.duals import planes, stacked


class FeedForwardNetwork:
    """A feed-forward network.

    Parameters
    ----------
    form : Form
    arrays : list of array
        Weight and bias of each layer, plain, or dual: with a leading axis of two.

    Attributes
    ----------
    arrays : list of array
        Plain parameters.
    """

    def __init__(self, form, arrays):
        moving = arrays[0].ndim == 3
        self.activation = form.activation
        self.arrays = [a[0] for a in arrays] if moving else arrays
        self.layers = _layers(self.arrays)
        self.tangents = _layers([a[1] for a in arrays]) if moving else None
        self.n_out = len(self.arrays[-1])

    def forward(self, x):
        """Return y ((2,) n_out, n) of x ((2,) n_in, n), and what the pullbacks want back."""
        if x.ndim == 2:
            return feed_forward.forward(self.layers, self.activation, x)
        y, kept = feed_forward.forward(self.layers, self.activation, x[0])
        ty, tangents = _tangent(self.layers, self.tangents, self.activation, kept, x[1])
        return namespace(x).stack([y, ty]), (kept, tangents)

    def pullback(self, kept, dy):
        """Return dx like x from dy ((2,) n_out, n)."""
        if dy.ndim == 3:
            return self.backward(kept, dy)[0]
        return feed_forward.pullback(self.layers, self.activation, kept, dy)[0]

    def backward(self, kept, dy):
        """Return dx like x, and cotangents of the parameters in their order."""
        if dy.ndim == 2:
            dlayers, dx = feed_forward.backward(self.layers, self.activation, kept, dy)
        else:
            dlayers, *both = _dual_pullback(self.layers, self.tangents, self.activation, kept, dy)
            dx = namespace(dy).stack(both)
        return dx, [a for dw, db in dlayers for a in (dw, db[..., 0])]


class ResidualNetwork:
    """A network of residual blocks; arguments, attributes and methods as those of FeedForwardNetwork."""

    def __init__(self, form, arrays):
        self.form = form
        names = residual.shapes(arrays[0].shape[-1], arrays[-1].shape[-1], form)
        given = [planes(a, 2 if name.endswith("weight") else 1) for name, a in zip(names, arrays, strict=True)]
        self.arrays = [a.v for a in given]
        columns = [a if a.v.ndim == 2 else a.map(lambda x: x[:, None]) for a in given]
        self.parameters = dict(zip(names, columns, strict=True))
        self.n_out = len(self.arrays[-1])

    def forward(self, x):
        x = planes(x)
        y, saved = residual.forward(self.form, self.parameters, x)
        return stacked(y, x), saved

    def pullback(self, kept, dy):
        dy = planes(dy)
        return stacked(residual.pullback(self.form, self.parameters, kept, dy), dy)

    def backward(self, kept, dy):
        dy = planes(dy)
        gradient, ds = residual.backward(self.form, self.parameters, kept, dy, lambda make: stacked(make(), dy))
        dx = stacked(residual.to_inputs(self.parameters, ds), dy)
        return dx, [a if name.endswith("weight") else a[..., 0] for name, a in gradient.items()]


def _layers(arrays):
    return [(w, b[:, None]) for w, b in zip(arrays[::2], arrays[1::2], strict=True)]


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
