"""Training frames on the disk (fastdesc/training/streamed_frames.py), with forces: in memory are as many as may be.

Frames lie in blocks of consecutive frames. Blocks come in random order, the frames of as many as fit are shuffled
among each other, and the pairs of the next steps are found in threads beside the present one. What training knows of
all frames (energies, largest forces, elements) is gathered in one pass over the files, some tens of bytes for each.
"""

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from fastdesc.backend.arrays import to_device
from fastdesc.descriptors.short_distances import ShortDistances, of_structures
from fastdesc.errors import InputError
from fastdesc.geometry import pair_vectors
from fastdesc.io.frames import iread_frames
from fastdesc.io.labels import report_of
from fastdesc.pairs import Pairs
from fastdesc.structures import Structures
from fastdesc.training.dataset import TrainingSet, check_weight, shuffled_by_blocks
from fastdesc.training.identity import digest
from fastdesc.training.places import Placed
from fastdesc.training.prefetch import prefetched
from fastdesc.training.streamed_frames import SHARES

BYTES_OF_ATOM, BYTES_OF_FRAME = 56, 180
"""Positions, forces, numbers and elements; cell, virial, energy and the like."""
BLOCK_BYTES = 1 << 16, 1 << 24
"""Least and most of a block: large against what a read costs, small against the memory."""
BLOCKS = 16
"""Into which the memory is cut where they are not the largest."""
IN_THE_MAKING = 2
"""Blocks' worth of memory that reading one takes besides."""
THREADS, WAITING, WAITING_ATOMS = 2, 8, 1 << 13
"""Threads that find pairs, and steps whose pairs are found ahead: at most so many, of so many atoms, at least one."""
LOOKED_AT = 100
"""Steps by which the size of all is judged."""
SOME = 100
"""Frames whose columns are looked at for labels that are not used."""


@dataclass(frozen=True)
class Block:
    """Frames of a block, and what training takes of them.

    Attributes
    ----------
    structures : Structures
    species : (n_atoms,) int32
    energies, forces, virials
        Labels, less the repulsion of nuclei; virials where the cell is periodic in all directions.
    """

    structures: Structures
    species: np.ndarray
    energies: np.ndarray
    forces: np.ndarray
    virials: np.ndarray


@dataclass
class Known:
    """What is kept of every frame, (n_frames,) each."""

    weight: list = field(default_factory=list)
    energies: list = field(default_factory=list)
    largest_force: list = field(default_factory=list)
    largest_stress: list = field(default_factory=list)
    volumes: list = field(default_factory=list)
    dropped_stress: list = field(default_factory=list)
    some_force: list = field(default_factory=list)
    has_virial: list = field(default_factory=list)
    compositions: list = field(default_factory=list)
    alone: list = field(default_factory=list)

    def joined(self):
        """The same with an array for each."""
        return Known(**{name: np.concatenate(parts) for name, parts in vars(self).items()})


class StreamedSet(TrainingSet):
    """All frames of a training or validation set that streams.

    Parameters
    ----------
    streamed : Streamed
    descriptor, dtype, device, purpose, repulsion
        As of TrainingSet.

    Raises
    ------
    InputError
        As TrainingSet does.
    FileFormatError
        As FramesOnDisk.rows does.
    """

    kept_gigabytes = 0.0    # of pairs

    def __init__(self, streamed, descriptor, dtype, device="cpu", purpose="training", repulsion=None):
        self._streamed, self._descriptor, self._repulsion = streamed, descriptor, repulsion
        self.device, self.dtype = device, np.dtype(dtype)
        sizes = streamed.files.n_atoms[streamed.frames]
        self._n_atoms, self.where = sizes, streamed.where
        self.blocks, self.window = cut_into_blocks(sizes, streamed.memory * SHARES[purpose])
        self._kept, self._lock = OrderedDict(), threading.Lock()
        self._known = self._look_at_all(purpose)
        self.energies, self.weight = self._known.energies, self._known.weight
        self.dropped_stress = self._known.dropped_stress

    def _look_at_all(self, purpose):
        """Judge all frames, and gather what is kept of each."""
        known, digests, self._squares = Known(), [hashlib.sha256(), hashlib.sha256()], [0.0, 0]
        complete = dict.fromkeys(("energy", "forces", "stress"), 0)
        for k in range(len(self.blocks) - 1):
            a, b = self.blocks[k : k + 2]
            block, stress = self._load(k)
            s, own = block.structures, self._streamed.frames[a:b]
            first, bulk = s.first[:-1], s.pbc.all(1)
            weight = self._streamed.files.weights(own[0], own[-1] + 1)
            weight = np.array([check_weight(int(f), weight[f - own[0]]) for f in own])
            force = np.isfinite(block.forces)
            known.weight.append(weight)
            known.energies.append(block.energies)
            known.largest_force.append(np.fmax.reduceat(np.sqrt((block.forces**2).sum(axis=1)), first))
            with np.errstate(invalid="ignore", divide="ignore"):
                known.largest_stress.append(abs(block.virials).max((1, 2)) / s.volumes)
            known.volumes.append(s.volumes)
            known.dropped_stress.append(np.isfinite(stress).any((1, 2)) & ~bulk)
            known.some_force.append(np.logical_or.reduceat(force.any(1), first))
            known.has_virial.append(np.isfinite(block.virials).any((1, 2)))
            counts = np.zeros((b - a, len(self._descriptor.species_numbers)), np.int32)
            np.add.at(counts, (s.frame_of_atom, block.species), 1)
            known.compositions.append(counts)
            known.alone.append(self._sees_none(s))
            self._squares[0] += float((block.forces[force] ** 2).sum())
            self._squares[1] += int(force.sum())
            complete["energy"] += int(np.isfinite(block.energies).sum())
            complete["forces"] += int(np.logical_and.reduceat(force.all(1), first).sum())
            complete["stress"] += int((np.isfinite(stress).all((1, 2)) & bulk).sum())
            digest((s.first, s.numbers, s.positions, s.cells, s.pbc), digests[0])
            digest((block.energies, block.forces, block.virials, weight), digests[1])
        if not complete["energy"] and not self._squares[1]:
            raise InputError(
                f"none of the {self.n_frames} {purpose} frames in {self._streamed.names} carries an energy or forces; "
                "convert frames that do, or name their labels (fastdesc convert --energy-key, --forces-key)"
            )
        self._digests = [np.frombuffer(one.digest(), np.uint8) for one in digests]
        self.report = report_of(self.n_frames, int(self._n_atoms.sum()), complete)
        return known.joined()

    def _sees_none(self, s):
        """Which frames of a block are of one atom that sees no other, and no image of its own."""
        alone = np.diff(s.first) == 1
        where = np.flatnonzero(alone)
        if len(where):
            alone[where] = np.diff(Pairs.find(s.take(where), self._descriptor.cutoff).row) == 0
        return alone

    # -------------------------------------------------------------------------------------------- what is read

    def _block(self, k):
        """Block k, from memory where it is there."""
        with self._lock:
            if k in self._kept:
                self._kept.move_to_end(k)
                return self._kept[k]
            while len(self._kept) >= self.window:
                self._kept.popitem(last=False)
            self._kept[k], _ = self._load(k)
            return self._kept[k]

    def _load(self, k):
        """Read block k; also the stress of its frames as the files have it."""
        own = self._streamed.frames[self.blocks[k] : self.blocks[k + 1]]
        rows = self._streamed.files.rows(own[0], own[-1] + 1)
        if len(own) < own[-1] + 1 - own[0]:
            rows = rows.take(own - own[0])
        s = rows.structures
        species = self._judged(s, k)
        bulk = s.pbc.all(1)
        virials = rows.stress * np.where(bulk, s.volumes, np.nan)[:, None, None]
        energies, forces = rows.energies, rows.forces
        if self._repulsion is not None:
            e, f, w = self._repulsion.of_structures(s, species)
            energies, forces, virials = energies - np.add.reduceat(e, s.first[:-1]), forces - f, virials - w
        return Block(s, species, energies, forces, virials), rows.stress

    def _judged(self, s, k):
        """Elements of the atoms of block k; InputError that names the frame where one cannot be used."""
        numbers = self._descriptor.species_numbers
        try:
            s.check()
            return s.species(numbers)
        except InputError:
            for f in range(s.n_frames):
                self._name_file(int(self.blocks[k]) + f, s.take([f]), lambda one: (one.check(), one.species(numbers)))
            raise

    def _name_file(self, frame, one, work):
        """Do something with Structures of one frame; an InputError gets its file and its number there."""
        path, one.frames_before = self._streamed.files.place(self._streamed.frames[frame])
        try:
            work(one)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    def _given(self, frames):
        """Pairs, their vectors, elements and labels of some frames."""
        places = [int(k) for k in np.searchsorted(self.blocks, frames, side="right") - 1]
        held = {k: self._block(k) for k in dict.fromkeys(places)}
        parts = []
        for k in held:
            own = np.array([n for n, place in enumerate(places) if place == k])
            parts.append((own, held[k], np.asarray(frames)[own] - self.blocks[k]))
        columns = _gathered(parts, len(places))
        structures, species, *labels = columns
        try:
            pairs = Pairs.find(structures, self._descriptor.cutoff)
        except InputError:
            for n, f in enumerate(frames):
                one = structures.take([n])
                self._name_file(int(f), one, lambda one: Pairs.find(one, self._descriptor.cutoff))
            raise
        rij = pair_vectors(structures.positions, structures.cells, pairs, self.dtype)
        return pairs.to_device(self.device), to_device(rij, self.device), species, *labels

    def batches_ahead(self, groups, reference):
        """Yield the batch of each group of frames, of which those of the next steps are made in threads."""
        large = max((int(self._n_atoms[group].sum()) for group in groups[:LOOKED_AT]), default=1)
        waiting = min(WAITING, max(1, WAITING_ATOMS // large))
        threads = THREADS if self.device == "cpu" else 1    # one thread hands work to a GPU besides that of the steps
        yield from prefetched(lambda group: self.batch(group, reference), groups, threads, waiting)

    def order(self, rng):
        """All frames in random order, such that each block is needed only for a while."""
        return shuffled_by_blocks(self.blocks, self.window, rng)

    # ------------------------------------------------------------------------------------ what is known of all

    @property
    def n_frames(self):
        """Number of frames."""
        return len(self._n_atoms)

    @property
    def n_atoms(self):
        """Number of atoms of every frame, (n_frames,)."""
        return self._n_atoms.copy()

    @property
    def volumes(self):
        """Volume of every cell, (n_frames,) Å^3."""
        return self._known.volumes

    @property
    def about_pairs(self):
        """What is to be said of frames that are not in memory."""
        n = len(self.blocks) - 1
        text = f"; streamed from {self._streamed.names} in {n} block{'s'[: n != 1]}"
        return text + (f", {self.window} at a time" if self.window < n else "")

    @property
    def n_species(self):
        """Number of elements up to the last that occurs."""
        return int(np.flatnonzero(self._known.compositions.any(axis=0))[-1]) + 1

    @property
    def frames(self):
        """Some frames of the first file, as they are there."""
        path = self._streamed.files.paths[0]
        some = list(islice(iread_frames(path), SOME))
        return Placed(some, [(str(path), k) for k in range(len(some))])

    def largest_forces(self):
        """Length of the largest force in each frame, (n_frames,) eV/Å; NaN where there is none."""
        return self._known.largest_force

    def largest_stress(self):
        """Largest component of each stress that counts, (n_frames,) eV/Å^3; NaN where there is none."""
        return self._known.largest_stress

    def force_size(self):
        """Root mean square of all force components, eV/Å; 0 where there are none."""
        total, n = self._squares
        return float(np.sqrt(total / n)) if n else 0.0

    def compositions(self, n_species):
        """Number of atoms of each element in each frame, (n_frames, n_species)."""
        return self._known.compositions[:, :n_species].astype(np.float64)

    def counts(self):
        """Number of frames whose energy, forces and stress count: labelled, and of a weight above 0."""
        known = self._known
        have = {"energy": np.isfinite(self.energies), "forces": known.some_force, "stress": known.has_virial}
        return {name: int((one & (self.weight > 0)).sum()) for name, one in have.items()}

    def lone_atoms(self):
        """Frames of one atom that sees no other, and no image of its own."""
        return np.flatnonzero(self._known.alone)

    def species_of(self, frame):
        """Index of the element of the first atom of a frame of one element."""
        return int(np.argmax(self._known.compositions[frame]))

    def label_arrays(self):
        """Digests of what the frames are and of what they teach."""
        return tuple((one,) for one in self._digests)

    def energies_alone(self, weights):
        """Whether a loss of these weights sees nothing but energies: no forces or stresses, or none with a weight."""
        forces = weights.force > 0 and self._known.some_force.any()
        return not forces and not (weights.stress > 0 and self._known.has_virial.any())

    def short_distances(self, descriptor):
        """How many distances lie below what a descriptor's filters were made for."""
        found = ShortDistances()
        if descriptor.training_hints.r_min is not None:
            for k in range(len(self.blocks) - 1):
                found += of_structures(descriptor, self._block(k).structures)
        return found


def cut_into_blocks(n_atoms, memory):
    """Cut frames of `n_atoms` (n_frames,) atoms into blocks; return their bounds, and how many `memory` bytes hold.

    Always one, and besides what reading one takes.
    """
    ends = np.cumsum(BYTES_OF_FRAME + BYTES_OF_ATOM * np.asarray(n_atoms, np.int64))
    size = int(np.clip(memory / BLOCKS, *BLOCK_BYTES))
    bounds = np.unique([0, *np.searchsorted(ends, np.arange(size, ends[-1], size)), len(n_atoms)])
    largest = np.diff(np.concatenate([[0], ends])[bounds]).max()
    return bounds, max(1, int(memory // largest) - IN_THE_MAKING)


def _gathered(parts, n):
    """Frames of several blocks, in their order.

    Parameters
    ----------
    parts : list of (places (m,), Block, frames of it (m,))
    n : int
        Of all.

    Returns
    -------
    structures, species, energies, forces, virials
    """
    sizes = np.zeros(n, np.int64)
    for own, block, frames in parts:
        sizes[own] = np.diff(block.structures.first)[frames]
    first = np.concatenate([[0], np.cumsum(sizes)])
    some = parts[0][1]
    by_atom = [np.empty((first[-1], *x.shape[1:]), x.dtype) for x in _of_atoms(some)]
    by_frame = [np.empty((n, *x.shape[1:]), x.dtype) for x in _of_frames(some)]
    for own, block, frames in parts:
        bounds = block.structures.first
        for place, f in zip(own.tolist(), frames.tolist(), strict=True):
            for to, x in zip(by_atom, _of_atoms(block), strict=True):
                to[first[place] : first[place + 1]] = x[bounds[f] : bounds[f + 1]]
        for to, x in zip(by_frame, _of_frames(block), strict=True):
            to[own] = x[frames]
    numbers, positions, species, forces = by_atom
    cells, pbc, energies, virials = by_frame
    return Structures(numbers, positions, cells, pbc, first), species, energies, forces, virials


def _of_atoms(block):
    return block.structures.numbers, block.structures.positions, block.species, block.forces


def _of_frames(block):
    return block.structures.cells, block.structures.pbc, block.energies, block.virials
