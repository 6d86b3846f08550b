"""Memory and speed of training on energies and forces where pairs, or frames, do not fit into memory, or do.

    python -m bench.large_training                      # some minutes; writes bench/results/large-training.json and .md
    python -m bench.large_training --frames 500         # rough figures

Frames of 48 shaken copper atoms with labels at random, one epoch with default settings (cutoff 6 Å, 360 features). Each
row is a process of its own; memory is the peak of the process, less what it had before the frames were made. Frames
that stream come from a file of ours, with --frame-memory GB for them. Time is that of the processor, all threads
together, so that others on the machine disturb it little; it is an epoch alone, after reading and fitting scales.
"""

import argparse
import json
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

RESULTS = Path(__file__).parent / "results"
ROWS = {
    "pairs kept": (1, 1e9),
    "pairs found anew": (1, 0.0),
    "frames stream": (1, None),
    "frames stream, four times as many": (4, None),
}
"""Factor of the number of frames, and pair_memory, GB; None where frames are on the disk."""


def epoch(n_frames, file, pair_memory, frame_memory):
    """Train one epoch on frames in memory, or on those of a file that has them; return time, memory and what it was."""
    import fastdesc as fd
    from bench.train_from_features import shaken
    from fastdesc.training import trainer_for

    memory = {"pair_memory": pair_memory, "frame_memory": frame_memory}
    few = shaken(20)
    if file is not None:
        few = fd.convert(few, Path(file).with_name("few.h5"), progress=False)
    _one_epoch(fd, trainer_for, few, {**memory, "frame_memory": 0.0})    # compiles
    before = peak()
    frames = shaken(n_frames) if file is None else file
    with_frames = peak()
    seconds, trainer = _one_epoch(fd, trainer_for, frames, memory)
    return {
        "frames": n_frames,
        "epoch_cpu_s": seconds,
        "atoms": int(trainer.data.n_atoms.sum()),
        "told": trainer.data.about_pairs.lstrip("; "),
        "frames_bytes": with_frames - before,
        "training_bytes": peak() - with_frames,
    }


def write(n_frames, path):
    """Make a file of frames."""
    import fastdesc as fd
    from bench.train_from_features import shaken

    fd.convert(shaken(n_frames), path, progress=False)


def _one_epoch(fd, trainer_for, frames, memory):
    potential = fd.Potential(fd.GaussianMoments(species=["Cu"], seed=0), seed=0)
    settings = {"epochs": 1, "valid_fraction": 0.0, "uncertainty": False, **memory}
    trainer = trainer_for(potential, frames, None, **settings)
    start = time.process_time()
    trainer.run(progress=False)
    return time.process_time() - start, trainer


def peak():
    """Largest resident memory of this process so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(n_frames, pair_memory, frame_memory):
    """What `epoch` returns in a process of its own; a file is written in another."""
    with TemporaryDirectory() as folder:
        file = str(Path(folder) / "frames.h5") if pair_memory is None else None
        if file is not None:
            _elsewhere(write, n_frames, file)
        return _elsewhere(epoch, n_frames, file, pair_memory or 0.0, frame_memory)


def _elsewhere(work, *given):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *given).result()


def table(found):
    """Markdown."""
    head = "| | structures per second of a core | memory of frames, kB each | of training, kB each |"
    lines = [head, "|---|---|---|---|"]
    for name, row in found["rows"].items():
        rate, n = row["frames"] / row["epoch_cpu_s"], row["frames"]
        lines.append(
            f"| {name} | {rate:.0f} | {row['frames_bytes'] / n / 1e3:.1f} | {row['training_bytes'] / n / 1e3:.1f} |"
        )
    few, many = (row for name, row in found["rows"].items() if name.startswith("frames stream"))
    more = (many["training_bytes"] - few["training_bytes"]) / (many["frames"] - few["frames"])
    lines += ["", f"Each further structure that streams takes {more:.0f} bytes."]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=5000, help="default 5000")
    parser.add_argument("--frame-memory", type=float, default=0.01, help="GB of those that stream, default 0.01")
    parser.add_argument("--out", type=Path, default=RESULTS / "large-training.json")
    options = parser.parse_args()
    rows = {
        name: measured(factor * options.frames, memory, options.frame_memory) for name, (factor, memory) in ROWS.items()
    }
    found = {"frame_memory_GB": options.frame_memory, "rows": rows}
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    options.out.with_suffix(".md").write_text(table(found))
    print(table(found))


if __name__ == "__main__":
    main()
