"""Checks of arguments: what came, what is allowed."""

import math
import sys
from contextlib import suppress
from numbers import Integral, Real

import numpy as np
from ase.data import atomic_numbers as _number_of
from ase.data import chemical_symbols

from fastdesc.backend.arrays import to_host
from fastdesc.errors import InputError, nearest

SHORTEST, LONGEST = 0.01, 1000
"""Å; any other cutoff is a mistake, perhaps of the unit."""
MOST = 100_000
"""Functions, filters, knots or widths; more are refused."""


def atomic_numbers(species):
    """Return the atomic numbers of symbols or numbers, ascending.

    Raises
    ------
    InputError
        For an unknown element, an element named twice, or an empty list.
    """
    if isinstance(species, str | Integral):
        species = [species]
    if isinstance(species, bytes) or not hasattr(species, "__iter__"):
        raise InputError(f"species came as {species!r}; it must be a list of chemical symbols or atomic numbers")
    numbers = []
    for s in species:
        if isinstance(s, Integral) and not isinstance(s, bool) and 0 < s < len(chemical_symbols):
            numbers.append(int(s))
        elif isinstance(s, str) and _number_of.get(s, 0) > 0:
            numbers.append(_number_of[s])
        else:
            raise InputError(f"species holds {s!r}; use chemical symbols{nearest(s, chemical_symbols[1:])} or numbers")
    if not numbers:
        raise InputError("species is empty; name at least one element")
    if len(set(numbers)) < len(numbers):
        raise InputError(f"species {list(species)} names an element twice; name each once")
    return tuple(sorted(numbers))


def positive(name, value, unit, most=math.inf):
    """InputError unless `value` is a finite number above zero, and at most `most`."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < value <= min(most, sys.float_info.max):
        allowed = f"positive number of at most {most}" if most < math.inf else "positive number"
        raise InputError(f"{name} came as {value!r}; it must be a {allowed} ({unit})")


def cutoff(name, value):
    """InputError unless `value` can be a cutoff radius in Å."""
    positive(name, value, "Å", LONGEST)
    if value < SHORTEST:
        raise InputError(f"{name} came as {value!r}, and no atom has another so near; give at least {SHORTEST} (Å)")


def count(name, value, least=1, most=math.inf):
    """InputError unless `value` is an integer from `least` to `most`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not least <= value <= most:
        allowed = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
        raise InputError(f"{name} came as {value!r}; it must be an integer {allowed}")


def flag(name, value):
    """InputError unless `value` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} came as {brief(value)}; it must be True or False")


def flag_or_word(name, value, allowed):
    """InputError unless `value` is True, False or one of `allowed`, a list of strings."""
    if not isinstance(value, bool | np.bool_) and not (isinstance(value, str) and value in allowed):
        words = ", ".join(map(repr, allowed))
        raise InputError(f"{name} came as {brief(value)}; it must be {words}, True or False")


def word(name, value, allowed):
    """InputError unless `value` is one of `allowed`, which are strings or None; arrays and the like are judged, too."""
    if not (value is None or isinstance(value, str)) or value not in allowed:
        shown = repr(value) if isinstance(value, str) else brief(value)
        *others, last = map(repr, allowed)
        raise InputError(f"{name} {shown} arrived; it must be {', '.join(others)} or {last}")


def seed(value):
    """InputError unless `value` can seed a random generator: an integer of at least 0, or None for chance."""
    if value is not None:
        count("seed", value, 0)


def several(name, value, what):
    """Return `value` as a tuple; InputError, which names what its members are, for a string or no sequence."""
    if not isinstance(value, str | bytes):
        with suppress(TypeError):    # arrays without axes say that they can be gone through, and cannot
            return tuple(value)
    raise InputError(f"{name} came as {value!r}; it must be a list of {what}")


def strings(name, value, what):
    """Return `value` as a tuple of strings; InputError, which names what they are, for anything else."""
    value = several(name, value, what)
    for one in value:
        if not isinstance(one, str):
            raise InputError(f"{name} holds {one!r}; it must be a list of {what}")
    return value


def one_of(name, value, allowed):
    """InputError unless `value` is one of `allowed`; 1, 1.0 and True are three things."""
    if not any(_kind(value) is _kind(a) and value == a for a in allowed):
        known = ", ".join(map(repr, allowed))
        raise InputError(f"{name} {value!r} is not known{nearest(value, allowed)}; use one of {known}")


def numbers(name, value, shape):
    """Return `value` as a new float64 array.

    Raises
    ------
    InputError
        For what is no array of real numbers, another shape than `shape`, or values that are not finite.
    """
    try:
        array = np.asarray(to_host(value) if hasattr(value, "dtype") else value)
        array = np.array(array, np.float64) if array.dtype.kind in "biufO" else None
    except (ValueError, TypeError, OverflowError, AttributeError):    # the last: an empty dataset has only a dtype
        array = None
    if array is None:
        raise InputError(f"parameter {name!r} came as {brief(value)}; it must be an array of real numbers")
    if array.shape != shape:
        raise InputError(f"parameter {name!r} came with shape {array.shape}; {shape} is needed")
    if not np.isfinite(array).all():
        raise InputError(f"parameter {name!r} holds NaN or infinite values; parameters must be finite")
    return array


def _kind(value):
    return int if isinstance(value, Integral) and not isinstance(value, bool) else type(value)


def brief(value):
    """Say in words what came."""
    if hasattr(value, "dtype"):
        return f"an array of {value.dtype} and shape {value.shape}"
    text = " ".join(repr(value).split())
    return text if len(text) < 60 else f"a {type(value).__name__} that begins {text[:40]}"
