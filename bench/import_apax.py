"""Models that apax trained, read by fastdesc: `python -m bench.import_apax [--peers FOLDER] [--keep FILE]`.

apax trains a small model of every form for two epochs, in the environment of the peers, and evaluates it. Told are the
largest differences of energies (meV an atom) and forces (meV/Å) of ours, and how large the forces are. Both programs
compute in float64; the differences are of the 1e-5 Å that apax adds to distances.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from ase import Atoms

import fastdesc as fd
from bench.harness.workers import peers_python

WORKER = Path(__file__).parent / "peers" / "apax_models.py"
KEPT = "bessel"


def members(folder, name, numbers):
    """(our potential, energies, forces of the frames) of each member of whole models; of others the mean."""
    energies = [np.array(frame["energy"]) for frame in numbers[name]]
    forces = [np.array(frame["forces"]) for frame in numbers[name]]
    if name == "full":
        own = [fd.read_apax(folder / name, member=k) for k in range(2)]
        return [(own[k], [e[k] for e in energies], [f[k] for f in forces]) for k in range(2)]
    if name == "shallow":
        return [(fd.read_apax(folder / name), [e.mean() for e in energies], [f.mean(axis=0) for f in forces])]
    return [(fd.read_apax(folder / name), [float(e) for e in energies], forces)]


def keep(folder, file, numbers):
    """Write one model and apax's numbers for a frame as a zip file, which the tests read."""
    frame = numbers["frames"][0] | numbers[KEPT][0]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("numbers.json", json.dumps(frame))
        root = folder / KEPT
        for part in [root / "config.yaml", *sorted((root / "best").rglob("*"))]:
            if part.is_file():
                archive.write(part, f"model/{part.relative_to(root)}")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    peers = os.environ.get("FASTDESC_PEERS", ".bench-env")
    parser.add_argument("--peers", default=peers, help="environment of the peers (default: %(default)s)")
    parser.add_argument("--keep", metavar="FILE", help="also write one model with its numbers, for the tests")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        python = peers_python(options.peers)
        if python is None:
            sys.exit(f"no peers: {options.peers} is not there; python bench/peers/make_env.py makes it")
        command = [str(python), str(WORKER), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"apax ended with {done.returncode}:\n{done.stderr[-2000:]}")
        numbers = json.loads((folder / "numbers.json").read_text())
        frames = [Atoms(frame["numbers"], frame["positions"]) for frame in numbers.pop("frames")]
        print(f"{'model':10s} {'energy':>10s} {'forces':>10s} {'largest force':>14s}   meV/atom, meV/Å")
        for name in numbers:
            for potential, energies, forces in members(folder, name, numbers):
                found = potential.predict(frames)
                n = len(frames[0])
                errors = np.abs(found.energy - energies).max() / n, np.abs(found.forces - np.concatenate(forces)).max()
                print(f"{name:10s} {1e3 * errors[0]:10.5f} {1e3 * errors[1]:10.5f} {1e3 * np.abs(forces).max():14.1f}")
        if options.keep:
            numbers["frames"] = [{"numbers": a.numbers.tolist(), "positions": a.positions.tolist()} for a in frames]
            keep(folder, options.keep, numbers)


if __name__ == "__main__":
    main()
