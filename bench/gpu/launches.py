"""What kernels have to move and to compute, and the least time that this takes on a chip.

Bytes are counted from the arrays of a launch: each one read or written once. Operations are counted from the formulas,
a multiply-add as two: what the mathematics needs once, not what a kernel does again to save registers; duals triple
them. Both give a time that no version runs below; the larger one is the floor. Without a GPU, launches are recorded
and nothing runs: their shapes are those of the real thing.
"""

import warnings
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from bench.harness import operations
from fastdesc import geometry
from fastdesc.backend import cuda
from fastdesc.backend.arrays import namespace, to_host
from fastdesc.descriptors.gaussian_moments import GaussianMoments, large_list, large_system
from fastdesc.descriptors.gaussian_moments.large_system import Tables
from fastdesc.networks import feed_forward_cuda, residual_cuda
from fastdesc.networks.activations import ACTIVATIONS
from fastdesc.potential import large_network
from fastdesc.potential.large_system import widths
from fastdesc.potential.repulsion import Repulsion


@dataclass(frozen=True)
class Chip:
    """Measured rates: bytes/s of a copy, counting both ways; operations/s by dtype."""

    name: str
    bandwidth: float
    rates: dict


H200, LIMITS = Chip("NVIDIA H200", 4.3e12, {"float32": 60e12, "float64": 30e12}), cuda.Limits(132, 227 << 10)
"""4.3 TB/s was measured there; 60 Tflop/s are the datasheet's 67 less ten percent, in double precision half of it."""

ROOT_AND_EDGE, CUTOFF, EXPONENTIAL, VECTOR = 10, 20, 12, 18
CANDIDATES = 27 / 4.19
"""Atoms that a search in bins as thick as the cutoff looks at for each one that it finds."""
DERIVATIVES = {0: 0, 1: 3, 2: 27, 3: 87}
"""Of all monomials up to a rank with respect to the unit vector, one product each with a cotangent."""


def _gm(d):
    r, b, m, rank, sets = d.n_radial, d.n_basis, d.n_moments, d.max_rank, 1 + d.iterations
    values, slopes, monomials = 34 + 4 * b, 34 + 8 * b, operations.MONOMIALS[rank]
    start = ROOT_AND_EDGE + monomials
    forward = start + values + 2 * r * b + 2 * r * m
    return {
        "gm_moments": (forward, 0),
        "gm_moments_pullback": (start + slopes + 4 * r * b + 4 * r * m + DERIVATIVES[rank] + 15, 0),
        "gm_beta_pullback": (forward, 0),
        "gm_moments_by_channels": (forward + r, 0),
        "gm_moments_by_channels_pullback": (
            start + slopes + 4 * r * b + sets * (4 * r * m + 2 * r) + DERIVATIVES[rank] + 15, 0
        ),
        "gm_beta_by_channels_pullback": (sets * (forward + r), 0),
        "gm_weights_pullback": (forward + r, 0),
        "gm_weights_sum": (r, 0),
        "gm_large_keys": (0, 40),
        "gm_large_places": (0, 60),
        "gm_large_list": (0, 0),
        "gm_large_ranges": (0, 0),
        "gm_large_count": ((VECTOR + 7) * CANDIDATES, 0),
        "gm_large_search": ((VECTOR + 6) * CANDIDATES, 0),
        "gm_large_mirrors": (0, 0),
        "gm_large_moments": (VECTOR + start + 6 * r + 2 * r * m, 0),
        "gm_large_gradients": (VECTOR + start + 12 * r + 4 * r * m + DERIVATIVES[rank] + 15, 0),
        "gm_large_forces": (VECTOR + 24, 0),
        "gm_large_network": (
            0, operations.contractions(d, 1) + operations.contractions_pullback(d, 1)
            + operations.network(d, (LAYER, LAYER), 1),
        ),
        "gm_contract": (0, operations.contractions(d, 1)),
        "gm_contract_pullback": (0, operations.contractions_pullback(d, 1)),
    }


def _ed(d):
    r, m, f, rank, sets = d.n_radial, d.n_moments, d.n_features, d.l_max, 1 + d.iterations
    start = ROOT_AND_EDGE + CUTOFF + operations.MONOMIALS[rank]
    forward = start + (EXPONENTIAL + 4) * r + 2 * r * m
    products = r * (r + 1) // 2
    return {
        "ed_density": (forward, 0),
        "ed_density_again": (forward, 0),
        "ed_density_pullback": (start + (EXPONENTIAL + 8) * r + sets * 4 * r * m + DERIVATIVES[rank] + 15, 0),
        "ed_coefficients_pullback": (forward, 0),
        "ed_parameters_pullback": (start + (EXPONENTIAL + 10) * r + sets * (2 * r * m + 6 * r), 0),
        "ed_rows": (0, 0),
        "ed_contract": (0, 2 * r * m * f + 3 * m * f),
        "ed_contract_pullback": (0, 4 * r * m * f + 3 * m * f),
        "ed_gram": (0, 2 * products * m),
        "ed_squares": (0, 3 * r * m),
        "ed_squares_pullback": (0, 3 * r * m),
    }


def _sf(d, triplets):
    """`triplets` of different close neighbours per atom, each pair of them once."""
    place, cubic, slope = 5, 6, 5
    pairs, n = ROOT_AND_EDGE + place, d.n_triplet
    return {
        "sf_features": (pairs + d.n_pair * (cubic + 1), triplets * (10 + n * (cubic + 3))),
        "sf_pullback": (pairs + d.n_pair * (slope + 2) + 6, triplets * (40 + n * (cubic + slope + 12))),
        "sf_parameters_pullback": (pairs + d.n_pair * 8, triplets * (10 + n * (cubic + 24))),
    }


GEOMETRY = {
    "geometry_pair_vectors": (21, 0),
    "geometry_pair_tangents": (21, 0),
    "geometry_forces": (6, 0),
    "geometry_virials": (18, 0),
    "geometry_sum_frames": (0, 1),
    "repulsion_zbl": (21 + ROOT_AND_EDGE + 4 * (EXPONENTIAL + 5) + 60, 0),
}


LAYER = 64
"""Inputs and outputs of the layers of networks that are counted and timed."""
NETWORK = {
    **{f"network_{name}": (0, 2 * LAYER**2) for name in ("layer", "affine", "back", "transposed")},
    "residual_value": (0, LAYER * (EXPONENTIAL + 12)),
    "residual_pullback": (0, LAYER * (EXPONENTIAL + 22)),
}


def counts(descriptor, triplets=0.0):
    """Return {kernel: (operations a pair, operations an atom)} of a descriptor, plain numbers."""
    of_family = {"gaussian_moments": _gm, "embedded_density": _ed}
    if descriptor.family in of_family:
        return {**GEOMETRY, **NETWORK, **of_family[descriptor.family](descriptor)}
    return {**GEOMETRY, **NETWORK, **_sf(descriptor, triplets)}


def triplets_per_atom(descriptor, rij, pairs):
    """Pairs of close neighbours of an atom, on average; 0 for families without triplets."""
    if not hasattr(descriptor, "triplet_cutoff"):
        return 0.0
    close = np.bincount(pairs.i[(rij**2).sum(0) < descriptor.triplet_cutoff**2], minlength=pairs.n_atoms)
    return float((close * (close - 1) / 2).mean())


@dataclass(frozen=True)
class Launch:
    """One call of a kernel: what can be done again."""

    kernel: object
    grid: tuple
    block: tuple
    arrays: tuple
    scalars: dict
    shared_mem: int

    @property
    def name(self):
        return self.kernel.name

    @property
    def bare(self):
        return self.name.partition("<")[0]

    @property
    def dtype(self):
        return "float32" if "float" in self.name or self.name.startswith("gm_large") else "float64"

    def atoms(self, n_atoms):
        """Atoms that it works on: those of a block where a map goes by blocks of atoms; bins of gm_large_ranges."""
        return self.scalars.get("n_atoms", self.scalars.get("n_bins", n_atoms))

    @property
    def bytes(self):
        """Of its arrays, once each; gaps between rows are not counted."""
        arrays = {id(a): a for a in self.arrays}
        return sum(a.size * a.itemsize for a in arrays.values())

    def __call__(self):
        self.kernel(self.grid, self.block, self.arrays, self.scalars, self.shared_mem)

    def operations(self, per, n_atoms, n_pairs):
        """By the table `per` of `counts`; None for a kernel that is not in it."""
        if self.bare not in per:
            return None
        pair, atom = per[self.bare]
        n = self.atoms(n_atoms)
        return (pair * n_pairs * n / n_atoms + atom * n) * (3 if "Dual" in self.name else 1)


def floors(chip, n_bytes, n_operations, dtype):
    """Seconds that bytes and operations take at least; their larger one is the floor."""
    return n_bytes / chip.bandwidth, (n_operations or 0) / chip.rates[dtype]


@contextmanager
def recorded():
    """Context that yields a list to which every launch of a kernel is added."""
    found, original = [], cuda.Kernel.__call__

    def call(self, grid, block, arrays, scalars, shared_mem=0):
        found.append(Launch(self, grid, block, tuple(arrays), dict(scalars), shared_mem))
        original(self, grid, block, arrays, scalars, shared_mem)

    cuda.Kernel.__call__ = call
    try:
        yield found
    finally:
        cuda.Kernel.__call__ = original


class _Nothing:
    """A loader whose kernels do nothing: shapes are all that is wanted."""

    def get_function(self, name):
        return lambda *_, **__: None


@contextmanager
def nothing_runs():
    """Context in which kernels are launched on NumPy arrays and leave them as they are."""
    with cuda.executor(lambda path, names: _Nothing(), LIMITS), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def every_map(descriptor, rij, pairs, species, theta):
    """Run all maps of a family: plain, with tangents of pairs as in training, and with those of parameters too."""
    xp = namespace(rij)
    dual = xp.stack([rij, rij])
    moving = {name: xp.stack([x, x]) for name, x in theta.items()}
    for r, parameters in ((rij, theta), (dual, theta), (dual, moving)):
        q, saved = descriptor.forward(r, pairs, species, parameters)
        dq = xp.ones(q.shape, q.dtype)
        descriptor.pullback(r, pairs, species, parameters, saved, dq)
        descriptor.pullback_parameters(r, pairs, species, parameters, saved, dq)


def every_geometry(structures, pairs, dtype):
    """Run what turns positions into pairs and back; arrays decide where."""
    rij = geometry.pair_vectors(structures.positions, structures.cells, pairs, dtype)
    geometry.pair_tangents(structures.positions, None, rij, pairs)
    geometry.forces(rij, pairs)
    geometry.virials(rij, rij, pairs)


def every_large_system(d, structures, pairs, species, theta):
    """Run the kernels of large systems, over one cell and back, for plain Gaussian moments; arrays decide where."""
    if type(d) is not GaussianMoments or d.iterations:
        return
    xp, cell = namespace(pairs.j), structures.cells[0]
    tables = Tables.of(d, to_host(theta["beta"]))
    tables.tables = xp.asarray(tables.tables)
    thick = widths(structures.host_cells[0])
    listed = large_list.sliced(pairs, structures.positions, cell, species, thick)
    _every_search(listed, structures.positions, cell, species, thick, d.cutoff)
    places = large_list.places_of(listed, structures.positions, cell, species)
    column = xp.arange(pairs.n_atoms, dtype=np.int32)
    neighbours = listed.count, listed.start, listed.neighbour, places, column, cell, tables
    moments = xp.zeros((d.n_radial, d.n_moments, pairs.n_atoms), np.float32)
    gradients = xp.zeros((listed.n_slots, 4), np.float32)
    large_system.gm_large_moments(*neighbours, moments, 0)
    large_system.gm_large_gradients(*neighbours, moments, gradients, 0)
    large_system.forces_and_virial(listed, places, cell, gradients)
    if large_network.shared_bytes(d) <= cuda.limits().shared_bytes:
        _every_network(d, xp, moments, species)


def _every_network(d, xp, moments, species):
    """Energies and gradients of networks without weights, with every activation."""
    weights, scale = xp.zeros(large_network.n_weights(d.n_features), np.float32), xp.ones(len(d.species), np.float32)
    owner, energies = xp.arange(len(species), dtype=np.int32), xp.zeros(len(species))
    for activation in ACTIVATIONS:
        given = weights, moments, owner, species, scale, energies, xp.zeros_like(moments)
        large_network.gm_large_network(d, activation, *given)


def _every_search(listed, positions, cell, species, thick, cutoff):
    """The search, with room for some more neighbours than a list has: nothing may have been counted."""
    xp, n, bins = namespace(positions), listed.n_atoms, large_list.bins_of(thick, cutoff, listed.n_atoms)
    _, places, keys = large_list.along_curve(positions, cell, species, bins)
    ranges = xp.zeros((int(np.prod(bins)), large_list.AROUND, 2), np.int32)
    large_list.gm_large_ranges(keys, ranges, n, *bins)
    large_list.gm_large_count(places, cell, ranges, listed.count.copy(), xp.zeros(n, np.float32), *bins, cutoff)
    start = large_list.starts(listed.count + 8)
    neighbour = xp.zeros(int(start[-1]), np.int32)
    large_list.gm_large_search(places, cell, ranges, start, neighbour, *bins, cutoff)
    large_list.gm_large_mirrors(listed.count, start, neighbour, xp.zeros(len(neighbour), np.uint32))


def every_repulsion(d, structures, pairs, species):
    """Run the repulsion of short distances for all atoms; arrays decide where."""
    Repulsion(d.species_numbers, d.cutoff).evaluate(structures.positions, structures.cells, pairs, species)


def every_layer(rij, pairs):
    """Run a layer of a network for all atoms, forward and back, with every activation, like rij."""
    xp = namespace(rij)
    w, b, x = (xp.ones((LAYER, n), rij.dtype) for n in (LAYER, 1, pairs.n_atoms))
    for activation in ACTIVATIONS:
        feed_forward_cuda.back(activation, w, x, *feed_forward_cuda.layer(activation, w, b, x))
    feed_forward_cuda.transposed(w, feed_forward_cuda.affine(w, b, x))
    own = xp.ones((LAYER, 1), rij.dtype)
    for activation in residual_cuda.UNITS:
        for norm in ((own, own), (None, None)):
            residual_cuda.value(activation, x, own, own, *norm)
            residual_cuda.pullback(activation, x, x, own, own, norm[0])


def rows(launches, descriptor, rij, pairs, chip, seconds=None):
    """One row for each kernel launched: bytes, operations, floors and, where given, the time measured.

    Parameters
    ----------
    launches : list of Launch
        Of the same kernel only the first counts.
    rij : (3, n_pairs) array of the host, Å
    pairs : Pairs of the host
    seconds : callable, optional
        seconds(call) -> time of one call.

    Returns
    -------
    list of dict
    """
    per = counts(descriptor, triplets_per_atom(descriptor, rij, pairs))
    n_atoms, n_pairs, out, seen = pairs.n_atoms, pairs.n_pairs, [], set()
    for launch in launches:
        if launch.name in seen:
            continue
        seen.add(launch.name)
        n_operations = launch.operations(per, n_atoms, n_pairs)
        by_bytes, by_operations = floors(chip, launch.bytes, n_operations, launch.dtype)
        row = {
            "kernel": launch.name, "n_atoms": launch.atoms(n_atoms), "n_pairs": n_pairs, "bytes": launch.bytes,
            "operations": n_operations, "bytes_s": by_bytes, "operations_s": by_operations,
            "floor_s": max(by_bytes, by_operations),
        }  # fmt: skip
        if seconds is not None:
            row["measured_s"] = seconds(launch)
            row["over_floor"] = row["measured_s"] / row["floor_s"] if row["floor_s"] else None
        out.append(row)
    return out


def table(found, title):
    """Markdown of rows: ns an atom, by bytes, by operations, measured."""
    head = ["kernel", "bytes/atom", "flop/atom", *(f"{x}, ns/atom" for x in ("bytes", "flop", "issue"))]
    head += ["measured", "floors"]
    lines = [f"### {title}", "", "| " + " | ".join(head) + " |", "|---" + "|--:" * 7 + "|"]
    for r in found:
        n = r["n_atoms"]
        times = [f"{1e9 * r[k] / n:.3f}" if k in r else "-" for k in ("bytes_s", "operations_s", "issue_s")]
        measured = f"{1e9 * r['measured_s'] / n:.3f}" if "measured_s" in r else "-"
        over = f"{r['over_floor']:.1f}" if r.get("over_floor") else "-"
        flop = "-" if r["operations"] is None else f"{r['operations'] / n:.0f}"
        cells = [f"`{r['kernel']}`", f"{r['bytes'] / n:.0f}", flop, *times, measured, over]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
