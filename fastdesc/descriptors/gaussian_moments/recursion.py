"""Gaussian moments whose neighbours have weights of their own, updated by small networks of their own contractions.

    M_i^(t)[s, c] = sum_j w_j^(t)[s] R_s(r_ij; Z_i, Z_j) m_c(u_ij),     w^(0) = 1                            (10)
    w_j^(t+1)[s] = w_j^(t)[s] + N_{t+1}(message contractions of M_j^(t))[s]                                  (11)

and the features are the descriptor's contractions of M^(iterations). The formulas before (10) stand beside the kernels:
moments.py, parameters_pullback.py, channels.py, weights_pullback.py; the way through the iterations, and back, is
shared with embedded densities (fastdesc/descriptors/recursion/passes.py).
"""

from collections import namedtuple

import numpy as np

from fastdesc.backend.arrays import empty, namespace, padded, to_host
from fastdesc.descriptors.gaussian_moments.elements import coefficients
from fastdesc.descriptors.recursion import initial as recursion
from fastdesc.descriptors.recursion.atoms import nothing, rows_like
from fastdesc.descriptors.recursion.networks import Networks
from fastdesc.descriptors.recursion.passes import Steps, columns

Saved = namedtuple("Saved", "moments weights")


class Contraction:
    """Chosen contractions as the recursion takes them: features of moments, and back.

    Parameters
    ----------
    kernels : Kernels
        Of the backend.
    offsets : (8,) int32 array
        First feature of each contraction, -1 for those left out.
    n_features : int
    """

    def __init__(self, kernels, offsets, n_features):
        self.kernels, self.offsets, self.n_features = kernels, offsets, n_features

    def features(self, moments):
        """Return q ((2,) n_features, n_atoms) of moments ((2,) n_radial, n_moments, n_atoms)."""
        q = rows_like(moments, self.n_features)
        self.kernels.gm_contract(moments, q, self.offsets)
        return q

    def pullback(self, moments, dq, dmoments):
        """Write dmoments, shaped as moments."""
        self.kernels.gm_contract_pullback(moments, dq, dmoments, self.offsets)

    products = staticmethod(nothing)


def forward(family, rij, pairs, species, theta):
    """Return q ((2,) n_features, n_atoms) and Saved: moments and weights of all iterations."""
    xp, planes, n, T = namespace(rij), rij.shape[:-2], pairs.n_atoms, family.iterations
    kernels, steps, beta = _parts(family, rij, pairs, species, theta)
    moments = padded((*planes, 1 + T, family.n_radial, family.n_moments, n), rij.dtype, rij)
    weights = xp.zeros((*planes, T, pairs.whole.n_atoms, columns(family.n_radial)), rij.dtype)
    first = xp.zeros((*planes, 1, family.n_radial), rij.dtype)
    (first if rij.ndim == 2 else first[0])[:] = 1
    kernels.gm_moments(beta, moments[..., 0, :, :, :], weights, 0)
    steps.forward(moments, weights, first, lambda t, out: kernels.gm_moments(beta, out, weights, t + 1))
    return steps.contractions[T].features(moments[..., T, :, :, :]), Saved(moments, weights)


def pullback(family, rij, pairs, species, theta, saved, dq):
    """Return drij ((2,) 3, n_pairs)."""
    kernels, steps, beta = _parts(family, rij, pairs, species, theta)
    to_weights = _to_weights(family, rij, pairs, species, kernels, beta)
    dmoments, _ = steps.backward(saved.moments, dq, Networks.pullback, to_weights)
    drij = padded(rij.shape, rij.dtype, rij)
    kernels.gm_moments_pullback(beta, dmoments, drij, saved.weights)
    return drij


def pullback_parameters(family, rij, pairs, species, theta, saved, dq):
    """Return cotangents of the table of radial coefficients, and a dict of those of the networks, float64."""
    kernels, steps, beta = _parts(family, rij, pairs, species, theta)
    to_weights = _to_weights(family, rij, pairs, species, kernels, beta)
    dnetworks = {}
    for networks in steps.networks:
        dnetworks |= networks.zeros(dual=rij.ndim == 3)
    dmoments, _ = steps.backward(saved.moments, dq, Networks.backward, to_weights, dnetworks=dnetworks)
    return kernels.gm_beta_pullback(dmoments, saved.weights), dnetworks


def calibrated(family, rij, pairs, species, theta):
    """Return parameters for which networks see inputs of zero mean and unit variance, of a batch of pairs."""
    moments = forward(family, rij, pairs, species, theta)[1].moments[0]
    q = _parts(family, rij, pairs, species, theta)[1].contractions[0].features(moments)
    q = to_host(q).T.astype(np.float64)
    size = np.sqrt((q * q).mean(axis=0))
    size[size == 0] = 1
    parameters = {name: array.copy() for name, array in family.parameters.items()}
    recursion.calibrate(family, parameters, q, size)
    return parameters


def _parts(family, rij, pairs, species, theta):
    kernels, T = family.kernels(rij, pairs, species), family.iterations
    message = Contraction(kernels, family.message_offsets, family.n_message)
    contractions = [message] * T + [Contraction(kernels, family.offsets, family.n_features)]
    elements = species[: pairs.n_atoms], pairs.columns    # behind these species, of a list with ghosts, are theirs
    steps = Steps(contractions, recursion.of_theta(family, theta), elements, pairs.whole.exchange)
    return kernels, steps, coefficients(theta, rij)


def _to_weights(family, rij, pairs, species, kernels, beta):
    """Return what finds cotangents of weights, of ghosts too, from those of moments."""
    *planes, n_radial = *rij.shape[:-2], family.n_radial
    whole = kernels if pairs.whole is pairs else family.kernels(rij, pairs.whole, species)
    dpairs = empty((*planes, rij.shape[-1], n_radial), rij.dtype, rij)
    if pairs.whole is not pairs:    # rows of ghosts find nothing: their cotangents are another's work
        dpairs[..., int(pairs.row[-1]) :, :] = 0

    def found(dmoments):
        kernels.gm_weights_pullback(beta, dmoments, dpairs)
        dw = padded((*planes, n_radial, pairs.whole.n_atoms), rij.dtype, rij)
        whole.gm_weights_sum(pairs.whole.mirror, dpairs, dw)
        return dw

    return found
