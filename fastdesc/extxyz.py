"""Extended XYZ, plain or gzip, read as a stream: time linear in the size of the file, memory one frame.

The format is that of ase.io.extxyz. ASE's own reader seeks back for every frame, which is quadratic in a gzip
file, and stops silently at an empty line.
"""

import gzip
import zlib
from itertools import islice

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers
from ase.io.extxyz import key_val_str_to_dict
from ase.stress import full_3x3_to_voigt_6_stress

from fastdesc.errors import FileFormatError

PER_ATOM = ("forces", "stresses", "charges", "magmoms", "energies")
PER_FRAME = tuple(name for name in all_properties if name not in PER_ATOM)
KINDS = {"S": str, "R": float, "I": int, "L": bool}
ARRAY_NAMES = {"pos": "positions", "Z": "numbers", "species": "symbols", "charge": "initial_charges"}
LOGICAL = {"T": True, "F": False, "True": True, "False": False, "1": True, "0": False}


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
    opened = gzip.open if str(path).endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8") as lines:
            yield from _frames(lines, path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileFormatError(f"{path} is not a complete gzip file ({error}); copy or compress it again") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is not a text file; give extended XYZ or another format ASE reads") from error


def _frames(lines, path):
    number = 0
    for line in lines:
        number += 1
        if not line.strip():
            continue
        try:
            n_atoms = int(line)
            if n_atoms < 0:
                raise ValueError
        except ValueError:
            raise FileFormatError(
                f"{path}, line {number}: expected the number of atoms of a frame and found {line.strip()[:40]!r}"
            ) from None
        block = list(islice(lines, n_atoms + 1))
        if len(block) < n_atoms + 1:
            raise FileFormatError(
                f"{path} ends inside a frame: line {number} promises {n_atoms} atoms and "
                f"{max(0, len(block) - 1)} follow; the file is cut short"
            )
        try:
            frame = _frame(block, n_atoms)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise FileFormatError(
                f"{path}, frame that starts at line {number}: {_reason(error)}; compare with the extended XYZ format"
            ) from error
        yield frame
        number += n_atoms + 1


def _reason(error):
    text = str(error.args[0]) if error.args else type(error).__name__
    return f"unknown element or name {text!r}" if isinstance(error, KeyError) else text.splitlines()[0]


def _columns(properties):
    """Turn 'species:S:1:pos:R:3' into [(name, kind, first column, last column)] and the number of columns."""
    words = properties.split(":")
    if len(words) % 3:
        raise ValueError(f"Properties={properties!r} is not a list of name:kind:columns")
    columns, last = [], 0
    for name, kind, count in zip(words[::3], words[1::3], words[2::3], strict=True):
        if kind not in KINDS:
            raise ValueError(f"Properties={properties!r} has kind {kind!r}, allowed are S, R, I and L")
        columns.append((name, kind, last, last + int(count)))
        last += int(count)
    return columns, last


def _frame(block, n_atoms):
    info = key_val_str_to_dict(block[0].strip()) if block[0].strip() else {}
    columns, width = _columns(info.pop("Properties", "species:S:1:pos:R:3"))
    rows = [line.split() for line in block[1:]]
    for k, row in enumerate(rows):
        # plain XYZ may carry further columns nobody described; described ones must all be there
        if len(row) < width:
            raise ValueError(f"atom {k + 1} has {len(row)} columns where {width} are described")
    arrays = {ARRAY_NAMES.get(name, name): _array(rows, kind, a, b) for name, kind, a, b in columns}
    symbols = arrays.pop("symbols", None)
    numbers = arrays.pop("numbers", None)
    if numbers is None:
        if symbols is None:
            raise ValueError("no column says which element the atoms are")
        numbers = np.array([atomic_numbers[s.capitalize()] for s in symbols.tolist()], dtype=int)
    if "positions" not in arrays:
        raise ValueError("no column holds the positions (pos:R:3)")
    lattice = info.pop("Lattice", None)
    pbc = info.pop("pbc", lattice is not None)
    atoms = Atoms(numbers, positions=arrays.pop("positions"), pbc=pbc,
                  cell=None if lattice is None else np.asarray(lattice, float).T)
    results = {name: info.pop(name) for name in PER_FRAME if name in info}
    results.update((name, arrays.pop(name)) for name in PER_ATOM if name in arrays)
    if np.shape(results.get("stress")) == (3, 3):
        results["stress"] = full_3x3_to_voigt_6_stress(results["stress"])
    atoms.info.update(info)
    for name, array in arrays.items():
        atoms.set_array(name, array)
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def _array(rows, kind, first, last):
    if last - first == 1:
        words = [row[first] for row in rows]
    else:
        words = [row[first:last] for row in rows]
    if kind == "S":
        return np.array(words, dtype=str)
    if kind == "L":
        return np.array([LOGICAL[w] for w in np.ravel(words)], dtype=bool).reshape(np.shape(words))
    array = np.array(words, dtype=float if kind == "R" else int)
    return array if array.size else array.reshape((0,) if last - first == 1 else (0, last - first))
