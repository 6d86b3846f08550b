"""Energies, forces and virials of one large periodic cell on a device: a thread an atom, features a block at a time.

The kernels, and what makes them fast, are in fastdesc/descriptors/gaussian_moments/large_system.py. Features and their
gradient are there for a block of atoms only; of all atoms there are the list and the gradients of pairs, 24 bytes a
pair, and some hundred bytes an atom: 2.0 kB an atom with 78 neighbours. Where no pairs are given the list is searched
for, and no other is ever made. Numbers are those of fastdesc/potential/evaluation.py within the rounding of float32.
"""

from typing import NamedTuple

import numpy as np

from fastdesc.backend.arrays import namespace, to_host
from fastdesc.descriptors.gaussian_moments import GaussianMoments, cuda
from fastdesc.descriptors.gaussian_moments.large_list import places_of, searched, sliced
from fastdesc.descriptors.gaussian_moments.large_system import (
    WIDTH,
    Tables,
    forces_and_virial,
    gm_large_gradients,
    gm_large_moments,
)
from fastdesc.descriptors.gaussian_moments.radial_table import KNOTS
from fastdesc.pairs import SAME_PLACE
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
    """Atoms that follow one another along the curve, as much of Pairs as networks and contractions ask for."""

    n_atoms: int
    columns: list | None
    row: None = None
    j: None = None


def suits(model, structures, pairs=None):
    """Whether `large_system` can, and should, evaluate these frames over these pairs, or without any.

    One periodic cell of many atoms, thicker than twice the list's cutoff; Gaussian moments without iterations in
    float32 on a device. Nuclei that repel need pairs.
    """
    family = model.descriptor
    if model.device != "cuda" or model.scale.dtype != np.float32 or type(family) is not GaussianMoments:
        return False
    if family.iterations or structures.n_frames > 1 or structures.n_atoms < LEAST_ATOMS:
        return False
    if model.repulsion is not None if pairs is None else pairs.whole is not pairs:
        return False
    if not structures.pbc.all():
        return False
    cell = structures.host_cells[0]
    n_species, n_radial, n_basis = len(model.scale), family.n_radial, family.n_basis
    table = 16 * n_species**2 * (KNOTS * n_basis + 1) * -(-n_radial // WIDTH) * WIDTH
    thick = widths(cell).min() > 2 * max(0.0 if pairs is None else pairs.cutoff, family.cutoff)
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
    pairs : Pairs or None
        All three such that `suits` says yes, and on the device; without pairs they are searched for.
    species : int32 (n_atoms,)
    derivatives : bool
        False: energies alone.

    Returns
    -------
    energies, forces, virials : arrays of the device
        Energies alone without derivatives. None where it cannot be done: where the list has more slots than can be
        numbered, or the search found atoms at one place, which the search for pairs names.
    """
    listed = _list_of(model, structures, pairs, species)
    if listed is None:
        return None
    if model.packed is None:
        model.packed = _tables(model)
    positions, cell = structures.positions, structures.cells[0]
    xp, tables, n = namespace(positions), model.packed, listed.n_atoms
    places, own = places_of(listed, positions, cell, species), species[listed.order]
    columns = _columns(listed, pairs, own, len(model.networks))
    neighbours = listed.count, listed.start, listed.neighbour, places, cell, tables
    energies = xp.empty(n)
    gradients = xp.empty((listed.n_slots, 4), np.float32) if derivatives else None
    for first in range(0, n, BLOCK):
        atoms = slice(first, min(first + BLOCK, n))
        block = Block(atoms.stop - first, columns[first // BLOCK])
        kernels = cuda.Kernels(model.descriptor, xp.empty((3, 0), np.float32), block, own[atoms])
        moments = xp.empty((tables.n_radial, tables.n_moments, block.n_atoms), np.float32)
        q = xp.empty((model.descriptor.n_features, block.n_atoms), np.float32)
        gm_large_moments(*neighbours, moments, first)
        kernels.gm_contract(moments, q)
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


def _list_of(model, structures, pairs, species):
    """The list in slices: of pairs kept with them, else searched for; None where that cannot be."""
    given = structures.positions, structures.cells[0], species, widths(structures.host_cells[0])
    if pairs is None:
        listed, shortest = searched(*given, model.descriptor.cutoff)
        return None if shortest < 2 * SAME_PLACE else listed    # distances in float32
    if pairs.sliced is None:
        pairs.sliced = (sliced(pairs, *given),)
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
    kept, noted = listed.kept.get("columns"), None if pairs is None else pairs.columns
    if kept is None or kept[0] is not noted:
        xp = namespace(own)
        found = [[xp.flatnonzero(own[a : a + BLOCK] == z) for z in range(n_networks)] for a in blocks]
        listed.kept["columns"] = kept = noted, found
    return kept[1]
