"""What a potential says of frames, and how many frames it looks at together."""

from dataclasses import dataclass

import numpy as np

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
    """

    energy: np.ndarray
    forces: np.ndarray | None
    stress: np.ndarray | None
    energies: np.ndarray


def groups(structures):
    """Indices of consecutive frames in groups of about ATOMS_AT_ONCE atoms."""
    group, atoms = [], 0
    for f, n in enumerate(np.diff(structures.first)):
        if group and atoms + n > ATOMS_AT_ONCE:
            yield np.array(group)
            group, atoms = [], 0
        group.append(f)
        atoms += int(n)
    yield np.array(group)
