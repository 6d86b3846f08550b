"""An ASE calculator by name, and the labels it gives one structure."""

import re
import sys
from importlib import import_module

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from fastdesc.errors import InputError

NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def check_name(name):
    """InputError unless a name has the form "module:Class"."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InputError(f'calculator came as {name!r}; it must be "module:Class", such as "ase.calculators.emt:EMT"')


def make_calculator(name, arguments, folder):
    """Return a calculator.

    Parameters
    ----------
    name : str
        "module:Class".
    arguments : dict or None
    folder : str or Path
        Where modules are looked for, too.

    Raises
    ------
    InputError
        When there is no such module or class, or it does not take the arguments.
    """
    check_name(name)
    module, _, cls = name.partition(":")
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    try:
        found = getattr(import_module(module), cls)
    except (ImportError, AttributeError) as error:
        raise InputError(f"calculator {name!r} cannot be imported ({_reason(error)}); check the name") from error
    try:
        calculator = found(**(arguments or {}))
    except Exception as error:    # whatever a foreign class raises
        raise InputError(f"calculator {name!r} cannot be made ({_reason(error)}); check [label] arguments") from error
    if not hasattr(calculator, "get_property"):
        raise InputError(f"{name!r} makes a {type(calculator).__name__}, which is no ASE calculator; name its class")
    return calculator


def labelled(atoms, calculator, largest_force):
    """Return a copy of a structure with energy, forces and, where it is periodic and they are there, stress.

    Raises
    ------
    InputError
        Where the calculator fails, or its labels cannot be used; says why.
    """
    out = atoms.copy()
    names = ["energy", "forces"]
    if atoms.pbc.all() and "stress" in getattr(calculator, "implemented_properties", ()):
        names.append("stress")
    work = atoms.copy()
    work.calc = calculator
    try:
        found = {name: calculator.get_property(name, work) for name in names}
    except Exception as error:    # whatever a foreign code raises
        raise InputError(f"the calculator failed: {_reason(error)}") from error
    if not all(value is not None and np.isfinite(value).all() for value in found.values()):
        raise InputError("the calculator gave labels that are missing or not finite")
    largest = float(np.linalg.norm(found["forces"], axis=1).max())
    if largest > largest_force:
        raise InputError(f"a force of {largest:.3g} eV/Å is above largest_force = {largest_force:g}")
    out.calc = SinglePointCalculator(out, **found)
    return out


def _reason(error):
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
