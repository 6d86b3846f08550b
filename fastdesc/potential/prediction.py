"""What a potential says of frames, and how many frames it looks at together."""

from dataclasses import dataclass

import numpy as np

from fastdesc.potential.uncertainty import MEMBERS, evaluate_with_spread, needed

ATOMS_AT_ONCE = 50_000
"""Frames are evaluated in groups of about so many atoms; a larger frame goes alone."""


@dataclass(frozen=True)
class Prediction:
    """What a potential says of frames.

    Attributes
    ----------
    energy : (n_frames,) float64, eV
    forces : (n_atoms, 3) float64, eV/Å; None when not asked for
    stress : (n_frames, 6) float64, eV/Å^3
        Voigt order xx yy zz yz xz xy, ASE's sign; NaN for frames without a volume; None when not asked for.
    energies : (n_atoms,) float64, eV
        Atomic energies; they sum to `energy`.
    energy_uncertainty : (n_frames,) float64, eV
        Standard deviations, calibrated; these and what follows are None unless asked for.
    forces_uncertainty : (n_atoms, 3) float64, eV/Å
        Of every component, or of the three of an atom the same ("local"); NaN where no forces were there to calibrate
        by.
    energies_uncertainty : (n_atoms,) float64, eV
        Of atomic energies, calibrated like `energy_uncertainty`.
    grade : (n_atoms,) float64
        How far an atom is from the atoms of its element in the training set, in the features of the last layer: above
        1, farther than every one of them; inf for an element that did not occur.
    """

    energy: np.ndarray
    forces: np.ndarray | None
    stress: np.ndarray | None
    energies: np.ndarray
    energy_uncertainty: np.ndarray | None = None
    forces_uncertainty: np.ndarray | None = None
    energies_uncertainty: np.ndarray | None = None
    grade: np.ndarray | None = None

    def farthest(self, first):
        """Frame, atom in it, and grade of the atom with the highest grade.

        Parameters
        ----------
        first : (n_frames + 1,) int
            Frame f has the atoms first[f] .. first[f + 1].
        """
        atom = int(np.argmax(self.grade))
        frame = int(np.searchsorted(first, atom, side="right")) - 1
        return frame, atom - int(first[frame]), float(self.grade[atom])


def groups(structures):
    """Indices of consecutive frames in groups of about ATOMS_AT_ONCE atoms."""
    if structures.n_atoms <= ATOMS_AT_ONCE:
        yield np.arange(structures.n_frames)
        return
    group, atoms = [], 0
    for f, n in enumerate(np.diff(structures.first)):
        if group and atoms + n > ATOMS_AT_ONCE:
            yield np.array(group)
            group, atoms = [], 0
        group.append(f)
        atoms += int(n)
    yield np.array(group)


def evaluated_with_spread(potential, structures, model, derivatives=True, members=MEMBERS):
    """What Potential.evaluate returns and, by the potential's uncertainty, a Spread (`members` 0: none of forces)."""
    *found, spread = evaluate_with_spread(potential, structures, model, needed(potential), derivatives, members)
    if potential.repulsion is not None:
        species = structures.species(potential.descriptor.species_numbers)
        energies, forces, virials = potential.repulsion.of_structures(structures, species)
        added = np.add.reduceat(energies, structures.first[:-1]), forces, virials, energies
        found = [None if a is None else a + b for a, b in zip(found, added, strict=True)]
    return *found, spread
