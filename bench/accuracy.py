"""Accuracy on the mlearn sets (Zuo et al., J. Phys. Chem. A 124, 731 (2020)), official split, default settings.

    python -m bench.accuracy FOLDER --elements Li Si

FOLDER holds <element>_train.extxyz.gz and <element>_test.extxyz.gz. Prints mean absolute errors on the test frames
beside published ones and writes them as JSON.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import fastdesc as fd
from fastdesc.backend.threads import n_threads

PUBLISHED = {
    "Ni": {"GAP": (0.42, 0.02), "MTP": (0.48, 0.0140), "NNP": (1.58, 0.0302), "SNAP": (0.78, 0.0377),
           "qSNAP": (0.78, 0.0308)},
    "Li": {"GAP": (0.49, 0.01), "MTP": (0.49, 0.0101), "NNP": (0.77, 0.0168), "SNAP": (1.03, 0.0277),
           "qSNAP": (0.73, 0.0328)},
    "Si": {"GAP": (2.91, 0.07), "MTP": (2.31, 0.0560), "NNP": (5.60, 0.1086), "SNAP": (6.44, 0.1327),
           "qSNAP": (3.81, 0.1157)},
}  # fmt: skip
"""Mean absolute errors, meV/atom and eV/Å."""


def run(folder, element, settings, progress):
    """Train on one element; return errors on the test frames and times."""
    train = fd.read_frames(Path(folder) / f"{element}_train.extxyz.gz")
    test = fd.read_frames(Path(folder) / f"{element}_test.extxyz.gz")
    potential = fd.Potential(fd.GaussianMoments(species=[element]))
    start = time.perf_counter()
    history = fd.train(potential, train, progress=progress, **settings)
    seconds = time.perf_counter() - start
    out = potential.predict(test)
    counts = np.array([len(a) for a in test])
    energy = np.array([a.get_potential_energy() for a in test])
    forces = np.concatenate([a.get_forces() for a in test])
    return {
        "element": element,
        "energy_mae_meV_per_atom": float(1e3 * abs((out.energy - energy) / counts).mean()),
        "forces_mae_eV_per_A": float(abs(out.forces - forces).mean()),
        "seconds": seconds,
        "threads": n_threads(),
        "epochs": len(history),
        "parameters": potential.n_parameters,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--elements", nargs="+", default=["Li", "Si"], choices=sorted(PUBLISHED))
    parser.add_argument("--epochs", type=int, help="instead of the default")
    parser.add_argument("--out", default="bench/results/accuracy-mlearn.json")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args()
    settings = {} if args.epochs is None else {"epochs": args.epochs}
    results = [run(args.folder, element, settings, not args.quiet) for element in args.elements]
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    Path(args.out).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print("| element | model | energy, meV/atom | forces, eV/Å | minutes |\n|---|---|---|---|---|")
    for r in results:
        e, f = r["energy_mae_meV_per_atom"], r["forces_mae_eV_per_A"]
        print(f"| {r['element']} | **fastdesc** | **{e:.2f}** | **{f:.4f}** | {r['seconds'] / 60:.1f} |")
        for name, (energy, forces) in PUBLISHED[r["element"]].items():
            print(f"| {r['element']} | {name} | {energy} | {forces} | |")


if __name__ == "__main__":
    main()
