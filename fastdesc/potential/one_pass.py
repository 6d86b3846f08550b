"""Energies, forces and virials in one pass over blocks of atoms, on the host, for models that suit it.

The gradient of a pair is left in the block where its centre is; that of its mirror is fetched from another block:

    F_i = sum over p in row i of (dr_p - dr_mirror(p))                                                  (1)

Members of a shallow ensemble are networks with the same layers but the last: all that belongs to a block up to the last
hidden layer is there already, and a member costs its pullback from there, no more.
"""

from typing import Any, NamedTuple

import numpy as np

from fastdesc.backend.arrays import empty
from fastdesc.backend.jit import reordering_kernel
from fastdesc.backend.threads import for_chunks
from fastdesc.descriptors.gaussian_moments import GaussianMoments
from fastdesc.descriptors.gaussian_moments.cpu import MANY
from fastdesc.descriptors.gaussian_moments.one_pass import gm_one_pass
from fastdesc.geometry import frame_sums
from fastdesc.networks.blocks import packed_networks
from fastdesc.networks.heads import FeedForward
from fastdesc.numerics.radial import BASES, combinations
from fastdesc.pairs.blocks import CHUNK, pair_blocks
from fastdesc.simd import kind_of, width

ATOMS = 512
MEMBERS_MEMORY = 1 << 28
"""Bytes of the gradients of members that are found in one pass; more of them take several passes."""
MOST_WEIGHTS = 1 << 20
"""Bytes of a network that every block of atoms reads: more would not stay in the cache."""


def suits(model):
    """Whether `one_pass` can evaluate a model."""
    if type(model.packed) is Packed:
        return True
    if type(model.descriptor) is not GaussianMoments or not isinstance(model.scale, np.ndarray):
        return False
    if model.descriptor.iterations:
        return False
    return packable(model.networks)


def packable(networks):
    """Whether running heads are feed-forward networks of one shape that stay in the cache."""
    if any(type(network) is not FeedForward for network in networks):
        return False
    layers = networks[0].layers
    shapes = [[w.shape for w, _ in network.layers] for network in networks]
    alike = shapes.count(shapes[0]) == len(shapes)
    return alike and len(layers[-1][0]) == 1 and sum(w.nbytes for w, _ in layers) <= MOST_WEIGHTS


def one_pass(model, positions, cells, pairs, species, last_layer=None, derivatives=True, last=None):
    """Energies, forces and virials, as of fastdesc.potential.evaluation.energies_forces_virials.

    Parameters
    ----------
    model : Model
        One that `suits`.
    positions : float64 (n_atoms, 3), Å
    cells : float64 (n_frames, 3, 3), Å
    pairs : Pairs
        Or the `centres` of a list with ghosts: then energies and virials are those of the centres, forces of all atoms.
    species : int32 (n_atoms,)
    last_layer : (n_atoms, width) array, optional
        Of the model's dtype; written: what the last layer of a network multiplies.
    derivatives : bool
        False: energies alone, in about half the time.
    last : (n_species, n_members, width) array, optional
        Of the model's dtype, eV: last layers of members, times the scale; without constants. Their forces come, too.

    Returns
    -------
    energies, forces, virials : arrays
        The last two None without derivatives. None for all where the list does not suit (fastdesc/pairs/blocks.py).
    of_members : (n_members, n_atoms, 3) array, eV/Å
        Only with `last`: forces that follow from these last layers alone.
    """
    family, dtype = model.descriptor, model.scale.dtype
    lanes, blocks = width(dtype), blocks_of(model, pairs, species)
    if blocks is None:
        return None
    if model.packed is None:
        model.packed = _packed(model)
    packed, mixing, own_last, sizes, direct = model.packed
    n, n_all = pairs.n_atoms, pairs.whole.n_atoms
    positions, cells = np.ascontiguousarray(positions, np.float64), np.ascontiguousarray(cells, np.float64)
    last = own_last if last is None else np.concatenate([own_last, last], axis=1)
    n_last = last.shape[1] if derivatives else 0
    gradient = empty((n_last, (blocks.n_slots + 1) * 3 * lanes), dtype)
    gradient[:, -3 * lanes :] = 0
    energies, own, per_atom = empty((n,), np.float64), empty((n_last, n, 3), np.float64), empty((9, n), np.float64)
    last_layer = np.empty((n, 0), dtype) if last_layer is None else last_layer
    slots = blocks.first_slot, blocks.starts, blocks.shifted, blocks.neighbour, blocks.shift
    arguments = (
        (blocks.atom, blocks.element, *slots), positions, cells, pairs.frame, species, mixing, sizes, family.offsets,
        packed.weights, packed.plan, packed.activation, model.scale, last, direct, gradient.reshape(-1), energies, own,
        per_atom, last_layer,
    )  # fmt: skip
    for_chunks(gm_one_pass, blocks.n_blocks, CHUNK, (kind_of(dtype, False),), arguments)
    if not derivatives:
        return energies, None, None
    forces = np.empty((n_last, n_all, 3))
    for m in range(n_last):
        arrays = pairs.whole.row, blocks.mirror, gradient[m], own[m], forces[m]
        for_chunks(forces_of_blocks, n_all, ATOMS, after=(lanes, *arrays))
    found = energies, forces[0], frame_sums(per_atom, pairs).reshape(-1, 3, 3)
    return found if n_last == 1 else (*found, forces[1:])


class Packed(NamedTuple):
    """What the kernel needs of a model, made once."""

    networks: Any
    mixing: np.ndarray
    last: np.ndarray    # times the scale, eV
    sizes: tuple
    direct: np.ndarray


def _packed(model):
    family, dtype = model.descriptor, model.scale.dtype
    basis, cutoff = BASES.index(family.basis), float(family.cutoff)
    mixing = combinations(model.theta["beta"], basis, cutoff).reshape(-1)
    last = np.array([network.layers[-1][0] for network in model.networks]) * model.scale[:, None, None]
    sizes = len(model.scale), family.n_radial, family.n_moments, basis, family.n_basis, cutoff
    direct = np.empty((0, family.n_features), dtype) if model.direct is None else model.direct
    return Packed(packed_networks(model.networks), mixing, last, sizes, direct)


def blocks_of(model, pairs, species):
    """The PairBlocks of a list for one model; None where it does not suit."""
    many = len(model.scale) >= MANY
    return pair_blocks(pairs, species, len(model.scale), width(model.scale.dtype), not many)


def members_at_once(pairs, dtype):
    """Members of whose gradients MEMBERS_MEMORY holds as many as a list of pairs has: at least one."""
    return max(1, MEMBERS_MEMORY // max(1, 3 * pairs.n_pairs * dtype.itemsize))


@reordering_kernel
def forces_of_blocks(first, last, lanes, row, mirror, gradient, own, out):
    """Formula (1), sums in float64; atoms without a row in `own` are ghosts."""
    two = np.uint64(2 * lanes)
    for i in range(first, last):
        x = y = z = 0.0
        for p in range(np.uint64(row[i]), np.uint64(row[i + 1])):
            m = np.uint64(mirror[p])
            x -= np.float64(gradient[m])
            y -= np.float64(gradient[m + np.uint64(lanes)])
            z -= np.float64(gradient[m + two])
        if i < len(own):
            x, y, z = own[i, 0] + x, own[i, 1] + y, own[i, 2] + z
        out[i, 0] = x
        out[i, 1] = y
        out[i, 2] = z
