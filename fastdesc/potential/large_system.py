"""Energies, forces and virials of one large periodic cell on a device: a thread an atom, features a block at a time.

The kernels, and what makes them fast, are in fastdesc/descriptors/gaussian_moments/large_system.py. Features and their
gradient are there for a block of atoms only; of all atoms there are the list and the gradients of pairs, 24 bytes a
pair, and some hundred bytes an atom: 2.0 kB an atom with 78 neighbours. Numbers are those of
fastdesc/potential/evaluation.py within the rounding of float32.
"""

from typing import NamedTuple

import numpy as np

from fastdesc.backend.arrays import namespace, to_host
from fastdesc.descriptors.gaussian_moments import GaussianMoments, cuda
from fastdesc.descriptors.gaussian_moments.large_system import (
    WIDTH,
    Tables,
    forces_and_virial,
    gm_large_gradients,
    gm_large_moments,
    places_of,
    sliced,
)
from fastdesc.descriptors.gaussian_moments.radial_table import KNOTS
from fastdesc.potential.evaluation import energies_of_features, network_and_gradient

LEAST_ATOMS = 50_000
"""Fewer do not fill a GPU with a thread each: 132 multiprocessors of an H200 hold 50 688 such threads."""
BLOCK = 1 << 18
"""Atoms whose features are in memory together: 1.5 GB of features, their gradient and copies with 360 of them."""
LONGEST = 2048.0
"""Å; 2^-32 of a longer vector of the cell would be coarser than float32 is at 4 Å."""
MOST_TABLE = 1 << 28
"""Bytes of radial tables; more elements than they suffice for keep the other way."""


class Block(NamedTuple):
    """Atoms that follow one another along the curve, as much of Pairs as networks ask for."""

    n_atoms: int
    columns: list | None


def suits(model, structures, pairs):
    """Whether `large_system` can, and should, evaluate these frames.

    One periodic cell of many atoms, thicker than twice the list's cutoff; Gaussian moments without iterations in
    float32 on a device.
    """
    family = model.descriptor
    if model.device != "cuda" or model.scale.dtype != np.float32 or type(family) is not GaussianMoments:
        return False
    if family.iterations or structures.n_frames > 1 or structures.n_atoms < LEAST_ATOMS or pairs.whole is not pairs:
        return False
    if not structures.pbc.all():
        return False
    cell = structures.host_cells[0]
    n_species, n_radial, n_basis = len(model.scale), family.n_radial, family.n_basis
    table = 16 * n_species**2 * (KNOTS * n_basis + 1) * -(-n_radial // WIDTH) * WIDTH
    thick = widths(cell).min() > 2 * max(pairs.cutoff, family.cutoff)
    return bool(thick and np.linalg.norm(cell, axis=1).max() <= LONGEST and table <= MOST_TABLE)


def widths(cell):
    """Thickness of a cell along each of its vectors, Å."""
    return 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)


def large_system(model, structures, pairs, species, derivatives=True):
    """Energies, forces and virials, as of fastdesc.potential.evaluation.energies_forces_virials, repulsion included.

    Parameters
    ----------
    model : Model
    structures : Structures
    pairs : Pairs
        All three such that `suits` says yes.
    species : int32 (n_atoms,)
    derivatives : bool
        False: energies alone.

    Returns
    -------
    energies, forces, virials : arrays of the device
        Energies alone without derivatives; None where the list has more slots than can be numbered.
    """
    positions, cell = structures.positions, structures.cells[0]
    listed = _list_of(pairs, structures, species)
    if listed is None:
        return None
    if model.packed is None:
        model.packed = _tables(model)
    xp, tables, n = namespace(positions), model.packed, listed.n_atoms
    places, own = places_of(listed, positions, cell, species), species[listed.order]
    columns = _columns(listed, pairs, own, len(model.networks))
    neighbours = listed.count, listed.start, listed.neighbour, places, cell, tables
    energies = xp.empty(n)
    gradients = xp.empty((listed.n_slots, 4), np.float32) if derivatives else None
    kernels = cuda.Kernels(model.descriptor, xp.empty((3, 0), np.float32), pairs, species)
    for first in range(0, n, BLOCK):
        atoms = slice(first, min(first + BLOCK, n))
        size = atoms.stop - first
        moments = xp.empty((tables.n_radial, tables.n_moments, size), np.float32)
        q = xp.empty((model.descriptor.n_features, size), np.float32)
        gm_large_moments(*neighbours, moments, first)
        kernels.gm_contract(moments, q)
        block = Block(size, columns[first // BLOCK])
        if not derivatives:
            energies[listed.order[atoms]] = energies_of_features(model, q, own[atoms], columns=block.columns)[0]
            continue
        energies[listed.order[atoms]], dq, _ = network_and_gradient(model, q, block, own[atoms])
        del q
        dmoments = xp.empty(moments.shape, np.float32)
        kernels.gm_contract_pullback(moments, dq, dmoments)
        gm_large_gradients(*neighbours, dmoments, gradients, first)
        del moments, dq, dmoments
    found = (energies,)
    if derivatives:
        forces, virial = forces_and_virial(listed, places, cell, gradients)
        found = energies, forces, virial[None]
    if model.repulsion is None:
        return found
    added = model.repulsion.evaluate(positions, structures.cells, pairs, species)
    return tuple(a + b for a, b in zip(found, added, strict=False))


def _list_of(pairs, structures, species):
    """The list in slices, kept with the list of pairs that it was made of."""
    if pairs.sliced is None:
        cell = structures.cells[0]
        pairs.sliced = (sliced(pairs, structures.positions, cell, species, widths(structures.host_cells[0])),)
    return pairs.sliced[0]


def _tables(model):
    """Radial tables of a model, on its device."""
    xp = namespace(model.scale)
    tables = Tables.of(model.descriptor, to_host(model.theta["beta"]))
    tables.tables = xp.asarray(tables.tables)
    return tables


def _columns(listed, pairs, own, n_networks):
    """Columns of each element in each block, kept with the list as long as its elements are the same."""
    blocks = range(0, listed.n_atoms, BLOCK)
    if n_networks == 1:
        return [None for _ in blocks]
    kept = listed.kept.get("columns")
    if kept is None or kept[0] is not pairs.columns:
        xp = namespace(own)
        found = [[xp.flatnonzero(own[a : a + BLOCK] == z) for z in range(n_networks)] for a in blocks]
        listed.kept["columns"] = kept = pairs.columns, found
    return kept[1]
