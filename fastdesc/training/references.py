"""Reference energies before training: those given, those of isolated atoms, and least squares for the others."""

import warnings

import numpy as np
from ase.data import chemical_symbols

from fastdesc.backend.arrays import namespace, to_host
from fastdesc.errors import FastdescWarning
from fastdesc.networks.heads import FeedForward
from fastdesc.networks.scaler import reference_energies, undetermined
from fastdesc.potential.evaluation import energies_of_features
from fastdesc.training.batch_gradient import AT_ONCE
from fastdesc.training.outliers import some_usual

FAR = 50.0
"""meV/atom by which energies may lie from those of a trained model in the mean without a word."""
SAME = 1e-3
"""eV by which energies of one isolated atom may differ without a word."""


def known_references(potential, data):
    """Energies of elements that need no fit, (n_species,) eV; NaN for the others.

    Those that were given (`Potential.set_references`), and the labels of isolated atoms: the lowest for each element.
    """
    known = potential.set_references
    given = np.isfinite(known)
    found = {}
    for f in data.lone_atoms():
        if np.isfinite(data.energies[f]):
            found.setdefault(data.species_of(f), []).append((float(data.energies[f]), int(f)))
    for z, labels in found.items():
        if not given[z]:
            known[z] = min(labels)[0]
            _say_if_different(potential, data, z, labels)
    return known


def usual_energies(data):
    """Energies of a set, (n_frames,) eV; NaN also for those far outside the rest."""
    return np.where(data.outliers["energy"][0], np.nan, data.energies)


def fit_reference(potential, data):
    """Set the reference energies of a potential; return those that needed no fit (`known_references`).

    A FastdescWarning names elements that the frames do not tell apart.
    """
    known = known_references(potential, data)
    compositions = data.compositions(len(known))
    energies = usual_energies(data)
    labelled = np.isfinite(energies)
    if labelled.any():
        potential.reference = reference_energies(compositions, energies, fixed=known)
    else:
        potential.reference = np.nan_to_num(known)
    rest = compositions[labelled][:, ~np.isfinite(known)]
    elements = [z for z, free in zip(potential.descriptor.species_numbers, ~np.isfinite(known), strict=True) if free]
    open_ones = [chemical_symbols[z] for z, open_ in zip(elements, undetermined(rest), strict=True) if open_]
    if open_ones:
        _warn(
            f"the energies of the training frames do not tell {' and '.join(open_ones)} apart, which occur in fixed "
            "proportions: their reference energies hold for these proportions alone. For others give reference, the "
            "energies of isolated atoms, or add frames of isolated atoms"
        )
    return known


def energy_errors(potential, data):
    """Labels less predictions of the usual frames of a set (`some_usual`), (n_frames,) eV; NaN for the others."""
    model, found = potential.model(data.dtype, data.device), np.full(data.n_frames, np.nan)
    for group in data.batches(AT_ONCE, some_usual(data, len(potential.scale))):
        batch = data.batch(group, potential.reference)
        atomic, _ = energies_of_features(model, batch.features(model), batch.species, columns=batch.columns)
        found[group] = to_host(namespace(atomic).stack([batch.targets.energy, batch.frame_sums(atomic)])).T @ [1, -1]
    return found


def keep_or_refit(potential, data, refit):
    """Fit the reference energies of a trained potential anew, or of its added elements alone; say what was done.

    Whatever the labels, the energies of training frames are then right in the mean for each element that is fitted.

    Parameters
    ----------
    potential : Potential
    data : TrainingSet or FeatureSet
    refit : bool

    Returns
    -------
    str
        One line.
    """
    symbols = [chemical_symbols[z] for z in potential.descriptor.species_numbers]
    new = np.isin(symbols, potential.without_reference)
    free = np.ones_like(new) if refit else new
    errors = energy_errors(potential, data)
    known = np.isfinite(errors)
    if free.any() and known.any():
        shift = reference_energies(data.compositions(len(free)), errors, fixed=np.where(free, np.nan, 0.0))
        potential.reference = potential.reference + shift
    if known.any():
        potential.without_reference = ()
    if refit:
        return "reference energies: fitted anew"
    added = f", those of {', '.join(np.array(symbols)[new])} fitted" if new.any() else ""
    if not known.any() or free.any():
        return f"reference energies: kept{added}"
    off = 1000 * float((errors / data.n_atoms)[known].mean())
    if abs(off) > FAR:
        _warn(
            f"the energies of the training frames lie {off:+.4g} meV/atom from the model's; if they are of another "
            "method, set refit_references=True, else reference energies are kept"
        )
    return f"reference energies: kept; energies of the training frames lie {off:+.3g} meV/atom from the model's"


def level(potential, data, fixed):
    """Shift feed-forward networks so that energies of the untrained potential are right in the mean.

    Least squares for reference energies do that by themselves. Energies of isolated atoms are far from those of atoms
    in matter, a difference that is the same for all frames, and slow to learn. A network without bias stays as it is.

    Parameters
    ----------
    potential : Potential
    data : TrainingSet or FeatureSet
    fixed : (n_species,) eV
        What `fit_reference` returned.
    """
    if not (np.isfinite(fixed).any() and potential.bias and isinstance(potential.networks[0], FeedForward)):
        return
    found = energy_errors(potential, data)
    weights = 1.0 / data.n_atoms
    weights[data.lone_atoms()] = 0.0
    counts = data.compositions(len(fixed))
    if len(potential.networks) == 1:    # one network for all elements has one bias
        counts = counts * potential.scale
        counts = counts.sum(axis=1, keepdims=True)
    shift = reference_energies(counts, found, weights)
    if len(potential.networks) > 1:
        shift = shift / potential.scale
    for k, (network, step) in enumerate(zip(potential.networks, shift, strict=True)):
        name = f"{len(network.layers) - 1}/bias"
        potential.networks[k] = network.replaced({name: network.parameters[name] + step})


def _say_if_different(potential, data, z, labels):
    (low, a), (high, b) = min(labels), max(labels)
    if high - low > SAME:
        symbol = chemical_symbols[potential.descriptor.species_numbers[z]]
        _warn(
            f"the isolated {symbol} of {data.where(a)} has {low:.6g} eV and that of {data.where(b)} {high:.6g} eV; "
            "the lower one is the reference"
        )


def _warn(text):
    warnings.warn(text, FastdescWarning, stacklevel=4)
