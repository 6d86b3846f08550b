"""Recursion, the way forth and back through all iterations; what runs over pairs is handed in by a family.

Forwards, (1) and (2) of fastdesc/descriptors/recursion/__init__.py in turn. Backwards, with cotangents dM^(t), dq^(t)
and dw^(t),

    dM^(t) from dq^(t) by the contraction;   dw^(t) = dw^(t+1) + (what (1) gives for M^(t));
    dq^(t-1) from dw^(t) by the network N_t                                                                  (3)

and the pairs are visited once more for the cotangents of all M^(t) together.
"""

from collections import namedtuple

from fastdesc.backend.arrays import namespace, padded
from fastdesc.descriptors.recursion.atoms import densities_pullback, given, nothing, through, update

COLUMNS = 8
"""What pairs read of their neighbours is filled up to a multiple of this many numbers."""


def columns(n):
    """Length of a row of n numbers that neighbours read."""
    return -(-n // COLUMNS) * COLUMNS


class Steps(namedtuple("Steps", "contractions networks elements exchange")):
    """What atoms do between visits of the pairs.

    Attributes
    ----------
    contractions : list
        Of each iteration, and of the last moments.
    networks : list of Networks
        One fewer.
    elements : tuple
        Species of the centres and Pairs.columns.
    exchange
        What sends the weights of atoms to their ghosts and brings cotangents back, of Pairs.whole.
    """

    __slots__ = ()

    def forward(self, moments, weights, first, again):
        """Fill weights and moments of all iterations from those before the first.

        Parameters
        ----------
        moments : array ((2,) 1 + iterations, n_radial, n_moments, n_atoms)
        weights : array ((2,) iterations, n_atoms and ghosts, columns)
        first : array ((2,) n_atoms or 1, n_radial)
            Weights before the first iteration.
        again : function
            (t, moments) fills the moments that weights number t make.
        """
        xp, own = namespace(moments), first
        *_, n_radial, _, n = moments.shape
        for t, networks in enumerate(self.networks):
            more = update(self.contractions[t], networks, moments[..., t, :, :, :], self.elements)
            own = own + xp.swapaxes(more, -1, -2)
            weights[..., t, :n, :n_radial] = own
            self.exchange.forward(weights[..., t, :, :n_radial])
            again(t, moments[..., 1 + t, :, :, :])

    def backward(self, moments, dq, back, to_weights, totals=None, dnetworks=None):
        """Formula (3), from the last iteration to the first.

        What ghosts find for weights is added to their owners'.

        Parameters
        ----------
        back : function
            Networks.pullback or Networks.backward.
        to_weights : function
            Cotangents of moments -> those of the weights that made them, ((2,) n_radial, n_atoms and ghosts).
        totals : list, optional
            Of sums, 0.0 at first: what contractions find for their own parameters is added; one for each of them, or
            one for all.
        dnetworks : dict, optional
            Cotangents of the networks' parameters, added to.

        Returns
        -------
        dmoments : array like moments
        dw : array ((2,) n_radial, n_atoms), or None without iterations
            Cotangents of the weights before the first iteration, but for what (1) gives for them.
        """
        xp, n = namespace(dq), moments.shape[-1]
        dmoments = padded(moments.shape, dq.dtype, dq)
        cotangents, dw = given(dq), None
        for t in range(len(self.networks), -1, -1):
            contraction, dmoment = self.contractions[t], dmoments[..., t, :, :, :]
            own = 0 if totals is None or len(totals) == 1 else t
            products = nothing if totals is None else contraction.products
            found = densities_pullback(contraction, cotangents, products, moments[..., t, :, :, :], dmoment)
            for sums, dlayers in found:
                if totals is not None:
                    totals[own] = totals[own] + sums
                if dlayers is not None:
                    self.networks[t].add(dnetworks, dlayers)
            if t > 0:
                more = to_weights(dmoment)
                self.exchange.reverse(xp.swapaxes(more, -1, -2))
                more = more[..., :n]
                if dw is not None:
                    more += dw
                dw = more
                cotangents = through(self.networks[t - 1], back, self.contractions[t - 1], self.elements, dw)
        return dmoments, dw
