"""Frames whose labels are far outside the rest: they are told, and scales do not go by them."""

import numpy as np

from fastdesc.networks.scaler import reference_energies

FAR = 10.0
"""Times what MOST of the frames reach."""
MOST = 0.9
LEAST_FORCE, LEAST_ENERGY = 1.0, 0.1
"""eV/Å and eV/atom within which nothing is far."""
PASSES, SOME = 30, 20_000
"""Fits of references of deviations; frames to which these are fitted, and those that scales go by."""


def far_outside(values, least):
    """Tell which values are over FAR times what MOST of them reach; none that is not above `least`.

    Parameters
    ----------
    values : (n,) array
        At least 0; NaN does not count.
    least : float

    Returns
    -------
    far : (n,) bool
    typical : float
        What MOST of them reach; NaN without values.
    """
    known = np.sort(values[np.isfinite(values)])
    if not len(known):
        return np.zeros(len(values), bool), np.nan
    typical = known[int(MOST * (len(known) - 1))]
    far = np.nan_to_num(values) > max(FAR * typical, least)
    return far & (typical > 0), float(typical)


def energy_deviations(compositions, energies):
    """Distances of energies per atom from those that reference energies of elements give, (n_frames,) eV/atom.

    These are of the least sum of absolute values, by least squares with weights again and again: one frame among many,
    however wrong, moves them little. NaN where there is no energy.
    """
    n_atoms = compositions.sum(axis=1)
    known = np.isfinite(energies)
    if not known.any():
        return np.full(len(energies), np.nan)
    some = some_of_all(compositions, known)
    counts, few, n = compositions[some], energies[some], n_atoms[some]
    weights = 1 / n
    for _ in range(PASSES):
        references = reference_energies(counts, few, weights)
        off = abs(few - counts @ references) / n
        weights = 1 / (n * np.sqrt(np.maximum(off, 1e-6 * max(float(off.max()), 1e-6))))
    return abs(energies - compositions @ references) / n_atoms


def some_usual(data, n_species):
    """Frames whose labels are not far outside the rest, ascending; of many about SOME, every element among them.

    Parameters
    ----------
    data : TrainingSet or FeatureSet
    n_species : int
    """
    usual = data.usual()
    if len(usual) <= SOME:
        return usual
    chosen = np.zeros(data.n_frames, bool)
    chosen[usual] = True
    return some_of_all(data.compositions(n_species), chosen)


def some_of_all(compositions, known):
    """Numbers of those frames, at most about SOME of them, but every element among them."""
    frames = np.flatnonzero(known)
    spread = frames[np.linspace(0, len(frames) - 1, min(len(frames), SOME)).astype(int)]
    first = [frames[np.flatnonzero(holds)[:100]] for holds in (compositions[frames] > 0).T]
    return np.unique(np.concatenate([spread, *first]))


def outliers(data, n_species):
    """Find the frames of a set whose forces or energies are far outside the rest.

    Isolated atoms are not judged: their energies are far from those of matter, as they should be.

    Parameters
    ----------
    data : TrainingSet or FeatureSet
    n_species : int

    Returns
    -------
    dict of str to (far (n_frames,) bool, typical, values (n_frames,))
        By "forces" (the largest on an atom, eV/Å) and "energy" (deviation, eV/atom).
    """
    alone = np.zeros(data.n_frames, bool)
    alone[data.lone_atoms()] = True
    energies = np.where(alone, np.nan, data.energies)
    forces = np.where(alone, np.nan, data.largest_forces())
    deviations = energy_deviations(data.compositions(n_species), energies)
    return {
        "forces": (*far_outside(forces, LEAST_FORCE), forces),
        "energy": (*far_outside(deviations, LEAST_ENERGY), deviations),
    }
