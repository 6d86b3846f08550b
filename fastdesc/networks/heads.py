"""What makes an energy of features: heads, all of one interface, so that no caller asks which kind one is.

A head owns float64 parameters, for scaled features. `folded` makes the same function of the features themselves, of
parameters like its own, wherever they lie, in the dtype of a pass; the folded head runs:

    parameters, buffers           dict of arrays: what training changes, and what it does not
    placed                        whether buffers have been fitted, or set
    replaced(arrays)              the same head with other parameters or buffers
    fitted(inputs, scaler, seen)  the head before training, fitted to its inputs: blocks of features (n_features, n)
    folded(parameters, scaler, seen, dtype)    a running head
    unfolded(gradient, scaler, seen)  gradient by parameter from that of the running head's `arrays`

    arrays                                                 what its gradient refers to, in this order
    forward(x) -> y, saved                                 y = N(x), (1, n) of x (n_features, n)
    pullback(saved, dy) -> dx, chain                       dy dN/dx
    tangent(saved, tx) -> ty, tsaved                       dN/dx tx
    gradients(saved, dy) -> gradient, dz                             of <dy, y>
    dual_gradients(saved, tsaved, chain, dy, sign) -> gradient, dz   of <dy, y> + sign <c, ty>
    value_and_gradient(x, dy, dx) -> y                     forward and pullback on the host; dx is written
    to_inputs(dz) -> dx                                              for those who want the gradient by x too

    n_last, constant                   y = w · phi (+ constant weight), linear in the parameters of the last layer
    last(saved) -> phi                 (n_last, n), what they multiply
    last_after(x) -> phi               the same right after value_and_gradient(x, ..), to be read before the next call
    last_pullback(saved, dphi) -> dx   of <dphi, phi>; dphi (n_last, n), or (n_last, 1) for all atoms
    last_tangent(saved, tsaved) -> tphi

c is the dy with which `pullback` made `chain`; see fastdesc/networks/feed_forward.py. `seen` holds the indices of the
features that a head sees, None for all. Columns are atoms; arrays are NumPy or CuPy.
"""

from dataclasses import dataclass
from types import MappingProxyType

from fastdesc.backend.arrays import namespace
from fastdesc.networks import feed_forward
from fastdesc.networks.scaler import fold, unfold_gradients


@dataclass(frozen=True)
class FeedForward:
    """A feed-forward network (fastdesc/networks/feed_forward.py), of master parameters or running.

    Attributes
    ----------
    layers : list of (W (n_out, n_in), b (n_out, 1) or None)
    activation : str
    """

    layers: list
    activation: str

    buffers, placed = MappingProxyType({}), False

    @property
    def parameters(self):
        return {
            f"{l}/{name}": array
            for l, layer in enumerate(self.layers)
            for name, array in zip(("weight", "bias"), layer, strict=True)
            if array is not None
        }

    def replaced(self, arrays):
        layers = [
            (arrays.get(f"{l}/weight", w), None if b is None else arrays.get(f"{l}/bias", b))
            for l, (w, b) in enumerate(self.layers)
        ]
        return FeedForward(layers, self.activation)

    def fitted(self, inputs, scaler, seen):
        return self

    def folded(self, parameters, scaler, seen, dtype):
        layers = fold(self.replaced(parameters).layers, scaler, seen)
        layers = [(w.astype(dtype), None if b is None else b.astype(dtype)) for w, b in layers]
        return FeedForward(layers, self.activation)

    def unfolded(self, gradient, scaler, seen):
        left = iter(gradient)
        dlayers = [(next(left), None if b is None else next(left)) for _, b in self.layers]
        return FeedForward(unfold_gradients(dlayers, scaler, seen), self.activation).parameters

    @property
    def arrays(self):
        return _flat(self.layers)

    def forward(self, x):
        return feed_forward.forward(self.layers, self.activation, x)

    def pullback(self, saved, dy):
        return feed_forward.pullback(self.layers, self.activation, saved, dy)

    def value_and_gradient(self, x, dy, dx):
        return feed_forward.value_and_gradient(self.layers, self.activation, x, dy, dx)

    def tangent(self, saved, tx):
        return feed_forward.tangent(self.layers, self.activation, saved, tx)

    def gradients(self, saved, dy):
        dlayers, dz = feed_forward.gradients(self.layers, self.activation, saved, dy)
        return _flat(dlayers), dz

    def dual_gradients(self, saved, tsaved, chain, dy, sign):
        dlayers, dz = feed_forward.dual_gradients(self.layers, self.activation, saved, tsaved, chain, dy, sign)
        return _flat(dlayers), dz

    def to_inputs(self, dz):
        return feed_forward.transposed(self.layers[0][0], dz)

    @property
    def n_last(self):
        return self.layers[-1][0].shape[1]

    @property
    def constant(self):
        return self.layers[-1][1] is not None

    def last(self, saved):
        return saved[0][-1]

    def last_after(self, x):
        return feed_forward.last_after(self.layers, x)

    def last_pullback(self, saved, dphi):
        return feed_forward.pullback_below(self.layers, self.activation, saved, dphi)

    def last_tangent(self, saved, tsaved):
        return feed_forward.last_tangent(self.activation, saved, tsaved)


class NoNetwork:
    """The head that is zero: what is left of a potential without a network is its direct term."""

    parameters, buffers, arrays, placed = MappingProxyType({}), MappingProxyType({}), (), False
    n_last, constant = 0, False

    def replaced(self, arrays):
        return self

    def fitted(self, inputs, scaler, seen):
        return self

    def folded(self, parameters, scaler, seen, dtype):
        return self

    def unfolded(self, gradient, scaler, seen):
        return {}

    def forward(self, x):
        return namespace(x).zeros((1, x.shape[1]), x.dtype), None

    def pullback(self, saved, dy):
        return namespace(dy).zeros_like(dy), None

    def value_and_gradient(self, x, dy, dx):
        dx[:] = 0
        return self.forward(x)[0]

    def tangent(self, saved, tx):
        return self.forward(tx)

    def gradients(self, saved, dy):
        return (), namespace(dy).zeros_like(dy)

    def dual_gradients(self, saved, tsaved, chain, dy, sign):
        return self.gradients(saved, dy)

    def to_inputs(self, dz):
        return dz


def _flat(layers):
    return [a for layer in layers for a in layer if a is not None]
