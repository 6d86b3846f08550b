"""The exact gradient of the loss of a batch, and errors over a set: one dual pass, no autograd.

Energies and pair gradients come first, then residuals; pair tangents are made of the residuals, and one dual pass
(fastdesc.evaluation) yields the gradient with respect to every parameter.
"""

import numpy as np

from fastdesc.arrays import namespace
from fastdesc.evaluation import energies_and_gradient, loss_gradient
from fastdesc.geometry import forces, frame_sums, pair_tangents, virials
from fastdesc.loss import Metrics, residuals
from fastdesc.scaler import FeatureScaler, reference_energies, unfold_gradients


def predict_batch(model, batch, keep=False):
    """Energies above the reference, forces and virials of a batch, and the tape if kept."""
    atomic, drij, tape = energies_and_gradient(model, batch.rij, batch.pairs, batch.species, keep)
    energy = frame_sums(atomic[None], batch.pairs)[:, 0]
    return energy, forces(drij, batch.pairs), virials(batch.rij, drij, batch.pairs), tape


def batch_gradient(potential, model, batch, weights):
    """Loss of a batch and its gradient with respect to every parameter of the potential.

    Returns
    -------
    found : Residuals
    gradient : dict of str to float64 array
        Named as Potential.parameters.
    """
    energy, f, w, tape = predict_batch(model, batch, keep=True)
    found = residuals(batch.targets, energy, f, w, weights)
    trij = pair_tangents(found.rho, found.strain, batch.rij, batch.pairs)
    dtheta, dnetworks, dscale = loss_gradient(model, batch.rij, trij, batch.pairs, batch.species, tape, found.de)
    gradient = {f"descriptor/{name}": g for name, g in dtheta.items()}
    for k, dlayers in enumerate(dnetworks):
        for l, (dw, db) in enumerate(unfold_gradients(dlayers, potential.scaler)):
            gradient[f"network/{k}/{l}/weight"] = dw
            if db is not None:
                gradient[f"network/{k}/{l}/bias"] = db
    gradient["scale"] = dscale
    return found, gradient


def initialise(potential, data):
    """Fit what needs no gradient: reference energies, feature scaler, and the energy scale.

    The scale is such that forces of the untrained networks are as large as the reference forces: learning rates then
    mean the same for every material and descriptor.
    """
    n_species = len(potential.descriptor.species_numbers)
    if np.isfinite(data.energies).any():
        potential.reference = reference_energies(data.compositions(n_species), data.energies)
    scaler = FeatureScaler.identity(potential.descriptor.n_features)
    groups = data.batches(4096)
    theta = potential.descriptor.theta(data.dtype, data.device)
    for group in groups:
        batch = data.batch(group, potential.reference)
        scaler.partial_fit(potential.descriptor.forward(batch.rij, batch.pairs, batch.species, theta)[0])
    potential.scaler = scaler
    potential.scale = np.ones(n_species)
    model = potential.model(data.dtype, data.device)
    wanted = found = 0.0
    for group in groups:
        batch = data.batch(group, potential.reference)
        reference, predicted = batch.targets.forces, predict_batch(model, batch)[1]
        known = namespace(reference).isfinite(reference)
        wanted += float((reference[known] ** 2).sum())
        found += float((predicted[known] ** 2).sum())
    if wanted > 0 and found > 0:
        potential.scale = np.full(n_species, np.sqrt(wanted / found))


def evaluate_set(model, data, reference, weights, batch_atoms=4096):
    """Loss and errors over a whole set, as a dict of numbers."""
    metrics, loss = Metrics(), 0.0
    for group in data.batches(batch_atoms):
        batch = data.batch(group, reference)
        found = residuals(batch.targets, *predict_batch(model, batch)[:3], weights)
        metrics.add(found.errors)
        loss += found.loss * len(group)
    return {"loss": loss / data.n_frames, **metrics.result()}
