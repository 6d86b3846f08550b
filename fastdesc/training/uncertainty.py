"""Fitting the covariance of a trained potential's last layer, and calibrating it on validation frames.

The training frames give the matrix A (fastdesc/training/last_layer_metric.py), a trained potential's errors on
validation frames the rest: the ridge, and the factors of energies and of forces, such that errors are as likely as can
be under Gaussians of the predicted widths. For a given ridge the best factor is the root mean square of error over
width, and what is left,

    mean log s + log(rms(error / s)),                                                                          (1)

summed over energies and force components, is smallest for the best ridge. Nothing is trained. Forces have one such
factor for all elements and, times that, one for each, which is drawn to 1 where few components tell it; and a least
width, the one for which (1) is smallest, for a component that few members tell apart is not surer for that.
"""

import json
from dataclasses import dataclass, replace

import numpy as np

from fastdesc.backend.arrays import to_host
from fastdesc.backend.workspace import kept_memory
from fastdesc.errors import InputError
from fastdesc.hdf5.files import to_json
from fastdesc.potential.evaluation import energies_of_features
from fastdesc.potential.extrapolation import FARTHEST, LOCAL, POWER, distances
from fastdesc.potential.last_layer import LastLayer
from fastdesc.potential.uncertainty import MEMBERS, Uncertainty, spread_of_energies, values_and_spread
from fastdesc.training.batch_gradient import AT_ONCE, predict_batch
from fastdesc.training.ensemble_members import PROBES, train_members
from fastdesc.training.last_layer_metric import frame_features, metric
from fastdesc.training.loss import LossWeights

MOST = 2048
"""Weights in last layers, of all elements together, up to which a covariance is stored: 32 MB."""
RIDGES = 10.0 ** np.arange(-8, 1)
"""Relative to the diagonal."""
DEAD = 1e-12
"""Of the largest diagonal entry: a weight that the frames say less about has this one."""
LOCAL_RIDGE = 1e-6
"""Relative to the diagonal, of the mean products of an element's features; 1 / n where there are few, n, atoms."""
LARGEST = 1e150
"""Error: squares of larger ones are infinite."""
LEAST = np.array([0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0])
"""Least widths of forces that are tried, in units of the root mean square width of the element's components."""
KNOWN = 1e-4
"""In the same units: components of smaller widths are zero by symmetry, and say nothing of the others."""
FEW = 30
"""Components of forces that an element's own factor is drawn to 1 by."""
LOOKED_AT = 20_000
"""Atoms of the validation frames that are looked at, spread over the set."""


def fit(potential, data, valid, weights, seed=0):
    """The Uncertainty of a potential as it is, from sets that are ready.

    Parameters
    ----------
    potential : Potential
    data : TrainingSet or FeatureSet
    valid : TrainingSet or FeatureSet, or None
        Without it the factors come from the training frames, whose errors are too small.
    weights : LossWeights

    Returns
    -------
    Uncertainty

    Raises
    ------
    InputError
        For last layers of more than MOST weights, and frames that carry no energies.
    """
    model, layer, by, groups = _ready(potential, data, valid)
    a = metric(layer, model, data, weights, potential.reference, seed=seed)
    ridge, factor = _factor(a, *_samples(potential, layer, model, by, groups, seed))
    told = {"ridge": ridge, "members": MEMBERS}
    return _calibrated(potential, layer, model, data, valid, groups, factor, told)


def fit_members(potential, data, valid, weights, members, likelihood, seed=0):
    """The Uncertainty of a shallow ensemble (fastdesc/training/ensemble_members.py), from sets that are ready.

    Parameters
    ----------
    potential, data, valid, weights
        As of `fit`; validation frames are needed.
    members : int
    likelihood : {"nll", "crps"}

    Returns
    -------
    Uncertainty
        Its factor is (n, members).

    Raises
    ------
    InputError
        As of `fit`.
    """
    model, layer, by, groups = _ready(potential, data, valid)
    a = metric(layer, model, data, weights, potential.reference, seed=seed)
    ridge, factor = _factor(a, *_samples(potential, layer, model, by, groups, seed))
    own = data.batches(AT_ONCE)
    own = own[:: -(-int(data.n_atoms.sum()) // LOOKED_AT)]
    looks = [(data, own), (by, groups)]
    train, held = (_many_samples(potential, layer, model, some, parts, seed) for some, parts in looks)
    factor, went = train_members(factor, train, held, members, likelihood, seed)
    told = {"shallow_ensemble": likelihood, "ridge": ridge, "members": members, **went}
    return _calibrated(potential, layer, model, data, valid, groups, factor, told)


def _ready(potential, data, valid):
    """Model, last layer, the set to calibrate by and batches of it."""
    model = potential.model(data.dtype, data.device)
    layer = LastLayer.of(model, potential.direct_columns)
    if layer.n > MOST:
        raise InputError(
            f"the last layers have {layer.n} weights, and the uncertainty of at most {MOST} is kept; take a narrower "
            "last hidden layer, network='shared', or fewer direct features"
        )
    by = data if valid is None else valid
    groups = by.batches(AT_ONCE)
    return model, layer, by, groups[:: -(-int(by.n_atoms.sum()) // LOOKED_AT)]


def _calibrated(potential, layer, model, data, valid, groups, factor, told):
    """The Uncertainty of a factor: grades from the training frames, factors from those to calibrate by."""
    by, n = data if valid is None else valid, len(model.scale)
    found = Uncertainty(factor, np.zeros(n), local=_local(potential, layer, model, data))
    largest, farthest, squares, counts = (np.zeros(n) for _ in range(4))
    for group in data.batches(AT_ONCE):
        batch = data.batch(group, potential.reference)
        _, of_atoms, far, *_ = _with_spread(layer, model, batch, found, members=0)[1]
        species = to_host(batch.species)
        np.maximum.at(largest, species, of_atoms)
        np.maximum.at(farthest, species, far)
        squares += np.bincount(species, far**2, n)
        counts += np.bincount(species, minlength=n)
    unit = np.where(farthest > 0, farthest, 1)
    found = replace(found, local=found.local / unit[:, None, None])
    usual = np.sqrt(squares / np.maximum(counts, 1)) / unit
    energy, forces, of_frames = _errors(potential, layer, model, by, groups, found, usual)
    half = float(np.median(of_frames)) if of_frames.any() else 1.0
    energy, forces = (one.grown(half) for one in (energy, forces))
    told = {
        "fitted_to": data.report,
        "calibrated_on": "the training frames, whose errors are too small" if valid is None else valid.report,
        **told,
        "n_energies": len(energy.error),
        "n_forces": len(forces.error),
    }
    if not len(energy.error) and not len(forces.error):
        raise InputError("none of the frames to calibrate by carries an energy or forces; give others")
    known = replace(found, largest=largest, energy_factor=_rms(energy.ratios(POWER)), reach=half * usual)
    return replace(known, **_of_forces(forces, n), told=json.loads(to_json(told)))


def _of_forces(forces, n):
    """What an Uncertainty of n elements holds of forces; `least` is the likeliest of some, by (1)."""
    if not len(forces.error):
        return {"forces_factor": np.nan}
    counts = np.maximum(np.bincount(forces.element, minlength=n), 1)
    usual = np.sqrt(np.bincount(forces.element, forces.width**2, n) / counts)
    forces = forces.where(forces.width > KNOWN * usual[forces.element])
    local = forces.ratios(LOCAL, forces.distance)
    seen, common = _by_element(local, forces.element, n), _rms(local)
    best, likeliest = None, np.inf
    for least in LEAST[:, None] * usual:
        widths = np.hypot(forces.width, least[forces.element])
        ratios = forces.ratios(POWER, widths)
        by_element = _by_element(ratios, forces.element, n)
        own = 1.0 if by_element is None else by_element[forces.element]
        factor = _rms(ratios / own)
        with np.errstate(divide="ignore"):
            score = np.log(widths * own * forces.far**POWER).mean() + np.log(factor)
        if best is None or score < likeliest:
            best, likeliest = {"forces_factor": factor, "by_element": by_element, "least": least}, score
    return {**best, "local_forces": common * (np.ones(n) if seen is None else seen)}


def _local(potential, layer, model, data):
    """R of (3) in fastdesc/potential/uncertainty.py, but for a factor for each element."""
    n = len(model.scale)
    products, counts = np.zeros((n, layer.n_rows, layer.n_rows)), np.zeros(n)
    for group in data.batches(AT_ONCE):
        batch = data.batch(group, potential.reference)
        with kept_memory():
            q = batch.features(model)
            _, chunks = energies_of_features(model, q, batch.species, True, batch.columns)
            phi = to_host(layer.features(model, q, batch.species, chunks)).astype(np.float64)
        species = to_host(batch.species)
        for z in np.unique(species):
            own = phi[:, species == z]
            products[z] += own @ own.T
            counts[z] += own.shape[1]
    out = np.zeros_like(products)
    for z in np.flatnonzero(counts):
        mean = products[z] / counts[z]
        size = np.sqrt(np.diag(mean))
        size[size == 0] = np.inf    # entries that the element has not, or never uses
        values, vectors = np.linalg.eigh(mean / np.outer(size, size))
        ridge = max(LOCAL_RIDGE, 1 / counts[z])
        out[z] = (vectors / size[:, None] / np.sqrt(np.maximum(values, 0.0) + ridge)).T
    return out


def _by_element(ratios, elements, n):
    """Root mean square ratio of the force components of each of n elements, in units of that of all; None for one."""
    if n == 1 or not ratios.any():
        return None
    squares, counts = np.bincount(elements, ratios**2 / (ratios**2).mean(), n), np.bincount(elements, minlength=n)
    return np.sqrt((squares + FEW) / (counts + FEW))


def weights_of(settings):
    """LossWeights of the end of a run with these Settings."""
    factor = settings.late_energy_factor if settings.late else 1.0
    return LossWeights(settings.energy_weight * factor, settings.force_weight, settings.stress_weight)


def _factor(a, phi, energy, tphi, force):
    """The best ridge, and L of (1) in fastdesc/potential/uncertainty.py.

    Parameters
    ----------
    a : (n, n) float64
    phi, energy : (n_frames, n) and (n_frames,)
        Features of frames, and errors of their energies.
    tphi, force
        Likewise of components of forces.
    """
    size = np.sqrt(np.maximum(np.diag(a), DEAD * np.diag(a).max(initial=0.0)))
    size[size == 0] = 1.0
    values, vectors = np.linalg.eigh(a / np.outer(size, size))
    values = np.maximum(values, 0.0)
    found = []
    for ridge in RIDGES:
        score = 0.0
        for rows, errors in ((phi, energy), (tphi, force)):
            if len(rows):
                variance = ((rows / size @ vectors) ** 2 / (values + ridge)).sum(axis=1)
                seen = variance > 0
                score += np.log(variance[seen]).mean() + np.log((errors[seen] ** 2 / variance[seen]).mean())
        found.append(score)
    ridge = float(RIDGES[int(np.argmin(found))])
    return ridge, vectors / size[:, None] / np.sqrt(values + ridge)


def _samples(potential, layer, model, data, groups, seed):
    """Features and errors of energies, and of one component of a force in every frame, for frames with labels."""
    rng, out = np.random.default_rng(seed), [[], [], [], []]
    for group in groups:
        batch = data.batch(group, potential.reference)
        targets, with_forces = batch.targets, batch.targets.forces is not None
        one = None
        if with_forces:
            first = to_host(batch.pairs.first)
            atoms, axes = rng.integers(first[:-1], first[1:]), rng.integers(0, 3, len(group))
            one = np.zeros((batch.n_atoms, 3))
            one[atoms, axes] = 1.0
        with kept_memory():
            phi, tphi = frame_features(layer, model, batch, one)
        values = _without_spread(model, batch)
        errors = values[0] - to_host(targets.energy)
        known = np.isfinite(errors)
        out[0].append(to_host(phi)[known])
        out[1].append(errors[known])
        if with_forces:
            errors = (values[1] - to_host(targets.forces))[atoms, axes]
            known = np.isfinite(errors)
            out[2].append(to_host(tphi)[known])
            out[3].append(errors[known])
    out = [np.concatenate(parts) if parts else np.zeros((0,)) for parts in out]
    if max(np.abs(errors).max(initial=0.0) for errors in out[1::2]) > LARGEST:
        raise InputError("errors of labelled frames are so large that their squares are infinite; look at the labels")
    return out


def _many_samples(potential, layer, model, data, groups, seed):
    """(features, errors) of energies, and of PROBES components of forces in every frame."""
    found = [_samples(potential, layer, model, data, groups, [seed, k]) for k in range(PROBES)]
    forces = (np.concatenate([one[k] for one in found if len(one[2])] or [np.zeros((0, layer.n))]) for k in (2, 3))
    features, errors = forces
    return (found[0][0], found[0][1]), (features, errors.reshape(-1))


@dataclass(frozen=True)
class _Errors:
    """Errors of labels, flat, and what their widths are made of: those of energies, or of force components.

    Attributes
    ----------
    error, width, far : (n,) float64
        `far` is d of (1) in fastdesc/potential/extrapolation.py, or G once it is `grown`.
    distance : (n,) float64
        Grade of the atom; empty for energies.
    element : (n,) int
        Likewise.
    """

    error: np.ndarray
    width: np.ndarray
    far: np.ndarray
    distance: np.ndarray
    element: np.ndarray

    def where(self, seen):
        """Those of a mask."""
        return _Errors(*(x[seen] for x in vars(self).values()))

    def grown(self, half):
        """The same with G, where frames of d = `half` have d = 1."""
        return replace(self, far=np.clip(self.far / half, 1.0, FARTHEST))

    def ratios(self, power, widths=None):
        """Errors over widths times G to a power; 0 where a width is."""
        widths = self.width if widths is None else widths
        return np.divide(self.error, widths, out=np.zeros(len(widths)), where=widths > 0) / self.far**power


def _errors(potential, layer, model, data, groups, found, usual):
    """_Errors of energies and of force components, where there are labels and widths, and d of all frames."""
    parts, of_frames = ([], []), []
    for group in groups:
        batch = data.batch(group, potential.reference)
        values, spread = _with_spread(layer, model, batch, found)
        species, first = to_host(batch.species), to_host(batch.targets.first)
        far = distances(spread[2], species, first, usual)
        of_frames.append(far)
        kinds = [(values[0], spread[0], batch.targets.energy, far, np.zeros((0,)), np.zeros((0,), int))]
        if len(values) > 1:
            of_atoms = (np.repeat(far, np.diff(first)), spread[2], species)
            shape = values[1].shape
            more = (np.broadcast_to(x[:, None], shape) for x in of_atoms)
            kinds.append((values[1], spread[-1], batch.targets.forces, *more))
        for kept, (value, width, label, *more) in zip(parts, kinds, strict=False):
            error = value - to_host(label)
            seen = np.isfinite(error) & (width > 0)
            kept.append([x[seen] if x.shape == error.shape else x for x in (error, width, *more)])
    none = [np.zeros(0)] * 4 + [np.zeros(0, int)]
    joined = [[np.concatenate(x) for x in zip(*kept, strict=True)] if kept else none for kept in parts]
    return *(_Errors(*one) for one in joined), np.concatenate(of_frames) if of_frames else np.zeros(0)


def _rms(x):
    """Root mean square as a float; NaN of nothing."""
    return float(np.sqrt((x**2).mean())) if len(x) else np.nan


def _without_spread(model, batch):
    """Energies above the reference and, where there are labels, forces: on the host."""
    with kept_memory():
        if batch.targets.forces is None:
            out, _ = energies_of_features(model, batch.q, batch.species, columns=batch.columns)
            return [to_host(batch.frame_sums(out))]
        return [to_host(x) for x in predict_batch(model, batch)[:2]]


def _with_spread(layer, model, batch, found, members=MEMBERS):
    """The same, and spreads of energies of frames, of atoms and, where there are labels and members, of forces."""
    with kept_memory():
        if batch.targets.forces is None:
            out, chunks = energies_of_features(model, batch.q, batch.species, True, batch.columns)
            spread = spread_of_energies(layer, model, batch.q, batch, batch.species, chunks, found)
            values = [batch.frame_sums(out)]
        else:
            given = batch.rij, batch.pairs, batch.species, found
            (out, *more), spread = values_and_spread(layer, model, *given, members > 0, members)
            values = [batch.frame_sums(out), *more[:1]]
        return [to_host(x) for x in values], [to_host(x) for x in spread]
