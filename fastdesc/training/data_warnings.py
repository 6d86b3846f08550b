"""Warnings of data before training, one line for each kind: what will not train well, and what is not used."""

import re
import warnings
from collections import Counter
from functools import cache

import numpy as np
from ase.data import chemical_symbols

from fastdesc.errors import FastdescWarning
from fastdesc.io.labels import full_stress, is_virial

MANY = 3
"""Frames that a line names."""
LARGE_STRESS, LARGE_RATIO, SOME_FORCE = 0.6, 4.0, 0.05
"""eV/Å^3 (96 GPa); V |stress| / N in eV over the root mean square of forces in eV/Å, which is 0.1 to 0.4 Å of metals
and semiconductors at any temperature and 2 Å at 100 GPa; eV/Å of forces below which that says nothing."""
SOURCE = r"(ref|reference|dft|qm|label|target|true)"
LIKE = {
    "forces": re.compile(rf"(.*[_.-])?forces?([_.-]?{SOURCE})?", re.IGNORECASE),
    "energy": re.compile(rf"(({SOURCE}|tot|total|potential)[_.-]?)*energy([_.-]?({SOURCE}|tot|total))?", re.IGNORECASE),
    "stress": re.compile(rf"(.*[_.-])?(virials?|stress)([_.-]?{SOURCE})?", re.IGNORECASE),
}
"""Names of columns that look like labels."""
JUDGED = 100
"""Frames in which one column is looked at."""


def tell(text):
    """Warn of one thing."""
    warnings.warn(text, FastdescWarning, stacklevel=4)


def warn_of_data(train, valid, potential):
    """Tell what is wrong with the frames that are to be trained and validated on.

    Parameters
    ----------
    train, valid : TrainingSet or FeatureSet; `valid` may be None
    potential : Potential
    """
    for purpose, data in (("training", train), ("validation", valid)):
        if data is None:
            continue
        for name, (far, typical, values) in data.outliers.items():
            tell_of_outliers(data, purpose, name, far, typical, values)
        if hasattr(data, "frames"):
            tell_of_stress(data, purpose)
            tell_of_columns(data)
    if valid is not None:
        numbers = potential.descriptor.species_numbers
        seen, asked = (data.compositions(len(numbers)) for data in (train, valid))
        warn_of_new_elements(seen.any(axis=0), asked, numbers, valid.where, "validation")


def tell_of_outliers(data, purpose, name, far, typical, values):
    """Name the frames of `fastdesc.training.outliers.outliers`."""
    where = np.flatnonzero(far)
    if not len(where):
        return
    worst = where[np.argsort(-values[where], kind="stable")]
    what, unit = {"forces": ("forces up to", "eV/Å"), "energy": ("an energy off by up to", "eV/atom")}[name]
    tell(
        f"{_names(data, worst)} {'has' if len(where) == 1 else 'have'} {what} {values[worst[0]]:.3g} {unit}, nine in "
        f"ten {purpose} frames up to {typical:.3g}: look at it, give it info['weight'] 0, or leave it out"
    )


def tell_of_stress(data, purpose):
    """Tell of stresses that are left out, and of those that look like another unit."""
    dropped = np.flatnonzero(data.dropped_stress)
    if len(dropped):
        tell(
            f"the stress of {_names(data, dropped)} is left out: the cell is not periodic in all directions, and its "
            "volume not that of the matter"
        )
    size, volumes = data.largest_stress(), data.volumes
    if not np.isfinite(size).any():
        return
    middle, forces = float(np.nanmedian(size)), data.force_size()
    if forces > SOME_FORCE:
        large = float(np.nanmedian(size * volumes / data.n_atoms)) / forces > LARGE_RATIO
    else:
        large = middle > LARGE_STRESS
    if large:
        first = int(np.flatnonzero(np.isfinite(size))[0])
        tell(
            f"the stress of the {purpose} frames is {middle:.3g} eV/Å^3 in the median ({160.22 * middle:.3g} GPa; "
            f"{data.where(first)}: {size[first]:.3g}) and looks like GPa, kbar or a virial: divide GPa by 160.22, kbar "
            "by 1602.2, and name a virial with stress_key='virial'"
        )


def tell_of_columns(data):
    """Tell of columns that look like labels and are not used, each once."""
    for (name, key), k in sorted(unused_columns(data.frames).items()):
        how = f"{name}_key={key!r} takes it" + (", with its sign and the volume" if is_virial(key) else "")
        tell(f"{key!r} of {data.where(k)} looks like {_article(name, key)} and is not used; {how}")


def unused_columns(frames):
    """Return {(label, key): number of the first frame} of keys that look like labels and differ from what is used."""
    found, judged = {}, Counter()
    for k, atoms in enumerate(frames):
        results = getattr(atoms.calc, "results", {})
        for name in LIKE:
            for key, value in (atoms.arrays if name == "forces" else atoms.info).items():
                if (name, key) in found or judged[name, key] == JUDGED or not _looks_like(name, key):
                    continue
                judged[name, key] += 1
                if _could_be(name, value, len(atoms)) and not _is_used(name, value, results.get(name), atoms):
                    found[name, key] = k
    return found


@cache
def _looks_like(name, key):
    return isinstance(key, str) and LIKE[name].fullmatch(key) is not None


def warn_of_new_elements(seen, compositions, numbers, where, purpose):
    """Tell of elements that no training frame holds.

    Parameters
    ----------
    seen : (n_species,) bool
    compositions : (n_frames, n_species)
        Of the frames judged.
    numbers : sequence of int
        Atomic numbers of the potential.
    where : callable
        Number of a frame -> its name.
    purpose : str
    """
    for z in np.flatnonzero(compositions.any(axis=0) & ~np.asarray(seen)):
        k = int(np.flatnonzero(compositions[:, z])[0])
        tell(
            f"{chemical_symbols[numbers[z]]} is in {where(k)} of the {purpose} set and in no training frame: what the "
            "potential says of it is not trained"
        )


def _names(data, which):
    names = [data.where(int(k)) for k in which[:MANY]]
    return ", ".join(names) + (f" and {len(which) - MANY} more" if len(which) > MANY else "")


def _article(name, key):
    return "a virial" if is_virial(key) else {"energy": "an energy", "forces": "forces", "stress": "a stress"}[name]


def _could_be(name, value, n_atoms):
    """Whether a value has the shape of a label."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        return False
    shapes = {"energy": [()], "forces": [(n_atoms, 3)], "stress": [(6,), (9,), (3, 3)]}
    return array.shape in shapes[name]


def _is_used(name, value, label, atoms):
    """Whether a column is what a label came from: the same numbers, or those of a virial."""
    if label is None:
        return False
    value, label = (np.asarray(x, float) for x in (value, label))
    if name == "stress":
        value, label = full_stress(value), full_stress(label)
        volume = abs(np.linalg.det(atoms.cell.array))
        if volume and np.allclose(-value / volume, label, rtol=1e-9, atol=1e-12):
            return True
    return value.shape == label.shape and bool(np.allclose(value, label, rtol=1e-9, atol=1e-12))
