"""The worker that runs fastdesc itself; every case returns (call, info) as bench/harness/serve.py wants it."""

from bench.harness.serve import n_threads, pin, serve

pin()

import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

import fastdesc as fd  # noqa: E402
from bench.harness import operations, peak, systems  # noqa: E402
from bench.peers import meam_files  # noqa: E402
from fastdesc.backend.arrays import to_device, to_host  # noqa: E402
from fastdesc.geometry import forces, pair_vectors, virials  # noqa: E402

MODEL = {"n_radial": 5, "n_basis": 8, "basis": "bessel", "max_rank": 3}
HIDDEN = (256, 256)
EMBEDDED = {"n_radial": 8, "l_max": 2, "n_features": 108}
EMBEDDED_HIDDEN = (128, 128)
"""Of the potential and, with iterations, of the networks inside the descriptor."""
SPLINES = {"triplet_cutoff": 4.5, "n_pair": 4, "n_triplet": 8}
SPLINES_HIDDEN = (32, 32)


def moments(system, cutoff):
    d = fd.GaussianMoments(species=systems.species(system), cutoff=cutoff, **MODEL)
    n_species = len(d.species_numbers)
    d.set_parameters(beta=systems.coefficients(n_species, d.n_radial, d.n_basis))
    return d


def potential(system, cutoff, iterations=None, n_knots=None, default=False):
    """Gaussian moments, with a number of iterations embedded densities, with one of knots spline filters: untrained."""
    if default:
        return fd.Potential(moments(system, cutoff))
    if n_knots is not None:
        d = fd.SplineFilters(species=systems.species(system), cutoff=cutoff, n_knots=n_knots, **SPLINES)
        return fd.Potential(d, hidden=SPLINES_HIDDEN)
    if iterations is None:
        return fd.Potential(moments(system, cutoff), hidden=HIDDEN, network="shared")
    d = fd.EmbeddedDensity(
        species=systems.species(system), cutoff=cutoff, iterations=iterations, hidden=EMBEDDED_HIDDEN, **EMBEDDED
    )
    return fd.Potential(d, hidden=EMBEDDED_HIDDEN)


def counted(count, pot, structures, pairs):
    """Operations by one of the functions of bench/harness/operations.py, which knows Gaussian moments alone."""
    if pot.descriptor.family != "gaussian_moments":
        return {}
    return {"operations": count(pot.descriptor, pot.hidden, structures.n_atoms, pairs.n_pairs)}


def finished(device):
    """Function that waits until the device has done all it was given."""
    if device == "cpu":
        return lambda: None
    import cupy

    return cupy.cuda.get_current_stream().synchronize


def about(structures, pairs, dtype, device, **more):
    return {"program": f"fastdesc {fd.__version__}", "n_atoms": structures.n_atoms, "n_pairs": pairs.n_pairs,
            "dtype": dtype, "device": device, "threads": n_threads(), **more}  # fmt: skip


def energy_forces(
    system="cu256",
    cutoff=6.0,
    dtype="float32",
    device="cpu",
    find_list=False,
    iterations=None,
    n_knots=None,
    default=False,
):
    """Energies, forces and virials; with `find_list` the list of neighbours is found anew at every call."""
    structures = fd.Structures.from_ase(systems.frames(system))
    pot = potential(system, cutoff, iterations, n_knots, default)
    pairs = fd.Pairs.find(structures, cutoff).to_device(device)
    placed = structures.to_device(device)
    wait = finished(device)

    model = pot.model(dtype, device)

    def given():
        out = pot.evaluate(placed, pairs, model)
        wait()
        return out

    def found():
        out = pot.evaluate(structures, model=model)
        wait()
        return out

    more = {**counted(operations.energy_forces, pot, structures, pairs), "energy": float(np.sum(given()[0]))}
    return (found if find_list else given), about(structures, pairs, dtype, device, **more)


def predict(system="cu256", cutoff=6.0, dtype="float32", device="cpu"):
    """The public potential.predict(frames) with the default network: checks and list of neighbours included."""
    frames, pot = systems.frames(system), potential(system, cutoff, default=True)
    structures = fd.Structures.from_ase(frames)
    pairs = fd.Pairs.find(structures, cutoff)
    more = {**counted(operations.energy_forces, pot, structures, pairs), "lists": "inside"}
    return lambda: pot.predict(frames, device=device, dtype=dtype), about(structures, pairs, dtype, device, **more)


def calculator(system="cu256", cutoff=6.0, dtype="float32", device="cpu", skin=0.5):
    """A step of dynamics as ASE sees it, default network: atoms move by 0.001 Å, energy and forces are asked for."""
    pot = potential(system, cutoff, default=True)
    (atoms,) = (atoms.copy() for atoms in systems.frames(system))
    structures = fd.Structures.from_ase(atoms)
    atoms.calc = fd.FastdescCalculator(pot, skin=skin, device=device, dtype=dtype)
    home, moves = atoms.positions.copy(), np.random.default_rng(0).normal(0.0, 1e-3, (16, *atoms.positions.shape))
    steps = iter(range(10**9))

    def step():
        atoms.positions[:] = home + moves[next(steps) % len(moves)]
        return atoms.get_potential_energy(), atoms.get_forces()

    pairs = fd.Pairs.find(structures, cutoff)
    more = {**counted(operations.energy_forces, pot, structures, pairs), "lists": f"skin {skin:g} Å"}
    return step, about(structures, pairs, dtype, device, **more)


def meam_energy_forces(system="cu2048", dtype="float64"):
    """Energies, forces and virials of an s-MEAM potential read from its file, on a given list."""
    (element,) = systems.species(system)
    with tempfile.TemporaryDirectory() as folder:
        meam_files.write(Path(folder) / "potential", element)
        pot = fd.read_meam_spline(Path(folder) / "potential", element)
    structures = fd.Structures.from_ase(systems.frames(system))
    pairs, model = fd.Pairs.find(structures, pot.descriptor.cutoff), pot.model(dtype)

    def given():
        return pot.evaluate(structures, pairs, model)

    return given, about(structures, pairs, dtype, "cpu", energy=float(given()[0].sum()))


def _mapped(system, cutoff, dtype, device):
    """All that the maps of a family take."""
    d = moments(system, cutoff)
    structures = fd.Structures.from_ase(systems.frames(system))
    rij, pairs, species = d.prepare(structures, dtype, device)
    return d, structures, rij, pairs, species, d.theta(rij.dtype, device)


def descriptor(system="cu256", cutoff=6.0, dtype="float32", device="cpu", pullback=False):
    """Features of a given list; with `pullback` also one vector-Jacobian product down to forces."""
    d, structures, rij, pairs, species, theta = _mapped(system, cutoff, dtype, device)
    wait = finished(device)
    q, _ = d.forward(rij, pairs, species, theta)
    dq = to_device(np.ones(q.shape, dtype), device)

    def forward():
        d.forward(rij, pairs, species, theta)
        wait()

    def both():
        _, saved = d.forward(rij, pairs, species, theta)
        out = forces(d.pullback(rij, pairs, species, theta, saved, dq), pairs)
        wait()
        return out

    count = operations.descriptor(d, structures.n_atoms, pairs.n_pairs, pullback)
    more = systems.fingerprint(to_host(q))
    info = about(structures, pairs, dtype, device, n_features=d.n_features, operations=count, **more)
    return (both if pullback else forward), info


def compute(system="cu256", cutoff=6.0, dtype="float64", device="cpu", jacobian=False):
    """The public d.compute(frames): checks and list of neighbours included."""
    frames = systems.frames(system)
    d, structures, _, pairs, _, _ = _mapped(system, cutoff, dtype, "cpu")
    info = about(structures, pairs, dtype, device, n_features=d.n_features, lists="inside")
    return lambda: d.compute(frames, jacobian=jacobian, dtype=dtype, device=device), info


def neighbours(system="cu4000", cutoff=6.0, device="cpu", vectors=True):
    """Lists with shifts and mirrors, and pair vectors in float64."""
    structures = fd.Structures.from_ase(systems.frames(system)).to_device(device)
    wait = finished(device)

    def find():
        pairs = fd.Pairs.find(structures, cutoff)
        if vectors:
            pair_vectors(structures.positions, structures.cells, pairs, "float64")
        wait()
        return pairs

    return find, about(structures, find(), "float64", device)


def training_step(system="cu256x4", cutoff=6.0, dtype="float32", device="cpu", iterations=None):
    """Gradient of the loss on energies and forces and one Adam update, for a batch that stays on the device."""
    from ase.calculators.singlepoint import SinglePointCalculator

    from fastdesc.training.batch_gradient import batch_gradient
    from fastdesc.training.settings import Settings
    from fastdesc.training.trainer import Trainer

    rng = np.random.default_rng(0)
    frames = [atoms.copy() for atoms in systems.frames(system)]
    for atoms in frames:
        labels = {"energy": rng.normal(), "forces": rng.normal(size=(len(atoms), 3))}
        atoms.calc = SinglePointCalculator(atoms, **labels)
    pot = potential(system, cutoff, iterations)
    trainer = Trainer(pot, frames, None, Settings.named(dtype=dtype, device=device, optimizer="adamw"), rng)
    batch = trainer.data.batch(np.arange(len(frames)), pot.reference)
    wait = finished(device)

    def step():
        model = pot.model(trainer.dtype, parameters=trainer.parameters)
        _, gradient = batch_gradient(pot, model, batch, trainer.weights)
        trainer.optimizer.step(trainer.parameters, gradient, 1e-3)
        wait()

    structures, pairs = trainer.data.structures, batch.pairs
    more = counted(operations.training_step, pot, structures, pairs)
    return step, about(structures, pairs, dtype, device, **more, optimizer="adamw")


def stage(name, system="cu256", cutoff=6.0, dtype="float32", hidden=HIDDEN):
    """One step of energies and forces on the CPU: where the time goes."""
    from fastdesc.networks import feed_forward
    from fastdesc.pairs.blocks import made_blocks
    from fastdesc.potential.one_pass import one_pass
    from fastdesc.simd import width

    d, structures, rij, pairs, species, theta = _mapped(system, cutoff, dtype, "cpu")
    saved = d.forward(rij, pairs, species, theta)[1]
    kernels = d.kernels(rij, pairs, species)
    beta = theta["beta"]
    q = np.random.default_rng(0).normal(size=(d.n_features, structures.n_atoms)).astype(dtype)
    dmoments, drij = np.ones_like(saved), np.ones_like(rij)
    layers = feed_forward.initial(d.n_features, hidden, 1, "silu", np.random.default_rng(0))
    layers = [(w.astype(dtype), b.astype(dtype)) for w, b in layers]

    def both_ways():
        y, kept = feed_forward.forward(layers, "silu", q)
        feed_forward.pullback(layers, "silu", kept, np.ones_like(y))

    n, p = structures.n_atoms, pairs.n_pairs
    model = fd.Potential(d, hidden=hidden, network="shared").model(dtype)
    given = structures.positions, structures.cells, pairs, species
    calls = {
        "all in one pass": (lambda: one_pass(model, *given), operations.energy_forces(d, hidden, n, p)),
        "blocks of the list": (lambda: made_blocks(pairs, species, len(d.species_numbers), width(dtype)), 0),
        "pair vectors": (lambda: pair_vectors(structures.positions, structures.cells, pairs, dtype), 0),
        "moments": (lambda: kernels.gm_moments(beta, saved), operations.moments(d, n, p)),
        "contractions": (lambda: kernels.gm_contract(saved, q), operations.contractions(d, n)),
        "network, both ways": (both_ways, operations.network(d, hidden, n)),
        "contractions, pullback": (
            lambda: kernels.gm_contract_pullback(saved, q, dmoments),
            operations.contractions_pullback(d, n),
        ),
        "moments, pullback": (
            lambda: kernels.gm_moments_pullback(beta, dmoments, drij),
            operations.moments_pullback(d, n, p),
        ),
        "forces": (lambda: forces(drij, pairs), 0),
        "virials": (lambda: virials(rij, drij, pairs), 0),
    }
    call, count = calls[name]
    return call, about(structures, pairs, dtype, "cpu", operations=count)


CASES = {
    "energy_forces": energy_forces,
    "predict": predict,
    "calculator": calculator,
    "meam_energy_forces": meam_energy_forces,
    "descriptor": descriptor,
    "compute": compute,
    "neighbours": neighbours,
    "training_step": training_step,
    "stage": stage,
    "fma": peak.fma,
    "gemm": peak.gemm,
}

if __name__ == "__main__":
    serve(CASES)
