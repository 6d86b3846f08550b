"""Labels of shear in another order, found at the end of training: what was learnt from energies and forces knows it.

Programs write six stresses in two orders, xx yy zz yz xz xy (ASE, here) and xx yy zz xy yz zx (VASP), and what was
converted once may have any. Frames in a wrong order are few or many, and nothing in the labels alone tells them.
"""

import warnings
from itertools import permutations

import numpy as np

from fastdesc.backend.arrays import to_host
from fastdesc.errors import FastdescWarning
from fastdesc.training.batch_gradient import AT_ONCE, predict_batch

SHEAR = (1, 2), (0, 2), (0, 1)
NAMES = "yz", "xz", "xy"
SOME = 64
"""Frames that are looked at, spread over the set."""
BETTER, CLOSE = 0.3, 0.5
"""Another order must leave less than this of the error of a frame, and of its labels themselves."""
PART, FEWEST = 0.05, 3
"""Of these frames, and frames, for which one other order must do so."""


def tell_of_shear(potential, data):
    """Warn where shear stresses of the training frames fit far better in another order.

    Parameters
    ----------
    potential : Potential
        Trained.
    data : TrainingSet
    """
    if not data.counts()["stress"]:
        return
    model, found, wanted = potential.model(data.dtype, data.device), [], []
    which = np.linspace(0, data.n_frames - 1, min(data.n_frames, SOME)).astype(int)
    for group in data.batches(AT_ONCE, which):
        batch = data.batch(group, potential.reference)
        for into, virial in ((found, predict_batch(model, batch)[2]), (wanted, batch.targets.virial)):
            into.append(to_host(virial)[:, *np.transpose(SHEAR)])
    found, wanted = np.concatenate(found), np.concatenate(wanted)
    order, frames = other_order(found, wanted)
    if order is None:
        return
    words = " ".join(NAMES[k] for k in order)
    warnings.warn(
        f"the shear stresses of {frames} of {len(which)} training frames that were looked at fit energies and forces "
        f"if their numbers for {' '.join(NAMES)} are those of {words}; put the labels right (here the order is "
        "xx yy zz yz xz xy), or train with stress_weight=0",
        FastdescWarning,
        stacklevel=3,
    )


def other_order(found, wanted):
    """The order in which shear labels fit best, where it is not theirs.

    Parameters
    ----------
    found, wanted : (n_frames, 3)
        yz, xz, xy as predicted, and as labelled; NaN without a label.

    Returns
    -------
    order : tuple of int, or None
        Components that the three labels are of; None where few frames fit better in any other order.
    frames : int
        Those that do.
    """
    known = np.isfinite(wanted).all(axis=1)
    found, wanted = found[known], wanted[known]
    own, size = (np.sqrt((x**2).sum(axis=1)) for x in (found - wanted, wanted))
    counts = {}
    for order in list(permutations(range(3)))[1:]:
        error = np.sqrt(((found[:, order] - wanted) ** 2).sum(axis=1))
        counts[order] = int(((error < BETTER * own) & (error < CLOSE * size)).sum())
    best = max(counts, key=counts.get)
    enough = counts[best] >= max(FEWEST, PART * len(wanted))
    return (best, counts[best]) if enough else (None, 0)
