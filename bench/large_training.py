"""Memory and speed of training on energies and forces where pairs do not fit into memory, and where they do.

    python -m bench.large_training                      # some minutes; writes bench/results/large-training.json and .md
    python -m bench.large_training --frames 500         # rough figures

Frames of 48 shaken copper atoms with labels at random, one epoch with default settings (cutoff 6 Å, 360 features). Each
row is a process of its own; memory is the peak of the process, less what it had before the frames were made.
"""

import argparse
import json
import multiprocessing
import os
import resource
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
ROWS = {"pairs kept": 1e9, "pairs found anew": 0.0}
"""pair_memory, GB."""


def epoch(n_frames, pair_memory, answer):
    """Train one epoch; answer with seconds, the atoms of it and memory in bytes."""
    import fastdesc as fd
    from bench.train_from_features import shaken
    from fastdesc.training import trainer_for

    _one_epoch(fd, trainer_for, shaken(20), 1e9)    # compiles
    before = peak()
    frames = shaken(n_frames)
    with_frames = peak()
    seconds, trainer = _one_epoch(fd, trainer_for, frames, pair_memory)
    answer.send(
        {
            "epoch_s": seconds,
            "atoms": int(trainer.data.n_atoms.sum()),
            "pairs": int(trainer.data.store.n_pairs.sum()),
            "frames_bytes": with_frames - before,
            "training_bytes": peak() - with_frames,
        }
    )


def _one_epoch(fd, trainer_for, frames, pair_memory):
    potential = fd.Potential(fd.GaussianMoments(species=["Cu"], seed=0), seed=0)
    settings = {"epochs": 1, "valid_fraction": 0.0, "pair_memory": pair_memory, "uncertainty": False}
    trainer = trainer_for(potential, frames, None, **settings)
    start = time.perf_counter()
    trainer.run(progress=False)
    return time.perf_counter() - start, trainer


def peak():
    """Largest resident memory of this process so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(n_frames, pair_memory):
    """What `epoch` answers in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=epoch, args=(n_frames, pair_memory, there))
    process.start()
    there.close()
    try:
        return here.recv()
    finally:
        process.join()


def table(found):
    """Markdown."""
    lines = ["| | structures/s | memory of frames, kB each | of training, kB each |", "|---|---|---|---|"]
    for name, row in found["rows"].items():
        rate, n = found["frames"] / row["epoch_s"], found["frames"]
        lines.append(
            f"| {name} | {rate:.0f} | {row['frames_bytes'] / n / 1e3:.1f} | {row['training_bytes'] / n / 1e3:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=5000, help="default 5000")
    parser.add_argument("--out", type=Path, default=RESULTS / "large-training.json")
    options = parser.parse_args()
    rows = {name: measured(options.frames, memory) for name, memory in ROWS.items()}
    found = {"frames": options.frames, "cores": len(os.sched_getaffinity(0)), "rows": rows}
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    options.out.with_suffix(".md").write_text(table(found))
    print(table(found))


if __name__ == "__main__":
    main()
