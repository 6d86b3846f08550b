"""Extended XYZ, plain or gzip, read as a stream: time linear in the size of the file, memory one frame.

The format is that of ase.io.extxyz. ASE's own reader seeks back for every frame, which is quadratic in a gzip
file, and stops silently at an empty line.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers, chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress

from fastdesc.errors import FileFormatError
from fastdesc.io.extxyz_header import info_of, logical, periodic
from fastdesc.io.extxyz_numbers import read_table, unpacked
from fastdesc.io.extxyz_split import VECTORS, Blocks

PER_ATOM = ("forces", "stresses", "charges", "magmoms", "energies")
PER_FRAME = tuple(name for name in all_properties if name not in PER_ATOM)
PLAIN_RESULTS = ("energy", "magmom", "free_energy")
"""Those that ASE takes as they come; as labels they are judged later."""
KINDS = {"S": str, "R": float, "I": int, "L": bool}
ARRAY_NAMES = {"pos": "positions", "Z": "numbers", "species": "symbols", "charge": "initial_charges"}
MOST_COLUMNS = 100_000
"""Of one name."""
FARTHEST = 2000
"""Characters from the end of a frame in which its vectors stand."""


def iread_extxyz(path):
    """Yield one ase.Atoms after another, labels in a SinglePointCalculator.

    Parameters
    ----------
    path : str or Path
        Extended or plain XYZ; a name ending in .gz is decompressed on the way.

    Raises
    ------
    FileFormatError
        Naming path and line, when the file is cut short or is not extended XYZ.
    """
    for block in Blocks(path):
        if isinstance(block, FileFormatError):
            raise block
        yield to_atoms(parsed(*block, path))


def parsed(line, n_atoms, text, path):
    """Parse a frame of `Blocks`.

    Returns
    -------
    dict
        numbers, positions, cell (3, 3), pbc (3,), info, arrays, results: as they go into an ase.Atoms.

    Raises
    ------
    FileFormatError
        Naming path and line.
    """
    try:
        return _frame(text, n_atoms)
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        raise FileFormatError(
            f"{path}, frame that starts at line {line}: {_reason(error)}; compare with the extended XYZ format"
        ) from error


def _reason(error):
    if isinstance(error, RecursionError):
        return "its comment opens brackets without end"
    text = str(error.args[0]) if error.args else type(error).__name__
    return f"unknown element or name {text!r}" if isinstance(error, KeyError) else text.splitlines()[0]


@lru_cache(maxsize=64)
def _numbers(symbols):
    """Atomic numbers of symbols, a tuple of str or packed; the frames of a trajectory often have the same."""
    return np.array([atomic_numbers[s.capitalize()] for s in unpacked(symbols)], dtype=int)


@dataclass(frozen=True)
class Columns:
    """What the columns of a frame are.

    Attributes
    ----------
    named : list of (name, kind, first column, last column)
        Names as in ASE.
    width : int
    is_name : (width,) bool array, or None
        Whether a column holds words, where others hold real numbers; None where there are others still.
    place : (width,) int array
        Number of each column among those of words, or among those of numbers.
    """

    named: list
    width: int
    is_name: object
    place: object


@lru_cache(maxsize=64)
def _columns(properties):
    """Turn 'species:S:1:pos:R:3' into Columns."""
    words = properties.split(":")
    if len(words) % 3:
        raise ValueError(f"Properties={properties!r} is not a list of name:kind:columns")
    named, kinds = [], ""
    for name, kind, count in zip(words[::3], words[1::3], words[2::3], strict=True):
        if kind not in KINDS:
            raise ValueError(f"Properties={properties!r} has kind {kind!r}, allowed are S, R, I and L")
        if not count.isdecimal() or not 0 < int(count[:9]) <= MOST_COLUMNS:
            allowed = f"1 to {MOST_COLUMNS} are allowed"
            raise ValueError(f"Properties says that {name[:40]!r} has {count[:20]} columns; {allowed}")
        named.append((ARRAY_NAMES.get(name, name), kind, len(kinds), len(kinds) + int(count)))
        kinds += kind * int(count)
    is_name = np.array([kind == "S" for kind in kinds])
    place = np.where(is_name, np.cumsum(is_name), np.cumsum(~is_name)) - 1
    return Columns(named, len(kinds), is_name if set(kinds) <= {"S", "R"} else None, place)


def _frame(text, n_atoms):
    comment, _, text = text.partition("\n")
    info = info_of(comment.strip())
    arrays = _arrays(text, n_atoms, _columns(_text(info.pop("Properties", "species:S:1:pos:R:3"))))
    symbols = arrays.pop("symbols", None)
    numbers = arrays.pop("numbers", None)
    if numbers is None:
        if symbols is None:
            raise ValueError("no column says which element the atoms are")
        numbers = _numbers(_names(symbols)).copy()
    else:
        numbers = _whole(numbers)
    if "positions" not in arrays:
        raise ValueError("no column holds the positions (pos:R:3)")
    if arrays["positions"].shape != (n_atoms, 3) or arrays["positions"].dtype.kind not in "if":
        raise ValueError("positions need three columns of numbers (pos:R:3)")
    lattice = info.pop("Lattice", None)
    pbc = periodic(info.pop("pbc", lattice is not None)).copy()
    vectors = _vectors(text)
    if vectors:
        if lattice is not None:
            raise ValueError("it has a Lattice and lines VEC, which is one cell too many")
        lattice, pbc = np.array(vectors + [[0.0] * 3] * (3 - len(vectors))).T, np.arange(3) < len(vectors)
    results = {name: info.pop(name) for name in PER_FRAME if name in info and _is_result(name, info[name])}
    for name in PER_ATOM:
        if name in arrays:
            results[name] = arrays.pop(name)
            if results[name].dtype.kind not in "if":
                raise ValueError(f"the column {name} holds no numbers, which are of kind R")
    if np.shape(results.get("stress")) == (3, 3):
        results["stress"] = full_3x3_to_voigt_6_stress(results["stress"])
    cell = np.zeros((3, 3)) if lattice is None else np.asarray(lattice, float).T
    return {
        "numbers": numbers, "positions": arrays.pop("positions"), "cell": cell, "pbc": pbc,
        "info": info, "arrays": arrays, "results": results, "constraints": _constraints(arrays),
    }  # fmt: skip


def _names(symbols):
    """Element symbols as `_numbers` takes them; ValueError for a column of numbers, which ASE writes for no atoms."""
    if isinstance(symbols, np.ndarray):
        if len(symbols):
            raise ValueError("the column species must hold one name of an element for each atom (species:S:1)")
        return ()
    return symbols


def _text(properties):
    """The value of Properties; ValueError where it is no text."""
    if not isinstance(properties, str):
        raise ValueError(f"Properties came as {str(properties)[:40]!r}; it must be a list of name:kind:columns")
    return properties


def _whole(numbers):
    """Atomic numbers as integers; ValueError for others than those of elements, and 0, which is of no element."""
    whole = numbers.astype(int) if numbers.dtype.kind in "if" and np.isfinite(numbers).all() else None
    if whole is None or whole.ndim != 1 or (whole != numbers).any():
        raise ValueError("the column Z holds no whole numbers (Z:I:1)")
    wrong = whole[(whole < 0) | (whole >= len(chemical_symbols))]
    if len(wrong):
        raise ValueError(f"the column Z holds {wrong[0]}, which is the number of no element")
    return whole


def _is_result(name, value):
    """Whether a value is what its name promises; text under the name of a result is info like any other."""
    if name in PLAIN_RESULTS:
        return True
    try:
        np.asarray(value, float)
    except (ValueError, TypeError):
        return False
    return True


def _constraints(arrays):
    """What the column move_mask, which is taken out, says of the atoms: F stays where it is; as ASE has it."""
    if "move_mask" not in arrays:
        return []
    from ase.constraints import FixAtoms, FixCartesian  # loads scipy, which takes long

    move = arrays.pop("move_mask")
    if move.dtype != bool:
        move = move.astype(bool)
    if move.ndim == 1:
        return [FixAtoms(mask=~move)]
    if move.shape[1] != 3:
        raise ValueError(f"move_mask has {move.shape[1]} columns; it must have one or three")
    return [FixCartesian(k, mask=~row) for k, row in enumerate(move)]


def _vectors(text):
    """Vectors of the cell, one for each line VEC1, VEC2, .. at the end of a text."""
    end = text[-FARTHEST:]
    lines = [line for line in map(str.split, end.splitlines()) if line and line[0] in VECTORS] if "VEC" in end else []
    if [line[0] for line in lines] != [*VECTORS[: len(lines)]] or any(len(line) != 4 for line in lines):
        raise ValueError("its lines VEC1, VEC2 and VEC3 are not the vectors of a cell: in order, three numbers each")
    return [list(map(float, line[1:])) for line in lines]


def _arrays(text, n_atoms, columns):
    """Arrays of an atom per line by their names in ASE; element symbols as `_numbers` takes them."""
    table = None if columns.is_name is None else read_table(text, n_atoms, columns.is_name)
    if table is not None:
        return {name: _from_table(table, name, kind, columns.place[a], b - a) for name, kind, a, b in columns.named}
    rows = [line.split() for line in text.split("\n")[:n_atoms]]
    for k, row in enumerate(rows):
        # plain XYZ may carry further columns that are not described; described ones must all be there
        if len(row) < columns.width:
            raise ValueError(f"atom {k + 1} has {len(row)} columns where {columns.width} are described")
    words = list(zip(*rows, strict=False)) if rows else [()] * columns.width
    found = {name: _array(words[a:b], kind) for name, kind, a, b in columns.named}
    if "symbols" in found and found["symbols"].dtype.kind == "U" and found["symbols"].ndim == 1:
        found["symbols"] = tuple(found["symbols"].tolist())
    return found


def _from_table(table, name, kind, first, n):
    """Array of n columns from number `first` of those of a kind."""
    if kind != "S":
        return (table.numbers[:, first] if n == 1 else table.numbers[:, first : first + n]).copy()
    if name == "symbols" and n == 1:
        return table.packed(first) or tuple(table.words(first))
    return _array([table.words(k) for k in range(first, first + n)], kind)


def to_atoms(frame):
    """Return the ase.Atoms of a parsed frame."""
    atoms = Atoms(frame["numbers"], positions=frame["positions"], pbc=frame["pbc"], cell=frame["cell"])
    atoms.info.update(frame["info"])
    for name, array in frame["arrays"].items():
        atoms.set_array(name, array)
    if frame["constraints"]:
        atoms.set_constraint(frame["constraints"])
    if frame["results"]:
        atoms.calc = SinglePointCalculator(atoms, **frame["results"])
    return atoms


def _integer(word):
    number = int(word)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{word[:20]!r} stands in a column of kind I, whose numbers have up to 64 bits")
    return number


def _array(columns, kind):
    """One array of some columns of words: (n_atoms,) of one, (n_atoms, n) of several."""
    if kind == "R":
        array = np.array([list(map(float, c)) for c in columns], dtype=float)
    elif kind == "I":
        array = np.array([list(map(_integer, c)) for c in columns], dtype=int)
    elif kind == "L":
        array = np.array([[logical(w) for w in c] for c in columns], dtype=bool)
    else:
        array = np.array(columns, dtype=str)
    return array[0] if len(columns) == 1 else np.ascontiguousarray(array.T)
