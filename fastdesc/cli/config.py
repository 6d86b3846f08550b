"""Configuration of a training run: TOML in, checked values out."""

import tomllib
from pathlib import Path
from typing import get_args

from fastdesc.config_sections import REQUIRED, SECTIONS, Config, Data, Output, arguments_of, options_of
from fastdesc.config_text import FIRST_FAMILY, PATHS, example_line, toml_value
from fastdesc.descriptors import family_class
from fastdesc.errors import FileFormatError, InputError, nearest
from fastdesc.training.settings import Settings

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


def config_from(tables, path):
    """Check tables as `load_config` does; `path` is the file they came from."""
    for name in tables:
        if name not in SECTIONS:
            raise InputError(
                f"{path}: there is no section [{name}]{nearest(name, SECTIONS)}; sections are {', '.join(SECTIONS)}"
            )
        if not isinstance(tables[name], dict):
            raise InputError(f"{path}: {name} must be a section, [{name}], with keys below it")
    family, descriptor = descriptor_settings(tables.get("descriptor", {}), path)
    rest = [name for name in SECTIONS if name != "descriptor"]
    data, potential, training, output = (_checked(tables.get(name, {}), name, options_of(name), path) for name in rest)
    here = Path(path).parent
    for name in PATHS:
        if name in data:
            data[name] = str(here / data[name])
    if "folder" in output:
        output["folder"] = str(here / output["folder"])
    else:
        output["folder"] = str(here / Output.folder)
    data = Data(**data)
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
    options = {**arguments_of(cls), "species": None}
    return family, _checked(table, "descriptor", options, path)


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
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path} is not valid TOML: {error}") from error


def _checked(table, section, options, path):
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
            example = "" if default in (REQUIRED, None) else f", such as {toml_value(default)}"
            raise InputError(f"{path}: [{section}] {key} is {toml_value(value)}; it must be {words}{example}")
    for key, default in options.items():
        if default is REQUIRED and key not in table:
            raise InputError(f"{path}: [{section}] {key} is missing; add {example_line(key, default)}")
    return dict(table)


def _string(table, key, path):
    if not isinstance(table[key], str):
        raise InputError(f"{path}: [training] {key} is {toml_value(table[key])}; it must be a string")
    return table[key]
