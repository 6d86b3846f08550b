"""What an epoch of training costs with a trained and a fixed descriptor, from frames and from a features file.

    python -m bench.train_from_features                 # a minute; writes bench/results/stored.json and .md
    python -m bench.train_from_features --quick         # rough figures in half a minute
    python -m bench.train_from_features --docs          # and puts the table into docs/guides/fixed-descriptors.md
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

MARKS = "<!-- bench.train_from_features -->\n", "<!-- end -->\n"
DOCS = Path(__file__).resolve().parents[1] / "docs" / "guides" / "fixed-descriptors.md"
FIXED, ENERGIES = {"descriptor_learning_rate": 0.0}, {"force_weight": 0.0, "stress_weight": 0.0}
ROWS = {    # what is trained on what: (settings, from a file, share of the features in memory)
    "energies and forces, descriptor trained": ({}, False, None),
    "energies and forces, descriptor fixed": (FIXED, False, None),
    "energies, descriptor trained": (ENERGIES, False, None),
    "energies, descriptor fixed, from frames": ({**FIXED, **ENERGIES}, False, None),
    "energies, from a features file": ({}, True, None),
    "energies, from a file ten times the memory": ({}, True, 0.1),
}


def shaken(n, seed=0):
    """`n` shaken copper cells of 48 atoms with labels at random: what they are does not matter to the clock."""
    from ase.build import bulk
    from ase.calculators.singlepoint import SinglePointCalculator

    rng, frames = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = bulk("Cu", cubic=True) * (3, 2, 2)
        atoms.positions += rng.normal(scale=0.07, size=atoms.positions.shape)
        labels = {"energy": rng.normal(), "forces": rng.normal(size=atoms.positions.shape)}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    return frames


def held(data):
    """Bytes that a training set holds at most for features, or for pairs and their vectors."""
    from fastdesc.training.feature_dataset import FeatureSet

    if isinstance(data, FeatureSet):
        return sum(rows.nbytes + species.nbytes for rows, species in data._kept.values())
    return data.store.n_bytes if data.store.kept else 0


def epoch(name, source, descriptor, hidden, n_epochs, n_atoms):
    """Best epoch of a run, wall and processor time; what came before the first; bytes held."""
    import fastdesc as fd
    from fastdesc.training import feature_dataset, trainer_for

    settings, _, share = ROWS[name]
    before = feature_dataset.KEPT_BYTES, feature_dataset.BLOCK_BYTES
    if share is not None:
        feature_dataset.KEPT_BYTES = int(share * n_atoms * descriptor.n_features * 4)
        feature_dataset.BLOCK_BYTES = feature_dataset.KEPT_BYTES // 2    # of 2 GB, blocks are 16 MB
    try:
        start = time.process_time()
        potential = fd.Potential(descriptor, hidden=hidden)
        trainer = trainer_for(potential, source, valid_fraction=0, epochs=10**6, **settings)
        ready, times = time.process_time() - start, []
        for _ in range(n_epochs):
            wall, cpu = time.perf_counter(), time.process_time()
            trainer._epoch()
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
        best = np.min(times[1:], axis=0) / n_atoms * 1e6    # the first one compiles
        return {
            "us_per_atom": float(best[0]), "cpu_us_per_atom": float(best[1]),
            "ready_us_per_atom": ready / n_atoms * 1e6, "bytes_per_atom": held(trainer.data) / n_atoms,
        }  # fmt: skip
    finally:
        feature_dataset.KEPT_BYTES, feature_dataset.BLOCK_BYTES = before


def shortest(call, rounds=7):
    """Least processor time of some calls, in seconds."""
    times = []
    for _ in range(rounds + 1):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times[1:])


def stages(descriptor, frames):
    """Processor time of the parts of a step, and of the products with a Jacobian that was kept, µs per atom."""
    rij, pairs, species = descriptor.prepare(frames, "float32")
    theta, n = descriptor.theta(rij.dtype), pairs.n_atoms
    q, saved = descriptor.forward(rij, pairs, species, theta)
    dq, duals = np.ones_like(q), np.stack([rij, rij[::-1]])
    both, saved_duals = descriptor.forward(duals, pairs, species, theta)
    calls = {
        "forward": lambda: descriptor.forward(rij, pairs, species, theta),
        "pullback": lambda: descriptor.pullback(rij, pairs, species, theta, saved, dq),
        "dual forward": lambda: descriptor.forward(duals, pairs, species, theta),
        "pullback to parameters": lambda: descriptor.pullback_parameters(
            duals, pairs, species, theta, saved_duals, np.ones_like(both)
        ),
    }
    _, jacobian = descriptor.compute(frames, jacobian=True, dtype="float32")
    values, weights = jacobian.values, np.ones((len(jacobian.centre), 1, len(q)), np.float32)
    moved = np.ones((len(values), 3, 1), np.float32)
    calls["slopes by a kept Jacobian"] = lambda: weights @ values
    calls["tangents by a kept Jacobian"] = lambda: values @ moved
    found = {name: shortest(call) / n * 1e6 for name, call in calls.items()}
    return {**found, "jacobian bytes": values.nbytes / n, "feature bytes": q.nbytes / n}


def measure(n, n_epochs, cutoff, hidden, folder):
    """All rows."""
    import fastdesc as fd
    from fastdesc.backend import threads as parallel

    frames, descriptor = shaken(n), fd.GaussianMoments(species=["Cu"], cutoff=cutoff)
    n_atoms = sum(map(len, frames))
    fd.featurize(frames[:2], folder / "first.h5", descriptor, dtype="float32", progress=False)    # compiles
    start = time.process_time()
    path = fd.featurize(frames, folder / "features.h5", descriptor, dtype="float32", progress=False)
    found = {
        "frames": n, "atoms": n_atoms, "features": descriptor.n_features, "cutoff": cutoff, "hidden": list(hidden),
        "threads": parallel.n_threads(), "featurize_us_per_atom": (time.process_time() - start) / n_atoms * 1e6,
        "file_bytes_per_atom": path.stat().st_size / n_atoms, "rows": {},
    }  # fmt: skip
    for name, (_, from_file, _) in ROWS.items():
        found["rows"][name] = epoch(name, path if from_file else frames, descriptor, hidden, n_epochs, n_atoms)
    found["stages"] = stages(descriptor, frames[:8])
    return found


def table(found):
    """The figures as Markdown."""
    t, s = found["epochs"], found["epochs"]["stages"]
    whole = t["rows"][next(iter(ROWS))]
    threads = f"{t['threads']} thread{'s'[: t['threads'] != 1]}"
    lines = [
        f"{found['machine']['processor']}, {threads}, load {found['machine']['load_before']:.1f} before. {t['frames']} "
        f"frames of copper, {t['atoms']} atoms, cutoff {t['cutoff']} Å, {t['features']} features, network "
        f"{'-'.join(map(str, t['hidden']))}, float32, steps of 512 atoms.",
        "",
        "| µs per atom, trained on | epoch, wall | processor | times less | before the first | bytes per atom |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in t["rows"].items():
        lines.append(
            f"| {name} | {row['us_per_atom']:.1f} | {row['cpu_us_per_atom']:.1f} | "
            f"{whole['cpu_us_per_atom'] / row['cpu_us_per_atom']:.1f} | {row['ready_us_per_atom']:.0f} | "
            f"{row['bytes_per_atom']:.0f} |"
        )
    lines += [
        "",
        "Times less are of processor time, which other work on the machine disturbs least. `featurize` took "
        f"{t['featurize_us_per_atom']:.1f} µs per atom of it, once; the file has "
        f"{t['file_bytes_per_atom']:.0f} bytes per atom.",
        "",
        "| part of a step, processor time | µs per atom |",
        "|---|---|",
        *(f"| {name} | {value:.2f} |" for name, value in s.items() if not name.endswith("bytes")),
        "",
        f"Features take {s['feature bytes']:.0f} bytes per atom, a Jacobian {s['jacobian bytes'] / 1e3:.0f} thousand.",
    ]
    return "\n".join(lines) + "\n"


def into_docs(text, path=DOCS):
    """Replace what stands between the marks of a page."""
    before, rest = path.read_text(encoding="utf-8").split(MARKS[0])
    path.write_text(before + MARKS[0] + text + MARKS[1] + rest.split(MARKS[1])[1], encoding="utf-8")


def main(argv=None):
    """Measure, print the table, write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few frames: rough figures")
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--cutoff", type=float, default=6.0, help="Å")
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 64])
    parser.add_argument("--out", default="bench/results/stored", help="without suffix")
    parser.add_argument("--docs", action="store_true", help="also put the table into docs/guides/fixed-descriptors.md")
    options = parser.parse_args(argv)
    from bench.harness.machine import describe

    n, n_epochs = (40, 3) if options.quick else (options.frames, options.epochs)
    with tempfile.TemporaryDirectory(prefix="fastdesc-bench-") as folder:
        found = {"machine": describe()}
        found["epochs"] = measure(n, n_epochs, options.cutoff, tuple(options.hidden), Path(folder))
        found["load_after"] = os.getloadavg()[0]
    text = table(found)
    print(text)
    Path(f"{options.out}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    Path(f"{options.out}.md").write_text(text, encoding="utf-8")
    if options.docs:
        into_docs(text)
    return found


if __name__ == "__main__":
    main()
