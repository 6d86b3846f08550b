"""What training is given, opened and made ready: here alone is asked which kind it is.

Frames in the memory become a TrainingSet, frames that stay on the disk a StreamedSet, rows of a features file a
FeatureSet; the trainer asks each for its batches, and never which it has.
"""

import numpy as np

from fastdesc.errors import InputError
from fastdesc.training.dataset import TrainingSet
from fastdesc.training.from_features import (
    StoredFeatures,
    feature_set,
    is_features,
    open_feature_rows,
    settings_for_features,
)
from fastdesc.training.places import read_placed
from fastdesc.training.settings import PAIR_MEMORY
from fastdesc.training.streamed_frames import Streamed, open_streamed
from fastdesc.training.streamed_set import StreamedSet


def fitting_settings(settings, train_frames):
    """Settings without those that need positions, where the training frames are features, which have none."""
    features = isinstance(train_frames, StoredFeatures) or is_features(train_frames)
    return settings_for_features(settings) if features else settings


def opened(train_frames, valid_frames, settings, rng):
    """Open what training and validation frames came as; set validation frames aside where none are given.

    Returns
    -------
    train_frames, valid_frames : Placed, Streamed or StoredFeatures
        The latter None where none are wanted.

    Raises
    ------
    InputError
        For files that are not there or hold no frames, features to validate what is trained on frames, or too few
        frames to split.
    """
    fraction, memory = settings.valid_fraction, settings.frame_memory
    frames = open_frames(train_frames, "training", memory)
    if valid_frames is not None or fraction == 0:
        valid = None if valid_frames is None else open_frames(valid_frames, "validation", memory)
        if isinstance(valid, StoredFeatures) and not isinstance(frames, StoredFeatures):
            raise InputError(
                f"the validation frames are a features file, {valid.file.path}, and the training frames are not; give "
                "frames for both, or features for both"
            )
        return frames, valid
    n_valid = max(1, round(fraction * len(frames)))
    if n_valid >= len(frames):
        raise InputError(
            f"{len(frames)} frame{'s'[: len(frames) != 1]} cannot be split for validation with valid_fraction "
            f"{fraction}; give more, or valid_fraction=0"
        )
    order = rng.permutation(len(frames))
    return tuple(frames.take(np.sort(part)) for part in (order[n_valid:], order[:n_valid]))


def open_frames(source, purpose, memory, keys=None):
    """Open the frames of training or validation.

    Parameters
    ----------
    source : path, frames, FeaturesFile, or what this function returned
    purpose : {"training", "validation"}
    memory : float
        GB, as `frame_memory` of Settings.
    keys : dict, optional
        Names of labels, as `read_frames` wants them.

    Returns
    -------
    Placed, Streamed or StoredFeatures
        Frames in memory, frames that stay on the disk, or rows of a features file. Each has ``len``, ``take``,
        ``report``, ``elements()``, ``in_memory`` and ``own_descriptor`` (None, but of a features file).
    """
    if isinstance(source, StoredFeatures | Streamed):
        return source
    if is_features(source):
        return open_feature_rows(source, purpose)
    return open_streamed(source, memory, purpose, keys) or read_placed(source, purpose, **(keys or {}))


def training_set(frames, potential, dtype, device, purpose="training", pair_memory=PAIR_MEMORY):
    """Make a TrainingSet of frames, a StreamedSet of a Streamed, or a FeatureSet of StoredFeatures, for a potential.

    Raises
    ------
    InputError
        As both do; and for features, which know no distances, of a potential with a repulsion of nuclei.
    """
    descriptor, repulsion = potential.descriptor, potential.repulsion
    if isinstance(frames, Streamed):
        return StreamedSet(frames, descriptor, dtype, device, purpose, repulsion)
    if not isinstance(frames, StoredFeatures):
        return TrainingSet(frames, descriptor, dtype, device, purpose, pair_memory, repulsion)
    if repulsion is not None:
        raise InputError(
            f"{frames.file.path} holds features, which do not tell distances, and the potential has a repulsion of "
            "nuclei; train on frames, or leave repulsion out"
        )
    return feature_set(frames, descriptor, dtype, device, purpose)
