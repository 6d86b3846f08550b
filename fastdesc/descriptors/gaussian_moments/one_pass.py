"""Gaussian moments and the networks over them in one pass: from positions to energies and forces, block by block.

All that belongs to a block of atoms stays in the cache from its pair vectors to their gradient; nothing is computed
twice. Places, channels and moments of a block are those of block_pairs.py.
"""

import numpy as np

from fastdesc.backend.jit import kernel
from fastdesc.descriptors.gaussian_moments.block_pairs import (
    PLACE,
    add_all_moments,
    clear_others,
    neighbours_of,
    owned,
    pair_memory,
    pull,
    store_virial,
)
from fastdesc.descriptors.gaussian_moments.contractions import contract_block, contract_pullback_block
from fastdesc.descriptors.gaussian_moments.moments import ROW
from fastdesc.networks.blocks import ABOVE, BELOW, N_IN, TILE, network_block, network_pullback_block
from fastdesc.numerics.monomials import TEN
from fastdesc.numerics.radial import BESSEL
from fastdesc.simd import borrowed, lanes, load, scratch, slots, store
from fastdesc.simd.pair_vectors import add_force, add_virial
from fastdesc.simd.tuples import load_tuple, store_tuple


@kernel
def gm_one_pass(
    kind, first, last_block, blocks, positions, cells, frame, species, mixing, sizes, offsets, weights, plan,
    activation, scale, last, direct, gradient, energies, own, virials, last_layer,
):  # fmt: skip
    """Energies of the atoms of blocks first .. last_block-1 and their gradient with respect to pair vectors.

    Networks with the same layers but the last share all but the pass back, of which each has its own. The first is the
    network of the energies, the others are members of an ensemble.

    in   blocks: arrays of PairBlocks: atom, element, first_slot, starts, shifted, neighbour, shift
         positions (n_atoms, 3) Å, cells (n_frames, 3, 3) Å, frame (n_atoms,), species (n_atoms,)
         mixing (n_species, n_species, n_functions, n_radial): combinations of fastdesc.numerics.radial, flat
         sizes: n_species, n_radial, n_moments, basis, n_basis, cutoff
         offsets (8,) first feature of each contraction
         weights (n_networks, n), plan, activation: of PackedNetworks
         scale (n_species,), direct (n_species, n_features) or (0, n_features), of the first network alone
         last (n_species, n_last_layers, n): weights of last layers, times the scale
    out  gradient (n_last_layers * (n_slots + 1) * 3 * lanes,) eV/Å; or (0,): then energies alone are found
         in float64: energies (n_atoms,) eV, own (n_last_layers, n_atoms, 3) the sums of rows of the gradient,
         virials (9, n_atoms) eV
         last_layer (n_atoms, width or 0) what the last layer multiplies
    """
    blocks = owned(blocks)
    atom, element, first_slot = blocks[:3]
    positions, cells, mixing, gradient = borrowed(positions), borrowed(cells), borrowed(mixing), borrowed(gradient)
    species = borrowed(species)
    _, n_radial, n_moments, basis, n_basis, _ = sizes
    n_functions = n_basis + 1 if basis == BESSEL else n_basis
    n_networks, n_layers = weights.shape[0], plan.shape[0]
    flat, flat_last = weights.reshape(-1), last.reshape(-1)
    degree_3, with_gradient = n_moments > TEN, gradient.shape[0] > 0
    n_last, plane = last.shape[1] if with_gradient else 0, 3 * (first_slot[len(first_slot) - 1] + 1)
    width = lanes(kind)
    places, channels, kept, more, _ = pair_memory(kind, first_slot, first, last_block, n_radial, n_functions)
    moments, dmoments = scratch(kind, n_radial * ROW), scratch(kind, n_radial * ROW)
    n_values = plan[n_layers - 1, ABOVE] + TILE
    q, gates, dq = scratch(kind, n_values), scratch(kind, n_values), scratch(kind, n_values)
    bytes_a_row = slots(kind) * q.itemsize
    q_rows, dq_rows = (q.ctypes.data, 0, bytes_a_row), (dq.ctypes.data, 0, bytes_a_row)
    sums = np.empty(9 * width)
    o = offsets.astype(np.int64)
    n_features, hidden = plan[0, N_IN], plan[n_layers - 1, BELOW]
    for block in range(first, last_block):
        z_i = element[block]
        n = neighbours_of(
            kind, blocks, block, positions, cells, frame, species, mixing, sizes, places, channels, kept, more
        )
        add_all_moments(kind, places, channels, n, n_radial, degree_3, moments)
        contract_block(kind, moments, q_rows, 0, width, n_radial, o)
        network = z_i if n_networks > 1 else 0
        at = network * weights.shape[1]
        y = network_block(kind, flat, at, plan, activation, q, gates)
        y = y * scale[z_i]
        for f in range(n_features if direct.shape[0] > 0 else 0):
            y = y + load(kind, q, f) * direct[z_i, f]
        store(gates, 0, y)
        for m in range(n_last):
            last_at = (z_i * n_last + m) * last.shape[2]
            network_pullback_block(kind, flat, at, plan, activation, flat_last, last_at, q, gates, dq)
            for f in range(n_features if direct.shape[0] > 0 and m == 0 else 0):
                store(dq, f, load(kind, dq, f) + direct[z_i, f])
            contract_pullback_block(kind, moments, dq_rows, 0, width, n_radial, o, dmoments)
            clear_others(kind, gradient, m * plane, first_slot[block], first_slot[block + 1], kept, n)
            sums[: 3 * width if m > 0 else 9 * width] = 0
            for k in range(n):
                g = pull(kind, places, channels, k, n_radial, degree_3, dmoments)
                store_tuple(gradient, m * plane + 3 * kept[k], g)
                add_force(sums, g)
                if m == 0:
                    add_virial(sums, load_tuple(kind, places, PLACE * k, 3), g)
            for lane in range(width):
                i = atom[block, lane]
                for c in range(3 if i >= 0 else 0):
                    own[m, i, c] = sums[c * width + lane]
        for lane in range(width):
            i = atom[block, lane]
            if i < 0:
                continue
            energies[i] = gates[lane]
            for h in range(last_layer.shape[1]):
                last_layer[i, h] = q[(hidden + h) * slots(kind) + lane]
            if with_gradient:
                store_virial(virials, i, sums, lane, width)
