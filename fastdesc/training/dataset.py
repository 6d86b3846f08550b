"""Frames made ready for training: pairs (fastdesc/training/pair_store.py), and labels with NaN where missing."""

from dataclasses import dataclass
from functools import cached_property
from numbers import Real

import numpy as np

from fastdesc.backend.arrays import to_device
from fastdesc.errors import InputError
from fastdesc.geometry import frame_sums
from fastdesc.io.labels import advice, labels, taught
from fastdesc.pairs import Pairs
from fastdesc.structures import Structures
from fastdesc.training.initialise import initialise, initialise_with_descriptor
from fastdesc.training.linear_start import start_linear
from fastdesc.training.loss import Targets
from fastdesc.training.outliers import outliers
from fastdesc.training.pair_store import PairStore
from fastdesc.training.places import read_placed
from fastdesc.training.settings import PAIR_MEMORY


@dataclass(frozen=True)
class TrainingBatch:
    """Some frames, concatenated.

    Attributes
    ----------
    rij : (3, n_pairs), Å
    pairs : Pairs
    species : (n_atoms,) int32
    targets : Targets
    """

    rij: object
    pairs: Pairs
    species: object
    targets: Targets

    @property
    def n_atoms(self):
        """Number of atoms."""
        return self.pairs.n_atoms

    @property
    def columns(self):
        """Atoms of each element, or None where it is not known (Pairs.columns)."""
        return self.pairs.columns

    def features(self, model):
        """Features of all atoms, (n_features, n_atoms)."""
        return model.descriptor.forward(self.rij, self.pairs, self.species, model.theta)[0]

    def frame_sums(self, per_atom):
        """Sum over the atoms of each frame, float64 (n_frames,)."""
        return frame_sums(per_atom[None], self.pairs)[:, 0]


def check_weight(k, value):
    """Return the weight of frame k in the loss; InputError where it can be none."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value < np.inf:
        raise InputError(f"info['weight'] of frame {k} is {value!r}; it must be a finite number of at least 0")
    return float(value)


class TrainingSet:
    """All frames of a training or validation set.

    Parameters
    ----------
    source : path, ase.Atoms or list of ase.Atoms
        Labels come from each frame's calculator; ``atoms.info["weight"]`` is the frame's weight in the loss, 1 by
        default.
    descriptor : Descriptor
    dtype : dtype
    device : {"cpu", "cuda"}
    purpose : str
        What messages call the frames.
    pair_memory : float
        As of Settings.
    repulsion : Repulsion, optional
        Of the potential: it is taken off the labels, and training knows the rest alone.

    Raises
    ------
    InputError
        When no frame carries an energy or forces, a weight is negative, or frames are unusable.
    """

    def __init__(
        self, source, descriptor, dtype, device="cpu", purpose="training", pair_memory=PAIR_MEMORY, repulsion=None
    ):
        self.frames = read_placed(source, purpose)
        known = labels(self.frames)
        if not np.isfinite(known.energies).any() and not np.isfinite(known.forces).any():
            raise InputError(
                f"none of the {len(self.frames)} {purpose} frames carries an energy or forces; {advice(self.frames)}"
            )
        weight = np.array([check_weight(k, atoms.info.get("weight", 1.0)) for k, atoms in enumerate(self.frames)])
        self.structures = Structures.from_ase(self.frames)
        self.species = self.structures.species(descriptor.species_numbers)
        self.store = PairStore(self.structures, descriptor.cutoff, dtype, device, pair_memory * 1e9)
        self.device, self.dtype = device, np.dtype(dtype)
        self.energies = known.energies
        bulk = self.structures.pbc.all(1)
        self.dropped_stress = np.isfinite(known.stress).any((1, 2)) & ~bulk
        self.report = taught(self.frames, known).report(self.frames)
        volumes = np.where(bulk, self.structures.volumes, np.nan)
        self._virial = known.stress * volumes[:, None, None]
        self._forces, self.weight = known.forces, weight
        if repulsion is not None:
            energies, forces, virials = repulsion.of_structures(self.structures, self.species)
            self.energies = self.energies - np.add.reduceat(energies, self.structures.first[:-1])
            self._forces, self._virial = self._forces - forces, self._virial - virials

    @property
    def n_frames(self):
        """Number of frames."""
        return self.structures.n_frames

    @property
    def kept_gigabytes(self):
        """Memory of the pairs that are kept."""
        return self.store.n_bytes / 1e9 if self.store.kept else 0.0

    @property
    def about_pairs(self):
        """What is to be said of pairs that are not kept."""
        size = f"{self.store.n_bytes / 1e9:.3g} GB, more than pair_memory"
        return "" if self.store.kept else f"; pairs are found anew for each step ({size})"

    @property
    def n_atoms(self):
        """Number of atoms of every frame, (n_frames,)."""
        return np.diff(self.structures.first)

    @property
    def volumes(self):
        """Volume of every cell, (n_frames,) Å^3."""
        return self.structures.volumes

    @property
    def n_species(self):
        """Number of elements up to the last that occurs."""
        return int(self.species.max()) + 1

    @cached_property
    def outliers(self):
        """Frames far outside the rest, as `fastdesc.training.outliers.outliers` returns them."""
        return outliers(self, self.n_species)

    def usual(self):
        """Frames whose labels are not far outside the rest, in order: what scales go by."""
        return np.flatnonzero(~np.logical_or.reduce([far for far, *_ in self.outliers.values()]))

    def largest_forces(self):
        """Length of the largest force in each frame, (n_frames,) eV/Å; NaN where there is none."""
        length = np.sqrt((self._forces**2).sum(axis=1))
        return np.fmax.reduceat(length, self.structures.first[:-1])

    def largest_stress(self):
        """Largest component of each stress that counts, (n_frames,) eV/Å^3; NaN where there is none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return abs(self._virial).max((1, 2)) / self.structures.volumes

    def force_size(self):
        """Root mean square of all force components, eV/Å; 0 where there are none."""
        f = self._forces[np.isfinite(self._forces)]
        return float(np.sqrt((f**2).mean())) if len(f) else 0.0

    def compositions(self, n_species):
        """Number of atoms of each element in each frame, (n_frames, n_species)."""
        counts = np.zeros((self.n_frames, n_species))
        np.add.at(counts, (self.structures.frame_of_atom, self.species), 1.0)
        return counts

    def counts(self):
        """Number of frames whose energy, forces and stress count: labelled, and of a weight above 0."""
        some_force = np.logical_or.reduceat(np.isfinite(self._forces).any(1), self.structures.first[:-1])
        known = {"energy": np.isfinite(self.energies), "forces": some_force, "stress": self._has_virial}
        return {name: int((have & (self.weight > 0)).sum()) for name, have in known.items()}

    @property
    def _has_virial(self):
        return np.isfinite(self._virial).any((1, 2))

    def where(self, frame):
        """Name a frame by its index and its file."""
        return self.frames.where(frame)

    def lone_atoms(self):
        """Frames of one atom that sees no other, and no image of its own."""
        return np.flatnonzero((self.n_atoms == 1) & (self.store.n_pairs == 0))

    def species_of(self, frame):
        """Index of the element of the first atom of a frame."""
        return int(self.species[self.structures.first[frame]])

    def label_arrays(self):
        """What the frames are and what they teach, as arrays: structures, and labels with weights."""
        s = self.structures
        return (s.first, s.numbers, s.positions, s.cells, s.pbc), (
            self.energies, self._forces, self._virial, self.weight
        )  # fmt: skip

    def energies_alone(self, weights):
        """Whether a loss of these weights sees nothing but energies: no forces or stresses, or none with a weight."""
        forces = weights.force > 0 and np.isfinite(self._forces).any()
        return not forces and not (weights.stress > 0 and np.isfinite(self._virial).any())

    def batch(self, frames, reference):
        """Concatenate some frames; energies become those above the reference energies.

        Parameters
        ----------
        frames : (n,) int array
        reference : (n_species,) eV
        """
        pairs, rij, species, energies, forces, virials = self._given(frames)
        if self.device == "cuda":
            pairs.note_species(species, len(reference))
        sums = np.add.reduceat(np.asarray(reference)[species], pairs.first[:-1])
        given = energies - sums, forces, virials, self.weight[frames], pairs.first
        targets = Targets(*(to_device(a, self.device) for a in given), len(species))
        return TrainingBatch(rij, pairs, to_device(species, self.device), targets)

    def _given(self, frames):
        """Pairs, their vectors, elements and labels of some frames."""
        first = self.structures.first
        atoms = np.concatenate([np.arange(first[f], first[f + 1]) for f in frames])
        labels = self.energies[frames], self._forces[atoms], self._virial[frames]
        return *self.store.take(frames), self.species[atoms], *labels

    def batches_ahead(self, groups, reference):
        """Yield the batch of each group of frames, made while the one before it is at work where that pays."""
        yield from self.store.ahead(lambda group: self.batch(group, reference), groups)

    def initialise(self, potential, with_descriptor):
        """Fit what needs no gradient, and before it the initial parameters of a descriptor that is to be trained."""
        (initialise_with_descriptor if with_descriptor else initialise)(potential, self)

    def start_linear(self, potential, weights, curvature):
        """Fit the best pair potential: see fastdesc/training/linear_start.py."""
        start_linear(potential, self, weights, curvature)

    def short_distances(self, descriptor):
        """How many distances lie below what a descriptor's filters were made for."""
        return self.store.short_distances(descriptor)

    def check_restored(self, parameters, restored, path):
        """Whatever parameters a checkpoint holds, these frames can go on from them."""

    def batches(self, batch_atoms, order=None):
        """Split the frames, in the given order, into groups of at most `batch_atoms` atoms, at least one frame each."""
        return cut(self.n_atoms, batch_atoms, order)

    def order(self, rng):
        """All frames in random order."""
        return rng.permutation(self.n_frames)


def cut(n_atoms, batch_atoms, order=None):
    """Split frames of `n_atoms` (n_frames,) atoms, in an order, into groups as `TrainingSet.batches` does."""
    order = np.arange(len(n_atoms)) if order is None else order
    groups, group, atoms = [], [], 0
    for f, n in zip(order, n_atoms[order], strict=True):
        if group and atoms + n > batch_atoms:
            groups.append(np.array(group))
            group, atoms = [], 0
        group.append(int(f))
        atoms += int(n)
    groups.append(np.array(group))
    return groups


def shuffled_by_blocks(bounds, window, rng):
    """All frames in random order, such that each block is needed only for a while.

    Parameters
    ----------
    bounds : (n_blocks + 1,) int array
        Block k has the frames bounds[k] .. bounds[k + 1].
    window : int
        Number of blocks whose frames are shuffled among each other.
    rng : numpy.random.Generator

    Returns
    -------
    (n_frames,) int array
    """
    n = len(bounds) - 1
    if n <= window:
        return rng.permutation(bounds[-1])
    blocks, out = rng.permutation(n), []
    for k in range(0, n, window):
        near = [np.arange(bounds[b], bounds[b + 1]) for b in blocks[k : k + window]]
        out.append(rng.permutation(np.concatenate(near)))
    return np.concatenate(out)
