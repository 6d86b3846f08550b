"""What one step of training computes, and what it can leave out: four passes from a batch to residuals and gradients.

A loss without forces and stresses needs no derivative with respect to positions, and a descriptor that stays as it is
no derivative with respect to its parameters, the most expensive part of the pass back.
"""

from typing import NamedTuple

from fastdesc.backend.arrays import namespace, padded
from fastdesc.backend.workspace import kept_memory
from fastdesc.geometry import forces, pair_tangents, virials
from fastdesc.potential.evaluation import energies_and_gradient, energies_of_features
from fastdesc.training.dual_pass import (
    energy_loss_gradient,
    energy_loss_gradient_and_features,
    fixed_loss_gradient,
    loss_gradient,
)
from fastdesc.training.loss import Metrics, energy_residuals, residuals
from fastdesc.training.team import ALONE


class Pass(NamedTuple):
    """Two functions of (model, batch, weights).

    `judge` returns Residuals; `gradient` returns Residuals, dtheta (a dict, empty where the descriptor is fixed),
    dnetworks, dscale and ddirect, as of fastdesc.training.dual_pass.
    """

    judge: object
    gradient: object


def predict_batch(model, batch, keep=False):
    """Energies above the reference, forces and virials of a batch, and the tape if kept."""
    atomic, drij, tape = energies_and_gradient(model, batch.rij, batch.pairs, batch.species, keep)
    energy = batch.frame_sums(atomic)
    return energy, forces(drij, batch.pairs), virials(batch.rij, drij, batch.pairs), tape


def _judge(model, batch, weights):
    return residuals(batch.targets, *predict_batch(model, batch)[:3], weights)


def _judged_and_tangents(model, batch, weights):
    """Residuals, the pair tangents they make, and the tape."""
    energy, f, w, tape = predict_batch(model, batch, keep=True)
    found = residuals(batch.targets, energy, f, w, weights)
    return found, pair_tangents(found.rho, found.strain, batch.rij, batch.pairs), tape


def _gradient(model, batch, weights):
    found, trij, tape = _judged_and_tangents(model, batch, weights)
    return found, *loss_gradient(model, batch.rij, trij, batch.pairs, batch.species, tape, found.de)


def _fixed_gradient(model, batch, weights):
    found, trij, tape = _judged_and_tangents(model, batch, weights)
    return found, {}, *fixed_loss_gradient(model, batch.rij, trij, batch.pairs, batch.species, tape, found.de)


def _judge_energies(model, batch, weights):
    atomic, _ = energies_of_features(model, batch.features(model), batch.species, columns=batch.columns)
    return energy_residuals(batch.targets, batch.frame_sums(atomic), weights)


def _energy_gradient(model, batch, weights):
    family, given = model.descriptor, (batch.rij, batch.pairs, batch.species, model.theta)
    q, saved = family.forward(*given)
    atomic, chunks = energies_of_features(model, q, batch.species, True, batch.columns)
    found = energy_residuals(batch.targets, batch.frame_sums(atomic), weights)
    dq = padded(q.shape, q.dtype, q)
    others = energy_loss_gradient_and_features(model, q, batch.species, chunks, found.de, dq)
    return found, family.pullback_parameters(*given, saved, dq), *others


def _fixed_energy_gradient(model, batch, weights):
    q = batch.features(model)
    atomic, chunks = energies_of_features(model, q, batch.species, True, batch.columns)
    found = energy_residuals(batch.targets, batch.frame_sums(atomic), weights)
    return found, {}, *energy_loss_gradient(model, q, batch.species, chunks, found.de)


EVERYTHING = Pass(_judge, _gradient)
FIXED = Pass(_judge, _fixed_gradient)
"""The descriptor stays as it is."""
ENERGIES = Pass(_judge_energies, _energy_gradient)
"""The loss has energies alone."""
FIXED_ENERGIES = Pass(_judge_energies, _fixed_energy_gradient)
"""Both; batches need features only."""

PASSES = {
    (False, False): EVERYTHING,
    (True, False): FIXED,
    (False, True): ENERGIES,
    (True, True): FIXED_ENERGIES,
}
"""(descriptor fixed, energies alone) -> Pass."""


AT_ONCE = 4096
"""Atoms per batch where no gradient is taken."""


def batch_gradient(potential, model, batch, weights, training_pass=EVERYTHING):
    """Loss of a batch and its gradient with respect to the parameters of the potential.

    Returns
    -------
    found : Residuals
    gradient : dict of str to float64 array
        Named as Potential.parameters; without those of the descriptor where the pass leaves it fixed.
    """
    with kept_memory():
        found, *gradient = training_pass.gradient(model, batch, weights)
        return found, potential.named_gradient(*gradient)


def evaluate_set(model, data, reference, weights, training_pass=EVERYTHING, team=ALONE, batch_atoms=AT_ONCE):
    """Loss and errors over a whole set, as a dict of numbers; members of a team share the batches."""
    metrics, loss = Metrics(model.scale), namespace(model.scale).zeros(())
    groups = data.batches(batch_atoms)[team.rank :: team.size]
    for group, batch in zip(groups, data.batches_ahead(groups, reference), strict=True):
        with kept_memory():
            found = training_pass.judge(model, batch, weights)
            metrics.add(found.errors)
            loss = loss + found.loss * len(group)
    (loss,) = team.sum([loss])
    return {"loss": float(loss) / data.n_frames, **metrics.result(team)}
