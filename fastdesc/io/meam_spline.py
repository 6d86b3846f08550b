"""Spline-based MEAM potentials (s-MEAM) as LAMMPS' pair style meam/spline reads them.

    E = sum_{i<j} phi_{ZiZj}(r_ij) + sum_i [ U_{Zi}(n_i) - U_{Zi}(0) ]                                       (1)
    n_i = sum_j rho_{Zj}(r_ij) + sum_{j<k} f_{Zj}(r_ij) f_{Zk}(r_ik) g_{ZjZk}(cos theta_jik)                  (2)

Lenosky et al., Modelling Simul. Mater. Sci. Eng. 8, 825 (2000); Hennig et al., Phys. Rev. B 78, 054121 (2008). All
functions are cubic splines on equally spaced knots with given slopes at their ends, straight lines outside.

A file holds phi, rho, U, f and g in this order, those of pairs of elements in the order 00, 01, .., 0n, 11, ..: each as
number of knots, slopes at the ends, and a line "x y y''" per knot, of which y'' follows from the rest. There are two
forms. The older knows one element and does not name it, and has a line of flags before the knots; the newer has a
second line "meam/spline 2 Ti O", and a line "spline3eq" before each function.
"""

from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers

from fastdesc.errors import FileFormatError, InputError
from fastdesc.hdf5.files import as_path, check_there, write_text
from fastdesc.numerics.splines import FEWEST_KNOTS, MOST_KNOTS, Splines

EVEN = 1e-8
"""How far knots may be from equal spacing, as LAMMPS has it."""
FLAGS = "1 0 1 0"


@dataclass(frozen=True, eq=False)
class SplineFunction:
    """One function of the potential.

    Attributes
    ----------
    splines : Splines
        Knots; both ends are clamped.
    parameters : (n_knots + 2,) ndarray
        Values at the knots, and the slopes at both ends.
    """

    splines: Splines
    parameters: np.ndarray

    def __call__(self, x, order=0):
        """Return the function at x, or a derivative."""
        return self.splines.values(self.parameters, x, order)

    @classmethod
    def of(cls, splines, parameters):
        """Any spline as one with given slopes at its ends: they are all the same functions."""
        if splines.ends == ("clamped", "clamped"):
            return cls(splines, np.array(parameters, float))
        y, m = splines.nodes @ np.asarray(parameters, float)
        clamped = Splines(splines.x0, splines.x1, splines.n_knots)
        return cls(clamped, np.concatenate([y, m[[0, -1]]]))


@dataclass(frozen=True, eq=False)
class MeamSpline:
    """The functions of (1) and (2).

    Attributes
    ----------
    elements : tuple of str
        Chemical symbols, in the order of the file.
    phi, g : tuple of SplineFunction
        By unordered pair of elements: 00, 01, .., 0n, 11, ..
    rho, U, f : tuple of SplineFunction
        By element.
    """

    elements: tuple
    phi: tuple
    rho: tuple
    U: tuple
    f: tuple
    g: tuple

    def __post_init__(self):
        n = len(self.elements)
        for name, wanted in _sizes(n).items():
            if len(getattr(self, name)) != wanted:
                raise InputError(
                    f"{len(getattr(self, name))} functions {name} came; {n} element(s) need {wanted} of them"
                )

    @property
    def cutoff(self):
        """Å; the largest last knot of phi, rho and f."""
        return max(function.splines.x1 for function in (*self.phi, *self.rho, *self.f))


def _sizes(n):
    """Name -> number of functions for n elements, in the order of a file."""
    pairs = n * (n + 1) // 2
    return {"phi": pairs, "rho": n, "U": n, "f": n, "g": pairs}


# ---------------------------------------------------------------------------------------------------------- reading


class _Lines:
    """The lines of a file that say something, with their numbers; errors name the file and the line."""

    def __init__(self, path):
        path = as_path(path)
        check_there(path)
        text = path.read_text(encoding="utf-8", errors="replace").splitlines()
        # The first line is a comment whatever it holds.
        numbered = [(number, line.split("#")[0].split()) for number, line in enumerate(text[1:], 2)]
        self.path, self.lines, self.at, self.n_lines = path, [x for x in numbered if x[1]], 0, len(text)

    def error(self, message):
        """Return the error that says what is wrong with the line last read."""
        number = self.lines[self.at - 1][0] if 0 < self.at <= len(self.lines) else 1
        return FileFormatError(f"{self.path}, line {number}: {message}")

    def next(self, what):
        """Return the words of the next line."""
        if self.at == len(self.lines):
            raise FileFormatError(
                f"{self.path} ends after {self.n_lines} line(s) where {what} should follow; it is no meam/spline file, "
                "or truncated: copy it again"
            )
        self.at += 1
        return self.lines[self.at - 1][1]

    def numbers(self, n, what):
        """Return the first n numbers of the next line."""
        words = self.next(what)
        try:
            values = [float(word.replace("D", "e").replace("d", "e")) for word in words[:n]]
        except ValueError:
            values = []
        if len(values) < n or not np.isfinite(values).all():
            raise self.error(f"{' '.join(words)[:40]!r} came where {what} should stand")
        return values

    def function(self, name, named):
        """Read one spline function."""
        if named and self.next(f"the word spline3eq of function {name}")[0] != "spline3eq":
            raise self.error(f"function {name} should begin with the word spline3eq; no other kind is known")
        (n,) = self.numbers(1, f"the number of knots of {name}")
        if n != int(n) or not FEWEST_KNOTS <= n <= MOST_KNOTS:
            raise self.error(f"{name} has {n:g} knots; it needs a whole number from {FEWEST_KNOTS} to {MOST_KNOTS}")
        slopes = self.numbers(2, f"the slopes of {name} at its ends")
        if not named:
            self.next(f"the line of flags of {name}")
        knots = [self.numbers(3, f"knot {k + 1} of {n:g} of {name}: x, y and y''") for k in range(int(n))]
        x, y, _ = np.array(knots).T
        if x[-1] <= x[0] or abs(np.linspace(x[0], x[-1], len(x)) - x).max() > EVEN:
            raise self.error(f"the knots of {name} are not equally spaced and ascending; other knots cannot be used")
        return SplineFunction(Splines(x[0], x[-1], len(x)), np.concatenate([y, slopes]))


def read_functions(path, element=None):
    """Read a file for LAMMPS' pair style meam/spline.

    Parameters
    ----------
    path : path-like
    element : str, optional
        Chemical symbol for a file of the older form, which does not name its element.

    Returns
    -------
    MeamSpline

    Raises
    ------
    InputError
        When there is no such file, or `element` is needed and missing, or not one the file names.
    FileFormatError
        When the file is something else, truncated, or has knots that are not equally spaced; names the line.
    """
    lines = _Lines(path)
    words = lines.next("the first function")
    named = words[0] == "meam/spline"
    if named:
        elements = _elements(lines, words[1:])
        if element is not None and element not in elements:
            raise InputError(f"element {element!r} was asked for, and {path} is for {', '.join(elements)}")
    else:
        lines.at = 0
        if not isinstance(element, str) or element not in atomic_numbers:
            raise InputError(f"{path} does not say which element it is for, and {element!r} is none; give element='Si'")
        elements = (element,)
    functions = {
        name: tuple(lines.function(name if n == 1 else f"{name} {k + 1} of {n}", named) for k in range(n))
        for name, n in _sizes(len(elements)).items()
    }
    if lines.at < len(lines.lines):
        lines.at += 1
        raise lines.error(f"the file goes on after the last function of {len(elements)} element(s)")
    return MeamSpline(elements, **functions)


def _elements(lines, words):
    """Elements of the second line, behind the word meam/spline."""
    n = int(words[0]) if words and words[0].isdecimal() else 0
    elements = tuple(words[1 : n + 1])
    if n < 1 or len(elements) < n or any(e not in atomic_numbers for e in elements) or len(set(elements)) < n:
        raise lines.error(f"'meam/spline {' '.join(words)}' should give a number and as many elements, each once")
    return elements


# ---------------------------------------------------------------------------------------------------------- writing


def write_functions(path, potential, comment="", form="named"):
    """Write a file for LAMMPS' pair style meam/spline, whole or not at all.

    Parameters
    ----------
    path : path-like
    potential : MeamSpline
    comment : str
        First line of the file.
    form : {"named", "single"}
        "single" is the older form, for one element, which any LAMMPS can read.

    Raises
    ------
    InputError
        For another form, "single" and several elements, or a path where something else than such a file stands.

    Notes
    -----
    LAMMPS (22 Jul 2025) gives the energies of (1) for one and for two elements. With three or more, its numbering of
    pairs of elements is right in ascending order alone, and it mistakes one pair's phi and g for another's.
    """
    elements = potential.elements
    if not isinstance(comment, str):
        raise InputError(f"comment came as {comment!r}; give a string")
    if form not in ("named", "single"):
        raise InputError(f"form {form!r} is not known; use 'named' or 'single'")
    if form == "single" and len(elements) > 1:
        raise InputError(f"form 'single' is for one element and the potential has {', '.join(elements)}; use 'named'")
    lines = ["# " + " ".join([*comment.split(), "Elements:", *elements, "UNITS: metal"])]
    if form == "named":
        lines.append(f"meam/spline {len(elements)} {' '.join(elements)}")
    for name in _sizes(len(elements)):
        for function in getattr(potential, name):
            lines += _lines_of(function, form)
    _check_unlike(path, elements[0])
    write_text(path, "\n".join(lines) + "\n")


def _check_unlike(path, element):
    """InputError when something stands at `path` that is no file of ours, such as the model to be written."""
    path = as_path(path)
    if not path.is_file() or not path.stat().st_size:
        return
    try:
        named = _Lines(path).next("")[0] == "meam/spline"
        read_functions(path, None if named else element)
    except FileFormatError as error:
        raise InputError(f"{path} exists and is no meam/spline file; choose another name, or remove it") from error


def _lines_of(function, form):
    """One function as text; numbers come back as they were."""
    y, slopes = function.parameters[:-2], function.parameters[-2:]
    x = function.splines.knots
    c = function.splines.pieces[1:, 2:] @ function.parameters  # of each interval, from its last knot
    second = np.concatenate([2 * c[:1, 0] - 6 * c[:1, 1], 2 * c[:-1, 0]]) / function.splines.dx**2
    lines = ["spline3eq"] if form == "named" else []
    lines += [str(len(x)), " ".join(f"{slope:.17g}" for slope in slopes)]
    lines += [] if form == "named" else [FLAGS]
    return lines + [f"{a:.17g} {b:.17g} {c:.17g}" for a, b, c in zip(x, y, second, strict=True)]
