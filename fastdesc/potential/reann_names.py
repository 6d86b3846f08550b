"""What a file of the REANN package holds, by the names that its modules have: arrays, and which activation it is."""

import re

import numpy as np
from ase.data import atomic_numbers

from fastdesc.errors import FileFormatError, InputError
from fastdesc.networks.form import TRAINED
from fastdesc.torch_files.machine import Module

ACTIVATIONS = dict(zip(("Relu_like", "Tanh_like"), TRAINED, strict=True))
"""Class of the package -> our name."""
DEEPEST, MOST, MOST_ITERATIONS = 16, 50_000, 100
"""Modules within modules, and names in all; a model has 8 and some hundred, one of 100 elements some ten thousand."""
OTHERS = {"dm": "dipole moments", "tdm": "transition dipole moments", "pol": "polarisabilities"}
"""Folder of the package -> what its models are of, besides energies."""
WORDS = "'trained_silu' for Relu_like, the package's default, or 'trained_isru' for Tanh_like"


def names_of(tree, path):
    """Return Names of what `read_torch` returned.

    Raises
    ------
    FileFormatError
        For what is no REANN model of an energy.
    """
    if isinstance(tree, Module):
        values, kinds = {}, {}
        _flatten(tree, "", values, kinds, path)
        found = Names(values, kinds, path)
        other = OTHERS.get(tree.name.split(".")[1])
    else:
        values = tree.get("reannparam", tree) if isinstance(tree, dict) else {}
        values = values if isinstance(values, dict) else {}
        _check_number(len(values), path)
        values = {str(name).removeprefix("module."): value for name, value in values.items()}
        found, other = Names(values, None, path), None
    if "density.rs" not in values or not any(name.startswith("nnmod.elemental_nets.") for name in values):
        raise FileFormatError(
            f"{path} is a file of PyTorch, but no model of the REANN package (density.rs, nnmod); EANN models from "
            "before it are not read"
        )
    if any(name.startswith("nnmod1.") for name in values):
        other = OTHERS["pol"]
    if other:
        raise FileFormatError(f"{path} is a model of {other}; models of energies are read")
    return found


def _flatten(module, prefix, values, kinds, path):
    """Values by their full names, and classes by those of their modules."""
    if prefix.count(".") > DEEPEST:
        raise FileFormatError(f"{path} holds modules {DEEPEST} deep in each other; it is no model of the REANN package")
    kinds[prefix] = module.kind
    for name, value in module.members.items():
        if isinstance(value, Module):
            _flatten(value, f"{prefix}{name}.", values, kinds, path)
        else:
            values[f"{prefix}{name}"] = value
        _check_number(len(values) + len(kinds), path)


def _check_number(n, path):
    if n > MOST:
        raise FileFormatError(f"{path} holds more than {MOST} names; it is no model of the REANN package")


class Names:
    """Values of a file by their names.

    Parameters
    ----------
    values : dict of str to array, and whatever else
    kinds : dict of str to str, or None
        Prefix of a module's names -> its class, where the file says so.
    path : Path
    """

    def __init__(self, values, kinds, path):
        self.values, self.kinds, self.path = values, kinds, path
        self._size, self._taken, self._below = path.stat().st_size, 0, {}
        for name, value in values.items():
            if _is_array(value) and name.count(".") <= DEEPEST:
                for dot in re.finditer(r"\.", name):
                    self._below.setdefault(name[: dot.end()], []).append(name[dot.end() :])

    def check(self, right, what):
        """FileFormatError that says `what` unless `right`."""
        if not right:
            raise FileFormatError(f"{self.path} is no model of the REANN package that is known: {what}")

    def below(self, prefix):
        """Names of arrays that begin with `prefix`, which ends in a dot and is cut off, in the order of the file."""
        return self._below.get(prefix, [])

    def array(self, name, *n_axes):
        """An array of one of these numbers of axes, float64."""
        self.check(name in self.values, f"{name} is missing")
        value = self.values[name]
        fits = _is_array(value) and value.ndim in n_axes and value.dtype.kind == "f" and value.size
        self.check(fits, f"{name} is no array of {' or '.join(map(str, n_axes))} axes")
        self._taken += value.size
        # No two names for the same numbers: what is taken is no larger than the file.
        self.check(2 * self._taken <= self._size, "it describes more numbers than it holds")
        array = np.array(value, np.float64)
        self.check(np.isfinite(array).all(), f"{name} holds NaN or infinite values")
        return array

    def number(self, name, default=None):
        """One number, float64."""
        if default is not None and name not in self.values:
            return default
        self.check(_is_array(self.values.get(name)) and self.values[name].size == 1, f"{name} is not one number")
        return float(self.array(name, 0, 1).reshape(()))

    @property
    def iterations(self):
        """Number of iterations."""
        found = {name.split(".")[0] for name in self.below("density.ocmod.")}
        self.check(len(found) <= MOST_ITERATIONS, f"it has {len(found)} iterations, and {MOST_ITERATIONS} are allowed")
        self.check(found == {f"memssage_{t}" for t in range(len(found))}, "networks of an iteration are missing")
        return len(found)

    def elements(self, prefix):
        """Symbols of the elements that have a network, in the order of the file, which is that of all arrays."""
        found = list(dict.fromkeys(name.split(".")[0] for name in self.below(f"{prefix}elemental_nets.")))
        known = found and all(atomic_numbers.get(symbol, 0) > 0 for symbol in found)
        self.check(known, f"its elements are {found[:9]}")
        return found

    def activation(self, prefix, given, argument):
        """Our name of the activation of the networks below `prefix`; `given` is that of the argument, or None."""
        if self.kinds is None:
            if given is None:
                raise InputError(f"{self.path} is a checkpoint, which does not name its {argument}; give {WORDS}")
            return given
        found = {kind for at, kind in self.kinds.items() if at.startswith(prefix) and f"{at}alpha" in self.values}
        self.check(len(found) == 1 and found <= set(ACTIVATIONS), f"activations {sorted(found)} below {prefix}")
        own = ACTIVATIONS[found.pop()]
        if given not in (None, own):
            raise InputError(f"{argument} came as {given!r}, and {self.path} says {own!r} itself; leave it out")
        return own

    def degrees_are(self, l_max):
        """Check what the file says of the degrees of its orbitals, where it does."""
        wanted = np.repeat(np.arange(l_max + 1), 3 ** np.arange(l_max + 1))
        index = self.values.get("density.index_para", wanted)
        self.check(_is_array(index) and np.array_equal(index, wanted), "its orbitals are ordered in another way")
        nipsin = self.values.get("density.nipsin", l_max + 1)
        self.check(np.size(nipsin) == 1 and int(np.reshape(nipsin, ())) == l_max + 1, "nipsin and hyper do not fit")


def _is_array(value):
    return isinstance(value, np.ndarray)

