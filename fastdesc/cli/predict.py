"""fastdesc predict: energies, forces and stresses of frames that have none, as a stream."""

import gzip
import io
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import write_xyz
from tqdm import tqdm

from fastdesc.backend.arrays import resolve_device, resolve_dtype
from fastdesc.errors import FastdescWarning, InputError
from fastdesc.geometry import stress_voigt
from fastdesc.hdf5.files import check_apart, check_target, whole_or_nothing
from fastdesc.io.extxyz_out import told, writable
from fastdesc.io.frame_batch import make_batch, plain_info
from fastdesc.io.frame_extras import extras_of
from fastdesc.io.frames import EXTXYZ, expand, iread_frames
from fastdesc.io.frames_file import FORMAT, SUFFIXES, write_frames_file
from fastdesc.io.labels import full_stress
from fastdesc.potential.loading import load
from fastdesc.potential.prediction import evaluated_with_spread
from fastdesc.potential.uncertainty import needed
from fastdesc.structures import Structures

ATOMS_AT_ONCE = 20_000
"""Frames are evaluated in groups of about so many atoms; a larger frame goes alone."""


def predict(model, frames, out, device="cpu", dtype="float64", progress=True, uncertainty=False):
    """Predict frames one group after another, never all in memory, and write them with what was predicted.

    Parameters
    ----------
    model, frames, out : str or Path
        `out` becomes extended XYZ (also .gz) or a frames file (.h5), by its name, whole or not at all.
    device, dtype : str
        As for Potential.predict.
    progress : bool
    uncertainty : bool
        Also write energy_uncertainty (info), energies_uncertainty, forces_uncertainty and grade (arrays).

    Returns
    -------
    int
        Number of frames.
    str or None
        Which atom is farthest from the training set, with uncertainties.

    Raises
    ------
    InputError
        For a name of another kind, elements that the model does not know, and whatever else makes frames unusable.
    """
    check_apart([out], [model, *expand(frames)])
    kind = _kind(out)
    check_target(out, FORMAT if kind == "hdf5" else None)
    potential = load(model)
    if uncertainty:
        needed(potential)
    found = predicted(potential, iread_frames(frames), device, dtype, uncertainty)
    farthest = Farthest() if uncertainty else None
    found = found if farthest is None else farthest.watching(found)
    with tqdm(unit=" frames", disable=not progress) as bar:
        if kind == "hdf5":
            written = []
            left_out = write_frames_file(_batches(found, bar, written), out)
            for name, count in left_out.items():
                warnings.warn(f"{name!r} of {count} frames is not kept in {out}", FastdescWarning, stacklevel=2)
            return sum(written), farthest and farthest.text
        n, left_out = 0, Counter()
        with whole_or_nothing(out) as part, _text(part, out) as file:
            for group in found:
                write_xyz(file, [writable(atoms, left_out) for atoms in group])
                n += len(group)
                bar.update(len(group))
        for text in told(left_out, out):
            warnings.warn(text, FastdescWarning, stacklevel=2)
        return n, farthest and farthest.text


class Farthest:
    """The atom with the highest grade among frames that pass by."""

    def __init__(self):
        self.text, self._grade, self._n = None, -1.0, 0

    def watching(self, groups):
        """Yield lists of frames as they come."""
        for group in groups:
            for atoms in group:
                grade = atoms.arrays["grade"]
                k = int(np.argmax(grade))
                if grade[k] > self._grade:
                    self._grade = float(grade[k])
                    self.text = f"highest grade {self._grade:.3g}: frame {self._n}, atom {k} ({atoms.symbols[k]})"
                self._n += 1
            yield group


def predicted(potential, frames, device="cpu", dtype="float64", uncertainty=False):
    """Yield lists of frames that carry what the potential says of them.

    Parameters
    ----------
    potential : Potential
    frames : iterable of ase.Atoms
        Their own labels are replaced.
    uncertainty : bool

    Yields
    ------
    list of ase.Atoms
        Energy (eV), forces (eV/Å) and, where there is a volume, stress (eV/Å^3) in a SinglePointCalculator.
    """
    model, group, n_atoms = potential.model(resolve_dtype(dtype), resolve_device(device)), [], 0
    for atoms in frames:
        if group and n_atoms + len(atoms) > ATOMS_AT_ONCE:
            yield _evaluated(potential, model, group, uncertainty)
            group, n_atoms = [], 0
        group.append(atoms)
        n_atoms += len(atoms)
    if group:
        yield _evaluated(potential, model, group, uncertainty)


def _evaluated(potential, model, group, uncertainty):
    structures, found = Structures.from_ase(group), {}
    if uncertainty:
        energy, forces, virials, _, spread = evaluated_with_spread(potential, structures, model)
        species = structures.species(potential.descriptor.species_numbers)
        found = needed(potential).scaled(spread, species, structures.first)
        of_frames = found.pop("energy_uncertainty")
    else:
        energy, forces, virials, _ = potential.evaluate(structures, None, model)
    stress = stress_voigt(virials, structures.volumes)
    out = []
    for k, atoms in enumerate(group):
        own = slice(structures.first[k], structures.first[k + 1])
        results = {"energy": float(energy[k]), "forces": forces[own]}
        if np.isfinite(stress[k]).all():
            results["stress"] = stress[k]
        atoms = atoms.copy()
        for name, values in found.items():
            atoms.arrays[name] = values[own]
        if found:
            atoms.info["energy_uncertainty"] = float(of_frames[k])
        atoms.calc = SinglePointCalculator(atoms, **results)
        out.append(atoms)
    return out


def _batches(found, bar, written):
    """Batches as a frames file takes them; the number of frames of each is added to `written`."""
    n = 0
    for group in found:
        numbers = range(n, n + len(group))
        frames = [_parsed(atoms, number) for atoms, number in zip(group, numbers, strict=True)]
        yield make_batch(frames, numbers, [0] * len(group), numbers, "raise")
        n += len(group)
        written.append(len(group))
        bar.update(len(group))


def _parsed(atoms, number):
    results = atoms.calc.results
    frame = {
        "numbers": atoms.numbers, "positions": atoms.positions, "cell": atoms.cell.array, "pbc": atoms.pbc,
        "energy": results["energy"], "forces": results["forces"], "info": plain_info(atoms.info, number),
    }  # fmt: skip
    frame["extras"] = extras_of({**frame, "arrays": atoms.arrays, "constraints": atoms.constraints}, number)
    if "stress" in results:
        frame["stress"] = full_stress(results["stress"])
    return frame


def _kind(out):
    name = str(out).lower()
    if Path(name).suffix in SUFFIXES:
        return "hdf5"
    if name.endswith(EXTXYZ):
        return "extxyz"
    raise InputError(f"{out} is to be written; its name must end in {', '.join((*EXTXYZ, *SUFFIXES))}")


def _text(part, out):
    if str(out).lower().endswith(".gz"):
        return io.TextIOWrapper(gzip.open(part, "wb"), encoding="utf-8")
    return open(part, "w", encoding="utf-8")
