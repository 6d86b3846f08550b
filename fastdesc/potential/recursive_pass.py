"""Energies, forces and virials of Gaussian moments with one iteration, in passes over blocks of atoms, on the host.

As fastdesc/potential/one_pass.py; the passes are those of fastdesc/descriptors/gaussian_moments/recursive_pass.py.
"""

from types import SimpleNamespace

import numpy as np

from fastdesc.backend.arrays import empty
from fastdesc.backend.threads import for_chunks
from fastdesc.descriptors.gaussian_moments import GaussianMoments
from fastdesc.descriptors.gaussian_moments.cpu import MANY
from fastdesc.descriptors.gaussian_moments.recursive_pass import (
    gm_message_pass,
    gm_message_pullback_pass,
    gm_weighted_pass,
)
from fastdesc.descriptors.recursion.initial import of_theta
from fastdesc.descriptors.recursion.passes import columns
from fastdesc.geometry import frame_sums
from fastdesc.networks.blocks import packed_networks
from fastdesc.numerics.radial import BASES, combinations
from fastdesc.pairs.blocks import CHUNK, pair_blocks
from fastdesc.potential.one_pass import ATOMS, forces_of_blocks, packable
from fastdesc.simd import kind_of, width

ROW = 20
"""Monomials of a channel."""


def suits(model, pairs):
    """Whether `recursive_pass` can evaluate a model on a list."""
    if type(model.descriptor) is not GaussianMoments or not isinstance(model.scale, np.ndarray):
        return False
    if model.descriptor.iterations != 1 or model.descriptor.form.residual or model.direct is not None:
        return False
    return pairs.whole is pairs and packable(model.networks)


def recursive_pass(model, positions, cells, pairs, species):
    """Energies, forces and virials, as of fastdesc.potential.evaluation.energies_forces_virials.

    Arguments as of one_pass in fastdesc/potential/one_pass.py, of a model and a list that `suits`.

    Returns
    -------
    energies, forces, virials : arrays
        None where the list does not suit (fastdesc/pairs/blocks.py).
    """
    family, dtype = model.descriptor, model.scale.dtype
    n, n_species, lanes, kind = pairs.n_atoms, len(model.scale), width(dtype), kind_of(dtype, False)
    blocks = pair_blocks(pairs, species, n_species, lanes, n_species < MANY)
    if blocks is None:
        return None
    if model.packed is None:
        model.packed = _packed(model)
    packed, messages, mixing, last = model.packed
    sizes = (
        n_species, family.n_radial, family.n_moments, BASES.index(family.basis), family.n_basis, float(family.cutoff)
    )    # fmt: skip
    slots = blocks.first_slot, blocks.starts, blocks.shifted, blocks.neighbour, blocks.shift
    positions, cells = np.ascontiguousarray(positions, np.float64), np.ascontiguousarray(cells, np.float64)
    whole = positions, cells, pairs.frame, species, mixing, sizes
    listed, length = (blocks.atom, blocks.element, *slots), (blocks.n_slots + 1) * 3 * lanes
    gradient, found = empty((length,), dtype), empty((-(-family.n_radial // 3), length), dtype)
    moments = empty((blocks.n_blocks * family.n_radial * ROW * lanes,), dtype)
    w = np.zeros((1, 1, n, columns(family.n_radial)), dtype)
    energies, own, per_atom = empty((n,), np.float64), empty((n, 3), np.float64), empty((9, n), np.float64)
    of_messages = family.message_offsets, messages.weights, messages.plan, messages.activation
    weighted = (
        w, family.offsets, packed.weights, packed.plan, packed.activation, model.scale, last, gradient, found, energies
    )    # fmt: skip

    def run(kernel, *arguments):
        for_chunks(kernel, blocks.n_blocks, CHUNK, (kind,), (listed, *arguments))

    run(gm_message_pass, *whole, *of_messages, moments, w)
    run(gm_weighted_pass, *whole, *weighted)
    after = moments, found, gradient, own, per_atom
    run(gm_message_pullback_pass, pairs.row, blocks.mirror, *whole, *of_messages, *after)
    forces = np.empty((n, 3))
    arrays = pairs.row, blocks.mirror, gradient, own, forces
    for_chunks(forces_of_blocks, n, ATOMS, after=(lanes, *arrays))
    return energies, forces, frame_sums(per_atom, pairs).reshape(-1, 3, 3)


def _packed(model):
    """Networks of the energies and of the messages, combinations of radial functions, last layers times the scale."""
    family = model.descriptor
    mixing = combinations(model.theta["beta"], BASES.index(family.basis), float(family.cutoff)).reshape(-1)
    last = np.array([network.layers[-1][0][0] for network in model.networks]) * model.scale[:, None]
    (networks,), n_species = of_theta(family, model.theta), len(model.scale)
    own = [
        _of_element(networks.networks[0 if networks.shared else z], family, z if networks.shared else None)
        for z in range(n_species)
    ]
    return packed_networks(model.networks), packed_networks(own), mixing, last


def _of_element(network, family, z):
    """Layers of one element's network: where all share one, what tells it the element becomes part of the bias."""
    layers = list(network.layers)
    if z is not None:
        w, b = layers[0]
        layers[0] = np.ascontiguousarray(w[:, : family.n_message]), b + w[:, family.n_message + z, None]
    return SimpleNamespace(layers=layers, activation=family.form.activation)
