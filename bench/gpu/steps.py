"""Steps as users take them, timed on a device: energies and forces, training, featurization, dynamics."""

import tempfile
import time
from pathlib import Path

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

import fastdesc as fd
from bench.gpu import crystal, launches
from bench.gpu.large import WAYS, Copper, going
from bench.gpu.sections import poisoned
from bench.gpu.timing import free_memory, seconds_of, wall_of
from bench.harness import models, systems
from fastdesc.features import convert
from fastdesc.training.batch_gradient import batch_gradient
from fastdesc.training.settings import Settings
from fastdesc.training.trainer import Trainer


def energies_and_forces(session):
    """The first figures: copper whose pairs come in closed form, on the device and by the clock, large to small.

    Gaussian moments go both ways, as large systems and as small ones.
    """
    order = ["gaussian_moments", *(name for name in models.DESCRIPTORS if name != "gaussian_moments")]
    for name in order:
        for cells in session.sizes.first if name == order[0] else session.sizes.first[:1]:
            frame, pairs = crystal.copper(cells)
            structures = fd.Structures.from_ase([frame])
            for way in WAYS if name == order[0] else ("a warp an atom",):
                with going(way):
                    row = _energies_and_forces(session, structures, f"{cells} cells", name, pairs)
                session.emit(**row, way=way)
                free_memory()


def large_systems(session):
    """A system as a large one, pairs searched for and given, against the other way in float64.

    Errors of energies (eV) and of forces and virials (of the largest); fresh memory is NaN.
    """
    copper, wrong = Copper(session.sizes.first[len(session.sizes.first) // 2]), []
    exact = copper.evaluated("a warp an atom", "float64")
    for searched in (True, False):
        with poisoned(), launches.recorded() as used:
            found = copper.evaluated("a thread an atom", "float32", searched)
        errors = {name: float(abs(x - exact[name]).max()) for name, x in found.items()}
        for name in ("forces", "virials"):
            errors[name] /= float(abs(exact[name]).max())
        right = all(error < 1e-4 for error in errors.values())
        names = sorted({launch.name for launch in used})
        session.emit(n_atoms=copper.n_atoms, searched=searched, right=right, errors=errors, kernels=names)
        wrong += [] if right else [f"{'searched' if searched else 'given'}: {errors}"]
    if wrong:
        raise RuntimeError(f"large systems are wrong: {'; '.join(wrong)}")


def scaling(session):
    """Energies and forces of every family from small to large, pairs given and found anew, positions from the host."""
    for system in session.sizes.scaling:
        structures = fd.Structures.from_ase(systems.frames(system))
        for name in models.DESCRIPTORS:
            session.emit(**_energies_and_forces(session, structures, system, name))
        free_memory()


def _energies_and_forces(session, structures, system, name, pairs=None):
    pot = models.potential(name, "cu32")
    placed = structures.to_device("cuda")
    row = {"system": system, "model": name, "n_atoms": structures.n_atoms, "dtype": "float32"}
    try:
        model, given = pot.model("float32", "cuda"), pairs is not None
        pairs = (pairs if given else fd.Pairs.find(structures, pot.descriptor.cutoff)).to_device("cuda")
        row["n_pairs"] = pairs.n_pairs
        few = 20 if structures.n_atoms > 50_000 else 200
        row["given_s"] = wall_of(lambda: pot.evaluate(placed, pairs, model), session.sizes.seconds, few)
        row["device_s"] = seconds_of(lambda: pot.evaluate(placed, pairs, model), session.sizes.seconds, few)
        if not given:
            row["found_s"] = wall_of(lambda: pot.evaluate(structures, model=model), session.sizes.seconds, few)
    except Exception as problem:    # for instance a system that does not fit into the memory
        row["error"] = repr(problem)[:500]
    return row


def pair_search(session):
    """Pairs of a large cell found on the device, and on the host."""
    structures = fd.Structures.from_ase(systems.frames(session.sizes.pairs))
    for where in ("cuda", "cpu"):
        placed = structures.to_device(where)
        seconds = wall_of(lambda placed=placed: fd.Pairs.find(placed, 6.0), session.sizes.seconds, 20)
        session.emit(system=session.sizes.pairs, where=where, seconds=seconds)


def training(session):
    """Gradient of a loss on energies and forces and one update; batches cut anew at every step, as in training."""
    rng = np.random.default_rng(0)
    for system in session.sizes.batches:
        frames = [atoms.copy() for atoms in systems.frames(system)]
        for atoms in frames:
            atoms.calc = SinglePointCalculator(atoms, energy=rng.normal(), forces=rng.normal(size=(len(atoms), 3)))
        for name in models.DESCRIPTORS:
            row = {"system": system, "model": name, "n_atoms": sum(map(len, frames)), "dtype": "float32"}
            try:
                row |= _training_step(session, frames, models.potential(name, system), rng)
            except Exception as problem:
                row["error"] = repr(problem)[:500]
            session.emit(**row)


def _training_step(session, frames, pot, rng):
    """Seconds to cut a batch, and of a whole step."""
    n = len(pot.scaler.mean)    # a scaler that is set counts as fitted: that is not what is timed
    pot.scaler = type(pot.scaler)(np.full(n, 1e-3), np.ones(n))
    trainer = Trainer(pot, frames, None, Settings.named(dtype="float32", device="cuda"), rng)
    everything = np.arange(len(frames))

    def cut():
        return trainer.data.batch(everything, pot.reference)

    def step():
        model = pot.model(trainer.dtype, parameters=trainer.parameters)
        _, gradient = batch_gradient(pot, model, cut(), trainer.weights)
        trainer.optimizer.step(trainer.parameters, gradient, 1e-3)

    return {"cut_s": wall_of(cut, session.sizes.seconds), "step_s": wall_of(step, session.sizes.seconds)}


def featurization(session):
    """Frames of ethanol from our own file to a features file, and the same on the CPU."""
    found = {"frames": session.sizes.frames}
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "frames.h5", Path(folder) / "features.h5"
        convert(systems.ethanol(session.sizes.frames), source, progress=False)
        for device in ("cuda", "cpu"):
            d = models.descriptor("gaussian_moments", f"ethanol{session.sizes.frames}")
            for _ in range(2):    # the second time everything is compiled
                out.unlink(missing_ok=True)
                start = time.monotonic()
                fd.featurize(source, out, d, device=device, dtype="float32", progress=False, chunk_atoms=65536)
                found[f"{device}_s"] = time.monotonic() - start
            found[f"{device}_frames_per_s"] = session.sizes.frames / found[f"{device}_s"]
    session.emit(**found)


def dynamics(session):
    """One step of molecular dynamics of 192 atoms of water through ASE's calculator, the list kept by its skin.

    On a GPU captured as a graph, with the time of the graph alone, and launched kernel by kernel; and on the CPU.
    """
    for name in models.DESCRIPTORS:
        pot = models.potential(name, "water192")
        for device, graph in (("cuda", "auto"), ("cuda", False), ("cpu", False)):
            row = {"model": name, "device": device, "graph": graph}
            session.emit(**row, **_dynamics_step(session, pot, device, graph))


def _dynamics_step(session, pot, device, graph):
    """Seconds of a step. With a graph, those of the graph alone, by events, and the largest difference (eV/Å) to forces
    without it; else how many of our kernels are launched, and why there is no graph."""
    atoms, rng = systems.water().copy(), np.random.default_rng(0)
    atoms.calc = fd.FastdescCalculator(pot, device=device, dtype="float32", graph=graph)

    def step():
        atoms.positions += rng.normal(0, 1e-4, atoms.positions.shape)
        atoms.get_forces()

    row = {"step_s": wall_of(step, session.sizes.seconds)}
    if atoms.calc.captured is not None:
        row["replay_s"] = seconds_of(atoms.calc.captured.launch, session.sizes.seconds)
        other = atoms.copy()
        other.calc = fd.FastdescCalculator(pot, device=device, dtype="float32", graph=False)
        row["difference"] = float(abs(atoms.get_forces() - other.get_forces()).max())
    elif device == "cuda":
        with launches.recorded() as used:
            step()
        row |= {"kernels": len(used), "not_captured": atoms.calc.not_captured}
    return row
