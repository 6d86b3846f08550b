"""Training on the rows of a features file: opened, and held against the potential before training begins.

A features file has no positions: a potential learns energies alone from it, and needs the file's own descriptor.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fastdesc.errors import FileFormatError, InputError
from fastdesc.features.layout import FORMAT
from fastdesc.features.reader import FeaturesFile, open_features
from fastdesc.hdf5.files import format_of, part_of, to_json
from fastdesc.training.dataset import check_weight
from fastdesc.training.feature_dataset import FeatureSet, blocks_of
from fastdesc.training.places import place_name
from fastdesc.training.settings import Settings

LEFT_OUT = ("force_weight", "stress_weight", "descriptor_learning_rate", "curvature", "magnitude")
"""Settings that mean nothing without positions, or for a descriptor that stays as it is."""


@dataclass(frozen=True)
class StoredFeatures:
    """Some frames of an open features file.

    Attributes
    ----------
    file : FeaturesFile
    frames : (n,) int array, ascending
    """

    file: FeaturesFile
    frames: np.ndarray

    in_memory = False

    def __len__(self):
        return len(self.frames)

    def take(self, which):
        """Some of these frames."""
        return StoredFeatures(self.file, self.frames[which])

    @property
    def own_descriptor(self):
        """The descriptor that made the features, the only one that can be trained on them."""
        return self.file.descriptor()

    def elements(self):
        """No atomic numbers, a set: elements are those of the descriptor."""
        return set()

    @property
    def report(self):
        """What there is, in one line."""
        n, known = len(self), int(np.isfinite(self.file.energies[self.frames]).sum())
        atoms = int(np.diff(self.file.offsets)[self.frames].sum())
        energies = "all with energy" if known == n else f"{n - known} without energy"
        return (
            f"{n} frame{'s'[: n != 1]} ({atoms} atoms) of the features in {self.file.path}, {energies}; on energies "
            "alone, the descriptor as it is, for there are no positions"
        )


def is_features(source):
    """Whether frames were given as a features file: its name, or the open file."""
    if isinstance(source, FeaturesFile):
        return True
    if not isinstance(source, str | Path):
        return False
    path = Path(source)
    return format_of(path if path.exists() else part_of(path)) == FORMAT


def open_feature_rows(source, purpose="training"):
    """Open a features file to train on.

    Parameters
    ----------
    source : path or FeaturesFile
    purpose : str
        What messages call the frames.

    Returns
    -------
    StoredFeatures

    Raises
    ------
    InputError
        For an unfinished file, one of pooled features, one without frames, or without energies.
    FileFormatError
        For a damaged one.
    """
    file = source if isinstance(source, FeaturesFile) else open_features(source)
    if file.pool:
        raise InputError(
            f"{file.path} holds the {file.pool} of each structure, and a potential needs the features of each atom; "
            "featurize without pool"
        )
    if not len(file):
        raise InputError(f"{file.path} holds no frames; featurize at least one")
    if not np.isfinite(file.energies).any():
        raise InputError(
            f"none of the {len(file)} {purpose} frames in {file.path} carries an energy; featurize frames that do"
        )
    return StoredFeatures(file, np.arange(len(file)))


def settings_for_features(settings):
    """Return the settings with those set to 0 that need positions.

    Raises
    ------
    InputError
        When one of them was set by hand.
    """
    plain = Settings()
    for name in LEFT_OUT:
        value = getattr(settings, name)
        if value not in (0, getattr(plain, name)):
            raise InputError(
                f"{name} is {value:g}, but the training frames are a features file, which has no positions: forces, "
                f"stresses and the descriptor cannot be trained. Leave {name} out, or give the frames themselves"
            )
    if settings.energy_weight == 0:
        raise InputError("energy_weight is 0, and energies are all that a features file can teach; give it a weight")
    return replace(settings, **dict.fromkeys(LEFT_OUT, 0.0))


def check_descriptor(file, descriptor):
    """InputError unless the features of a file are those of a descriptor; names the difference."""
    check_arguments(file, descriptor)
    for name, array in file.descriptor().parameters.items():
        if not np.array_equal(array, descriptor.parameters[name]):
            raise InputError(
                f"the descriptor has other parameters {name} than that of {file.path}; {_own_descriptor(file)}"
            )


def check_arguments(file, descriptor):
    """InputError unless family and arguments of a descriptor are those of the file's."""
    theirs, advice = file.descriptor(), _own_descriptor(file)
    if theirs.family != descriptor.family:
        raise InputError(f"the descriptor is {descriptor.family}, that of {file.path} {theirs.family}; {advice}")
    a, b = (json.loads(to_json(d.get_params() | {"species": d.species_numbers})) for d in (theirs, descriptor))
    for name in a:
        # The seed of the parameters says less than the parameters.
        if name != "seed" and a[name] != b[name]:
            raise InputError(f"the descriptor has {name} {b[name]}, that of {file.path} {a[name]}; {advice}")


def _own_descriptor(file):
    return (
        f"take that of the file (fastdesc.open_features({str(file.path)!r}).descriptor(), or no [descriptor] in a "
        "configuration), or featurize anew"
    )


def feature_set(stored, descriptor, dtype, device, purpose="training"):
    """Make a FeatureSet that reads from a file.

    Parameters
    ----------
    stored : StoredFeatures
    descriptor : Descriptor
        That of the potential.
    dtype : dtype
        Of training; features of the other precision are cast.
    device : {"cpu", "cuda"}
    purpose : str
        What messages call the frames.

    Raises
    ------
    InputError
        For another descriptor, when no frame has an energy, or a weight is negative.
    """
    file, frames = stored.file, stored.frames
    check_descriptor(file, descriptor)
    energies, n_atoms = file.energies[frames], np.diff(file.offsets)[frames]
    if not np.isfinite(energies).any():
        raise InputError(f"none of the {len(frames)} {purpose} frames of {file.path} carries an energy; give others")
    bounds, window = blocks_of(n_atoms, file.n_features * np.dtype(dtype).itemsize)
    known = np.array(descriptor.species_numbers)

    def own(k):
        """Frames of a block."""
        return frames[bounds[k] : bounds[k + 1]]

    def species_of(numbers):
        species = np.searchsorted(known, numbers)
        if not np.array_equal(known[np.minimum(species, len(known) - 1)], numbers):
            raise FileFormatError(f"{file.path} holds elements its descriptor does not know; make it again")
        return species.astype(np.int32)

    def load(k):
        return np.asarray(file[own(k)], dtype), species(k)

    def species(k):
        return species_of(file.numbers(own(k)))

    weight = np.array([check_weight(k, w) for k, w in zip(frames.tolist(), _weights(file)[frames], strict=True)])

    def place(k):
        return place_name(str(file.path), int(frames[k]))

    return FeatureSet(n_atoms, energies, weight, bounds, window, load, species, dtype, device, stored.report, place)


def _weights(file):
    """``info["weight"]`` of every frame of a file; 1 where it had none."""
    if "weight" not in file.info_keys:
        return np.ones(len(file))
    weight = np.asarray(file.info("weight"))
    if weight.dtype.kind != "f":
        raise InputError(f"info['weight'] of the frames in {file.path} holds text; it must be numbers of at least 0")
    return np.where(np.isnan(weight), 1.0, weight)
