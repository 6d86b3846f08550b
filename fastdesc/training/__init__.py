"""Training a potential on energies, forces and stresses."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fastdesc.backend.arrays import resolve_device, resolve_dtype
from fastdesc.checks import flag, word
from fastdesc.checks import seed as check_seed
from fastdesc.errors import InputError
from fastdesc.features.reader import FeaturesFile
from fastdesc.potential import Potential
from fastdesc.potential.last_layer import LastLayer
from fastdesc.potential.uncertainty import Uncertainty, check_members
from fastdesc.training.checkpoint import fetched, read_checkpoint
from fastdesc.training.data import fitting_settings, opened, training_set
from fastdesc.training.ensemble_members import LIKELIHOODS
from fastdesc.training.history import History
from fastdesc.training.progress import Epoch
from fastdesc.training.settings import Settings
from fastdesc.training.team import ALONE
from fastdesc.training.team_processes import gathered, team_size
from fastdesc.training.trainer import Trainer
from fastdesc.training.trainer_state import restore, state_of
from fastdesc.training.uncertainty import fit, fit_members, weights_of
from fastdesc.types import Device, DType, FilePath, Frames


def train(
    potential: Potential,
    train_frames: Frames | FeaturesFile,
    valid_frames: Frames | FeaturesFile | None = None,
    *,
    checkpoint: FilePath | None = None,
    resume: bool = False,
    progress: bool = True,
    history: FilePath | None = None,
    callback: Callable[[Epoch], Any] | None = None,
    **settings: Any,
) -> History:
    """Train a potential in place; the best parameters seen on the validation frames are kept.

    Parameters
    ----------
    potential : Potential
    train_frames, valid_frames : path, or list of ase.Atoms with labels
        Without `valid_frames` a part of the training frames is set aside (setting `valid_fraction`).
        ``atoms.info["weight"]`` weighs a frame in the loss. A features file (`featurize`), or an open one, trains
        energies alone and leaves the descriptor, which must be that of the file, as it is; it may be larger than the
        memory. Validation frames may then be of either kind. Files of frames that `convert` wrote stay on the disk
        where they take more memory than `frame_memory`.
    checkpoint : path, optional
        File that is rewritten every `checkpoint_every` epochs and at the end, also when training is interrupted.
    resume : bool
        Continue from `checkpoint` if it exists, with the numbers of an uninterrupted run.
    progress : bool
        Show what was chosen, a line after every epoch and, on a terminal, a bar.
    history : path, optional
        CSV file that has the row of every epoch as soon as it is over.
    callback : callable, optional
        Called after every epoch with an `Epoch` (fastdesc.training.progress): its row, the history, the time left;
        training ends, as after the last epoch, where it returns True. With several devices the first one calls it.
    **settings
        Of `fastdesc.training.settings.Settings`: epochs, batch_size, learning_rate, force_weight, device, dtype, seed,
        ...

    Returns
    -------
    History
        One row per epoch.

    Raises
    ------
    InputError
        For frames without labels, unknown or impossible settings, or a checkpoint of another run; for a features file
        that is pooled or of another descriptor, and settings that it cannot follow.
    """
    trainer = trainer_for(potential, train_frames, valid_frames, checkpoint=checkpoint, resume=resume, **settings)
    return run_trainer(trainer, checkpoint, progress, history, callback)


def fit_uncertainty(
    potential: Potential,
    train_frames: Frames | FeaturesFile,
    valid_frames: Frames | FeaturesFile | None = None,
    *,
    device: Device = "cpu",
    dtype: DType = "float32",
) -> Uncertainty:
    """Fit what `predict(uncertainty=True)` needs to a potential that has been trained; nothing is trained.

    `train` does so at its end. This is for older models, and for other frames to calibrate by.

    Parameters
    ----------
    potential : Potential
        Gets the attribute `uncertainty`; save the model to keep it.
    train_frames, valid_frames : path, or list of ase.Atoms with labels
        As of `train`. Without `valid_frames` the part is set aside that training would set aside.
    device : {"cpu", "cuda", "auto"}
    dtype : {"float32", "float64"}
        Of the passes.

    Returns
    -------
    Uncertainty

    Raises
    ------
    InputError
        For a potential that is not fitted, one whose last layers are too wide, or frames without labels.
    """
    data, valid, s = _sets_of_uncertainty(potential, train_frames, valid_frames, device, dtype)
    potential.uncertainty = fit(potential, data, valid, weights_of(s))
    return potential.uncertainty


def shallow_ensemble(
    potential: Potential,
    train_frames: Frames | FeaturesFile,
    valid_frames: Frames | FeaturesFile | None = None,
    *,
    members: int = 8,
    likelihood: Literal["nll", "crps"] = "nll",
    seed: int = 0,
    device: Device = "cpu",
    dtype: DType = "float32",
) -> Uncertainty:
    """Make a shallow ensemble of a trained potential: last layers whose spread is trained to be that of the errors.

    The members share all but the last layer. They begin as samples of the Gaussian that `fit_uncertainty` fits, and
    are trained by a likelihood of the errors of energies and forces; what the potential predicts stays as it is, and
    so do the layers below. Forces take their spread from exactly these members.

    Parameters
    ----------
    potential : Potential
        Gets the attribute `uncertainty`; save the model to keep it.
    train_frames, valid_frames : path, or list of ase.Atoms with labels
        As of `train`; without `valid_frames` the part is set aside that training would set aside. Validation frames
        say when to stop, and calibrate.
    members : int
        At least 2, and fewer than weights in the last layers.
    likelihood : {"nll", "crps"}
        Negative logarithm of the likelihood, or continuous ranked probability score, which minds outliers less.
    seed : int
    device : {"cpu", "cuda", "auto"}
    dtype : {"float32", "float64"}
        Of the passes.

    Returns
    -------
    Uncertainty

    Raises
    ------
    InputError
        As `fit_uncertainty` does.

    Examples
    --------
    >>> fd.shallow_ensemble(potential, "train.extxyz")    # doctest: +SKIP
    >>> potential.predict("test.extxyz", uncertainty=True).forces_uncertainty    # doctest: +SKIP
    """
    check_members(members)
    word("likelihood", likelihood, LIKELIHOODS)
    check_seed(seed)
    data, valid, s = _sets_of_uncertainty(potential, train_frames, valid_frames, device, dtype)
    if valid is None:
        raise InputError("a shallow ensemble needs validation frames, which say when to stop; give valid_frames")
    layer = LastLayer.of(potential.model(), potential.direct_columns)
    if members > layer.n:
        raise InputError(f"{members} members were asked for, and the last layers have {layer.n} weights; give fewer")
    potential.uncertainty = fit_members(potential, data, valid, weights_of(s), members, likelihood, seed or 0)
    return potential.uncertainty


def _sets_of_uncertainty(potential, train_frames, valid_frames, device, dtype):
    """Training set, validation set or None, and Settings, for a potential that has been trained."""
    if not isinstance(potential, Potential):
        raise InputError(f"potential is a {type(potential).__name__}; give a Potential")
    if not potential.fitted:
        raise InputError("the potential has not been trained, and there is nothing to be sure of; train it first")
    known = [f.name for f in fields(Settings)]
    told = {k: v for k, v in potential.training.get("settings", {}).items() if k in known}
    s = Settings.named(**told)
    frames, valid = opened(train_frames, valid_frames, s, np.random.default_rng(s.seed))
    given = potential, resolve_dtype(dtype), resolve_device(device)
    data = training_set(frames, *given)
    return data, training_set(valid, *given, "validation") if valid else None, s


def run_trainer(trainer, checkpoint=None, progress=True, history=None, callback=None):
    """Let a Trainer run, on as many devices as its settings ask for; return its History."""
    size = team_size(trainer.settings.devices, trainer.settings.device)
    if size == 1 or trainer.team.size > 1:
        with trainer.team.signals_agreed():
            return trainer.run(checkpoint, progress, history=history, callback=callback)
    given = trainer.potential, *trainer.sources, trainer.settings, fetched(state_of(trainer))
    with gathered(size, join, given) as team:
        return trainer.run(checkpoint, progress, team, history, callback)


def join(team, potential, train_frames, valid_frames, settings, state):
    """Train as another member of a team, from the state of the first."""
    given = potential, train_frames, valid_frames, settings, np.random.default_rng()
    trainer = Trainer(*given, further=state["further"])
    restore(trainer, state, "the state of the first device")
    trainer.run(progress=False, team=team)


def trainer_for(
    potential, train_frames, valid_frames=None, *, checkpoint=None, resume=False, team=ALONE, **settings
):
    """Return what `run_trainer` takes, after everything that can be judged before the first step has been judged."""
    if not isinstance(potential, Potential):
        raise InputError(f"potential is a {type(potential).__name__}; give a Potential")
    flag("resume", resume)
    settings = Settings.named(**settings)
    team_size(settings.devices, settings.device)
    settings = fitting_settings(settings, train_frames)
    rng = np.random.default_rng(settings.seed)
    train_frames, valid_frames = opened(train_frames, valid_frames, settings, rng)
    if checkpoint is None or not resume or not Path(checkpoint).exists():
        return Trainer(potential, train_frames, valid_frames, settings, rng, team=team)
    state = read_checkpoint(checkpoint)
    # A run of an earlier version did not ask whether it went on from trained weights.
    further = bool(state.get("further", False))
    trainer = Trainer(potential, train_frames, valid_frames, settings, rng, further, team)
    restore(trainer, state, checkpoint)
    return trainer
