"""A training run from a configuration, start to end: data in, one folder of results out."""

import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from fastdesc import __version__
from fastdesc.analysis.accuracy import Comparison, compare, three_digits
from fastdesc.backend.arrays import resolve_device
from fastdesc.cli import config as configuration
from fastdesc.cli.descriptor_choice import asks_for_cutoff, build_descriptor
from fastdesc.errors import FastdescError, InputError
from fastdesc.hdf5.files import check_apart, check_target, to_json, write_text
from fastdesc.io.frames import expand
from fastdesc.io.labels import advice, labels
from fastdesc.potential import Potential
from fastdesc.potential.elements import add_elements
from fastdesc.potential.file import FORMAT as MODEL
from fastdesc.potential.loading import load
from fastdesc.structures import Structures
from fastdesc.training import run_trainer, trainer_for
from fastdesc.training.data import open_frames
from fastdesc.training.data_warnings import warn_of_new_elements
from fastdesc.training.from_features import check_arguments, is_features
from fastdesc.training.places import read_placed
from fastdesc.training.team import ALONE

FILES = {
    "model": "model.h5",
    "history": "history.csv",
    "checkpoint": "checkpoint.h5",
    "settings": "config.toml",
    "errors": "errors.json",
    "predictions": "predictions.h5",
    "learning curve": "learning.png",
    "parity plot": "parity.png",
    "reliability plot": "reliability.png",
}


PURPOSES = {"train": "training", "valid": "validation"}
"""Sets that training reads."""


def run(config, resume=False, overwrite=False, progress=True, say=print, team=ALONE, callback=None):
    """Train and evaluate what a configuration describes.

    Parameters
    ----------
    config : Config
    resume : bool
        Continue from the folder's checkpoint, with the numbers of an uninterrupted run.
    overwrite : bool
        Replace a finished or interrupted run in the folder.
    progress : bool
        Show a progress bar.
    say : callable
        Takes a line of text; what happens is told through it.
    team : Team
        Of processes that do this together; member 0 shows, writes and evaluates.
    callback : callable, optional
        As of `fastdesc.train`.

    Returns
    -------
    dict
        What was written: name (the keys of FILES) -> Path.

    Raises
    ------
    InputError, FileFormatError, DeviceError, OSError
        As its parts do; and InputError when the folder holds a run already.
    """
    folder = Path(config.output.folder)
    paths = {name: folder / file for name, file in FILES.items()}
    if team.rank:
        progress, say = False, _nothing
    team.take_device(config.training.device)
    sets, trainer = team.agreed(lambda: _prepared(config, folder, paths, resume, overwrite, say, team))
    team.check_alike(configuration=configuration.to_text(config), version=__version__, **trainer.run_of)
    team.begin_alike(trainer)
    potential = trainer.potential
    own = config.data.init is None and sets["train"].own_descriptor is None
    if own and asks_for_cutoff(config.family, config.descriptor):
        config = replace(config, descriptor={**config.descriptor, "cutoff": potential.descriptor.cutoff})
    if team.rank:
        run_trainer(trainer, progress=False)
        return {}

    # From here on things are written; what can be wrong with the input has been said.
    _make_folder(folder)
    check_target(paths["model"], MODEL)
    write_text(paths["settings"], configuration.to_text(config))
    if overwrite:
        paths["checkpoint"].unlink(missing_ok=True)
    start = time.monotonic()
    try:
        history = run_trainer(trainer, paths["checkpoint"], progress, paths["history"], callback)
    except BaseException as error:
        # What is wrong with numbers or settings would be wrong again.
        if paths["checkpoint"].exists() and not isinstance(error, FastdescError):
            say(f"training ended early; --resume goes on from {paths['checkpoint']}")
        if trainer.best is not None:
            potential.save(paths["model"])
            trainer.history.save(paths["history"])
            say(f"{paths['model']} holds what was reached: {_kept(trainer)}")
        raise
    potential.save(paths["model"])
    history.save(paths["history"])
    say(f"trained {len(history)} epochs in {time.monotonic() - start:.0f} s")
    say(_kept(trainer))
    written = ["model", "history", "checkpoint", "settings"]
    written += _evaluate(config, potential, sets, paths, say)
    written += _draw(config, history, paths, written, say)
    return {name: paths[name] for name in written}


def _nothing(text):
    """Say nothing."""


def _prepared(config, folder, paths, resume, overwrite, say, team):
    """Sets of frames by name and the Trainer; whatever can be wrong with the input is told here."""
    data = [file for path in (config.data.train, config.data.valid, config.data.test) if path for file in expand(path)]
    check_apart(paths.values(), [*data, config.training.filters_from, config.data.init])
    _check_folder(folder, paths, resume, overwrite)
    if team.size > 1 and config.training.devices not in (1, "all"):
        text = f"devices came as {config.training.devices} on {team.size} ranks; each has one device, leave devices out"
        raise InputError(text)
    resolve_device(config.training.device)
    keys = config.data.keys()
    sets = {}
    for name in ("train", "valid", "test"):
        path = getattr(config.data, name)
        if path is not None and not (team.rank and name == "test"):    # member 0 evaluates
            sets[name] = _read(name, path, keys, config.training.frame_memory)
            say(f"{name}: {sets[name].report}")
    potential = _further(config, sets, say) if config.data.init else None
    if potential is None:
        potential = Potential(_descriptor(config, sets, say), **config.potential)
    descriptor = potential.descriptor
    say(f"{descriptor!r}: {descriptor.n_features} features; {potential.n_parameters} parameters")
    for name in sets:
        _check_frames(sets[name], getattr(config.data, name), descriptor)
    _tell_of_test(sets, descriptor)
    settings = {"checkpoint": paths["checkpoint"], "resume": resume, **config.training.as_dict()}
    return sets, trainer_for(potential, sets["train"], sets.get("valid"), team=team, **settings)


def _read(name, path, keys, memory):
    """Open a set: frames of training, of validation, or of the test, which are in memory."""
    if name in PURPOSES:
        return open_frames(path, PURPOSES[name], memory, keys)
    if is_features(path):
        raise InputError(f"data.test is a features file, {path}; give frames, whose forces can be compared too")
    return read_placed(path, name, **keys)


def _further(config, sets, say):
    """The potential of [data] init, with the elements of frames that it does not know added."""
    potential = load(config.data.init)
    symbols = [chemical_symbols[z] for z in potential.descriptor.species_numbers]
    new = [s for s in _elements(sets) if s not in symbols]
    say(f"going on from {config.data.init}" + (f", with {', '.join(new)} added" if new else ""))
    return add_elements(potential, new) if new else potential


def _elements(sets):
    """Symbols of the elements of training and validation frames, ordered by atomic number."""
    found = set().union(*(sets[name].elements() for name in PURPOSES if name in sets))
    return [chemical_symbols[z] for z in sorted(found) if 0 <= z < len(chemical_symbols)]


def _descriptor(config, sets, say):
    """The descriptor of the run: as configured, or that of a features file to train on."""
    train = sets["train"]
    descriptor = train.own_descriptor
    if descriptor is None:
        return build_descriptor(config.family, config.descriptor, _elements(sets), train, say)
    if config.descriptor or config.family != configuration.FIRST_FAMILY:
        given = {k: v for k, v in config.descriptor.items() if (k, v) != ("cutoff", configuration.AUTO)}
        arguments = {"species": descriptor.species, **given}
        check_arguments(train.file, build_descriptor(config.family, arguments, []))
    return descriptor


def _check_frames(frames, path, descriptor):
    """InputError that names the file when its frames cannot be used or carry no label: test frames come last."""
    if not frames.in_memory:    # training judges
        return
    try:
        Structures.from_ase(frames).species(descriptor.species_numbers)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not any(labels(frames).counts(frames).values()):
        raise InputError(
            f"{path}: none of the {len(frames)} frames carries an energy, forces or a stress; {advice(frames)}"
        )


def _tell_of_test(sets, descriptor):
    """Tell of elements that only the test frames hold."""
    if "test" not in sets or not sets["train"].in_memory:
        return
    numbers = descriptor.species_numbers
    seen, asked = (_compositions(sets[name], numbers) for name in ("train", "test"))
    warn_of_new_elements(seen.any(axis=0), asked, numbers, sets["test"].where, "test")


def _compositions(frames, numbers):
    return np.array([[np.count_nonzero(atoms.numbers == z) for z in numbers] for atoms in frames])


def _make_folder(folder):
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made ({error.strerror}); choose another output.folder") from error


def _check_folder(folder, paths, resume, overwrite):
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give output.folder another name")
    if paths["settings"].exists() and not configuration.is_ours(paths["settings"]):
        raise InputError(f"{paths['settings']} was not written by fastdesc; choose another output.folder")
    if resume and not paths["checkpoint"].exists():
        raise InputError(f"{folder} holds no checkpoint to resume from; leave out --resume")
    if resume or overwrite:
        return
    if paths["model"].exists():
        raise InputError(f"{folder} holds a trained model; choose another output.folder, --resume or --overwrite")
    if paths["checkpoint"].exists():
        raise InputError(f"{folder} holds an interrupted run; go on with --resume, or begin anew with --overwrite")


def _kept(trainer):
    """Say what the errors of the parameters in the potential are."""
    row = trainer.kept
    if not row:
        return "no epoch was kept: the potential is what it was before training"
    kind = "valid" if "valid_loss" in row else "train"
    parts = [
        f"{word} {three_digits(1000 * row[f'{kind}_{name}_mae'])} {unit}"
        for name, word, unit in (
            ("energy", "energy", "meV/atom"), ("forces", "forces", "meV/Å"), ("stress", "virial", "meV/atom")
        )
        if row.get(f"{kind}_{name}_mae") is not None
    ]
    if row["epoch"] == 0:
        return f"the weights of before were the best, MAE on {kind}: {', '.join(parts)}"
    epoch = f"epoch {row['epoch']:g}, as far as it came" if row is trainer.interim else f"best epoch {row['epoch']:g}"
    return f"{epoch}, MAE on {kind}: {', '.join(parts)}" if parts else epoch


def _evaluate(config, potential, sets, paths, say):
    """Errors on the test frames, else on validation frames that were given."""
    name = next((n for n in ("test", "valid") if n in sets and sets[n].in_memory), None)
    if name is None:
        return []
    found = compare(potential, sets[name], device=config.training.device)
    say(f"\nerrors on {name}: {found.table()}")
    found.save(paths["predictions"])
    write_text(paths["errors"], to_json({"set": name, **found.summary()}) + "\n")
    return ["predictions", "errors"]


def _draw(config, history, paths, written, say):
    if not config.output.plots:
        return []
    if find_spec("matplotlib") is None:
        say("no plots: matplotlib is not installed (pip install 'fastdesc[plot]')")
        return []
    from fastdesc.analysis.plots import plot_learning, plot_parity
    from fastdesc.analysis.reliability_plots import plot_reliability

    plot_learning(history, paths["learning curve"])
    if "predictions" not in written:
        return ["learning curve"]
    plot_parity(paths["predictions"], paths["parity plot"])
    if not Comparison.load(paths["predictions"]).reliability():
        return ["learning curve", "parity plot"]
    plot_reliability(paths["predictions"], paths["reliability plot"])
    return ["learning curve", "parity plot", "reliability plot"]
