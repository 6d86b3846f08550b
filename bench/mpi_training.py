"""Steps of training a second on several ranks of MPI, each with one thread.

    python -m bench.mpi_training                        # some minutes; writes bench/results/mpi-training.json and .md
    python -m bench.mpi_training --ranks 1,2 --frames 60 --epochs 2

Frames of 48 shaken copper atoms with labels at random, default potential; steps of two sizes, for in a small one a rank
has little to do. An epoch is timed from its first step to its last, the first epoch, which compiles, left out, and the
fastest counts. Ranks of MPI wait by asking without a pause: give as many as there are cores, on a quiet machine.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
STEP_ATOMS = 192, 1536


def worker(n_frames, epochs, out):
    """One rank: train, and let rank 0 write seconds and steps of each size."""
    import fastdesc as fd
    from bench.train_from_features import shaken
    from fastdesc.cli.ranks import ranks_together
    from fastdesc.training import run_trainer, trainer_for

    with ranks_together() as team:
        frames, rows = shaken(n_frames), {}
        for atoms in STEP_ATOMS:
            potential = fd.Potential(fd.GaussianMoments(species=["Cu"], seed=0), seed=0)
            settings = {"epochs": epochs + 1, "batch_atoms": atoms, "valid_fraction": 0.0, "uncertainty": False}
            trainer = trainer_for(potential, frames, None, team=team, **settings)
            team.begin_alike(trainer)
            seconds = run_trainer(trainer, progress=False)["seconds"]
            taken = np.diff(seconds)
            rows[atoms] = trainer.step / (epochs + 1) / taken.min()
        if team.rank == 0:
            Path(out).write_text(json.dumps(rows))


def measured(ranks, options):
    """Steps a second by atoms of a step."""
    out = options.out.with_suffix(".part")
    words = ["-m", "bench.mpi_training", "--worker", str(out), "--frames", str(options.frames)]
    command = ["mpiexec", "-n", str(ranks), sys.executable, *words, "--epochs", str(options.epochs)]
    command[0] = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    subprocess.run(command, check=True, env={**os.environ, "NUMBA_NUM_THREADS": "1"})
    rows = {int(atoms): rate for atoms, rate in json.loads(out.read_text()).items()}
    out.unlink()
    return rows


def table(rows):
    """Markdown."""
    ranks = sorted(rows)
    lines = ["| ranks | " + " | ".join(f"steps/s of {n} atoms | share of ideal" for n in STEP_ATOMS) + " |"]
    lines.append("|---" * (1 + 2 * len(STEP_ATOMS)) + "|")
    for n in ranks:
        cells = []
        for atoms in STEP_ATOMS:
            ideal = rows[ranks[0]][atoms] * n / ranks[0]
            cells += [f"{rows[n][atoms]:.3g}", f"{100 * rows[n][atoms] / ideal:.0f} %"]
        lines.append(f"| {n} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cores = len(os.sched_getaffinity(0))
    default = ",".join(str(n) for n in (1, 2, 4, 8, 16, 32) if n <= cores)
    parser.add_argument("--ranks", default=default, help=f"default {default}")
    parser.add_argument("--frames", type=int, default=400, help="default 400")
    parser.add_argument("--epochs", type=int, default=5, help="default 5")
    parser.add_argument("--out", type=Path, default=RESULTS / "mpi-training.json")
    parser.add_argument("--worker", metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.frames, options.epochs, options.worker)
        return
    rows = {n: measured(n, options) for n in map(int, options.ranks.split(","))}
    found = {"frames": options.frames, "cores": cores, "steps_per_second": rows}
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    options.out.with_suffix(".md").write_text(table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
