"""Sums over training frames of products of last-layer features: what a fitted last layer is certain of.

With phi of fastdesc/potential/last_layer.py, summed over the atoms of a frame, the loss (1) of
fastdesc/training/loss.py is quadratic in the weights of the last layer; half of its second derivative, summed over
frames, is

    A = sum_f w_f [ a_E phi_f phi_f^T / N_f^2 + a_F sum_a d_a phi_f (d_a phi_f)^T / (3 N_f) ]                 (1)

with the derivatives d_a by all coordinates of the frame. The second sum is the mean of t phi_f (t phi_f)^T over
tangents t of random signs, one pass in dual numbers each: PROBES of them are taken. Frames count where they have
labels.
"""

import numpy as np

from fastdesc.backend.arrays import namespace, stacked, to_device, to_host
from fastdesc.backend.workspace import kept_memory
from fastdesc.geometry import pair_tangents
from fastdesc.potential.evaluation import energies_of_features, over_chunks
from fastdesc.training.batch_gradient import AT_ONCE

PROBES = 4
"""Random tangents per frame."""


def metric(layer, model, data, weights, reference, probes=PROBES, seed=0):
    """Matrix A of (1), (layer.n, layer.n) float64.

    Parameters
    ----------
    layer : LastLayer
    model : Model
        In the dtype and on the device of the set.
    data : TrainingSet or FeatureSet
    weights : LossWeights
    reference : (n_species,) eV
    """
    rng, out = np.random.default_rng(seed), np.zeros((layer.n, layer.n))
    forces = weights.force > 0 and not data.energies_alone(weights)
    for group in data.batches(AT_ONCE):
        batch = data.batch(group, reference)
        counts, weight = np.diff(to_host(batch.targets.first)), to_host(batch.targets.weight)
        known = np.isfinite(to_host(batch.targets.energy))
        with kept_memory():
            by_energy, _ = frame_features(layer, model, batch)
        add(out, to_host(by_energy)[known], (weights.energy * weight / counts**2)[known])
        if not forces:
            continue
        known = np.isfinite(to_host(batch.targets.forces)).any(axis=1)
        known = np.logical_or.reduceat(known, batch.pairs.first[:-1])
        for _ in range(probes):
            signs = 2.0 * rng.integers(0, 2, (batch.n_atoms, 3)) - 1
            with kept_memory():
                _, by_force = frame_features(layer, model, batch, signs)
            add(out, to_host(by_force)[known], (weights.force * weight / (3 * counts * probes))[known])
    return out


def add(out, rows, weight):
    """Add the products of rows (n_frames, n), each of a weight."""
    rows = rows * np.sqrt(weight)[:, None]
    out += rows.T @ rows


def frame_features(layer, model, batch, tangents=None):
    """Sums of phi over the atoms of each frame of a batch, and their derivatives along tangents of the positions.

    Parameters
    ----------
    tangents : (n_atoms, 3) array, optional

    Returns
    -------
    phi, tphi : (n_frames, layer.n) float64 arrays; the second None without tangents
    """
    species, pairs = batch.species, getattr(batch, "pairs", batch)
    if tangents is None:
        q = batch.features(model)
        _, chunks = energies_of_features(model, q, species, True, batch.columns)
        return layer.by_frame(layer.features(model, q, species, chunks), pairs, species), None
    device = "cpu" if namespace(batch.rij) is np else "cuda"
    trij = pair_tangents(to_device(tangents, device), None, batch.rij, pairs)
    (q, tq), _ = model.descriptor.forward(stacked(batch.rij, trij), pairs, species, model.theta)
    _, chunks = energies_of_features(model, q, species, True, batch.columns)

    def task(k, _):
        z, columns, saved, _ = chunks[k]
        return [model.networks[z].tangent(saved, tq[:, columns])[1]]

    along = [kept[0] for kept in over_chunks(task, chunks, q)]
    phi = layer.features(model, q, species, chunks)
    tphi = layer.tangents(model, tq, species, chunks, along)
    return layer.by_frame(phi, pairs, species), layer.by_frame(tphi, pairs, species)
