"""The comment line of a frame of extended XYZ: keys and values, and what is meant by those of the format itself."""

import re
from functools import lru_cache
from itertools import product

import numpy as np
from ase.calculators.calculator import all_properties

WORD = re.compile(r'([^\s="]+)=(?:"([^"]*)"|([^\s="]+))(?=\s|$)')
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
FLAG = re.compile(r"[^\W\d]\w*$")
"""A single word that can be the name of a flag."""
UNUSUAL = ("\\", "'", "{", "[", "_JSON", '""')
PERIODIC = {" ".join("FT"[b] for b in pbc): pbc for pbc in product((False, True), repeat=3)}
LOGICAL = {"t": True, "true": True, "1": True, "f": False, "false": False, "0": False}
"""In any spelling: Fortran, Python, C and shells each have their own."""
OF_THE_FORMAT = ("Lattice", "pbc", "Properties")
"""Keys that say how a frame is to be read; other programs write them in other cases."""
COLUMNS = re.compile(r"\w+:[SRIL]:\d+(:\w+:[SRIL]:\d+)*$")


@lru_cache(maxsize=64)
def _matrix(text):
    """Nine numbers as a (3, 3) array of their columns, None for anything else; many trajectories have one cell."""
    words = text.split()
    if len(words) == 9 and all(map(NUMBER.match, words)):
        return np.array(list(map(float, words))).reshape((3, 3), order="F")
    return None


def _header(line):
    """Key and value of a comment line as ASE reads them; the usual words quickly."""
    from ase.io.extxyz import SPECIAL_3_3_KEYS, UNPROCESSED_KEYS, key_val_str_to_dict  # loads scipy, which takes long

    line = line.strip()
    if any(sign in line for sign in UNUSUAL):
        return key_val_str_to_dict(line)
    info = {}
    at = 0
    for match in WORD.finditer(line):
        if line[at : match.start()].strip():
            return key_val_str_to_dict(line)
        at = match.end()
        key, quoted, bare = match.groups()
        value = bare if quoted is None else quoted
        if key == "Properties":
            info[key] = value
        elif key not in SPECIAL_3_3_KEYS and NUMBER.match(value) and key.lower() not in UNPROCESSED_KEYS:
            number, whole = float(value), value.lstrip("+-").isdecimal()
            info[key] = np.int64(value) if whole and abs(number) < 2**62 else np.float64(number)
        elif key in SPECIAL_3_3_KEYS and (matrix := _matrix(value)) is not None:
            info[key] = matrix.copy()
        elif key == "pbc" and value in PERIODIC:
            info[key] = list(PERIODIC[value])
        else:
            info.update(key_val_str_to_dict(match.group()))
    return key_val_str_to_dict(line) if line[at:].strip() else info


def info_of(comment):
    """Key and value of a comment line; what is neither, in one piece.

    Single words are keys to ASE, with the value True. Names of flags stay such keys; free text, whose words differ in
    every frame, is the value of "comment". So are single words that are names of results, which they do not give.
    """
    if not comment:
        return {}
    if "=" not in comment:
        return {"comment": comment}
    info = _header(comment)
    _respell(info)
    # Names of flags stay; "energy of the surface" is no flag, and no energy.
    free = [k for k, value in info.items() if value is True and (k in all_properties or not FLAG.match(k))]
    # A key that has a sign of equality is no free text, whatever it looks like.
    free = [word for word in free if not re.search(rf"(?<!\w){re.escape(word)}[\"']?\s*=", comment)]
    for word in free:
        del info[word]
    if free:
        info["comment" if "comment" not in info else "comment (free text)"] = " ".join(free)
    return info


def logical(word):
    """True or False for a word; ValueError for one that is neither."""
    try:
        return LOGICAL[word.strip(".").lower()]
    except KeyError:
        raise ValueError(f"{word[:20]!r} stands in a column of kind L; it must be T or F") from None


def periodic(value):
    """Value of the key pbc as three booleans; ValueError where it is not one or three of them."""
    words = re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else np.atleast_1d(value).tolist()
    found = [LOGICAL.get(str(int(w) if isinstance(w, float) and w in (0, 1) else w).strip(".").lower()) for w in words]
    if len(found) not in (1, 3) or None in found:
        raise ValueError(f"pbc came as {' '.join(map(str, words))[:40]!r}; it must be T or F, once or three times")
    return np.broadcast_to(np.array(found), 3)


def _respell(info):
    """Give the keys of the format their names where they stand in another case, and mean what they say."""
    for name in OF_THE_FORMAT:
        others = [] if name in info else [key for key in info if key.lower() == name.lower()]
        if len(others) == 1 and (meant := _meant(name, info[others[0]])) is not None:
            del info[others[0]]
            info[name] = meant


def _meant(name, value):
    """What a key of the format says under another name; None where it is something else, such as lattice=fcc."""
    if name == "Lattice":
        nine = np.shape(value) in ((9,), (3, 3)) and np.asarray(value).dtype.kind in "if"
        return np.asarray(value, float).reshape((3, 3), order="F") if nine else None
    if name == "Properties":
        return value if isinstance(value, str) and COLUMNS.match(value) else None
    try:
        return periodic(value)
    except ValueError:
        return None
