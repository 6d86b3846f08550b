"""Energies, forces and virials of one large system on a device: a thread an atom, features a block at a time.

The kernels, and what makes them fast, are in fastdesc/descriptors/gaussian_moments/large_system.py, and in
large_network.py beside this file. Moments and their gradient are there for a block of atoms only; features for the few
atoms of a block of threads, or for the block of atoms where the network is another. Of all atoms there are the list and
the gradients of pairs, 24 bytes a pair, and some hundred bytes an atom: 2.0 kB an atom with 78 neighbours. Where no
pairs are given the list is searched for, and no other is ever made; the calculator has one for its skin (`list_for`).
Numbers are those of fastdesc/potential/evaluation.py within the rounding of float32.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from fastdesc.backend.arrays import namespace, to_device, to_host
from fastdesc.descriptors.gaussian_moments import GaussianMoments, cuda
from fastdesc.descriptors.gaussian_moments.large_list import SlicedList, places_of, searched, sliced
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
from fastdesc.potential.large_network import gm_large_network, packed
from fastdesc.structures import Structures, complete_cells

LEAST_ATOMS = 50_000
"""Fewer do not fill a GPU with a thread each: 132 multiprocessors of an H200 hold 50 688 such threads."""
BLOCK = 1 << 18
"""Atoms whose features are in memory together: 1.5 GB of features, their gradient and copies with 360 of them."""
LONGEST = 2048.0
"""Å; 2^-32 of a longer vector of the cell would be coarser than float32 is at 4 Å."""
MOST_TABLE = 1 << 28
"""Bytes of radial tables; more elements than they suffice for keep the other way."""


class Atoms(NamedTuple):
    """Some atoms, as much of Pairs as networks and contractions ask for."""

    n_atoms: int
    row: None = None
    j: None = None
    columns: None = None


class Grouped(NamedTuple):
    """Atoms of a block in groups, those of one network together.

    Attributes
    ----------
    column : int32 (n_atoms,)
        Where in its block an atom of the curve is then.
    owner : int32 (n_atoms,)
        Which atom that is.
    groups : list of list of (network, first column, last exclusive)
        Of each block.
    """

    column: Any
    owner: Any
    groups: list


class Packed(NamedTuple):
    """A model as the kernels take it: radial tables; networks as LargeNetwork, or None where they take another way."""

    tables: Tables
    networks: Any


def suited(model, structures, pairs=None, cutoff=0.0):
    """Frames as `large_system` takes them, where it can and should evaluate them; else None.

    Over these pairs, or over a list of this cutoff, one frame of many atoms, whose cell is thicker than twice the
    list's cutoff; Gaussian moments without iterations in float32 on a device. Nuclei that repel need pairs. What is
    not periodic is put into a cell so large that its images see nothing of each other.
    """
    family = model.descriptor
    if model.device != "cuda" or model.scale.dtype != np.float32 or type(family) is not GaussianMoments:
        return None
    if family.iterations or structures.n_frames > 1 or structures.n_atoms < LEAST_ATOMS:
        return None
    if pairs is None or isinstance(pairs, SlicedList):
        if model.repulsion is not None:
            return None
    elif pairs.whole is not pairs:
        return None
    reach = max(cutoff if pairs is None else pairs.cutoff, family.cutoff)
    periodic = structures if structures.pbc.all() else _enclosed(structures, reach)
    cell = periodic.host_cells[0]
    n_species, n_radial, n_basis = len(model.scale), family.n_radial, family.n_basis
    table = 16 * n_species**2 * (KNOTS * n_basis + 1) * -(-n_radial // WIDTH) * WIDTH
    fits = widths(cell).min() > 2 * reach and np.linalg.norm(cell, axis=1).max() <= LONGEST
    return periodic if fits and table <= MOST_TABLE else None


def _enclosed(structures, reach):
    """One frame in a cell that is periodic everywhere, with gaps wider than the reach where it was not."""
    xp, loose = namespace(structures.positions), np.flatnonzero(~structures.pbc[0])
    cells = complete_cells(structures.host_cells, structures.pbc)    # with unit normals
    along = structures.positions @ xp.asarray(cells[0, loose].T)
    cells[0, loose] *= (to_host(along.max(axis=0) - along.min(axis=0)) + 3 * reach)[:, None]
    periodic = np.ones((1, 3), bool)
    enclosed = Structures(structures.numbers, structures.positions, xp.asarray(cells), periodic, structures.first)
    enclosed.host_cells = cells
    return enclosed


def widths(cell):
    """Thickness of a cell along each of its vectors, Å."""
    return 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)


def large_system(model, structures, pairs, species, derivatives=True):
    """Energies, forces and virials, as of fastdesc.potential.evaluation.energies_forces_virials, repulsion included.

    Parameters
    ----------
    model : Model
    structures : Structures
    pairs : Pairs, SlicedList or None
        As of `suited`, and on the device; without a list it is searched for.
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
        model.packed = Packed(_tables(model), packed(model))
    positions, cell = structures.positions, structures.cells[0]
    xp, (tables, networks), n = namespace(positions), model.packed, listed.n_atoms
    places, grouped = places_of(listed, positions, cell, species), _grouped(listed, pairs, species, len(model.networks))
    neighbours = listed.count, listed.start, listed.neighbour, places, grouped.column, cell, tables
    energies = xp.empty(n)
    gradients = xp.empty((listed.n_slots, 4), np.float32) if derivatives else None
    for first, groups in zip(range(0, n, BLOCK), grouped.groups, strict=True):
        moments = xp.empty((tables.n_radial, tables.n_moments, min(BLOCK, n - first)), np.float32)
        dmoments = xp.empty(moments.shape, np.float32) if derivatives else None
        gm_large_moments(*neighbours, moments, first)
        for z, a, end in groups:
            own = grouped.owner[first + a : first + end]
            m, dm = moments[..., a:end], dmoments[..., a:end] if derivatives else None
            if networks is None:
                energies[own] = _of_network(model, z, m, dm, species[own])
            else:
                gm_large_network(model.descriptor, *networks[z], m, own, species, model.scale, energies, dm)
        if derivatives:
            gm_large_gradients(*neighbours, dmoments, gradients, first)
        del moments, dmoments
    found = (energies,)
    if derivatives:
        forces, virial = forces_and_virial(listed, places, cell, gradients)
        found = energies, forces, virial[None]
    if model.repulsion is None:
        return found
    added = model.repulsion.evaluate(positions, structures.cells, pairs, species)
    return tuple(a + b for a, b in zip(found, added, strict=False))


def _of_network(model, z, moments, dmoments, species):
    """Energies of the atoms of one network, from their moments, and the gradient into dmoments where that is asked for.

    All arrays of features are contiguous, and nothing is copied.
    """
    xp, n = namespace(moments), moments.shape[-1]
    atoms = Atoms(n)
    kernels = cuda.Kernels(model.descriptor, xp.empty((3, 0), np.float32), atoms, species)
    q = xp.empty((model.descriptor.n_features, n), np.float32)
    kernels.gm_contract(moments, q)
    alone = replace(model, networks=model.networks[z : z + 1])
    if dmoments is None:
        return energies_of_features(alone, q, species)[0]
    energies, dq, _ = network_and_gradient(alone, q, atoms, species)
    kernels.gm_contract_pullback(moments, dq, dmoments)
    return energies


def list_for(model, structures, cutoff):
    """A list for several evaluations of the same atoms, SlicedList; None where they do not suit, or it cannot be had.

    Parameters
    ----------
    model : Model
    structures : Structures
        Anywhere.
    cutoff : float
        At least the descriptor's, Å.
    """
    periodic = suited(model, structures, cutoff=cutoff)
    if periodic is None:
        return None
    species = species_of(model, structures)
    listed = _searched(periodic.to_device(model.device), species, cutoff)
    if listed is not None:
        listed.kept["species"] = structures.numbers, species
    return listed


def species_of(model, structures, listed=None):
    """Elements of all atoms on the model's device, int32; a list keeps them as long as it sees the same numbers."""
    if listed is not None and "species" in listed.kept and listed.kept["species"][0] is structures.numbers:
        return listed.kept["species"][1]
    species = to_device(structures.species(model.descriptor.species_numbers), model.device)
    if listed is not None:
        listed.kept["species"] = structures.numbers, species
    return species


def _searched(structures, species, cutoff):
    """A list, or None where it cannot be had, or atoms are so close that the search for pairs may name them."""
    wide = widths(structures.host_cells[0])
    listed = searched(structures.positions, structures.cells[0], species, wide, cutoff)
    return None if listed is None or listed.shortest < 2 * SAME_PLACE else listed    # distances in float32


def _list_of(model, structures, pairs, species):
    """The list in slices: of pairs kept with them, else searched for; None where that cannot be."""
    if isinstance(pairs, SlicedList):
        return pairs
    if pairs is None:
        return _searched(structures, species, model.descriptor.cutoff)
    if pairs.sliced is None:
        wide = widths(structures.host_cells[0])
        pairs.sliced = (sliced(pairs, structures.positions, structures.cells[0], species, wide),)
    return pairs.sliced[0]


def _tables(model):
    """Radial tables of a model, on its device."""
    xp = namespace(model.scale)
    tables = Tables.of(model.descriptor, to_host(model.theta["beta"]))
    tables.tables = xp.asarray(tables.tables)
    return tables


def _grouped(listed, pairs, species, n_networks):
    """Groups of atoms, kept with the list as long as its elements are the same."""
    kept, noted = listed.kept.get("grouped"), getattr(pairs, "columns", None)
    if kept is None or kept[0] is not noted or kept[1] != (n_networks, BLOCK):
        listed.kept["grouped"] = kept = noted, (n_networks, BLOCK), _group(listed, species, n_networks)
    return kept[2]


def _group(listed, species, n_networks):
    xp, n = namespace(species), listed.n_atoms
    numbers = xp.arange(n, dtype=np.int32)
    if n_networks == 1:
        groups = [[(0, 0, min(BLOCK, n - first))] for first in range(0, n, BLOCK)]
        return Grouped(numbers % BLOCK, listed.order, groups)
    keys = numbers // BLOCK * n_networks + species[listed.order]
    sorted_by = xp.argsort(keys)
    column = xp.empty(n, np.int32)
    column[sorted_by] = numbers % BLOCK
    counts = to_host(xp.bincount(keys, minlength=-(-n // BLOCK) * n_networks)).reshape(-1, n_networks)
    return Grouped(column, listed.order[sorted_by], [_bounds(sizes) for sizes in counts])


def _bounds(sizes):
    """(network, first, last) of groups that follow one another, without empty ones."""
    ends = np.cumsum(sizes)
    return [(z, int(ends[z] - sizes[z]), int(ends[z])) for z in range(len(sizes)) if sizes[z]]
