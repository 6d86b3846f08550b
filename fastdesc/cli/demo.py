"""A tour without data: frames labelled by ASE's EMT potential, features, training, evaluation, dynamics."""

import time
from pathlib import Path

import numpy as np
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.md.verlet import VelocityVerlet

from fastdesc.calculator import FastdescCalculator
from fastdesc.cli.config import load_config
from fastdesc.cli.descriptor_choice import build_descriptor
from fastdesc.cli.experiment import run
from fastdesc.features import featurize
from fastdesc.hdf5.files import check_target, write_text
from fastdesc.potential.loading import load

N_TRAIN, N_TEST = 200, 50
CONFIG = """\
# The demo's training run; `fastdesc train {name}` repeats it (add --overwrite).
[data]
train = "train.extxyz"
test = "test.extxyz"

[descriptor]
cutoff = 5.0
n_radial = 4

[potential]
hidden = [32, 32]
repulsion = "zbl"

[training]
epochs = {epochs}
batch_size = 4
learning_rate = 5e-3

[output]
folder = "run"
"""


def demo(out="fastdesc-demo", progress=True, say=print, n_train=N_TRAIN, epochs=40, md_steps=250):
    """Make data, write features, train, evaluate, plot and run a short simulation.

    Parameters
    ----------
    out : str or Path
        Folder for everything that is written; an earlier demo in it is replaced.
    progress : bool
        Show progress bars.
    say : callable
        Takes lines of text.
    n_train, epochs, md_steps : int
        Smaller numbers make it shorter and the potential worse.

    Returns
    -------
    dict
        What was written: name -> Path.
    """
    start, out = time.monotonic(), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    check_target(out / "train.extxyz")
    say("1. Copper and copper-gold crystals, strained and shaken, labelled by ASE's EMT potential")
    written = {}
    for name, n, seed in (("train", n_train, 0), ("test", N_TEST, 1)):
        written[name] = out / f"{name}.extxyz"
        write(written[name], crystals(n, seed))
    say(f"   {n_train} frames to train on, {N_TEST} to test\n")
    say("(The first use of a kernel compiles it: half a minute in all, once per installation.)\n")

    say("2. Gaussian moments of every atom into an HDF5 file")
    descriptor = build_descriptor("gaussian_moments", {"cutoff": 5.0, "n_radial": 4}, ["Cu", "Au"])
    written["features"] = featurize(written["train"], out / "features.h5", descriptor, progress=progress)
    say(f"   {descriptor.n_features} features per atom, such as {descriptor.feature_names_out()[10]!r}\n")

    say("3. Training on energies, forces and stresses")
    written["configuration"] = out / "demo.toml"
    write_text(written["configuration"], CONFIG.format(name=written["configuration"], epochs=epochs))
    results = run(load_config(written["configuration"]), overwrite=True, progress=progress, say=say)
    written |= {name: path for name, path in results.items() if name not in written}

    say("\n4. Molecular dynamics at constant energy with the trained potential")
    say(simulate(results["model"], md_steps))

    say(f"\nDone in {time.monotonic() - start:.0f} s. Written:")
    width = max(map(len, written))
    for name, path in written.items():
        say(f"   {name:{width}}  {path}")
    say(f"\nNext: fastdesc info {written['features']}")
    say(f"      fastdesc evaluate {written['model']} {written['test']}")
    return written


def crystals(n, seed):
    """Return fcc cells of 16 or 32 atoms, copper or copper with gold, strained, shaken and labelled by EMT."""
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True) * ((2, 2, 1) if k % 2 else (2, 2, 2))
        gold = rng.uniform(0.1, 0.5) if k % 3 else 0.0
        atoms.numbers[rng.random(len(atoms)) < gold] = 79
        larger = 1 + 0.13 * (atoms.numbers == 79).mean()    # from the lattice constant of copper to that of gold
        strain = rng.normal(scale=0.015, size=(3, 3))
        atoms.set_cell(larger * atoms.cell @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        atoms.positions += rng.normal(scale=rng.uniform(0.02, 0.08), size=atoms.positions.shape)
        atoms.calc = EMT()
        results = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames


def simulate(model, steps):
    """Run 256 copper atoms at about 300 K; return text that says how well energy was conserved."""
    atoms = bulk("Cu", cubic=True) * (4, 4, 4)
    rng = np.random.default_rng(0)
    momenta = rng.normal(size=(len(atoms), 3)) * np.sqrt(600 * units.kB * atoms.get_masses())[:, None]
    atoms.set_momenta(momenta - momenta.mean(0))
    atoms.calc = FastdescCalculator(load(model))
    total, kinetic = [], []
    start = time.monotonic()
    for _ in VelocityVerlet(atoms, timestep=2 * units.fs).irun(steps):
        total.append(atoms.get_total_energy() / len(atoms))
        kinetic.append(atoms.get_kinetic_energy() / len(atoms))
    seconds = time.monotonic() - start
    reference = atoms.copy()
    reference.calc = EMT()
    error = np.abs(atoms.get_forces() - reference.get_forces()).mean()
    temperature = np.mean(kinetic[len(kinetic) // 2 :]) * 2 / (3 * units.kB)
    half = len(total) // 2
    drift = np.mean(total[half:]) - np.mean(total[:half])
    return (
        f"   {len(atoms)} atoms, {2 * steps} fs, {temperature:.0f} K: {seconds / steps / len(atoms) * 1e6:.0f} µs per "
        f"atom and step; pairs found {atoms.calc.searches} times\n"
        f"   total energy: drift {1000 * drift:+.4f} meV/atom, fluctuation {1000 * np.std(total):.4f} meV/atom "
        f"(kinetic energy: {1000 * np.std(kinetic):.2f})\n"
        f"   forces of the last step against EMT: MAE {1000 * error:.1f} meV/Å"
    )
