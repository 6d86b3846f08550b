"""fastdesc learn: a learning loop from a configuration (fastdesc/learn/loop.py)."""

from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

from ase.data import chemical_symbols

from fastdesc.backend.arrays import resolve_device
from fastdesc.cli.descriptor_choice import build_descriptor
from fastdesc.cli.loop_config import FOLDER, load_loop
from fastdesc.errors import InputError
from fastdesc.hdf5.files import check_apart
from fastdesc.io.frames import expand, read_frames
from fastdesc.io.labels import advice, labels
from fastdesc.io.sources import elements
from fastdesc.learn.loop import Learner
from fastdesc.potential import Potential
from fastdesc.potential.elements import add_elements
from fastdesc.potential.loading import load
from fastdesc.structures import Structures
from fastdesc.training.from_features import is_features


def learn(path, resume=False, progress=True, say=print):
    """Run the loop of a configuration file, or go on with it.

    Parameters
    ----------
    path : str or Path
    resume : bool
        Go on in a folder that holds a loop already.
    progress : bool
        Show progress bars of training.
    say : callable
        Takes lines of text.

    Returns
    -------
    dict
        What was written: name -> Path.

    Raises
    ------
    InputError, FileFormatError, DeviceError, OSError
        As its parts do.
    """
    config, loop = load_loop(path)
    folder = Path(config.output.folder)
    resolve_device(loop.device)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give output.folder another name")
    begun = (folder / "loop.json").exists()
    if begun and not resume:
        raise InputError(f"{folder} holds a loop; go on with it by --resume, or choose another output.folder")
    if resume and not begun:
        raise InputError(f"{folder} holds no loop to go on with; leave out --resume")
    if not begun and (folder / "model.h5").exists():
        raise InputError(f"{folder} holds something else, a model; choose another output.folder, such as {FOLDER!r}")
    frames = _frames(path, config, loop)
    names = ("train.extxyz", "valid.extxyz", "model.h5", "report.md", "rounds.csv")
    sources = (config.data.train, config.data.valid, config.data.test, loop.explore.frames, loop.explore.start)
    read = [file for source in sources if source for file in expand(source)]
    check_apart([folder / name for name in names], [*read, config.data.init])
    potential = _potential(config, frames)
    say(f"{potential.descriptor!r}: {potential.descriptor.n_features} features; {potential.n_parameters} parameters")
    told = {
        "data": asdict(config.data), "descriptor": {"family": config.family, **config.descriptor},
        "potential": config.potential, "training": loop.training, "further": {"anew": loop.anew, **loop.further},
    }  # fmt: skip
    learner = Learner(folder, loop, lambda train: deepcopy(potential), frames, told, Path(path).absolute().parent,
                      config.output.plots, progress, say)    # fmt: skip
    try:
        learner.run()
    except KeyboardInterrupt:
        say(f"the loop was ended early; --resume goes on in {folder}")
        raise
    files = {"model": "model.h5", "labels": "train.extxyz", "report": "report.md", "table": "rounds.csv",
             "picture": "rounds.png"}    # fmt: skip
    return {name: folder / file for name, file in files.items() if (folder / file).exists()}


def _frames(path, config, loop):
    """Read all that the loop begins with, and judge it."""
    data, explore = config.data, loop.explore
    sources = {"train": data.train, "valid": data.valid, "test": data.test}
    sources |= {"pool": explore.frames} if explore.frames else {"start": explore.start or data.train}
    found = {}
    for name, source in sources.items():
        if source is None:
            continue
        if is_features(source):
            raise InputError(f"{source} is a features file, and the loop needs structures; give frames")
        keys = {k: v for k, v in data.keys().items() if v} if name in ("train", "valid", "test") else {}
        found[name] = read_frames(source, **keys)
        Structures.from_ase(found[name])
        if name in ("valid", "test") and not any(labels(found[name]).counts(found[name]).values()):
            raise InputError(
                f"{source}: none of the {len(found[name])} frames carries an energy, forces or a stress; "
                f"{advice(found[name])}"
            )
    if explore.pressure is not None and not all(atoms.pbc.all() for atoms in found.get("start", [])):
        raise InputError(f"{path}: [explore] pressure needs structures periodic in all directions; leave it out")
    if len(found["train"]) < 2 and loop.valid_fraction:
        raise InputError(f"{data.train} holds one structure, and one of two would validate; give more, or data.valid")
    return found


def _potential(config, frames):
    """The potential to train first, which knows the elements of all frames."""
    known = elements([atoms for name in frames for atoms in frames[name]])
    if config.data.init is None:
        return Potential(build_descriptor(config.family, config.descriptor, known, frames["train"]), **config.potential)
    potential = load(config.data.init)
    symbols = [chemical_symbols[z] for z in potential.descriptor.species_numbers]
    new = [s for s in known if s not in symbols]
    return add_elements(potential, new) if new else potential
