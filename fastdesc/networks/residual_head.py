"""The head of residual blocks: fastdesc/networks/residual.py behind the interface of fastdesc/networks/heads.py."""

from dataclasses import dataclass, replace
from types import MappingProxyType

from fastdesc.backend.arrays import namespace
from fastdesc.networks import residual
from fastdesc.networks.duals import Dual
from fastdesc.networks.form import Form
from fastdesc.networks.scaler import fold, unfold_gradients

WEIGHT, BIAS = f"{residual.FIRST}/weight", f"{residual.FIRST}/bias"


@dataclass(frozen=True)
class ResidualHead:
    """A network of residual blocks, of master parameters or running.

    Attributes
    ----------
    form : Form
    parameters : dict of str to array
        By the names of fastdesc/networks/residual.py.
    """

    form: Form
    parameters: dict

    buffers, placed = MappingProxyType({}), False

    @classmethod
    def initial(cls, n_in, form, rng):
        """Random parameters: see fastdesc.networks.residual.initial."""
        return cls(form, residual.initial(n_in, 1, form, rng))

    def replaced(self, arrays):
        new = {name: arrays.get(name, array) for name, array in self.parameters.items()}
        return replace(self, parameters=new)

    def fitted(self, inputs, scaler, seen):
        return self

    def folded(self, parameters, scaler, seen, dtype):
        new = dict(self.replaced(parameters).parameters)
        ((new[WEIGHT], new[BIAS]),) = fold([(new[WEIGHT], new[BIAS])], scaler, seen)
        return replace(self, parameters={name: array.astype(dtype) for name, array in new.items()})

    def unfolded(self, gradient, scaler, seen):
        found = dict(zip(self.parameters, gradient, strict=True))
        ((found[WEIGHT], found[BIAS]),) = unfold_gradients([(found[WEIGHT], found[BIAS])], scaler, seen)
        return found

    @property
    def arrays(self):
        return list(self.parameters.values())

    @property
    def _duals(self):
        return {name: Dual(array) for name, array in self.parameters.items()}

    def forward(self, x):
        y, saved = residual.forward(self.form, self._duals, Dual(x))
        return y.v, saved

    def pullback(self, saved, dy):
        return residual.pullback(self.form, self._duals, saved, Dual(dy)).v, dy

    def value_and_gradient(self, x, dy, dx):
        y, saved = self.forward(x)
        dx[:], _ = self.pullback(saved, dy)
        return y

    def tangent(self, saved, tx):
        return residual.tangent(self.form, self._duals, saved, tx)

    def gradients(self, saved, dy):
        found, ds = residual.backward(self.form, self._duals, saved, Dual(dy), lambda make: make().v)
        return list(found.values()), ds.v

    def dual_gradients(self, saved, tsaved, chain, dy, sign):
        found, ds = residual.backward(self.form, self._duals, tsaved, Dual(sign * chain, dy), residual.tangents_alone)
        return list(found.values()), ds.t

    def to_inputs(self, dz):
        return residual.to_inputs(self._duals, Dual(dz)).v

    constant = True

    @property
    def n_last(self):
        return self.form.hidden[0]

    def last(self, saved):
        return residual.last(self.form, self._duals, saved).v

    def last_after(self, x):
        return self.last(self.forward(x)[1])

    def last_pullback(self, saved, dphi):
        dphi = namespace(dphi).broadcast_to(dphi, saved[-1].v.shape)
        return residual.last_pullback(self.form, self._duals, saved, Dual(dphi)).v

    def last_tangent(self, saved, tsaved):
        return residual.last(self.form, self._duals, tsaved).t
