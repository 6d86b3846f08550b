"""The networks of the recursion: w^(t) - w^(t-1) = N_t(q^(t-1)), see fastdesc/descriptors/recursion.

Parameters are flat, network.<t>.<element>.<layer>.<kind>: for feed-forward networks layers are 0, 1, .., kinds weight
(n_out, n_in) and bias (n_out,); for residual blocks both are those of fastdesc/networks/residual.py, columns as rows of
numbers. A network shared by all elements is called "shared" in place of the element and is told the element by further
inputs, one for each element: their weights are a learned embedding.
"""

import numpy as np

from fastdesc.backend.arrays import namespace
from fastdesc.descriptors.recursion.one_network import FeedForwardNetwork, ResidualNetwork
from fastdesc.networks import feed_forward, residual

SHARED = "shared"


def names(iteration, label, form):
    """Return the names of the parameters of one network in their order; the first two are a weight and a bias."""
    if form.residual:
        own = [name.replace("/", ".") for name in residual.shapes(1, 1, form)]
    else:
        own = [f"{l}.{kind}" for l in range(len(form.hidden) + 1) for kind in ("weight", "bias")]
    return [f"network.{iteration}.{label}.{name}" for name in own]


def initial(sizes, form, n_out, labels, iteration, rng):
    """Return the parameters of all networks of one iteration, for inputs of given sizes (n_in,).

    The last layer is zero.
    """
    parameters = {}
    for label in labels:
        if form.residual:
            arrays = list(residual.initial(len(sizes), n_out, form, rng).values())
        else:
            layers = feed_forward.initial(len(sizes), form.hidden, n_out, form.activation, rng)
            arrays = [array for layer in layers for array in layer]
        arrays[0] = arrays[0] / sizes
        arrays[-2] = 0 * arrays[-2]
        for name, array in zip(names(iteration, label, form), arrays, strict=True):
            parameters[name] = array if name.endswith("weight") else array[:, 0]
    return parameters


class Networks:
    """The networks of one iteration, with parameters out of theta.

    Parameters
    ----------
    theta : dict
        Plain, or dual: arrays with a leading axis of two.
    labels : list of str
        The elements by index, or ["shared"].
    form : fastdesc.networks.form.Form
    n_species : int
    """

    def __init__(self, theta, iteration, labels, form, n_species):
        self.shared, self.n_species = labels == [SHARED], n_species
        one = ResidualNetwork if form.residual else FeedForwardNetwork
        self.names = [names(iteration, label, form) for label in labels]
        self.networks = [one(form, [theta[name] for name in own]) for own in self.names]

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
        y = namespace(q).empty((*q.shape[:-2], self.networks[0].n_out, q.shape[-1]), q.dtype)
        saved = []
        for z, k in self._columns(species, columns):
            y[..., k], kept = self.networks[z].forward(self._inputs(q[..., k], species[k]))
            saved.append((z, k, kept))
        return y, saved

    def pullback(self, q, saved, dy):
        """Return dq like q, from dy ((2,) n_out, n_atoms), and None."""
        dq = namespace(q).empty(q.shape, q.dtype)
        for z, k, kept in saved:
            dq[..., k] = self.networks[z].pullback(kept, dy[..., k])[..., : q.shape[-2], :]
        return dq, None

    def backward(self, q, saved, dy):
        """Return dq like q, and what `add` takes: [(number of the network, cotangents of its parameters)]."""
        dq, found = namespace(q).empty(q.shape, q.dtype), []
        for z, k, kept in saved:
            dx, gradient = self.networks[z].backward(kept, dy[..., k])
            dq[..., k] = dx[..., : q.shape[-2], :]
            found.append((z, gradient))
        return dq, found

    def zeros(self, dual):
        """Return the dict of cotangents of all parameters that `add` adds to, float64, dual if asked."""
        total = {}
        for own, network in zip(self.names, self.networks, strict=True):
            xp = namespace(network.arrays[0])
            for name, array in zip(own, network.arrays, strict=True):
                total[name] = xp.zeros(((2,) if dual else ()) + array.shape, np.float64)
        return total

    def add(self, total, found):
        """Add what `backward` found in a block to `total`."""
        for z, gradient in found:
            for name, array in zip(self.names[z], gradient, strict=True):
                total[name] += array
