"""What kernels and steps should take on an H200: floors by bytes, by operations and by instructions issued.

Runs on any machine; nothing in it is measured. Instructions need nvdisasm (bench/gpu/sass.py), all else NumPy.
"""

import json
from pathlib import Path

import numpy as np

import fastdesc as fd
from bench.gpu import launches, sass
from bench.gpu.trips import Model
from bench.harness import models, operations, systems
from fastdesc.potential.large_system import LEAST_ATOMS

FILE = Path(__file__).parents[1] / "results" / "predicted-h200.json"
SIZES = (100, 1000, 10_000, 100_000, 1_000_000)


def every_launch(system, names=models.EVERY):
    """Yield (launch, model of its trips, name of the descriptor, descriptor, rij, pairs) of every kernel once."""
    frames, seen = systems.frames(system), set()
    for name in names:
        d = models.descriptor(name, system)
        rij, pairs, species = d.prepare(frames, "float32")
        with launches.nothing_runs(), launches.recorded() as used:
            launches.every_map(d, rij, pairs, species, d.theta("float32"))
            structures = fd.Structures.from_ase(frames)
            launches.every_large_system(d, structures, pairs, species, d.theta("float32"))
            if not seen:
                launches.every_geometry(structures, pairs, "float32")
                launches.every_repulsion(d, structures, pairs, species)
                launches.every_layer(rij, pairs)
        for launch in used:
            if launch.name not in seen:
                seen.add(launch.name)
                yield launch, _model(launch, d, rij, pairs), name, d, rij, pairs


def _model(launch, d, rij, pairs):
    close = 0
    if hasattr(d, "triplet_cutoff"):
        close = int(((rij**2).sum(0) < d.triplet_cutoff**2).sum()) / pairs.n_atoms
    n = launch.atoms(pairs.n_atoms)
    return Model.of(launch, d, n, pairs.n_pairs / pairs.n_atoms, close, launches.LAYER)


def kernel_rows(system, issued):
    """One row a kernel, as of launches.rows; `issued` adds instructions and the time that issuing them takes."""
    for launch, model, name, d, rij, pairs in every_launch(system):
        (row,) = launches.rows([launch], d, rij, pairs, launches.H200)
        if issued:
            row |= instructions(launch, model)
            row["floor_s"] = max(row["floor_s"], row["issue_s"])
        yield {"model": name, **row}


def instructions(launch, model):
    """Warp instructions of a launch, by atom and by pair, and seconds to issue them."""
    total, a_warp = sass.issue(launch, model)
    return {
        "instructions": round(total), "instructions_a_warp": round(a_warp),
        "instructions_an_atom": round(total / model.n_atoms, 1),
        "instructions_a_pair": round(total / model.n_atoms / model.pairs, 2),
        "issue_s": total / sass.ISSUED_PER_SECOND,
    }  # fmt: skip


OF_LARGE_SYSTEMS = ("gm_large_places", "gm_large_moments", "gm_large_network", "gm_large_gradients", "gm_large_forces")
"""Kernels of energies and forces over a list in slices that is there."""


def step_seconds(name, chip, issued, system="cu1000", large=False):
    """Seconds an atom: floors of all kernels of energies and forces in float32, and of the network's products.

    `large`: of Gaussian moments as a large system.
    """
    d, pot = models.descriptor(name, system), models.potential(name, system)
    structures = fd.Structures.from_ase(systems.frames(system))
    rij, pairs, species = d.prepare(systems.frames(system), "float32")
    with launches.nothing_runs(), launches.recorded() as used:
        q, saved = d.forward(rij, pairs, species, d.theta("float32"))
        d.pullback(rij, pairs, species, d.theta("float32"), saved, np.empty(q.shape, q.dtype))
        launches.every_geometry(structures, pairs, "float32")
        if large:
            launches.every_large_system(d, structures, pairs, species, d.theta("float32"))
    if large:
        used = [next(x for x in used if x.bare == own) for own in OF_LARGE_SYSTEMS]
    per = launches.counts(d, launches.triplets_per_atom(d, rij, pairs))
    floor = 0.0
    for x in used:
        if x.bare == "geometry_pair_tangents":
            continue
        needed = x.operations(per, pairs.n_atoms, pairs.n_pairs)
        by = launches.floors(chip, x.bytes, needed, x.dtype)
        issue = instructions(x, _model(x, d, rij, pairs))["issue_s"] if issued else 0.0
        floor += max(*by, issue)
    if large:    # the network's products are in the kernel
        return floor / pairs.n_atoms
    products = operations.network(pot.descriptor, pot.hidden, pairs.n_atoms) / chip.rates["float32"]
    return (floor + products) / pairs.n_atoms


def predicted(system="cu4000", issued=None):
    """Everything that is predicted, as a dict.

    Parameters
    ----------
    system : str
        Of bench.harness.systems.
    issued : bool, optional
        Count instructions; by default where nvdisasm is.
    """
    chip, issued = launches.H200, sass.status()[0] if issued is None else issued
    kernels = list(kernel_rows(system, issued))
    steps = []
    for name in models.DESCRIPTORS:
        an_atom = step_seconds(name, chip, issued)
        steps += [{"model": name, "n_atoms": n, "predicted_s": an_atom * n} for n in SIZES]
        if name == "gaussian_moments":
            an_atom, way = step_seconds(name, chip, issued, large=True), "a thread an atom"
            of_large = [n for n in SIZES if n >= LEAST_ATOMS]
            steps += [{"model": name, "way": way, "n_atoms": n, "predicted_s": an_atom * n} for n in of_large]
    rates = {"bytes_per_s": chip.bandwidth, "operations_per_s": chip.rates}
    if issued:
        rates |= {"warp_instructions_per_s": sass.ISSUED_PER_SECOND, "arch": sass.ARCH}
    return {"chip": chip.name, "rates": rates, "measured": False, "system": system, "kernels": kernels, "steps": steps}


SHOWN = ("gm_moments<float, 5>", "gm_contract<float>", "gm_contract_pullback<float>", "gm_moments_pullback<float, 5>",
         "gm_beta_pullback<float, 5>", "gm_large_moments", "gm_large_network<Silu>", "gm_large_gradients",
         "gm_large_forces", "geometry_pair_vectors<float>", "geometry_forces<float>", "geometry_virials<float>",
         "ed_density<float, 8>", "ed_contract<float, float>", "ed_contract_pullback<float, float>",
         "ed_density_pullback<float, 8>", "sf_features<float, 8>", "sf_pullback<float, 8>")  # fmt: skip
"""Rows of the table in kernels/README.md."""


def readme_table(record=None):
    """The table of kernels/README.md, from the file of predictions."""
    record = json.loads(FILE.read_text()) if record is None else record
    rows = {row["kernel"]: row for row in record["kernels"]}
    an_atom, times = ("bytes", "flop", "instructions"), ("bytes", "flop", "issue")
    head = ["kernel", *(f"{x} an atom" for x in an_atom), *(f"{x}, ns" for x in times)]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * 6 + "|"]
    for name in SHOWN:
        row = rows[name]
        n, times = row["n_atoms"], [1e9 * row[k] / row["n_atoms"] for k in ("bytes_s", "operations_s", "issue_s")]
        cells = [row["bytes"] / n, row["operations"] / n, row["instructions_an_atom"]]
        lines.append(f"| `{name}` | " + " | ".join([f"{x:.0f}" for x in cells] + [f"{x:.2f}" for x in times]) + " |")
    return "\n".join(lines) + "\n"
