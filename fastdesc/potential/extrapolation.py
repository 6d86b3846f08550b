"""How uncertainties grow where frames lie outside of what a potential was trained on.

Widths that come from features of the last layer grow there, too, but less than errors do: the features themselves are
wrong, and frames that were trained on do not tell by how much. What tells is how far the atoms of a frame are in the
mean: with the grades g of (3) in fastdesc/potential/uncertainty.py and the reach r of each element,

    d_f^2 = mean_i (g_i / r_Z)^2,    G_f = min(max(d_f, 1), 3),                                              (1)

where half of the validation frames have d_f below 1. Standard deviations are multiplied by

    G^(3/2) for energies of frames and for forces from members, G for forces by grades,                      (2)

whose widths grow with G themselves. `python -m bench.extrapolation` measures it: potentials trained on the frames of
lowest energy of a set, looked at on those of highest energy. Beyond three times the usual distance nothing was found
that holds for several sets, and G stays 3.
"""

import numpy as np

POWER, LOCAL = 1.5, 1.0
"""Powers of (2)."""
FARTHEST = 3.0
"""Largest G."""


def distances(grade, species, first, reach):
    """d of (1).

    Parameters
    ----------
    grade : (n_atoms,) float64
    species : (n_atoms,) int array
    first : (n_frames + 1,) int
        Frame f has the atoms first[f] .. first[f + 1], at least one.
    reach : (n_species,) float64
        0 for an element that did not occur, whose atoms are farther than any other, and for one whose grades are 0.

    Returns
    -------
    (n_frames,) float64
    """
    own = reach[species]
    ratio = grade / np.where(own > 0, own, 1)
    return np.sqrt(np.add.reduceat(ratio**2, first[:-1]) / np.diff(first))


def growth(grade, species, first, reach):
    """G of (1), (n_frames,) float64; ones without a reach, as in models of earlier versions. Arguments as above."""
    if reach is None:
        return np.ones(len(first) - 1)
    return np.clip(distances(grade, species, first, reach), 1.0, FARTHEST)
