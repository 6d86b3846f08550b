"""Labels of frames as arrays, with NaN where one is missing; and why frames carry none, with what to do."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from ase.stress import voigt_6_to_full_3x3_stress

from fastdesc.checks import brief
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
        return report_of(len(frames), sum(map(len, frames)), self.counts(frames))

    def counts(self, frames):
        """Return the number of frames that carry each label, as a dict."""
        first = np.cumsum([0, *map(len, frames)])
        complete = np.isfinite(self.forces).all(1)
        return {
            "energy": int(np.isfinite(self.energies).sum()),
            "forces": sum(bool(complete[a:b].all()) for a, b in pairwise(first)),
            "stress": int(np.isfinite(self.stress).all((1, 2)).sum()),
        }


def report_of(n_frames, n_atoms, have):
    """Say in one line how many frames there are, and how many carry which label."""
    words = [f"{n_frames} frame{'s'[: n_frames != 1]} ({n_atoms} atoms)"]
    for name, count in have.items():
        words.append(f"all with {name}" if count == n_frames else f"{n_frames - count} without {name}")
    return ", ".join(words)


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
                energies[k] = real(stored["energy"])
            if stored.get("forces") is not None:
                forces[first:last] = real(stored["forces"]).reshape(len(atoms), 3)
            if stored.get("stress") is not None:
                stress[k] = full_stress(stored["stress"])
        except (ValueError, TypeError) as error:
            raise InputError(f"frame {k} has a label of the wrong shape or kind ({error})") from error
        first = last
    return Labels(energies, forces, stress)


def taught(frames, known):
    """Labels that can be learned: those of frames, without the stresses of slabs, wires and molecules.

    Parameters
    ----------
    frames : list of ase.Atoms
    known : Labels
    """
    bulk = np.array([atoms.pbc.all() for atoms in frames])
    return known._replace(stress=np.where(bulk[:, None, None], known.stress, np.nan))


def real(value):
    """Return what a label holds as a float64 array; TypeError for text and for booleans, which NumPy takes, too."""
    array = np.asarray(value)
    if array.dtype.kind not in "iufO":
        raise TypeError(f"{brief(value)} is no number")
    return array.astype(np.float64)


def full_stress(stress):
    """Return a stress given as 6 Voigt numbers (xx yy zz yz xz xy), 9 numbers or (3, 3) as (3, 3)."""
    stress = real(stress)
    if stress.shape == (6,):
        return voigt_6_to_full_3x3_stress(stress)
    return stress.reshape(3, 3)


def is_virial(key):
    """Whether the name of a label means a virial: "virial", "dft_virials", "virial_ref"; not "virial_stress"."""
    return isinstance(key, str) and "virial" in key.lower() and "stress" not in key.lower()


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


WANTED = {
    "energy": "one number (eV)",
    "forces": "a row of three numbers for each atom (eV/Å)",
    "stress": "6 numbers (xx yy zz yz xz xy) or 3 x 3 (eV/Å^3)",
}


def label_of_name(name, key, info, arrays, results, n_atoms, number):
    """Return a label that a frame carries under a name of its own; None where it carries none.

    Parameters
    ----------
    name : {"energy", "forces", "stress"}
    key : str
        Its name in `info` (`arrays` for forces) or `results`.
    n_atoms, number : int
        Of the frame; the number is for messages.

    Returns
    -------
    float, (n_atoms, 3) or (3, 3) float64, or None

    Raises
    ------
    InputError
        For what is no such label; names frame and key.
    """
    value = (arrays if name == "forces" else info).get(key, results.get(key))
    if value is None:
        return None
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "iuf":
            raise ValueError("no numbers")
        array = array.astype(np.float64)
        if name == "energy":
            return float(array.reshape(()))
        return array.reshape(n_atoms, 3) if name == "forces" else full_stress(array)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"frame {number} has {brief(value)} under {key!r} for the {name}; it must be {WANTED[name]}"
        ) from error


def label_keys(energy_key, forces_key, stress_key):
    """The names of labels as a dict; InputError for what is no name."""
    keys = {"energy": energy_key, "forces": forces_key, "stress": stress_key}
    for name, key in keys.items():
        if key is not None and not isinstance(key, str):
            raise InputError(f"{name}_key came as {brief(key)}; it must be the name of a label, such as 'REF_{name}'")
    return {name: key for name, key in keys.items() if key is not None}


class LabelsSeen:
    """Which labels a stream of batches carries, and which names look like labels that nobody asked for.

    Parameters
    ----------
    keys : dict
        Names that were asked for, by label.
    """

    def __init__(self, keys):
        self.keys, self.found, self.near = keys, set(), {}

    def note(self, batch):
        """Look at a batch."""
        for name, rows in (("energy", batch.energies), ("forces", batch.forces), ("stress", batch.stress)):
            if name not in self.found and np.isfinite(rows).any():
                self.found.add(name)
        if not self.found and batch.n_frames:
            for key in batch.infos[0]:
                for name in ("energy", "stress"):
                    if name in key.lower() or (name == "stress" and is_virial(key)):
                        self.near.setdefault(name, key)
            for key in batch.array_names:
                if "force" in key.lower():
                    self.near.setdefault("forces", key)

    def advice(self):
        """A sentence about labels asked for and not there, or there and not asked for; empty where all is well."""
        missing = [f"{key!r} for the {name}" for name, key in self.keys.items() if name not in self.found]
        near = ", ".join(f"{name}_key={key!r}" for name, key in self.near.items())
        if missing:
            also = f"; there are names like it: {near}" if near and not self.found else ""
            return f"no frame has {' or '.join(missing)}{also}"
        if near and not self.found:
            return f"no frame has a label of a standard name; some have names of their own: give {near}"
        return ""
