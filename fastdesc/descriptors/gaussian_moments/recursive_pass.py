"""Gaussian moments with one iteration, and the networks over them, in three passes over blocks of atoms.

As one_pass.py, with formulas (10) and (11) of recursion.py: what belongs to a block stays in the cache, and between two
passes atoms hand over a few numbers each. Vectors and channels of pairs are made anew in each pass; to keep them would
be 4 kB an atom.

    1   moments without weights, messages, weights w of the atoms
    2   moments with the weights of the neighbours, energies, their gradient to pair vectors, and what each pair finds
        for the weight of its neighbour, (9) of weights_pullback.py
    3   cotangents of the weights, of the moments without weights, and the rest of the gradient
"""

import numpy as np

from fastdesc.backend.jit import inner, kernel
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
from fastdesc.descriptors.recursion.neighbours import slot_coefficients
from fastdesc.networks.blocks import (
    ABOVE,
    N_OUT,
    TILE,
    network_block,
    network_outputs_pullback_block,
    network_pullback_block,
)
from fastdesc.numerics.monomials import TEN, monomials_0_to_2, monomials_3, pull_0_to_2, pull_3
from fastdesc.numerics.radial import BESSEL
from fastdesc.simd import borrowed, lanes, load, scratch, slots, splat, store
from fastdesc.simd.pair_vectors import add_force, add_virial
from fastdesc.simd.tuples import axpy, load_tuple, store_tuple, zeros


@kernel
def gm_message_pass(
    kind, first, last, blocks, positions, cells, frame, species, mixing, sizes, offsets, weights, plan, activation,
    moments, w,
):  # fmt: skip
    """Weights of the atoms of blocks first .. last-1.

    in   blocks, positions, cells, frame, species, mixing as for gm_one_pass; sizes: n_species, n_radial, n_moments,
         basis, n_basis, cutoff
         offsets (8,) first feature of each contraction that the networks see
         weights (n_species, n), plan, activation: of PackedNetworks, those of the iteration
    out  moments (n_blocks * n_radial * 20 * lanes,) without weights
         w (1, 1, n_atoms, columns)
    """
    blocks = owned(blocks)
    atom, element, first_slot = blocks[:3]
    _, n_radial, n_moments, basis, n_basis, _ = sizes
    n_functions = n_basis + 1 if basis == BESSEL else n_basis
    positions, cells, mixing, moments = borrowed(positions), borrowed(cells), borrowed(mixing), borrowed(moments)
    flat, width, n_layers = weights.reshape(-1), lanes(kind), plan.shape[0]
    places, channels, kept, more, _ = pair_memory(kind, first_slot, first, last, n_radial, n_functions)
    own = scratch(kind, n_radial * ROW)
    out = plan[n_layers - 1, ABOVE]
    n_values = out + plan[n_layers - 1, N_OUT] + TILE
    q, gates = scratch(kind, n_values), scratch(kind, n_values)
    q_rows = (q.ctypes.data, 0, slots(kind) * q.itemsize)
    o = offsets.astype(np.int64)
    for block in range(first, last):
        z_i = element[block]
        n = neighbours_of(
            kind, blocks, block, positions, cells, frame, species, mixing, sizes, places, channels, kept, more
        )
        add_all_moments(kind, places, channels, n, n_radial, n_moments > TEN, own)
        for s in range(n_radial * ROW):
            store(moments, block * n_radial * ROW + s, load(kind, own, s))
        contract_block(kind, own, q_rows, 0, width, n_radial, o)
        network_block(kind, flat, z_i * weights.shape[1], plan, activation, q, gates)
        for lane in range(width):
            i = atom[block, lane]
            for s in range(n_radial if i >= 0 else 0):
                w[0, 0, i, s] = 1 + q[(out + s) * slots(kind) + lane]


@inner
def _dots(kind, dmoments, channels, terms, k, n_radial, m, at):
    """Ten monomials' part of sum_s w_s R_s dM_s, and <dM_s, m>, added to `terms`."""
    f = zeros(m[1], 10)
    for s in range(n_radial):
        d = load_tuple(kind, dmoments, s * ROW + at, 10)
        f = axpy(load(kind, channels, 2 * (k * n_radial + s)), d, f)
        even = d[0] * m[0] + d[2] * m[2] + d[4] * m[4] + d[6] * m[6] + d[8] * m[8]
        odd = d[1] * m[1] + d[3] * m[3] + d[5] * m[5] + d[7] * m[7] + d[9] * m[9]
        store(terms, s, load(kind, terms, s) + even + odd)    # two sums, because one would wait for itself
    return f


@inner
def _pull_weighted(kind, places, channels, plain, terms, k, n_radial, degree_3, dmoments):
    """As pull of block_pairs.py, of weighted channels; leaves the terms (9) of this slot in `terms`."""
    x, y, z, inverse = load_tuple(kind, places, PLACE * k, 4)
    x, y, z = x * inverse, y * inverse, z * inverse
    for s in range(n_radial):
        store(terms, s, splat(kind, 0.0))
    f = _dots(kind, dmoments, channels, terms, k, n_radial, monomials_0_to_2(kind, x, y, z), 0)
    wx, wy, wz = pull_0_to_2(f, x, y, z)
    if degree_3:
        f = _dots(kind, dmoments, channels, terms, k, n_radial, monomials_3(x, y, z), TEN)
        vx, vy, vz = pull_3(f, x, y, z)
        wx, wy, wz = wx + vx, wy + vy, wz + vz
    slope = splat(kind, 0.0)
    for s in range(n_radial):
        e = load(kind, terms, s)
        slope = slope + load(kind, channels, 2 * (k * n_radial + s) + 1) * e
        store(terms, s, load(kind, plain, k * n_radial + s) * e)
    radial = slope - (x * wx + y * wy + z * wz) * inverse
    return x * radial + wx * inverse, y * radial + wy * inverse, z * radial + wz * inverse


@kernel
def gm_weighted_pass(
    kind, first, last_block, blocks, positions, cells, frame, species, mixing, sizes, w, offsets, weights, plan,
    activation, scale, last, gradient, found, energies,
):  # fmt: skip
    """Energies of the atoms of blocks first .. last_block-1, with the weights of their neighbours.

    in   as for gm_one_pass, but last (n_networks, n); w as gm_message_pass writes it
    out  gradient (n_slots + 1, 3, lanes) flat, eV/Å: what follows from these moments
         found (n, (n_slots + 1) * 3 * lanes): terms of the weights, three channels to a row
         energies (n_atoms,) float64, eV
    """
    blocks = owned(blocks)
    atom, element, first_slot, _, _, neighbour, _ = blocks
    _, n_radial, n_moments, basis, n_basis, _ = sizes
    n_functions = n_basis + 1 if basis == BESSEL else n_basis
    positions, cells, mixing, gradient = borrowed(positions), borrowed(cells), borrowed(mixing), borrowed(gradient)
    flat, flat_last, terms_of = weights.reshape(-1), last.reshape(-1), borrowed(found.reshape(-1))
    width, n_layers, columns, plane = lanes(kind), plan.shape[0], w.shape[3], found.shape[1] // lanes(kind)
    places, channels, kept, more, longest = pair_memory(kind, first_slot, first, last_block, n_radial, n_functions)
    plain, terms, own = scratch(kind, n_radial * longest), scratch(kind, n_radial), scratch(kind, columns + TEN)
    moments, dmoments = scratch(kind, n_radial * ROW), scratch(kind, n_radial * ROW)
    n_values = plan[n_layers - 1, ABOVE] + TILE
    q, gates, dq = scratch(kind, n_values), scratch(kind, n_values), scratch(kind, n_values)
    bytes_a_row = slots(kind) * q.itemsize
    q_rows, dq_rows = (q.ctypes.data, 0, bytes_a_row), (dq.ctypes.data, 0, bytes_a_row)
    where = np.empty((1, width), np.int64)
    o, degree_3 = offsets.astype(np.int64), n_moments > TEN
    for block in range(first, last_block):
        z_i = element[block]
        n = neighbours_of(
            kind, blocks, block, positions, cells, frame, species, mixing, sizes, places, channels, kept, more
        )
        for k in range(n):
            for lane in range(width):
                where[0, lane] = columns * max(neighbour[kept[k], lane], 0)
            slot_coefficients(kind, w, where, 0, 0, own, 0)
            for s in range(n_radial):
                at, factor = 2 * (k * n_radial + s), load(kind, own, s)
                value = load(kind, channels, at)
                store(plain, k * n_radial + s, value)
                store(channels, at, factor * value)
                store(channels, at + 1, factor * load(kind, channels, at + 1))
        add_all_moments(kind, places, channels, n, n_radial, degree_3, moments)
        contract_block(kind, moments, q_rows, 0, width, n_radial, o)
        network = z_i if weights.shape[0] > 1 else 0
        at = network * weights.shape[1]
        y = network_block(kind, flat, at, plan, activation, q, gates)
        store(gates, 0, y * scale[z_i])
        for lane in range(width):
            i = atom[block, lane]
            if i >= 0:
                energies[i] = gates[lane]
        network_pullback_block(kind, flat, at, plan, activation, flat_last, z_i * last.shape[1], q, gates, dq)
        contract_pullback_block(kind, moments, dq_rows, 0, width, n_radial, o, dmoments)
        begin, end = first_slot[block], first_slot[block + 1]
        clear_others(kind, gradient, 0, begin, end, kept, n)
        for t in range(found.shape[0]):
            clear_others(kind, terms_of, t * plane, begin, end, kept, n)
        for k in range(n):
            g = _pull_weighted(kind, places, channels, plain, terms, k, n_radial, degree_3, dmoments)
            store_tuple(gradient, 3 * kept[k], g)
            for s in range(n_radial):
                store(terms_of, s // 3 * plane + 3 * kept[k] + s % 3, load(kind, terms, s))


@kernel
def gm_message_pullback_pass(
    kind, first, last, blocks, row, mirror, positions, cells, frame, species, mixing, sizes, offsets, weights, plan,
    activation, moments, found, gradient, own, virials,
):  # fmt: skip
    """The rest of the gradient, of the atoms of blocks first .. last-1, and its sums.

    in   as for gm_message_pass; row (n_atoms+1,), mirror of PairBlocks; found as gm_weighted_pass writes it
    out  gradient, to which is added
         own (n_atoms, 3), virials (9, n_atoms) as of gm_one_pass
    """
    blocks = owned(blocks)
    atom, element, first_slot = blocks[:3]
    _, n_radial, n_moments, basis, n_basis, _ = sizes
    n_functions = n_basis + 1 if basis == BESSEL else n_basis
    positions, cells, mixing, gradient = borrowed(positions), borrowed(cells), borrowed(mixing), borrowed(gradient)
    row, mirror, moments, terms = borrowed(row), borrowed(mirror), borrowed(moments), borrowed(found.reshape(-1))
    flat, width, n_layers, plane = weights.reshape(-1), lanes(kind), plan.shape[0], np.uint64(found.shape[1])
    step = np.uint64(width)
    places, channels, kept, more, _ = pair_memory(kind, first_slot, first, last, n_radial, n_functions)
    m, dm = scratch(kind, n_radial * ROW), scratch(kind, n_radial * ROW)
    out = plan[n_layers - 1, ABOVE]
    n_values = out + plan[n_layers - 1, N_OUT] + TILE
    q, gates, dq = scratch(kind, n_values), scratch(kind, n_values), scratch(kind, n_values)
    bytes_a_row = slots(kind) * q.itemsize
    q_rows, dq_rows = (q.ctypes.data, 0, bytes_a_row), (dq.ctypes.data, 0, bytes_a_row)
    sums, o = np.empty(9 * width), offsets.astype(np.int64)
    for block in range(first, last):
        z_i = element[block]
        for s in range(0, n_radial, 3):
            first_of = np.uint64(s // 3) * plane
            for lane in range(width):
                i = atom[block, lane]
                one = two = three = q.dtype.type(0)
                for p in range(np.uint64(row[i]) if i >= 0 else 0, np.uint64(row[i + 1]) if i >= 0 else 0):
                    at = first_of + np.uint64(mirror[p])
                    one += terms[at]
                    two += terms[at + step]
                    three += terms[at + step + step]
                dq[(out + s) * slots(kind) + lane] = one
                dq[(out + s + 1) * slots(kind) + lane] = two
                dq[(out + s + 2) * slots(kind) + lane] = three
        for s in range(n_radial * ROW):
            store(m, s, load(kind, moments, block * n_radial * ROW + s))
        contract_block(kind, m, q_rows, 0, width, n_radial, o)
        at = z_i * weights.shape[1]
        network_block(kind, flat, at, plan, activation, q, gates)
        network_outputs_pullback_block(kind, flat, at, plan, activation, q, gates, dq)
        contract_pullback_block(kind, m, dq_rows, 0, width, n_radial, o, dm)
        n = neighbours_of(
            kind, blocks, block, positions, cells, frame, species, mixing, sizes, places, channels, kept, more
        )
        sums[:] = 0
        for k in range(n):
            gx, gy, gz = pull(kind, places, channels, k, n_radial, n_moments > TEN, dm)
            x, y, z = load_tuple(kind, gradient, 3 * kept[k], 3)
            g = (gx + x, gy + y, gz + z)
            store_tuple(gradient, 3 * kept[k], g)
            add_force(sums, g)
            add_virial(sums, load_tuple(kind, places, PLACE * k, 3), g)
        for lane in range(width):
            i = atom[block, lane]
            if i < 0:
                continue
            for c in range(3):
                own[i, c] = sums[c * width + lane]
            store_virial(virials, i, sums, lane, width)
