"""Labels of frames as arrays, with NaN where one is missing; and why frames carry none, with what to do."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from ase.stress import voigt_6_to_full_3x3_stress

from fastdesc.errors import InputError


class Labels(NamedTuple):
    """Reference values of some frames; NaN where a frame has none.

    Attributes
    ----------
    energies : (n_frames,) float64, eV
    forces : (n_atoms, 3) float64, eV/Å
    stress : (n_frames, 3, 3) float64, eV/Å^3, positive in tension
    """

    energies: np.ndarray
    forces: np.ndarray
    stress: np.ndarray

    def report(self, frames):
        """Say in one line how many frames carry which label."""
        have = self.counts(frames)
        n = len(frames)
        words = [f"{n} frame{'s'[:n != 1]} ({sum(map(len, frames))} atoms)"]
        for name, count in have.items():
            words.append(f"all with {name}" if count == n else f"{n - count} without {name}")
        return ", ".join(words)

    def counts(self, frames):
        """Return the number of frames that carry each label, as a dict."""
        first = np.cumsum([0, *map(len, frames)])
        complete = np.isfinite(self.forces).all(1)
        return {
            "energy": int(np.isfinite(self.energies).sum()),
            "forces": sum(bool(complete[a:b].all()) for a, b in pairwise(first)),
            "stress": int(np.isfinite(self.stress).all((1, 2)).sum()),
        }


def labels(frames):
    """Gather the labels of frames.

    Values are taken from each frame's calculator as stored: nothing is computed, constraints do not zero forces, and
    results that belong to other positions (the frame was moved since) do not count.

    Parameters
    ----------
    frames : list of ase.Atoms

    Returns
    -------
    Labels
        energies (n_frames,), forces (n_atoms, 3), stress (n_frames, 3, 3); NaN where missing.

    Raises
    ------
    InputError
        When a label has the wrong shape; names the frame.
    """
    energies = np.full(len(frames), np.nan)
    forces = np.full((sum(map(len, frames)), 3), np.nan)
    stress = np.full((len(frames), 3, 3), np.nan)
    first = 0
    for k, atoms in enumerate(frames):
        last = first + len(atoms)
        try:
            stored = stored_results(atoms)
            if stored.get("energy") is not None:
                energies[k] = stored["energy"]
            if stored.get("forces") is not None:
                forces[first:last] = np.asarray(stored["forces"], float).reshape(len(atoms), 3)
            if stored.get("stress") is not None:
                stress[k] = full_stress(stored["stress"])
        except (ValueError, TypeError) as error:
            raise InputError(f"frame {k} has a label of the wrong shape or kind ({error})") from error
        first = last
    return Labels(energies, forces, stress)


def full_stress(stress):
    """Return a stress given as 6 Voigt numbers (xx yy zz yz xz xy), 9 numbers or (3, 3) as (3, 3)."""
    stress = np.asarray(stress, float)
    if stress.shape == (6,):
        return voigt_6_to_full_3x3_stress(stress)
    return stress.reshape(3, 3)


def is_virial(key):
    """Whether a name of a label means a virial: one that ends in "virial" or "virials"."""
    return isinstance(key, str) and key.lower().endswith(("virial", "virials"))


def stress_of_virial(virial, atoms):
    """Stress of a virial in the sign of extended XYZ, eV: -virial / volume, eV/Å^3, positive in tension.

    Raises
    ------
    InputError
        For a frame without a volume.
    """
    volume = abs(np.linalg.det(atoms.cell.array))
    if volume == 0:
        raise InputError(f"a virial came with a cell {atoms.cell.array.tolist()} without volume; give the whole cell")
    return -np.asarray(virial, float) / volume


def stored_results(atoms):
    """Return the results of a frame's calculator, if they belong to the frame as it stands; nothing is computed."""
    calc = atoms.calc
    if calc is None or (hasattr(calc, "check_state") and calc.check_state(atoms)):
        return {}
    return getattr(calc, "results", {})


def advice(frames):
    """Return what to do about frames whose calculators say nothing that can be used.

    Parameters
    ----------
    frames : list of ase.Atoms

    Returns
    -------
    str
        Names labels that stand in ``atoms.info`` and ``atoms.arrays``, and results of frames that were moved since.
    """
    if any(getattr(atoms.calc, "results", None) for atoms in frames):
        return "their calculators hold results of other positions or cells: label the frames as they are now"
    found = {
        "energy": [key for atoms in frames[:1] for key in atoms.info if "energy" in str(key).lower()],
        "forces": [key for atoms in frames[:1] for key in atoms.arrays if "force" in str(key).lower()],
        "stress": [key for atoms in frames[:1] for key in atoms.info if "stress" in str(key).lower()],
    }
    keys = ", ".join(f"{name}_key={names[0]!r}" for name, names in found.items() if names)
    if keys:
        return f"they carry some under names of their own: read_frames(frames, {keys}) takes these"
    return "give frames with labels (a SinglePointCalculator, or energy= and forces in extended XYZ)"
