"""What is fitted before the first step: reference energies, scales of features and energies, ranges of splines."""

import numpy as np

from fastdesc.backend.arrays import namespace, to_host
from fastdesc.networks.scaler import FeatureScaler
from fastdesc.potential.evaluation import energies_of_features
from fastdesc.training.batch_gradient import AT_ONCE, predict_batch
from fastdesc.training.outliers import some_usual
from fastdesc.training.references import fit_reference, level

RESPONSE = 0.3
"""Å. On the mlearn silicon set, against spreads: energies 16 % and forces 7 % more accurate; 1 Å costs half of that."""

DIRECTIONS = 8
"""Along which responses are probed."""

SOME_FRAMES = 64
"""Frames from which the response of features is taken, spread over the set, at most AT_ONCE atoms of them."""


def initialise(potential, data):
    """Fit what needs no gradient: reference energies, feature scaler, and the energy scale.

    Frames whose labels are far outside the rest (fastdesc/training/outliers.py) do not count in that, and of more than
    20 000 frames as many are looked at, spread over the set, for scales; reference energies are fitted to all.
    Features are measured by their response: one unit is how far a feature moves when an atom does by RESPONSE. Their
    spread would be the usual unit, but it is that of the rarest environments, surfaces or a melt among crystals, next
    to which all others look alike. The energy scale is such that forces
    of the untrained networks are as large as the reference forces: learning rates then mean the same for every
    material and descriptor.
    """
    level(potential, data, fit_scales(potential, data))


def fit_scales(potential, data):
    """Do what `initialise` does, but for the level of the energies; return what `fit_reference` returned."""
    fixed = fit_reference(potential, data)
    scaler = FeatureScaler.identity(potential.descriptor.n_features)
    theta = potential.descriptor.prepared(potential.descriptor.theta(data.dtype, data.device), data.dtype)
    groups = data.batches(AT_ONCE, some_usual(data, len(potential.scale)))
    for group in groups:
        batch = data.batch(group, potential.reference)
        scaler.partial_fit(potential.descriptor.forward(batch.rij, batch.pairs, batch.species, theta)[0])
    moved = response(potential.descriptor, _sample(potential, data), theta)
    _fit_inputs(potential, scaler.mean, np.where(moved > 0, RESPONSE * moved, scaler.scale))
    _fit_networks(potential, _features(potential.descriptor, data, groups, theta))
    _multiply(potential, _force_scale(potential, data, groups))
    return fixed


def initialise_with_descriptor(potential, data):
    """Fit the same, and before it the initial parameters of a descriptor that is to be trained."""
    descriptor, sample = potential.descriptor, _sample(potential, data)
    theta = descriptor.theta(data.dtype, data.device)
    descriptor.training_hints.adapt_initial(sample.rij, sample.pairs, sample.species, theta)
    initialise(potential, data)


def initialise_from_features(potential, data):
    """Fit the same from a FeatureSet, which knows neither responses nor forces: features by their spread, and an energy
    scale such that energies per atom of the untrained networks spread as the reference energies do."""
    fixed = fit_reference(potential, data)
    scaler = FeatureScaler.identity(potential.descriptor.n_features)
    groups = data.batches(AT_ONCE, some_usual(data, len(potential.scale)))
    for group in groups:
        scaler.partial_fit(data.batch(group, potential.reference).q)
    _fit_inputs(potential, scaler.mean, scaler.scale)
    _fit_networks(potential, lambda: ((b.q, b.species) for b in (data.batch(g, potential.reference) for g in groups)))
    _multiply(potential, _energy_scale(potential, data, groups[:: -(-len(groups) // 64)]))
    level(potential, data, fixed)


def _sample(potential, data):
    """A batch of frames spread over the set."""
    usual = data.usual()
    some = np.linspace(0, len(usual) - 1, min(len(usual), SOME_FRAMES)).astype(int)
    return data.batch(data.batches(AT_ONCE, usual[some])[0], potential.reference)


def _fit_inputs(potential, mean, scale):
    """Set the feature scaler, and direct weights as large as those of a network's first layer."""
    potential.scaler = FeatureScaler(mean if potential.bias else np.zeros_like(mean), scale)
    direct = potential.direct_columns
    size = potential.scaler.scale[direct] * max(len(direct), 1) ** 0.5
    potential.direct_weights = np.tile(1 / size, (len(potential.scale), 1))


def _fit_networks(potential, blocks):
    """Fit networks to their inputs; `blocks()` yields features and species of all atoms, in blocks."""
    one_for_all = len(potential.networks) == 1
    for k, network in enumerate(potential.networks):
        inputs = (q if one_for_all else q[:, species == k] for q, species in blocks())
        potential.networks[k] = network.fitted(inputs, potential.scaler, potential.seen)


def _multiply(potential, factor):
    """Make energies of a potential with scale one larger by a factor."""
    potential.direct_weights = potential.direct_weights * factor
    potential.scale = np.full(len(potential.scale), factor if potential.network != "none" else 1.0)


def _features(descriptor, data, groups, theta):
    """Return a function that yields features and species of all atoms, in blocks."""

    def blocks():
        for group in groups:
            batch = data.batch(group, np.zeros(len(descriptor.species_numbers)))
            q, _ = descriptor.forward(batch.rij, batch.pairs, batch.species, theta)
            yield q, batch.species

    return blocks


def response(descriptor, batch, theta):
    """Root mean square over atoms of |dq_f/dr|, one number per feature, 1/Å.

    Estimated from changes along DIRECTIONS random directions t of signs, whose mean square is that of the length,
    <(dq_f/dr . t)^2> = |dq_f/dr|^2: within about sqrt(DIRECTIONS n_atoms)^-1. Mirrored pairs change oppositely.
    """
    xp, rng, out = namespace(batch.rij), np.random.default_rng(0), 0.0
    mirror = batch.pairs.mirror
    first = xp.arange(len(mirror)) < mirror
    for _ in range(DIRECTIONS):
        signs = xp.asarray(2 * rng.integers(0, 2, batch.rij.shape, np.int8) - 1)
        signs = xp.where(first, signs, -signs[:, mirror])
        duals = xp.stack([batch.rij, signs.astype(batch.rij.dtype)])
        q, _ = descriptor.forward(duals, batch.pairs, batch.species, theta)
        out = out + (q[1].astype(np.float64) ** 2).sum(axis=1)
    return to_host(out / (DIRECTIONS * batch.n_atoms)) ** 0.5


def _force_scale(potential, data, groups):
    """Ratio of the reference forces to those of networks of scale one and direct terms as they are."""
    potential.scale = np.ones(len(potential.scale))
    model = potential.model(data.dtype, data.device)
    wanted = found = 0.0
    for group in groups:
        batch = data.batch(group, potential.reference)
        reference, predicted = batch.targets.forces, predict_batch(model, batch)[1]
        known = namespace(reference).isfinite(reference)
        wanted += float((reference[known] ** 2).sum())
        found += float((predicted[known] ** 2).sum())
    return np.sqrt(wanted / found) if wanted > 0 and found > 0 else 1.0


def _energy_scale(potential, data, groups):
    """Ratio of the spread of reference energies per atom to that of networks of scale one."""
    potential.scale = np.ones(len(potential.scale))
    model, energies = potential.model(data.dtype, data.device), []
    for group in groups:
        batch = data.batch(group, potential.reference)
        found = batch.frame_sums(energies_of_features(model, batch.q, batch.species)[0])
        energies.append(to_host(namespace(found).stack([batch.targets.energy, found])) / np.diff(batch.first))
    energies = np.concatenate(energies, axis=1)
    wanted, found = energies[:, np.isfinite(energies[0])].std(axis=1)
    return wanted / found if wanted > 0 and found > 0 else 1.0
