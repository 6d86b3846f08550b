"""How sure a potential is: the Gaussian of its last layer, in closed form.

With phi of fastdesc/potential/last_layer.py and the matrix A of fastdesc/training/last_layer_metric.py over the
training frames, the weights of the last layer have the covariance

    S = L L^T = (A + ridge diag(A))^-1                                                                       (1)

up to a factor that validation frames decide, one for energies and one for forces (fastdesc/training/uncertainty.py).
Standard deviations of an atom's energy, of a frame's energy and of a force component are

    s_i = a_E |L^T phi_i|,    s_f = a_E |L^T sum_i phi_i|,
    s_F^2 = (a_F b)^2 (least^2 + 1/M sum_m (d(phi · L z_m)/dx)^2)                                            (2)

with a factor b and a least width for each element and M members, M last layers w + L z_m of fixed orthogonal z_m, as
long as random ones are on average; with as many members as L has columns the sum is exact. Frames outside of what was
trained on have larger s_f and s_F (fastdesc/potential/extrapolation.py).

The grade of an atom of element Z says how far it is from the training atoms of this element, in the same features:

    g_i = |R_Z phi_i|,    (R_Z^T R_Z)^-1 ~ <phi phi^T>_Z + ridge,    s_F = c_Z g_i                            (3)

such that the farthest of them has 1. (It is not s_i that is compared: where all frames have one composition, labels
leave the energies of single atoms open, and all s_i are equally large.) Errors of forces go by it as well, and with
factors c_Z it gives standard deviations of forces that need no way back.

Bigi, Chong, Ceriotti, Grasselli, Mach. Learn.: Sci. Technol. 5, 045018 (2024); Kellner, Ceriotti, ibid. 5, 035006.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from fastdesc.backend.arrays import empty, namespace, to_host_together
from fastdesc.backend.threads import single_threaded_blas
from fastdesc.backend.workspace import Workspace, kept_memory
from fastdesc.checks import flag_or_word
from fastdesc.errors import InputError
from fastdesc.geometry import forces, pair_vectors, virials
from fastdesc.potential.evaluation import (
    energies_of_features,
    forces_of_all,
    last_of,
    network_and_gradient,
    over_chunks,
)
from fastdesc.potential.extrapolation import LOCAL, POWER, growth
from fastdesc.potential.last_layer import LastLayer
from fastdesc.potential.one_pass import blocks_of, members_at_once, one_pass, suits
from fastdesc.potential.spread_of_blocks import SpreadOfBlocks

MEMBERS = 8
"""Last layers from which the spread of forces is taken."""
HOW = "fd.fit_uncertainty(potential, train_frames, valid_frames) fits it, without training"


@dataclass(frozen=True)
class Uncertainty:
    """The covariance (1) of a potential's last layer, as it was fitted.

    Attributes
    ----------
    factor : (n, n) or (n, m) float64, 1/eV and the like
        L of (1); n as of LastLayer. Of a shallow ensemble (fastdesc/training/ensemble_members.py) it has a column for
        each of its m members: D there.
    largest : (n_species,) float64
        Largest |L^T phi_i| among the training atoms of each element; 0 for an element that did not occur. Grades are
        |L^T phi_i| over it where there is no `local`, as in models of earlier versions.
    energy_factor, forces_factor : float
        a_E and a_F of (2); forces_factor is NaN where no forces were there to calibrate by.
    told : dict
        What it was fitted to and calibrated by, and what calibration found.
    by_element : (n_species,) float64, or None
        b of (2); None for ones.
    local : (n_species, n_rows, n_rows) float64, or None
        R of (3), zero beyond the entries of an element.
    local_forces : (n_species,) float64, eV/Å, or None
        c of (3); None where no forces were there to calibrate by.
    least : (n_species,) float64, or None
        Least width of (2); None for zeros, as in models of earlier versions.
    reach : (n_species,) float64, or None
        r of (1) in fastdesc/potential/extrapolation.py.
    """

    factor: np.ndarray
    largest: np.ndarray
    energy_factor: float = 1.0
    forces_factor: float = 1.0
    told: dict = field(default_factory=dict)
    by_element: np.ndarray | None = None
    local: np.ndarray | None = None
    local_forces: np.ndarray | None = None
    least: np.ndarray | None = None
    reach: np.ndarray | None = None

    def directions(self, members):
        """L z_m of (2), (n, members) float64; at most as many as L has columns, which are exact."""
        n = self.factor.shape[1]
        members = min(members, n)
        if members not in self._kept:
            z = np.linalg.qr(np.random.default_rng(0).standard_normal((n, members)))[0]
            self._kept[members] = self.factor @ z * np.sqrt(n)
        return self._kept[members]

    def of_atoms(self, spread, species):
        """Calibrated energies_uncertainty, and grade, of a Spread; species (n_atoms,) int array."""
        grade = spread.distances
        if self.local is None:
            with np.errstate(divide="ignore", invalid="ignore"):
                grade = spread.energies / self.largest[species]
        if not (self.largest > 0).all():
            grade = np.where(self.largest[species] > 0, grade, np.inf)
        return {"energies_uncertainty": self.energy_factor * spread.energies, "grade": grade}

    def scaled(self, spread, species, first, local_forces=False):
        """Calibrated standard deviations and grades, by the names of a Prediction.

        Parameters
        ----------
        spread : Spread
        species : (n_atoms,) int array
        first : (n_frames + 1,) int
            Frame f has the atoms first[f] .. first[f + 1].
        local_forces : bool
            Those of forces by (3).
        """
        found = self.of_atoms(spread, species)
        grown = growth(found["grade"], species, first, self.reach)
        of_forces, of_atom = None, np.repeat(grown, np.diff(first))[:, None]
        if local_forces:
            known = np.full(len(self.largest), np.nan) if self.local_forces is None else self.local_forces
            of_forces = np.repeat((known[species] * found["grade"])[:, None] * of_atom**LOCAL, 3, axis=1)
        elif spread.forces is not None:
            of_forces = self.forces_factor * self.with_least(spread.forces, species) * of_atom**POWER
            of_forces = of_forces if self.by_element is None else of_forces * self.by_element[species][:, None]
        return {
            "energy_uncertainty": self.energy_factor * grown**POWER * spread.energy,
            **found,
            "forces_uncertainty": of_forces,
        }

    def with_least(self, widths, species):
        """Widths of forces of (2), (n_atoms, 3), without the factors."""
        return widths if self.least is None else np.hypot(widths, self.least[species][:, None])

    @cached_property
    def _kept(self):
        """Directions by their number, blocks by their place, rows by dtype: what next calls need again."""
        return {}

    def block(self, place):
        """R with |R phi| = |L^T phi| for phi that is zero but at `place`: (n_rows, n_rows) float64."""
        key = place.tobytes()
        if key not in self._kept:
            self._kept[key] = np.linalg.qr(self.factor[place].T, mode="r")
        return self._kept[key]

    def rows(self, layer, dtype):
        """For each element R of `block` and, below it, R of (3), (rows, n_rows of the element); and where it begins."""
        key = np.dtype(dtype).char
        if key not in self._kept:
            out = []
            for z, place in enumerate(layer.places):
                n = len(place)
                block, own = self.block(place), np.empty((0, n)) if self.local is None else self.local[z, :n, :n]
                out.append((np.concatenate([block, own]).astype(dtype), len(block)))
            self._kept[key] = out
        return self._kept[key]


@dataclass(frozen=True)
class Spread:
    """Standard deviations (2) without the factors a, of some frames.

    Attributes
    ----------
    energy : (n_frames,) float64
    energies : (n_atoms,) float64
    distances : (n_atoms,) float64
        g of (3); zero without `local`.
    forces : (n_atoms, 3) float64, or None
    """

    energy: np.ndarray
    energies: np.ndarray
    distances: np.ndarray
    forces: np.ndarray | None = None


def check_kind(uncertainty):
    """InputError unless it is True, False, "energy" or "local"."""
    flag_or_word("uncertainty", uncertainty, ["energy", "local"])


def check_members(members):
    """InputError unless a number of members is a whole number above 1."""
    if isinstance(members, bool) or not isinstance(members, int | np.integer) or members < 2:
        raise InputError(f"members came as {members!r}; it must be a whole number of at least 2")


def needed(potential, kind=True):
    """The Uncertainty of a potential; InputError, which says how to get one, where it has none, or not of this kind."""
    if potential.uncertainty is None:
        raise InputError(f"the model holds no uncertainty; {HOW}")
    if kind == "local" and potential.uncertainty.local is None:
        raise InputError(f"the model is older than uncertainty='local'; {HOW}")
    return potential.uncertainty


def evaluate_with_spread(potential, structures, model, uncertainty, derivatives=True, members=MEMBERS, pairs=None):
    """What Potential.evaluate returns, and the Spread of it.

    Parameters
    ----------
    potential : Potential
    structures : Structures
    model : Model
    uncertainty : Uncertainty
    derivatives : bool
        Without them there are no forces, and no spread of them.
    members : int
        0 leaves out the spread of forces.
    pairs : Pairs, optional
        As for Potential.evaluate.

    Returns
    -------
    energy, forces, virials, energies
        As of Potential.evaluate.
    spread : Spread
    """
    with kept_memory():
        placed, pairs, species = potential.placed(structures, pairs, model, empty)
        found = _in_one_pass(model, placed, pairs, species.on_device, uncertainty, derivatives, members)
        if found is None:
            layer = LastLayer.of(model, potential.direct_columns)
            rij = pair_vectors(placed.positions, placed.cells, pairs, model.scale.dtype)
            given = layer, model, rij, pairs, species.on_device, uncertainty
            found = values_and_spread(*given, derivatives, members)
        found, spread = found
        n = len(found)
        found = to_host_together(*found, *spread)    # the one wait for a device
        energy, atomic = potential.totals(found[0], species.on_host, pairs.first)
    _, found_forces, found_virials = found[:n] if derivatives else (None, None, None)
    return energy, found_forces, found_virials, atomic, Spread(*found[n:])


def values_and_spread(layer, model, rij, pairs, species, uncertainty, derivatives=True, members=MEMBERS):
    """Two lists of float64 arrays where the model is.

    Parameters
    ----------
    layer : LastLayer
    rij : (3, n_pairs) array, Å
    species : (n_atoms,) int32 array

    Returns
    -------
    found : atomic energies without E0 and, with derivatives, forces and virials
    spread : what a Spread holds; of forces with members
    """
    descriptor = model.descriptor
    q, saved = descriptor.forward(rij, pairs, species, model.theta)
    keep = bool(derivatives and members) or not isinstance(q, np.ndarray)
    look = None if keep else _looking(layer, model, q, pairs, species, uncertainty)
    if derivatives:
        out, dq, chunks = network_and_gradient(model, q, pairs, species, keep, look)
        drij = descriptor.pullback(rij, pairs, species, model.theta, saved, dq)
        found = [out, forces(drij, pairs), virials(rij, drij, pairs)]
    else:
        out, chunks = energies_of_features(model, q, species, keep, pairs.columns, look)
        found = [out]
    if look is not None:
        return found, _joined(layer, pairs, chunks, uncertainty)
    if isinstance(q, np.ndarray):
        look = _looking(layer, model, q, pairs, species, uncertainty)

        def seen(k, _):
            z, columns, tape, *_ = chunks[k]
            return look(z, columns, last_of(model.networks[z], tape))

        spread = _joined(layer, pairs, over_chunks(seen, chunks, q), uncertainty)
    else:
        spread = spread_of_energies(layer, model, q, pairs, species, chunks, uncertainty)
    if derivatives and members:
        directions = uncertainty.directions(members)
        spread.append(_of_forces(layer, model, rij, q, saved, chunks, pairs, species, directions))
    return found, spread


def _in_one_pass(model, structures, pairs, species, uncertainty, derivatives, members):
    """What `values_and_spread` returns for models that are evaluated in one pass; else None."""
    if not _one_pass_sees(model):
        return None
    dtype, spread_of = model.scale.dtype, _spread_of_blocks(model, uncertainty)
    seen = empty((pairs.n_atoms, model.networks[0].n_last), dtype)
    given = model, structures.positions, structures.cells, pairs, species
    last = spread_of.layer.scaled_rows(model, uncertainty.directions(members)) if derivatives and members else None
    step = members_at_once(pairs, dtype) if last is not None else 0
    found = one_pass(*given, seen, derivatives, None if last is None else last[:, :step])
    if found is None:
        return None
    spread = spread_of(seen, pairs, species, blocks_of(model, pairs, species))
    if last is None:
        return list(found) if derivatives else [found[0]], spread
    *found, of_members = found
    squares = (of_members**2).sum(axis=0)
    for k in range(step, last.shape[1], step):
        squares += (one_pass(*given, last=last[:, k : k + step])[3] ** 2).sum(axis=0)
    return found, [*spread, np.sqrt(squares / last.shape[1])]


def _one_pass_sees(model):
    """Whether one pass leaves all that phi is made of."""
    return suits(model) and model.direct is None


def _spread_of_blocks(model, uncertainty):
    """The SpreadOfBlocks of a model that is evaluated in one pass, made once."""
    if model.spread is None or model.spread.uncertainty is not uncertainty:
        model.spread = SpreadOfBlocks(LastLayer.of(model, ()), model, uncertainty)
    return model.spread


class DomainSpread:
    """Energies and forces of the atoms of one domain, as LAMMPS hands them, with their uncertainties; on the host.

    Parameters
    ----------
    potential : Potential
    model : Model

    Raises
    ------
    InputError
        For a potential without uncertainty.
    """

    def __init__(self, potential, model):
        self.model, self.uncertainty = model, needed(potential)
        self.layer = LastLayer.of(model, potential.direct_columns)

    def one_pass(self, positions, cells, centres, species):
        """What fastdesc.potential.one_pass.one_pass returns, and uncertainties; None where that is not enough."""
        if not _one_pass_sees(self.model):
            return None
        last = np.empty((centres.n_atoms, self.model.networks[0].n_last), self.model.scale.dtype)
        found = one_pass(self.model, positions, cells, centres, species, last)
        if found is None:
            return None
        blocks = blocks_of(self.model, centres, species)
        spread = _spread_of_blocks(self.model, self.uncertainty)(last, centres, species, blocks)
        return found, self._scaled(centres, species, spread)

    def energies_and_forces(self, rij, centres, species):
        """What fastdesc.potential.evaluation.energies_and_forces returns, and uncertainties.

        Returns
        -------
        found : energies, forces, drij
        uncertainties : dict
            energies_uncertainty (eV) and grade, float64, of the centres.
        """
        model = self.model
        q, saved = model.descriptor.forward(rij, centres, species, model.theta)
        look = _looking(self.layer, model, q, centres, species, self.uncertainty)
        out, dq, seen = network_and_gradient(model, q, centres, species, look=look)
        drij = model.descriptor.pullback(rij, centres, species, model.theta, saved, dq)
        return (out, forces_of_all(drij, centres), drij), self._scaled(
            centres, species, _joined(self.layer, centres, seen, self.uncertainty)
        )

    def _scaled(self, centres, species, spread):
        return self.uncertainty.of_atoms(Spread(*spread), species[: centres.n_atoms])


def spread_of_energies(layer, model, q, pairs, species, chunks, uncertainty):
    """Spread of energies of frames and of atoms, and distances; `pairs` or a FeatureBatch tells frames."""
    xp, phi = namespace(q), layer.features(model, q, species, chunks)
    projected = layer.by_frame(phi, pairs, species) @ xp.asarray(uncertainty.factor)
    out, distances = xp.zeros(phi.shape[1]), xp.zeros(phi.shape[1])
    for z, (rows, n) in enumerate(uncertainty.rows(layer, phi.dtype)):
        columns = np.flatnonzero(species == z) if pairs.columns is None else pairs.columns[z]
        if len(columns):
            found = (xp.asarray(rows) @ phi[: rows.shape[1], columns]) ** 2
            out[columns], distances[columns] = xp.sqrt(found[:n].sum(axis=0)), xp.sqrt(found[n:].sum(axis=0))
    return [xp.sqrt((projected**2).sum(axis=1)), out, distances]


class _Seen(NamedTuple):
    """What was seen of the atoms of one element in one chunk; sums (rows, frames) are over each of its frames."""

    element: int
    columns: np.ndarray
    widths: np.ndarray
    distances: np.ndarray
    frames: slice
    sums: np.ndarray


def _looking(layer, model, q, pairs, species, uncertainty):
    """Return what makes a list of _Seen of a chunk, on the host, while its last layer is in the cache."""
    dtype = model.scale.dtype
    blocks = uncertainty.rows(layer, dtype)
    several = len(model.networks) > 1

    def look(z, columns, last):
        columns = np.arange(columns.start, columns.stop) if isinstance(columns, slice) else columns
        last = np.empty((0, len(columns)), dtype) if last is None else last
        if several or len(blocks) == 1:
            return [see(z, columns, last)]
        own = [np.flatnonzero(species[columns] == e) for e in range(len(blocks))]
        return [see(e, columns[picked], last[:, picked]) for e, picked in enumerate(own) if len(picked)]

    def see(e, atoms, last):
        phi = layer.entries(last, q, atoms, model.scale[e])
        of_atom = pairs.frame[atoms]
        frames = slice(int(of_atom[0]), int(of_atom[-1]) + 1)
        member = of_atom[:, None] == np.arange(frames.start, frames.stop, dtype=of_atom.dtype)
        rows, n = blocks[e]
        projected = rows @ phi
        squares = (np.einsum("ri,ri->i", part, part) for part in (projected[:n], projected[n:]))
        return _Seen(e, atoms, *squares, frames, phi @ member.astype(phi.dtype))

    return look


def _joined(layer, pairs, chunks, uncertainty):
    """Spread of energies of frames and of atoms, and distances, from what was seen, in the order of the chunks."""
    by_frame, out = np.zeros((layer.n, pairs.n_frames)), np.empty((2, pairs.n_atoms))
    for seen in chunks:
        for one in seen:
            out[0, one.columns], out[1, one.columns] = one.widths, one.distances
            by_frame[layer.places[one.element], one.frames] += one.sums
    with single_threaded_blas():
        projected = uncertainty.factor.T @ by_frame
    return [np.sqrt((projected**2).sum(axis=0)), *np.sqrt(out)]


def _of_forces(layer, model, rij, q, saved, chunks, pairs, species, directions):
    """Root mean square of the members' forces, (n_atoms, 3) float64."""
    total, scratch = 0.0, Workspace()
    for w in directions.T:
        with scratch:
            dq = layer.pullback(model, q, species, chunks, w)
            drij = model.descriptor.pullback(rij, pairs, species, model.theta, saved, dq)
            total = total + forces(drij, pairs) ** 2
    return namespace(q).sqrt(total / directions.shape[1])
