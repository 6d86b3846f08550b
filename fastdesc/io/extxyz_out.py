"""What a frame carries that extended XYZ can hold: with anything else the file could not be read again."""

import re

from ase.calculators.calculator import all_properties

from fastdesc.io.extxyz_header import OF_THE_FORMAT, info_of

TAKEN = {name.lower() for name in (*OF_THE_FORMAT, *all_properties)}
"""Names of the format, and of results, which stand beside what frames carry."""
COLUMNS = ("numbers", "positions")
COLUMN = re.compile(r"[^\s:=\"']+")
TAKEN_COLUMNS = {"species", "pos", "z", *all_properties}


def writable(atoms, left_out):
    """Return the frame with what ASE's writer puts into a file that can be read again.

    Parameters
    ----------
    atoms : ase.Atoms
        Is not changed; its calculator's results are written whatever they are.
    left_out : collections.Counter
        Counts the frames by each name that is left out.

    Returns
    -------
    ase.Atoms
        `atoms` itself where all of it can be written.
    """
    info = [key for key, value in atoms.info.items() if not _is_read_again(key, value)]
    arrays = [name for name, array in atoms.arrays.items() if name not in COLUMNS and not _is_column(name, array)]
    if not info and not arrays:
        return atoms
    left_out.update(map(str, (*info, *arrays)))
    out = atoms.copy()
    out.calc = atoms.calc
    for key in info:
        del out.info[key]
    for name in arrays:
        del out.arrays[name]
    return out


def _is_read_again(key, value):
    """Whether a key and its value come back from a comment line under this key, and nothing else does."""
    from ase.io.extxyz import key_val_dict_to_str  # loads scipy, which takes long

    if not isinstance(key, str) or key.lower() in TAKEN:
        return False
    try:
        text = key_val_dict_to_str({key: value})
        found = info_of(f"{text} after=1")
        text.encode()
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError):
        return False
    return list(found) == [key, "after"] and len(text.splitlines()) == 1 and "\0" not in text


def _is_column(name, array):
    """Whether an array can be columns of words without blanks."""
    if not isinstance(name, str) or not COLUMN.fullmatch(name) or name.lower() in TAKEN_COLUMNS:
        return False
    if array.dtype.kind in "ifb":    # ASE writes no others
        return array.ndim <= 2 and array.size > 0
    return array.dtype.kind == "U" and array.ndim <= 2 and all(len(word.split()) == 1 for word in array.flat)


def told(left_out, out):
    """Sentences about names that were left out of a file."""
    for name, count in left_out.items():
        shown, frames = name if len(name) < 60 else f"{name[:40]}...", f"{count} frame{'s'[: count != 1]}"
        yield f"{shown!r} of {frames} is not kept in {out}: not there in extended XYZ, or the name of a result"
