"""Configurations as TOML: one with every key and its comment, taken from docstrings, and what a run was made with."""

import inspect
import re
from pathlib import Path

from fastdesc.config_sections import REQUIRED, SECTIONS, arguments_of, documented, options_of
from fastdesc.descriptors import FAMILIES, family_class

FIRST_FAMILY = next(iter(FAMILIES))
PATHS = ("train", "valid", "test")
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
            options, comments = {**arguments_of(cls), "species": None}, comments_of(cls.__doc__)
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
