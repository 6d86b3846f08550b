"""The Jacobian with iterations, when features depend on more than the pairs of their own row."""

from itertools import pairwise

import numpy as np

from fastdesc.backend.arrays import namespace, to_device, to_host
from fastdesc.descriptors.jacobian import Jacobian


def receptive_field_jacobian(family, rij, pairs, species, theta, structures):
    """Derivatives of features within iterations + 1 steps from neighbour to neighbour.

    Atom number a of every frame is moved at once, one dual forward pass for each of x, y, z: three times as many
    passes as the largest frame has atoms.

    Returns
    -------
    Jacobian
    """
    xp = namespace(rij)
    device = "cpu" if xp is np else "cuda"
    i, j = to_host(pairs.i), to_host(pairs.j)
    first = structures.first
    centre, atom = _within_reach(i, j, first, family.iterations + 1)
    values = np.empty((len(centre), family.n_features, 3), rij.dtype)
    number = np.arange(structures.n_atoms) - np.repeat(first[:-1], np.diff(first))
    for a in range(int(np.diff(first).max())):
        moved = (number == a).astype(rij.dtype)
        step = moved[j] - moved[i]
        chosen = np.flatnonzero(number[atom] == a)
        for x in range(3):
            tangent = np.zeros(rij.shape, rij.dtype)
            tangent[x] = step
            q, _ = family.forward(xp.stack([rij, to_device(tangent, device)]), pairs, species, theta)
            values[chosen, :, x] = to_host(q[1]).T[centre[chosen]]
    return Jacobian(centre, atom, values, structures.n_atoms)


def _within_reach(i, j, first, steps):
    """All (centre, atom) of a frame that are at most so many steps apart, self included, in order of centre."""
    centres, atoms = [], []
    for a, b in pairwise(first):
        inside = slice(*np.searchsorted(i, [a, b]))
        near = np.eye(b - a, dtype=np.float32)
        near[i[inside] - a, j[inside] - a] = 1
        reach = near
        for _ in range(steps - 1):
            reach = np.minimum(reach @ near, 1)
        centre, atom = np.nonzero(reach)
        centres.append(centre + a)
        atoms.append(atom + a)
    return np.concatenate(centres), np.concatenate(atoms)
