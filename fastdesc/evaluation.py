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


def _columns(model, known, species, first, last):
    """Yield (network index, columns of this chunk) with a slice where one network serves all; `known` Pairs.columns."""
    if len(model.networks) == 1:
        yield 0, slice(first, last)
        return
    if known is not None and last - first == len(species):
        yield from ((z, columns) for z, columns in enumerate(known) if len(columns))
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
    return energies_of_features(model, q, species, columns=pairs.columns)[0]


def energies_of_features(model, q, species, keep=False, columns=None):
    """Atomic energies (1) without E0 of atoms whose features are known.

    Parameters
    ----------
    q : (n_features, n_atoms) array
    species : (n_atoms,) int32 array
    keep : bool
        Also return what `energy_loss_gradient` needs.
    columns : list of int arrays, optional
        Atoms of each element (Pairs.columns), which the host must otherwise ask a device for.

    Returns
    -------
    out : (n_atoms,) float64 array, eV
    chunks : list, or None
    """
    xp = namespace(q)
    out = xp.zeros(q.shape[-1])

    def task(first, last):
        kept = []
        for z, own in _columns(model, columns, species, first, last):
            y, tape = network.forward(model.networks[z], model.activation, q[:, own])
            out[own] = y[0]
            kept.append((z, own, tape, y))
        return kept if keep else []

    chunks = _over_atoms(task, q.shape[-1], q)
    tape = [part for kept in chunks for part in kept] if keep else None
    return out * model.scale.astype(np.float64)[species], tape


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
        for z, columns in _columns(model, pairs.columns, species, first, last):
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
    duals = namespace(rij).stack([rij, trij])
    q, saved = model.descriptor.forward(duals, pairs, species, model.theta)
    dq = padded(q.shape, q.dtype, q)
    dq[0] = -tape.dq

    def layers_gradient(z, columns, *arguments):
        dlayers, dq[1][:, columns] = network.dual_pullback(model.networks[z], model.activation, *arguments)
        return dlayers

    dnetworks, dscale = _through_networks(model, q[1], species, tape, de, layers_gradient)
    dtheta = model.descriptor.pullback_parameters(duals, pairs, species, model.theta, saved, dq)
    return {name: g[1] for name, g in dtheta.items()}, dnetworks, dscale


def fixed_loss_gradient(model, rij, trij, pairs, species, tape, de):
    """Gradient (2) with respect to every parameter but those of the descriptor, which are the dearest.

    Parameters as `loss_gradient`; returns dnetworks and dscale.
    """
    duals = namespace(rij).stack([rij, trij])
    tq = model.descriptor.forward(duals, pairs, species, model.theta)[0][1]

    def layers_gradient(z, columns, *arguments):
        return network.dual_gradients(model.networks[z], model.activation, *arguments)[0]

    return _through_networks(model, tq, species, tape, de, layers_gradient)


def _through_networks(model, tq, species, tape, de, layers_gradient):
    """Gradient (2) with respect to networks and scale, from the tangent of the features.

    `layers_gradient` takes the number of a network, columns of atoms, and the arguments of network.dual_gradients
    from `saved` on.
    """
    xp = namespace(tq)
    weighted = (de * model.scale[species]).astype(tq.dtype)[None]
    dscale = xp.zeros(len(de))

    def task(k, _):
        z, columns, saved, chain, y = tape.chunks[k]
        ty, tsaved = network.tangent(model.networks[z], model.activation, saved, tq[:, columns])
        dlayers = layers_gradient(z, columns, saved, tsaved, chain, weighted[:, columns], -1.0)
        dscale[columns] = de[columns] * y[0] - ty[0]
        return z, dlayers

    return _summed(model, species, _over_chunks(task, tape.chunks, tq), dscale)


def energy_loss_gradient(model, species, chunks, de):
    """Gradient of a loss on energies alone, with respect to every parameter but those of the descriptor.

    Parameters
    ----------
    chunks : list
        From energies_of_features on the same arguments.
    de : (n_atoms,) array
        dL/dE of each atom's frame.

    Returns
    -------
    dnetworks, dscale
        As of `loss_gradient`.
    """

    def layers_gradient(z, columns, *arguments):
        return network.gradients(model.networks[z], model.activation, *arguments)[0]

    return _through_values(model, species, chunks, de, layers_gradient)


def energy_loss_gradient_and_features(model, species, chunks, de, dq):
    """As `energy_loss_gradient`; also fills dq (n_features, n_atoms), the cotangent of the features."""

    def layers_gradient(z, columns, *arguments):
        dlayers, dq[:, columns] = network.backward(model.networks[z], model.activation, *arguments)
        return dlayers

    return _through_values(model, species, chunks, de, layers_gradient)


def _through_values(model, species, chunks, de, layers_gradient):
    """Gradient of sum_i e_i E_i with respect to networks and scale; `layers_gradient` as in `_through_networks`."""
    weighted = (de * model.scale[species]).astype(model.scale.dtype)[None]
    dscale = namespace(de).zeros(len(de))

    def task(k, _):
        z, columns, saved, y = chunks[k]
        dscale[columns] = de[columns] * y[0]
        return z, layers_gradient(z, columns, saved, weighted[:, columns])

    return _summed(model, species, _over_chunks(task, chunks, de), dscale)


def _over_chunks(task, chunks, device_array):
    """Run a task over the numbers of chunks of a tape."""
    if namespace(device_array) is np:
        return _over_atoms(task, len(chunks), device_array, chunk=1)
    return [task(k, k + 1) for k in range(len(chunks))]


def _summed(model, species, parts, dscale):
    """Sum what chunks found: gradients of every network, and dL/dscale of every element."""
    dnetworks = [_sum_layers(layers, [d for z, d in parts if z == k]) for k, layers in enumerate(model.networks)]
    xp = namespace(dscale)
    return dnetworks, xp.stack([xp.where(species == z, dscale, 0.0).sum() for z in range(len(model.scale))])


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
