"""Which of the structures that were looked at are labelled."""

from dataclasses import dataclass

import numpy as np

from fastdesc.features.selection import select_diverse, select_typical, select_uncertain
from fastdesc.potential.last_layer_features import last_layer_features


@dataclass(frozen=True)
class Scores:
    """What a potential says of structures.

    Attributes
    ----------
    grade : (n,) float64
        Largest of the atoms of each.
    force_uncertainty : (n,) float64, eV/Å
        Root mean square over components; NaN where the model was calibrated without forces.
    rows : (n, n_weights) float64
        Of `last_layer_features`.
    """

    grade: np.ndarray
    force_uncertainty: np.ndarray
    rows: np.ndarray


def scores(potential, frames, device="cpu"):
    """Scores of frames."""
    found = potential.predict(frames, device=device, stress=False, uncertainty=True)
    first = np.cumsum([0, *map(len, frames)])[:-1]
    counts = np.array([3 * len(atoms) for atoms in frames])
    square = np.add.reduceat((found.forces_uncertainty**2).sum(axis=1), first) / counts
    grade = np.maximum.reduceat(found.grade, first)
    return Scores(grade, np.sqrt(square), last_layer_features(potential, frames, device))


def choose(found, allowed, number, method, seed):
    """Numbers of the chosen structures, in the order of choice.

    Parameters
    ----------
    found : Scores
    allowed : (m,) int array
        Numbers of the candidates.
    number : int
        Fewer are chosen where there are fewer candidates.
    method : str
        As of `Select`.
    seed : int or sequence of int
    """
    number = min(number, len(allowed))
    if not number:
        return np.zeros(0, int)
    rng = np.random.default_rng(seed)
    rows = found.rows[allowed]
    if method == "random":
        own = rng.choice(len(allowed), number, replace=False)
    elif method == "diverse":
        own, _ = select_diverse(rows, number, scale=False)
    elif method == "typical":
        own = select_typical(rows, number, scale=False, seed=int(rng.integers(2**31)))
    else:
        own, _ = select_uncertain(_as_long_as(rows, found.force_uncertainty[allowed]), number)
    return allowed[own]


def _as_long_as(rows, lengths):
    """Rows stretched to lengths, where these are known: directions say what is unknown, lengths how much."""
    size = np.linalg.norm(rows, axis=1)
    known = np.isfinite(lengths) & (size > 0)
    factor = np.ones(len(rows))
    factor[known] = lengths[known] / size[known]
    return rows * factor[:, None]
