"""Energy, its gradient, and the gradient of a loss: one potential over a list of pairs.

    E_i = scale_{Z_i} N(q_i) + w_{Z_i} · q_i + E0_{Z_i},        dr = pullback(dE/dq)                      (1)

with one network N for all elements or one for each, and the direct term w where there is one. A loss on energies and
forces has the gradient

    dL/dtheta = d/dtheta [ sum_i e_i E_i - D E ],        D E = sum_p dE/dr_p · t_p                         (2)

where e is dL/dE of the atom's frame and the pair tangents t hold dL/dF and dL/dstress (see fastdesc.training):
one pass in dual numbers forward, one back with cotangents e on the value and -1 on the tangent.
"""

from dataclasses import dataclass

import numpy as np

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
    networks : list of running heads (fastdesc.heads)
        One, shared by all elements, or one per element.
    scale : (n_species,) array
        eV.
    direct : (n_species, n_features) array or None
        w of (1), eV.
    """

    descriptor: object
    theta: dict
    networks: list
    scale: object
    direct: object = None


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


def _weights(model, species):
    """w of (1) for each atom, (n_features, n_atoms)."""
    return namespace(species).take(model.direct.T, species, axis=1)


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
    out, direct = xp.zeros(q.shape[-1]), xp.zeros(q.shape[-1])

    def task(first, last):
        kept = []
        for z, own in _columns(model, columns, species, first, last):
            y, tape = model.networks[z].forward(q[:, own])
            out[own] = y[0]
            kept.append((z, own, tape, y))
        if model.direct is not None:
            part = slice(first, last)
            direct[part] = (_weights(model, species[part]) * q[:, part]).sum(axis=0)
        return kept if keep else []

    chunks = _over_atoms(task, q.shape[-1], q)
    tape = [part for kept in chunks for part in kept] if keep else None
    return out * model.scale.astype(np.float64)[species] + direct, tape


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
    drij : (3, n_pairs) array, eV/Å
    tape : Tape or None
    """
    xp = namespace(rij)
    q, saved = model.descriptor.forward(rij, pairs, species, model.theta)
    dy = model.scale[species][None]
    dq = padded(q.shape, q.dtype, q)
    out, direct = xp.zeros(pairs.n_atoms), xp.zeros(pairs.n_atoms)

    def task(first, last):
        kept = []
        for z, columns in _columns(model, pairs.columns, species, first, last):
            y, tape = model.networks[z].forward(q[:, columns])
            dq[:, columns], chain = model.networks[z].pullback(tape, dy[:, columns])
            out[columns] = y[0]
            kept.append((z, columns, tape, chain, y))
        if model.direct is not None:
            part = slice(first, last)
            w = _weights(model, species[part])
            direct[part] = (w * q[:, part]).sum(axis=0)
            dq[:, part] += w
        return kept if keep else None

    chunks = _over_atoms(task, pairs.n_atoms, rij)
    drij = model.descriptor.pullback(rij, pairs, species, model.theta, saved, dq)
    tape = Tape(dq, [part for kept in chunks for part in kept]) if keep else None
    return out * model.scale.astype(np.float64)[species] + direct, drij, tape


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
    dnetworks : list of lists of float64 arrays
        With respect to the `arrays` of each running head.
    dscale : (n_species,) float64 array
    ddirect : (n_species, n_features) float64 array, or None without a direct term
    """
    duals = namespace(rij).stack([rij, trij])
    q, saved = model.descriptor.forward(duals, pairs, species, model.theta)
    dq = padded(q.shape, q.dtype, q)
    dq[0] = -tape.dq
    others = _through_duals(model, q, species, tape, de, _into(dq[1]))
    _add_direct(model, species, de, dq[1])
    dtheta = model.descriptor.pullback_parameters(duals, pairs, species, model.theta, saved, dq)
    return {name: g[1] for name, g in dtheta.items()}, *others


def fixed_loss_gradient(model, rij, trij, pairs, species, tape, de):
    """Gradient (2) with respect to every parameter but those of the descriptor, which are the dearest.

    Parameters as `loss_gradient`; returns dnetworks, dscale and ddirect.
    """
    duals = namespace(rij).stack([rij, trij])
    q, _ = model.descriptor.forward(duals, pairs, species, model.theta)
    return _through_duals(model, q, species, tape, de, _nowhere)


def energy_loss_gradient(model, q, species, chunks, de):
    """Gradient of a loss on energies alone, with respect to every parameter but those of the descriptor.

    Parameters
    ----------
    q : (n_features, n_atoms) array
    chunks : list
        From energies_of_features on the same arguments.
    de : (n_atoms,) array
        dL/dE of each atom's frame.

    Returns
    -------
    dnetworks, dscale, ddirect
        As of `loss_gradient`.
    """
    return _through_values(model, q, species, chunks, de, _nowhere)


def energy_loss_gradient_and_features(model, q, species, chunks, de, dq):
    """As `energy_loss_gradient`; also fills dq (n_features, n_atoms), the cotangent of the features."""
    others = _through_values(model, q, species, chunks, de, _into(dq))
    _add_direct(model, species, de, dq)
    return others


def _into(dq):
    """Return what writes the cotangents of a head's inputs, made of those of its first layer, into columns of dq."""

    def write(head, columns, dz):
        dq[:, columns] = head.to_inputs(dz)

    return write


def _nowhere(head, columns, dz):
    """Leave the cotangents of a head's inputs out: no parameters lie below."""


def _through_duals(model, q, species, tape, de, write):
    """Gradient (2) with respect to networks, scale and direct term, from features and their tangents, stacked."""
    xp = namespace(q)
    weighted = (de * model.scale[species]).astype(q.dtype)[None]
    dscale = xp.zeros(len(de))

    def task(k, _):
        z, columns, saved, chain, y = tape.chunks[k]
        head = model.networks[z]
        ty, tsaved = head.tangent(saved, q[1][:, columns])
        gradient, dz = head.dual_gradients(saved, tsaved, chain, weighted[:, columns], -1.0)
        write(head, columns, dz)
        dscale[columns] = de[columns] * y[0] - ty[0]
        return z, gradient

    parts = _over_chunks(task, tape.chunks, q)
    return *_summed(model, species, parts, dscale), _direct_gradient(model, q, species, de)


def _through_values(model, q, species, chunks, de, write):
    """Gradient of sum_i e_i E_i with respect to networks, scale and direct term."""
    weighted = (de * model.scale[species]).astype(model.scale.dtype)[None]
    dscale = namespace(de).zeros(len(de))

    def task(k, _):
        z, columns, saved, y = chunks[k]
        dscale[columns] = de[columns] * y[0]
        gradient, dz = model.networks[z].gradients(saved, weighted[:, columns])
        write(model.networks[z], columns, dz)
        return z, gradient

    parts = _over_chunks(task, chunks, de)
    return *_summed(model, species, parts, dscale), _direct_gradient(model, q[None], species, de)


def _over_chunks(task, chunks, device_array):
    """Run a task over the numbers of chunks of a tape."""
    if namespace(device_array) is np:
        return _over_atoms(task, len(chunks), device_array, chunk=1)
    return [task(k, k + 1) for k in range(len(chunks))]


def _summed(model, species, parts, dscale):
    """Sum what chunks found: gradients of every network, and dL/dscale of every element."""
    dnetworks = [_sums(head.arrays, [d for z, d in parts if z == k]) for k, head in enumerate(model.networks)]
    xp = namespace(dscale)
    return dnetworks, xp.stack([xp.where(species == z, dscale, 0.0).sum() for z in range(len(model.scale))])


def _direct_gradient(model, planes, species, de):
    """Gradient (2) with respect to the direct term, sum of e q - tq over atoms; planes are q, or q and tq."""
    if model.direct is None:
        return None
    xp, (q, *tangents) = namespace(species), planes
    elements = xp.arange(len(model.direct), dtype=species.dtype)[:, None]

    def task(first, last):
        part = slice(first, last)
        own = (species[part] == elements).astype(q.dtype)
        dw = (own * de[part].astype(q.dtype)) @ q[:, part].T
        for tq in tangents:
            dw -= own @ tq[:, part].T
        return [dw]

    return _sums([model.direct], _over_atoms(task, len(de), q))[0]


def _add_direct(model, species, de, dq):
    """Add e w of (2) to the cotangents of the features."""

    def task(first, last):
        part = slice(first, last)
        dq[:, part] += _weights(model, species[part]) * de[part].astype(dq.dtype)

    if model.direct is not None:
        _over_atoms(task, len(de), dq)


def _sums(like, parts):
    """Sum gradients, lists of arrays shaped like those of `like`, in the order of the chunks, in float64."""
    total = [namespace(a).zeros(a.shape) for a in like]
    for part in parts:
        for a, b in zip(total, part, strict=True):
            a += b
    return total
