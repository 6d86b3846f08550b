"""Checks at the door of a family's constructor: what came, what is allowed."""

import math
from numbers import Integral, Real

from ase.data import atomic_numbers as _number_of
from ase.data import chemical_symbols

from fastdesc.errors import InputError, nearest


def atomic_numbers(species):
    """Return the atomic numbers of symbols or numbers, ascending.

    Raises
    ------
    InputError
        For an unknown element, an element named twice, or an empty list.
    """
    if isinstance(species, str | Integral):
        species = [species]
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


def positive(name, value, unit):
    """InputError unless `value` is a finite number above zero."""
    if not isinstance(value, Real) or isinstance(value, bool) or not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} came as {value!r}; it must be a positive number ({unit})")


def count(name, value, least=1):
    """InputError unless `value` is an integer of at least `least`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise InputError(f"{name} came as {value!r}; it must be an integer of at least {least}")


def one_of(name, value, allowed):
    """InputError unless `value` is one of `allowed`."""
    if value not in allowed:
        known = ", ".join(map(str, allowed))
        raise InputError(f"{name} {value!r} is not known{nearest(value, allowed)}; use one of {known}")
