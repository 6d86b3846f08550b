"""The descriptor that a configuration or a command line asks for, with what the frames decide."""

from pathlib import Path

from ase.data import chemical_symbols

from fastdesc.checks import atomic_numbers
from fastdesc.cli import config as configuration
from fastdesc.descriptors import family_class
from fastdesc.errors import InputError
from fastdesc.io.sources import elements
from fastdesc.pairs.choose_cutoff import choose_cutoff
from fastdesc.potential.loading import load


def build_descriptor(family, arguments, known, frames=None, say=None):
    """Make a descriptor; elements come from the data (`known`) when the arguments name none.

    A cutoff "auto" comes from the training frames, where these are given also that of the first family where the
    arguments name none; `say` tells of it.
    """
    if not known and "species" not in arguments:
        raise InputError("the frames hold no atoms; give at least one structure, or name the species")
    arguments = {"species": known, **arguments}
    missing = [s for s in known if s not in _elements_of(arguments["species"])]
    if missing:
        raise InputError(f"the frames hold {', '.join(missing)}, which species {arguments['species']} lacks; add it")
    if asks_for_cutoff(family, arguments) and frames is not None:
        arguments["cutoff"] = choose_cutoff(frames)
        if say is not None:
            say(f"chosen: cutoff {arguments['cutoff']:g} Å, by the number of neighbours")
    elif arguments.get("cutoff") == configuration.AUTO:
        raise InputError('cutoff is "auto", which training frames decide, and there are none; give a number in Å')
    return family_class(family)(**arguments)


def asks_for_cutoff(family, arguments):
    """Whether the cutoff of a descriptor is left to the training frames."""
    left_out = configuration.AUTO if family == configuration.FIRST_FAMILY else None
    return arguments.get("cutoff", left_out) == configuration.AUTO


def _elements_of(species):
    """Symbols of a `species` argument, which may hold symbols and atomic numbers."""
    return [chemical_symbols[z] for z in atomic_numbers(species)]


def descriptor_for(frames, path=None, family=None, arguments=None):
    """Make the descriptor a command line asks for.

    Parameters
    ----------
    frames : path or frames
        Looked at for their elements when nothing else says them.
    path : str or Path, optional
        A TOML file with a [descriptor] section, or a model file, whose trained descriptor is taken.
    family : str, optional
        Without `path`.
    arguments : dict, optional
        Of the family's class; they go before those of a TOML file.
    """
    arguments = dict(arguments or {})
    if path is not None and Path(path).suffix != ".toml":
        descriptor = load(path).descriptor
        if arguments or family:
            raise InputError(f"{path} is a model file and its descriptor complete; leave out family and arguments")
        return descriptor
    if path is not None:
        own_family, own = configuration.read_descriptor(path)
        family, arguments = family or own_family, {**own, **arguments}
    family, arguments = configuration.descriptor_settings(
        {"family": family or configuration.FIRST_FAMILY, **arguments}, "command line" if path is None else path
    )
    known = [] if "species" in arguments else elements(frames)
    return build_descriptor(family, arguments, known)
