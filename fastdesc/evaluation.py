"""Energy, its gradient, and the gradient of a loss: one potential over a list of pairs.

    E_i = scale_{Z_i} N(q_i) + E0_{Z_i},        dr = pullback(dE/dq)                                      (1)

with one network N for all elements or one for each. A loss on energies and forces has the gradient

    dL/dtheta = d/dtheta [ sum_i e_i E_i - D E ],        D E = sum_p dE/dr_p · t_p                         (2)

where e is dL/dE of the atom's frame and the pair tangents t hold dL/dF and dL/dstress (see fastdesc.training):
one pass in dual numbers forward, one back with cotangents e on the value and -1 on the tangent.
"""

from dataclasses import dataclass

import numpy as np

from fastdesc import network
from fastdesc.arrays import namespace, padded
from fastdesc.parallel import for_chunks, single_threaded_blas

CHUNK = 256
"""Atoms that a network takes at a time on the CPU: its layers then stay in the second-level cache."""


@dataclass
class Model:
    """A potential's parameters in one dtype on one device, the feature scaler folded into the first layers.

    Attributes
    ----------
    descriptor : Family
    theta : dict of str to array
    networks : list of layers
        One, shared by all elements, or one per element.
    scale : (n_species,) array
        eV.
    activation : str
    """

    descriptor: object
    theta: dict
    networks: list
    scale: object
    activation: str


@dataclass
class Tape:
    """What a forward pass leaves for the passes back; nothing else is remembered between calls."""

    dq: object
    chunks: list


def _columns(model, species, first, last):
    """Yield (network index, columns of this chunk) with a slice where one network serves all."""
    if len(model.networks) == 1:
        yield 0, slice(first, last)
        return
    xp = namespace(species)
    for z in range(len(model.networks)):
        columns = xp.flatnonzero(species[first:last] == z)
        if len(columns):
            yield z, columns + first


def _over_atoms(task, n, device_array, chunk=CHUNK):
    """Run a task over chunks of atoms, our threads instead of those of BLAS; on a GPU in one piece."""
    if namespace(device_array) is not np:
        return [task(0, n)]
    with single_threaded_blas():
        return for_chunks(task, n, chunk)


def energies(model, rij, pairs, species):
    """Atomic energies (1) without E0 and without derivatives, float64 (n_atoms,), eV."""
    q, _ = model.descriptor.forward(rij, pairs, species, model.theta)
    xp = namespace(rij)
    out = xp.zeros(pairs.n_atoms)

    def task(first, last):
        for z, columns in _columns(model, species, first, last):
            out[columns] = network.forward(model.networks[z], model.activation, q[:, columns])[0][0]

    _over_atoms(task, pairs.n_atoms, rij)
    return out * model.scale.astype(np.float64)[species]


def energies_and_gradient(model, rij, pairs, species, keep=False):
    """Atomic energies (1) without E0, and the gradient of their sum with respect to the pair vectors.

    Parameters
    ----------
    rij : (3, n_pairs) array, Å
    pairs : Pairs
    species : (n_atoms,) int32 array
    keep : bool
        Also return the tape that `loss_gradient` needs.

    Returns
    -------
    out : (n_atoms,) float64 array, eV
        Network outputs times scale.
    drij : (3, n_pairs) array, eV/Å
    tape : Tape or None
    """
    xp = namespace(rij)
    q, saved = model.descriptor.forward(rij, pairs, species, model.theta)
    dy = model.scale[species][None]
    dq = padded(q.shape, q.dtype, q)
    out = xp.zeros(pairs.n_atoms)

    def task(first, last):
        kept = []
        for z, columns in _columns(model, species, first, last):
            y, tape = network.forward(model.networks[z], model.activation, q[:, columns])
            dq[:, columns], chain = network.pullback(model.networks[z], model.activation, tape, dy[:, columns])
            out[columns] = y[0]
            kept.append((z, columns, tape, chain, y))
        return kept if keep else None

    chunks = _over_atoms(task, pairs.n_atoms, rij)
    drij = model.descriptor.pullback(rij, pairs, species, model.theta, saved, dq)
    tape = Tape(dq, [part for kept in chunks for part in kept]) if keep else None
    return out * model.scale.astype(np.float64)[species], drij, tape


def loss_gradient(model, rij, trij, pairs, species, tape, de):
    """Gradient (2) with respect to every parameter.

    Parameters
    ----------
    trij : (3, n_pairs) array
        Pair tangents t.
    tape : Tape
        From energies_and_gradient on the same arguments.
    de : (n_atoms,) array
        e.

    Returns
    -------
    dtheta : dict of str to float64 array
    dnetworks : list of layers' gradients, float64, with respect to the folded layers
    dscale : (n_species,) float64 array
    """
    xp = namespace(rij)
    duals = xp.stack([rij, trij])
    q, saved = model.descriptor.forward(duals, pairs, species, model.theta)
    dq = padded(q.shape, q.dtype, q)
    weighted = (de * model.scale[species]).astype(rij.dtype)[None]
    dscale = xp.zeros(pairs.n_atoms)
    dq[0] = -tape.dq

    def task(k, _):
        z, columns, saved_k, chain, y = tape.chunks[k]
        layers = model.networks[z]
        ty, tsaved = network.tangent(layers, model.activation, saved_k, q[1][:, columns])
        dlayers, dx = network.dual_pullback(
            layers, model.activation, saved_k, tsaved, chain, weighted[:, columns], -1.0
        )
        dq[1][:, columns] = dx
        dscale[columns] = de[columns] * y[0] - ty[0]
        return z, dlayers

    if xp is np:
        parts = _over_atoms(task, len(tape.chunks), rij, chunk=1)
    else:
        parts = [task(k, k + 1) for k in range(len(tape.chunks))]
    dnetworks = [_sum_layers(layers, [d for z, d in parts if z == k]) for k, layers in enumerate(model.networks)]
    dtheta = model.descriptor.pullback_parameters(duals, pairs, species, model.theta, saved, dq)
    n_species = len(model.scale)
    by_element = [float(dscale[species == z].sum()) for z in range(n_species)]
    return {name: g[1] for name, g in dtheta.items()}, dnetworks, np.array(by_element)


def _sum_layers(layers, parts):
    """Sum layer gradients in the order of the chunks, in float64."""
    total = []
    for l, (w, b) in enumerate(layers):
        xp = namespace(w)
        dw = xp.zeros(w.shape)
        db = None if b is None else xp.zeros(b.shape)
        for part in parts:
            dw += part[l][0]
            if db is not None:
                db += part[l][1]
        total.append((dw, db))
    return total
