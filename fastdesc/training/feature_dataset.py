"""A training set of features: for a loss on energies alone under a fixed descriptor nothing else is needed.

Features lie in blocks of consecutive frames. Of a set that is larger than KEPT_BYTES only a window of blocks is in
memory: blocks come in random order, and the frames of as many as fit are shuffled among each other.
"""

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fastdesc.backend.arrays import namespace, to_device, to_host
from fastdesc.descriptors.short_distances import ShortDistances
from fastdesc.errors import InputError
from fastdesc.features.stream import rows_by_atom
from fastdesc.geometry import frame_sums
from fastdesc.training.dataset import cut, shuffled_by_blocks
from fastdesc.training.initialise import initialise_from_features
from fastdesc.training.loss import Targets
from fastdesc.training.outliers import outliers

KEPT_BYTES = 1 << 31
"""Features of one set in memory. A share of the free memory would let the machine decide the order of the frames."""
BLOCK_BYTES = 1 << 24
"""Features of a block: large against what a read costs, small against KEPT_BYTES."""
AT_ONCE = 4096
"""Atoms whose features are computed at a time."""


@dataclass(frozen=True)
class FeatureBatch:
    """Some frames, concatenated: what fastdesc.training.batch_gradient needs of a TrainingBatch, without geometry.

    Attributes
    ----------
    q : (n_features, n_atoms)
    species : (n_atoms,) int32
    first : (n_frames + 1,) int64, on the host
    targets : Targets
        Of forces and stresses there are none.
    columns : list of int arrays, or None
        Atoms of each element, for a device.
    """

    q: object
    species: object
    first: np.ndarray
    targets: Targets
    columns: object = None

    @property
    def n_atoms(self):
        """Number of atoms."""
        return self.q.shape[1]

    @property
    def n_frames(self):
        """Number of frames."""
        return len(self.first) - 1

    @property
    def bounds(self):
        """`first` on the device of the features."""
        return self.targets.first

    def features(self, model):
        """Features of all atoms, (n_features, n_atoms), whatever the model."""
        return self.q

    def frame_sums(self, per_atom):
        """Sum over the atoms of each frame, float64 (n_frames,)."""
        return frame_sums(per_atom[None], self)[:, 0]


class FeatureSet:
    """Features and energies of all frames of a training or validation set.

    Parameters
    ----------
    n_atoms : (n_frames,) int
        Number of atoms of every frame.
    energies : (n_frames,) eV
        NaN where a frame has none.
    weight : (n_frames,)
        Weight of every frame in the loss.
    blocks : (n_blocks + 1,) int
        Block k has the frames blocks[k] .. blocks[k + 1].
    window : int
        Number of blocks in memory.
    load : callable
        Number of a block -> features (n_atoms, n_features) in the dtype of training, species (n_atoms,) int32.
    species : callable
        Number of a block -> species alone.
    dtype : dtype
        Of training.
    device : {"cpu", "cuda"}
    report : str
        What the set holds, in one line.
    place : callable
        Number of a frame -> its index and file, in words.
    """

    kept_gigabytes, about_pairs = 0.0, ""    # there are no pairs

    def __init__(self, n_atoms, energies, weight, blocks, window, load, species, dtype, device, report, place):
        self.n_atoms, self.energies, self._weight = n_atoms, energies, weight
        self.blocks, self.window, self._load, self._species = np.asarray(blocks), window, load, species
        self.dtype, self.device, self.report = np.dtype(dtype), device, report
        self._first = np.concatenate([[0], np.cumsum(n_atoms)])
        self._kept = OrderedDict()
        self.place = place

    @classmethod
    def of_frames(cls, data, descriptor):
        """Compute the features of a TrainingSet, once for all, and let go of its pairs."""
        theta = descriptor.prepared(descriptor.theta(data.dtype, data.device), data.dtype)
        rows, species = [], []
        for group in data.batches(AT_ONCE):
            batch = data.batch(group, np.zeros(len(descriptor.species_numbers)))
            q = descriptor.forward(batch.rij, batch.pairs, batch.species, theta)[0]
            rows.append(rows_by_atom(q) if isinstance(q, np.ndarray) else q.T.copy())
            species.append(to_host(batch.species))
        features, species = namespace(rows[0]).concatenate(rows), np.concatenate(species)
        return cls(
            data.n_atoms, data.energies, data.weight, [0, data.n_frames], 1, lambda k: (features, species),
            lambda k: species, data.dtype, data.device, data.report, data.where,
        )  # fmt: skip

    @property
    def n_frames(self):
        """Number of frames."""
        return len(self.n_atoms)

    def counts(self):
        """Number of frames whose energy, forces and stress count, as TrainingSet's."""
        return {"energy": int((np.isfinite(self.energies) & (self._weight > 0)).sum()), "forces": 0, "stress": 0}

    def where(self, frame):
        """Name a frame by its index and its file."""
        return self.place(frame)

    def lone_atoms(self):
        """Frames of one atom that sees no other: its features are zero."""
        alone = [f for f in np.flatnonzero(self.n_atoms == 1) if not self._frame(f)[0].any()]
        return np.array(alone, int)

    def species_of(self, frame):
        """Index of the element of the first atom of a frame."""
        return int(self._frame(frame)[1][0])

    def label_arrays(self):
        """What the frames are and what they teach, as TrainingSet's; positions a features file does not have."""
        species = [self._species(k) for k in range(len(self.blocks) - 1)]
        return (self._first, *species), (self.energies, self._weight)

    def energies_alone(self, weights):
        """Whether a loss of these weights sees nothing but energies: always."""
        return True

    @cached_property
    def outliers(self):
        """Frames far outside the rest, as TrainingSet's; judged by energies."""
        return outliers(self, 1 + max(int(self._species(k).max()) for k in range(len(self.blocks) - 1)))

    def usual(self):
        """Frames whose labels are not far outside the rest, in order: what scales go by."""
        return np.flatnonzero(~self.outliers["energy"][0])

    def largest_forces(self):
        """NaN for every frame: forces are not known."""
        return np.full(self.n_frames, np.nan)

    def compositions(self, n_species):
        """Number of atoms of each element in each frame, (n_frames, n_species)."""
        counts = np.zeros((self.n_frames, n_species))
        for k, (a, b) in enumerate(zip(self.blocks[:-1], self.blocks[1:], strict=True)):
            np.add.at(counts, (np.repeat(np.arange(a, b), self.n_atoms[a:b]), self._species(k)), 1.0)
        return counts

    def initialise(self, potential, with_descriptor):
        """Fit what needs no gradient; a descriptor whose features are stored stays as it is."""
        initialise_from_features(potential, self)

    def start_linear(self, potential, weights, curvature):
        """InputError: there are no distances."""
        raise InputError("start 'linear' fits a filter to distances, which a features file lacks; give frames")

    def short_distances(self, descriptor):
        """None: there are no distances."""
        return ShortDistances()

    def check_restored(self, parameters, restored, path):
        """InputError unless the features at hand are those of the descriptor of a checkpoint."""
        for name, array in parameters.items():
            if name.startswith("descriptor/") and not np.array_equal(to_host(array), restored[name]):
                raise InputError(
                    f"{path} was made with another {name}, of which the features at hand are not; "
                    "use the same descriptor, or another checkpoint file"
                )

    def order(self, rng):
        """All frames in random order, such that each block is needed only for a while."""
        return shuffled_by_blocks(self.blocks, self.window, rng)

    def batches(self, batch_atoms, order=None):
        """Split the frames, in the given order, into groups of at most `batch_atoms` atoms, at least one frame each."""
        return cut(self.n_atoms, batch_atoms, order)

    def batches_ahead(self, groups, reference):
        """Yield the batch of each group of frames."""
        return (self.batch(group, reference) for group in groups)

    def batch(self, frames, reference):
        """Concatenate some frames; energies become those above the reference energies.

        Parameters
        ----------
        frames : (n,) int array
        reference : (n_species,) eV
        """
        rows, species = zip(*(self._frame(f) for f in frames), strict=True)
        rows, species = namespace(rows[0]).concatenate(rows), np.concatenate(species)
        first = np.concatenate([[0], np.cumsum(self.n_atoms[frames])])
        above = self.energies[frames] - np.add.reduceat(np.asarray(reference)[species], first[:-1])
        energy, weight, bounds = (to_device(a, self.device) for a in (above, self._weight[frames], first))
        # Rows of atoms are columns of q: matrix products take either order, so nothing is transposed.
        q = to_device(rows, self.device).T
        targets = Targets(energy, None, None, weight, bounds, len(species))
        columns = None
        if self.device == "cuda":
            columns = [to_device(np.flatnonzero(species == z), self.device) for z in range(len(reference))]
        return FeatureBatch(q, to_device(species, self.device), first, targets, columns)

    def _frame(self, f):
        """Features and species of a frame."""
        k = int(np.searchsorted(self.blocks, f, side="right")) - 1
        if k in self._kept:
            self._kept.move_to_end(k)
        else:
            while len(self._kept) >= self.window:
                self._kept.popitem(last=False)
            self._kept[k] = self._load(k)
        rows, species = self._kept[k]
        start = self._first[self.blocks[k]]
        atoms = slice(self._first[f] - start, self._first[f + 1] - start)
        return rows[atoms], species[atoms]


def with_features(data, descriptor):
    """Turn a TrainingSet into a FeatureSet where memory allows; what is one already, and a larger set, stay."""
    if isinstance(data, FeatureSet):
        return data
    size = int(data.n_atoms.sum()) * descriptor.n_features * data.dtype.itemsize
    return FeatureSet.of_frames(data, descriptor) if size <= KEPT_BYTES else data


def blocks_of(n_atoms, bytes_per_atom):
    """Cut frames into blocks of about BLOCK_BYTES; return their bounds and how many fit into KEPT_BYTES."""
    ends = np.cumsum(n_atoms) * bytes_per_atom
    bounds = np.unique([0, *np.searchsorted(ends, np.arange(BLOCK_BYTES, ends[-1], BLOCK_BYTES)), len(n_atoms)])
    largest = np.diff(np.concatenate([[0], ends])[bounds]).max()
    return bounds, max(1, int(KEPT_BYTES // largest))
