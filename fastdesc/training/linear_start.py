"""A start for spline filters from linear algebra: the best pair potential, in closed form.

A spline is linear in its parameters p, so the energies and forces of a pair potential

    E = sum_i sum_j phi(r_ij; Z_j) + sum_Z n_Z E_Z,    phi(r; Z) = row(r)·p_Z                                  (1)

are fixed matrices times (p, E_Z), and those that fit a data set best solve the normal equations

    (X^T W X + penalty) (p, E_Z) = X^T W y                                                                    (2)

with the weights W of the loss (fastdesc.training.loss; stresses are left out) and the curvature penalty of
fastdesc/descriptors/spline_filters/penalty.py. Frames stream through: only the small matrix of (2) is kept.
"""

import numpy as np
from scipy.linalg import lstsq

from fastdesc.backend.arrays import namespace, to_host
from fastdesc.descriptors.spline_filters import SplineFilters
from fastdesc.errors import InputError
from fastdesc.geometry import forces
from fastdesc.training.batch_gradient import predict_batch
from fastdesc.training.initialise import fit_scales
from fastdesc.training.references import known_references, usual_energies

AT_ONCE = 1024
"""Atoms whose matrices are in memory together."""
SMOOTHNESS = 1e-7
"""Least weight of the curvature, relative to the data: it decides where there are none."""
KIND, FIRST = "pair", 0


def start_linear(potential, data, weights, curvature=0.0):
    """Initialise a potential so that its direct pair filter is the best pair potential and all else starts beside it.

    The first pair filter becomes phi / s and its direct weight s, for all elements of the centre, with s the root mean
    square of phi's knots. Other direct weights are zero, other filters stay as they were, and networks are scaled to
    the forces that the pair potential leaves.

    Parameters
    ----------
    potential : Potential
        With SplineFilters whose "pair_0" enters the energy directly.
    data : TrainingSet
    weights : LossWeights
    curvature : float
        Of phi, as the setting of the same name.

    Raises
    ------
    InputError
        For another potential, or data without energies and forces.
    """
    column = direct_pair(potential)
    known = known_references(potential, data)
    p, reference = fit_pair_potential(potential.descriptor, data, weights, curvature, known=known)
    size = float(np.sqrt((p[..., :-2] ** 2).mean())) or 1.0
    filters = potential.descriptor.parameters[KIND].copy()
    filters[FIRST] = p / size
    potential.descriptor.set_parameters(**{KIND: filters})
    fit_scales(potential, data)
    potential.reference = reference
    direct = np.zeros_like(potential.direct_weights)
    direct[:, column] = size
    if potential.network != "none":
        potential.scale = potential.scale * _left_over(potential, data, direct)
    potential.set_parameters({"direct": direct})


def direct_pair(potential):
    """Return which of the direct features is the first pair filter; InputError when there is none."""
    if not isinstance(potential.descriptor, SplineFilters) or not potential.descriptor.n_pair:
        raise InputError(
            f"start 'linear' fits a pair filter, and {type(potential.descriptor).__name__} has none; "
            "use SplineFilters with n_pair of at least 1, or start 'random'"
        )
    column = np.flatnonzero(np.asarray(potential.direct_columns) == 0)
    if not len(column):
        raise InputError(
            "start 'linear' needs pair_0 to enter the energy directly; give the potential direct=True or "
            "direct=['pair_0'], or use start 'random'"
        )
    return int(column[0])


def fit_pair_potential(descriptor, data, weights, curvature=0.0, smoothness=SMOOTHNESS, known=None):
    """Solve (2).

    Parameters
    ----------
    descriptor : SplineFilters
        Its first pair filter says which splines.
    data : TrainingSet
    weights : LossWeights
    curvature : float
    smoothness : float
        Least weight of the curvature, relative to the data.
    known : (n_species,) array, eV, optional
        Reference energies that are not to be fitted; NaN for the others.

    Returns
    -------
    p : (n_elements, n_parameters) float64, eV
    reference : (n_species,) float64, eV
        E_Z of (1).

    Raises
    ------
    InputError
        Without energies or forces.
    """
    n_species = len(descriptor.species_numbers)
    elements = descriptor.elements_of(KIND)
    splines = [descriptor.spline(KIND, FIRST, e) for e in range(len(elements))]
    width = descriptor.parameters[KIND].shape[-1]
    n = len(elements) * width
    products = np.zeros((n + n_species, n + n_species + 1))
    known = np.full(n_species, np.nan) if known is None else known
    fixed, free = np.nan_to_num(known), np.isnan(known)
    counts = data.compositions(n_species)
    above, counts = usual_energies(data) - counts @ fixed, counts * free
    n_free = counts.sum(axis=1)
    # Measured from a mean energy, all-electron energies keep their digits.
    per_atom = above[n_free > 0] / n_free[n_free > 0]
    level = float(np.nanmean(per_atom)) if np.isfinite(per_atom).any() else 0.0
    for group in data.batches(AT_ONCE, data.usual()):
        batch = data.batch(group, fixed)
        by_energy, by_force = _structure_vectors(batch, elements, splines, width)
        n_atoms = np.diff(to_host(batch.targets.first))
        energy, force = to_host(batch.targets.energy), to_host(batch.targets.forces).reshape(-1)
        weight = to_host(batch.targets.weight)
        x = np.concatenate([by_energy, counts[group], (energy - level * n_free[group])[:, None]], axis=1)
        _add(products, x, np.sqrt(weights.energy * weight) / n_atoms)
        x = np.concatenate([by_force, np.zeros((len(force), n_species)), force[:, None]], axis=1)
        _add(products, x, np.repeat(np.sqrt(weights.force * weight / (3 * n_atoms)), 3 * n_atoms))
    matrix, right = products[:, :-1] / data.n_frames, products[:, -1] / data.n_frames
    if not right.any():
        raise InputError("start 'linear' found no energies and no forces to fit; use start 'random'")
    smooth = np.zeros((n, n))
    for e, s in enumerate(splines):
        own = slice(e * width, e * width + s.n_parameters)
        smooth[own, own] = (s.x1 - s.x0) ** 3 * s.roughness
    matrix[:n, :n] += max(curvature, smoothness * np.trace(matrix[:n, :n]) / np.trace(smooth)) * smooth
    # Columns of one length each: what is left is the condition of the problem, not of its units.
    length = np.sqrt(np.diag(matrix))
    length[length == 0] = 1
    solution = lstsq(matrix / np.outer(length, length), right / length, cond=1e-13)[0] / length
    return solution[:n].reshape(len(elements), width), np.where(free, solution[n:] + level, fixed)


def _structure_vectors(batch, elements, splines, width):
    """Derivatives of energies (n_frames, n) and of force components (3 n_atoms, n) with respect to p."""
    rij, j = np.asarray(to_host(batch.rij), np.float64), to_host(batch.pairs.j)
    pairs, neighbour = batch.pairs.to_device("cpu"), to_host(batch.species)[j]
    d = np.sqrt((rij**2).sum(0))
    frame = to_host(batch.pairs.frame)[to_host(batch.pairs.i)]
    n_frames = len(to_host(batch.targets.first)) - 1
    by_energy = np.zeros((n_frames, len(elements) * width))
    by_force = np.zeros((3 * pairs.n_atoms, len(elements) * width))
    for e, (members, s) in enumerate(zip(elements, splines, strict=True)):
        # Beyond the last knot filters are zero, whatever round-off the straight line has.
        own = (d < s.x1) & ((neighbour == members[0]) if members else True)
        rows, slopes = s.rows(d[own]), s.rows(d[own], 1)
        drij = np.zeros_like(rij)
        for k in range(s.n_parameters):
            by_energy[:, e * width + k] = np.bincount(frame[own], rows[:, k], n_frames)
            drij[:, own] = slopes[:, k] * rij[:, own] / d[own]
            by_force[:, e * width + k] = forces(drij, pairs).reshape(-1)
    return by_energy, by_force


def _add(products, x, weight):
    """Add the products of the weighted columns of x, left side and right side, of rows with a label."""
    known = np.isfinite(x[:, -1])
    x = x[known] * weight[known, None]
    products += x[:, :-1].T @ x


def _left_over(potential, data, direct):
    """Ratio of the forces that direct terms alone leave to those of the networks alone."""
    weights, scale = potential.direct_weights, potential.scale
    left = found = 0.0
    for group in data.batches(4 * AT_ONCE, data.usual()):
        batch = data.batch(group, potential.reference)
        sizes = []
        for alone, factor in ((direct, 0.0), (np.zeros_like(direct), 1.0)):
            potential.direct_weights, potential.scale = alone, factor * scale
            sizes.append(predict_batch(potential.model(data.dtype, data.device), batch)[1])
        reference = batch.targets.forces
        known = namespace(reference).isfinite(reference)
        left += float(((reference - sizes[0])[known] ** 2).sum())
        found += float((sizes[1][known] ** 2).sum())
    potential.direct_weights, potential.scale = weights, scale
    return np.sqrt(left / found) if left > 0 and found > 0 else 1.0
