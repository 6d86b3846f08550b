"""Configuration of a training run: TOML in, checked values out."""

import inspect
import re
import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import get_args

from fastdesc.descriptors import FAMILIES, family_class
from fastdesc.errors import FileFormatError, InputError, nearest
from fastdesc.training.settings import Settings

REQUIRED = object()
SECTIONS = ("data", "descriptor", "potential", "training", "output")


@dataclass(frozen=True)
class Data:
    """The [data] section.

    Attributes
    ----------
    train : str
        Frames with energies, forces and stresses: extended XYZ (also .gz) or any format ASE reads. Or a features
        file: energies alone are trained then, and the descriptor is that of the file.
    valid : str or None
        Validation frames; without them `valid_fraction` of the training frames is set aside.
    valid_fraction : float
        Of the training frames, set aside when no validation frames are given.
    test : str or None
        Frames on which the trained model is evaluated at the end; never seen in training.
    init : str or None
        Model file that is trained further, with its own descriptor and networks: [descriptor] and [potential] stay
        empty. Elements of the frames that it does not know are added; what it says of the others stays as it is.
    energy_key, forces_key, stress_key : str or None
        Names of the labels where the files use their own, such as "REF_energy".
    """

    train: str
    valid: str | None = None
    valid_fraction: float = 0.1
    test: str | None = None
    init: str | None = None
    energy_key: str | None = None
    forces_key: str | None = None
    stress_key: str | None = None

    def keys(self):
        """Return the label names as `read_frames` wants them."""
        return {name: getattr(self, name) for name in ("energy_key", "forces_key", "stress_key")}


@dataclass(frozen=True)
class Output:
    """The [output] section.

    Attributes
    ----------
    folder : str
        Where the model, the history, the checkpoint, the predictions and the plots go; made when it does not exist.
    plots : bool
        Draw learning curve and parity (needs matplotlib).
    """

    folder: str = "fastdesc-run"
    plots: bool = True


@dataclass(frozen=True)
class Config:
    """A checked configuration; paths are absolute or relative to the working directory.

    Attributes
    ----------
    data : Data
    family : str
    descriptor : dict
        Arguments of the family's class; `species` is missing when the data shall decide.
    potential : dict
        Arguments of Potential.
    training : Settings
    output : Output
    """

    data: Data
    family: str
    descriptor: dict
    potential: dict
    training: Settings
    output: Output


def documented(section):
    """Return the class that a section configures; the descriptor's is the family's."""
    from fastdesc.potential import Potential

    return {"data": Data, "potential": Potential, "training": Settings, "output": Output}[section]


def options_of(section):
    """Return key -> default of a section; REQUIRED where there is none."""
    cls = documented(section)
    if section == "potential":
        return {k: v for k, v in arguments_of(cls).items() if k != "descriptor"}
    options = options_of_class(cls)
    if section == "training":
        del options["valid_fraction"]    # stands in [data]
    return options


def options_of_class(cls):
    """Return key -> default of a dataclass; REQUIRED where there is none."""
    return {f.name: REQUIRED if f.default is MISSING else f.default for f in fields(cls)}


def arguments_of(cls):
    """Return key -> default of the arguments of a class; REQUIRED where there is none."""
    arguments = inspect.signature(cls.__init__).parameters
    empty = inspect.Parameter.empty
    return {k: REQUIRED if p.default is empty else p.default for k, p in arguments.items() if k != "self"}


KINDS = {    # type of the default: (what is accepted, in words)
    bool: (bool, "true or false"),
    int: (int, "a whole number"),
    float: (int | float, "a number"),
    str: (str, "a string"),
    tuple: (list, "a list"),
}
SPECIAL = {    # keys whose default does not say what is accepted
    "hidden": (list, "a list, such as [64, 64]"),
    "direct": (bool | list, "true, false or a list of names of features"),
    "devices": (int | str, 'a whole number or "all"'),
    "start": (str, "a string"),
    "learning_rate": (int | float, "a number, such as 0.002"),
    "descriptor_learning_rate": (int | float, "a number, such as 0.01"),
    "epochs": (int, "a whole number, such as 500"),
    "steps": (int, "a whole number, such as 20000"),
    "minutes": (int | float, "a number, such as 5"),
    "cutoff": (int | float | str, 'a number, such as 6.0, or "auto"'),
    "stress_weight": (int | float, "a number, such as 0.02"),
    "stress_limit": (int | float, "a number, such as 0.02"),
    "batch_atoms": (int, "a whole number, such as 128"),
    "repulsion": (str, '"zbl"'),
    "reference": (dict, "energies by element, such as {H = -13.6}"),
    "frames": (str, "a string"),
    "arguments": (dict, 'a table, such as {xc = "PBE"}'),
    "pressure": (int | float, "a number, such as 0.0"),
}


def load_config(path):
    """Read and check a configuration file; its relative paths are relative to its own folder.

    Raises
    ------
    InputError
        For a missing file, an unknown section or key (with the nearest right name), a missing one, or a wrong type.
    FileFormatError
        When the file is not TOML.
    """
    return config_from(read_toml(path), path)


def check_sections(tables, sections, path):
    """InputError for a section that is unknown, with the nearest right name, or a key outside of all sections."""
    for name in tables:
        if name not in sections:
            raise InputError(
                f"{path}: there is no section [{name}]{nearest(name, sections)}; sections are {', '.join(sections)}"
            )
        if not isinstance(tables[name], dict):
            raise InputError(f"{path}: {name} must be a section, [{name}], with keys below it")


def config_from(tables, path):
    """Check tables as `load_config` does; `path` is the file they came from."""
    check_sections(tables, SECTIONS, path)
    family, descriptor = descriptor_settings(tables.get("descriptor", {}), path)
    rest = [name for name in SECTIONS if name != "descriptor"]
    data, potential, training, output = (checked(tables.get(name, {}), name, options_of(name), path) for name in rest)
    here = Path(path).parent
    for name in PATHS:
        if name in data:
            data[name] = str(here / data[name])
    output["folder"] = str(here / output.get("folder", Output.folder))
    data = Data(**data)
    if data.init is not None and (potential or descriptor or family != FIRST_FAMILY):
        raise InputError(
            f"{path}: [data] init is a whole model, and [descriptor] or [potential] ask for another; leave them out"
        )
    if "filters_from" in training:
        training["filters_from"] = str(here / _string(training, "filters_from", path))
    try:
        training = Settings(**training, valid_fraction=data.valid_fraction)
    except InputError as error:
        raise InputError(f"{path}: [training] {error}") from error
    return Config(data, family, descriptor, potential, training, Output(**output))


def descriptor_settings(table, path):
    """Check a [descriptor] table: return the family's name and the arguments given for its class."""
    table = dict(table)
    family = table.pop("family", FIRST_FAMILY)
    try:
        cls = family_class(family)
    except InputError as error:
        raise InputError(f"{path}: [descriptor] {error}") from error
    arguments, cutoff = checked(table, "descriptor", descriptor_options(cls), path), table.get("cutoff")
    if isinstance(cutoff, str) and cutoff != AUTO:
        raise InputError(f"{path}: [descriptor] cutoff is {toml_value(cutoff)}; it must be {SPECIAL['cutoff'][1]}")
    return family, arguments


def descriptor_options(cls):
    """Return key -> default of the [descriptor] section of a family; None is what the frames decide."""
    chosen = {"cutoff": AUTO} if cls is family_class(FIRST_FAMILY) else {}
    return {**arguments_of(cls), "species": None, **chosen}


def read_descriptor(path):
    """Read descriptor settings from a TOML file: its [descriptor] section, or the whole file when it has none."""
    tables = read_toml(path)
    return descriptor_settings(tables.get("descriptor", tables), path)


def read_toml(path):
    """Read TOML tables from a file; errors as in `load_config`."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is not a file; `fastdesc train --print-default > config.toml` makes a configuration")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))    # some editors begin files with a mark
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FileFormatError(f"{path} is not valid TOML: {error}") from error


def checked(table, section, options, path):
    """Return a copy of a table; InputError for unknown keys, missing ones and wrong types."""
    for key, value in table.items():
        if key not in options:
            raise InputError(
                f"{path}: [{section}] has no key {key!r}{nearest(key, options)}; it has {', '.join(options)}"
            )
        default = options[key]
        accepted, words = SPECIAL.get(key) or KINDS.get(type(default), (object, ""))
        if default is REQUIRED or (default is None and section == "data"):
            accepted, words = KINDS[str]
        wrong_bool = isinstance(value, bool) and not {bool, object} & {accepted, *get_args(accepted)}
        if wrong_bool or not isinstance(value, accepted):
            told = default in (REQUIRED, None) or "such as" in words
            example = "" if told else f", such as {toml_value(default)}"
            raise InputError(f"{path}: [{section}] {key} is {toml_value(value)}; it must be {words}{example}")
        if value == "" and accepted is str:
            raise InputError(f"{path}: [{section}] {key} is empty; give a name, or leave it out")
    for key, default in options.items():
        if default is REQUIRED and key not in table:
            raise InputError(f"{path}: [{section}] {key} is missing; add {example_line(key, default)}")
    return dict(table)


def _string(table, key, path):
    if not isinstance(table[key], str):
        raise InputError(f"{path}: [training] {key} is {toml_value(table[key])}; it must be a string")
    return table[key]


FIRST_FAMILY = next(iter(FAMILIES))
AUTO = "auto"
"""Cutoff that the training frames decide; the default of the first family."""
CUTOFF = '"auto": within which atoms of the training frames have 50 neighbours, 4 to 6 Å; 5 Å at most for molecules.'
PATHS = ("train", "valid", "test", "init")
OURS = "# What `fastdesc train` was run with, paths and defaults included."


def default_text(family=FIRST_FAMILY):
    """Return a commented configuration with every key at its default."""
    cls = family_class(family)
    lines = [
        "# Configuration of `fastdesc train`. Only data.train is needed; every other key may be left out.",
        "# Relative paths are relative to the folder of this file. Energies in eV, lengths in Å.",
    ]
    for name in SECTIONS:
        lines += ["", f"[{name}]"]
        if name == "descriptor":
            lines += [f"# One of {', '.join(map(toml_value, FAMILIES))}.", f'family = "{family}"']
            options, comments = descriptor_options(cls), comments_of(cls.__doc__)
            comments["cutoff"] = ("cutoff",), [*comments["cutoff"][1], CUTOFF]
        else:
            options, comments = options_of(name), comments_of(documented(name).__doc__)
        said = None
        for key, default in options.items():
            names, text = comments.get(key, ((key,), ""))
            if names != said:
                lines += [f"# {line}" for line in text]
                said = names
            lines.append(example_line(key, default))
    return "\n".join(lines) + "\n"


def to_text(config):
    """Return TOML that describes a configuration, from anywhere: paths are absolute."""
    tables = {
        "data": {k: str(Path(v).absolute()) if k in PATHS and v else v for k, v in vars(config.data).items()},
        "descriptor": {"family": config.family, **config.descriptor},
        "potential": config.potential,
        "training": {
            k: str(Path(v).absolute()) if k == "filters_from" and v else v
            for k, v in config.training.as_dict().items()
            if k != "valid_fraction"
        },
        "output": {**vars(config.output), "folder": str(Path(config.output.folder).absolute())},
    }
    lines = [OURS, ""]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{k} = {toml_value(v)}" for k, v in table.items() if v is not None), ""]
    return "\n".join(lines)


def is_ours(path):
    """Whether a configuration file is one that `to_text` made."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.readline().strip() == OURS


def comments_of(doc):
    """Read a NumPy-style docstring: return name -> (names that share the entry, lines of text)."""
    found, names, inside = {}, (), False
    for line in inspect.cleandoc(doc).splitlines():
        entry = re.fullmatch(r"(\w+(?:, \w+)*) : (.+)", line)
        if re.fullmatch(r"(Parameters|Attributes|Raises|Notes)", line):
            inside = line in ("Parameters", "Attributes")
        elif inside and entry:
            names = tuple(entry[1].split(", "))
            choices = re.fullmatch(r"(\{.*\})(, optional)?", entry[2])
            for name in names:
                found.setdefault(name, (names, [f"One of {choices[1].strip('{}')}."] if choices else []))
        elif inside and line.startswith("    ") and names:
            found[names[0]][1].append(line.strip())
            for name in names[1:]:
                found[name] = found[names[0]]
    return found


def example_line(key, default):
    """Return a line of TOML that sets a key to its default, or shows that it is not set."""
    if default is REQUIRED:
        return f'{key} = "{key}.extxyz"'
    if default is None:
        return f"# {key} =    (not set)"
    return f"{key} = {toml_value(default)}"


def toml_value(value):
    """Return a value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml_value(str(k))} = {toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return str(value)
