"""How long a run is, and how large its steps are: from a budget and the frames that it has."""

from dataclasses import replace

import numpy as np

from fastdesc.training.settings import MOST_COUNTED

STEPS = 20_000
"""Steps of a run that says nothing else: two to five minutes on one core for steps of 128 atoms."""
MOST_EPOCHS = 2000
"""Of a run that says nothing else."""
BATCH_ATOMS = 32, 128
"""Fewest and most atoms of a step that nothing is said about: small sets make some steps an epoch, too."""
STEPS_PER_EPOCH = 16


def with_budget(settings, data, seconds_of_step=None):
    """Return the settings with the numbers of epochs and atoms per step that follow from the others and the frames.

    Parameters
    ----------
    settings : Settings
        With `epochs`, `steps` or `minutes`, or none of them.
    data : TrainingSet or FeatureSet
    seconds_of_step : callable, optional
        Settings -> seconds that a step takes, measured; asked for where `minutes` are given.

    Returns
    -------
    settings : Settings
        `epochs` and `batch_atoms` are numbers; `steps` and `minutes` None.
    text : str
        What was chosen, in one line; '' where everything was given.
    """
    s, chosen = settings, []
    if s.batch_atoms is None:
        s = replace(s, batch_atoms=int(np.clip(data.n_atoms.sum() // STEPS_PER_EPOCH, *BATCH_ATOMS)))
    per_epoch = len(step_frames(s, data, np.arange(data.n_frames)))
    if s.epochs is None:
        steps = s.steps or STEPS
        if s.minutes is not None:
            seconds = seconds_of_step(s)
            steps = max(1, min(int(60 * s.minutes / seconds), MOST_COUNTED))
            chosen.append(f"{s.minutes:g} minutes at {1000 * seconds:.3g} ms per step")
        epochs = max(1, round(steps / per_epoch))
        if s.steps is None and s.minutes is None:
            epochs = min(epochs, MOST_EPOCHS)
        s = replace(s, epochs=epochs, steps=None, minutes=None)
        frames = data.n_frames / per_epoch
        size = f"{frames:.3g} frame{'s'[: frames != 1]}, {data.n_atoms.sum() / per_epoch:.3g} atoms"
        chosen.append(f"{epochs} epochs of {per_epoch} step{'s'[: per_epoch != 1]} ({size} each)")
    return s, ": ".join(chosen)


def step_frames(settings, data, order):
    """Frames of each step of an epoch: a list of int arrays."""
    size = settings.batch_size
    if size is None:
        return data.batches(settings.batch_atoms, order)
    return [order[k : k + size] for k in range(0, len(order), size)]
