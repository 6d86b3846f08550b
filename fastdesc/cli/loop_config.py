"""Configuration of a learning loop: that of a training run, and sections of its own."""

from dataclasses import replace
from pathlib import Path

from fastdesc.cli import config as configuration
from fastdesc.cli.config import (
    REQUIRED,
    check_sections,
    checked,
    comments_of,
    example_line,
    options_of,
    options_of_class,
)
from fastdesc.errors import InputError
from fastdesc.learn.settings import Explore, Label, Loop, Select, Stop
from fastdesc.training.settings import Settings

OWN = {"explore": Explore, "select": Select, "label": Label, "stop": Stop}
SECTIONS = ("data", *OWN, "descriptor", "potential", "training", "further", "output")
FOLDER = "fastdesc-learn"
FURTHER_STEPS = 4000
"""Of training in later rounds, where neither [further] nor [training] says how long."""
BUDGETS = ("epochs", "steps", "minutes")
HEAD = """\
# Configuration of `fastdesc learn`. Only data.train and label.calculator are needed; every other key may be left out.
# Relative paths are relative to the folder of this file. Energies in eV, lengths in Å.
# [data], [descriptor], [potential], [training] and [output] are those of `fastdesc train --print-default`.

[data]
# Structures to begin with. Those without energies and forces are labelled first.
train = "train.extxyz"
# Labelled structures on which the models of all rounds are compared.
# test =    (not set)
# Model to begin with instead of an untrained one; it is trained on the structures above first.
# init =    (not set)
"""
TAIL = """
[training]
# Of the first model.
# steps =    (not set)

[further]
# Settings of training in later rounds, where they differ from [training].
# steps =    (not set)
# Train an untrained potential (or that of data.init) in each round. With false the newest one is trained further, 4000
# steps where nothing says how long: faster, and it may get stuck where it is.
anew = true

[output]
# Where everything goes; made when it does not exist.
folder = "fastdesc-learn"
"""


def load_loop(path):
    """Read and check a configuration file.

    Returns
    -------
    config : Config
        As of a training run.
    loop : Loop

    Raises
    ------
    InputError, FileFormatError
        As of `fastdesc.cli.config.load_config`.
    """
    tables = configuration.read_toml(path)
    check_sections(tables, SECTIONS, path)
    here = Path(path).parent
    output = {"folder": FOLDER, **tables.get("output", {})}
    theirs = {name: table for name, table in tables.items() if name not in OWN and name != "further"}
    config = configuration.config_from({**theirs, "output": output}, path)
    own = {}
    for name, cls in OWN.items():
        table = checked(tables.get(name, {}), name, options_of_class(cls), path)
        for key in ("frames", "start"):
            if key in table:
                table[key] = str(here / table[key])
        try:
            own[name] = cls(**table)
        except InputError as error:
            raise InputError(f"{path}: [{name}] {error}") from error
    further = dict(tables.get("further", {}))
    anew = further.pop("anew", True)
    if not isinstance(anew, bool):
        raise InputError(f"{path}: [further] anew is {configuration.toml_value(anew)}; it must be true or false")
    further = _further(further, config.training, anew, path)
    fraction = 0.0 if config.data.valid else config.data.valid_fraction
    s = config.training
    if not s.uncertainty or not further["uncertainty"]:
        raise InputError(f"{path}: [training] uncertainty is false, and the loop goes by uncertainties; leave it out")
    loop = Loop(**own, training=s.as_dict(), further=further, anew=anew, valid_fraction=fraction, seed=s.seed,
                device=s.device)    # fmt: skip
    return config, loop


def _further(table, training, anew, path):
    """Settings of later rounds, as a dict."""
    table = checked(table, "further", options_of("training"), path)
    base = training
    if any(name in table for name in BUDGETS):
        base = replace(base, **dict.fromkeys(BUDGETS))
    elif not anew and not any(getattr(base, name) for name in BUDGETS):
        base = replace(base, steps=FURTHER_STEPS)
    filters = {} if anew else {"filters_from": None, "filters_elements": None}    # of an untrained potential
    try:
        return Settings(**{**base.as_dict(), **table, **filters}).as_dict()
    except InputError as error:
        raise InputError(f"{path}: [further] {error}") from error


def default_text():
    """Return a commented configuration with every key of the loop's own sections at its default."""
    lines = [HEAD.rstrip("\n")]
    for name, cls in OWN.items():
        lines += ["", f"[{name}]"]
        comments, said = comments_of(cls.__doc__), None
        for key, default in options_of_class(cls).items():
            names, text = comments.get(key, ((key,), ""))
            if names != said:
                lines += [f"# {line}" for line in text]
                said = names
            needed = 'calculator = "ase.calculators.emt:EMT"'
            lines.append(needed if default is REQUIRED else example_line(key, default))
    return "\n".join(lines) + "\n" + TAIL
