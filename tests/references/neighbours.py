"""Every neighbour of every atom, by trying all images: slow, obvious, imports nothing of ours."""

import itertools

import numpy as np


def completed(cell):
    """Return `cell` with zero rows replaced by vectors normal to the others, so that it has an inverse."""
    cell = np.array(cell, dtype=float)
    present = [k for k in range(3) if np.any(cell[k] != 0)]
    for k in range(3):
        if k not in present:
            normal = np.linalg.svd(cell[present] if present else np.zeros((1, 3)))[2][-1]
            cell[k] = normal
            present.append(k)
    return cell


def neighbours(positions, cell, pbc, cutoff):
    """Return i, j (n_pairs,), shift (n_pairs, 3): all pairs closer than `cutoff`, self images included.

    In a lattice with rows h_k and reciprocal rows b_k, the component of r along h_k is b_k·r, and
    |b_k·r| <= |b_k| cutoff: no other shift can bring a neighbour within the cutoff.
    """
    positions = np.asarray(positions, dtype=float)
    full = completed(cell)
    reciprocal = np.linalg.inv(full).T
    reach = cutoff * np.sqrt((reciprocal**2).sum(axis=1)) + 1e-9
    found = []
    for i, j in itertools.product(range(len(positions)), repeat=2):
        fraction = reciprocal @ (positions[j] - positions[i])
        ranges = [
            range(int(np.ceil(-f - w)), int(np.floor(-f + w)) + 1) if periodic else range(1)
            for f, w, periodic in zip(fraction, reach, pbc, strict=True)
        ]
        for shift in itertools.product(*ranges):
            if i == j and shift == (0, 0, 0):
                continue
            r = positions[j] - positions[i] + np.array(shift) @ full
            if (r**2).sum() < cutoff**2:
                found.append((i, j, *shift))
    found = np.array(found, dtype=int).reshape(-1, 5)
    return found[:, 0], found[:, 1], found[:, 2:]


def pair_vectors(positions, cell, i, j, shift):
    """Return r = x_j - x_i + shift·H (n_pairs, 3); positions and cell may be complex."""
    return positions[j] - positions[i] + shift @ cell
