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
ROWS = {"pairs kept": 1e9, "pairs found anew": 0.0, "frames stream": None}
"""pair_memory, GB; None where frames are on the disk."""
IN_A_FILE = 5000
FACTORS = 5, 20
"""Of --frames: sets whose memory is compared, with as many for frames."""


def epoch(n_frames, files, pair_memory, frame_memory):
    """Train one epoch on frames in memory, or on those of files; return time, memory and what it was."""
    import fastdesc as fd
    from bench.train_from_features import shaken
    from fastdesc.training import trainer_for

    memory = {"pair_memory": pair_memory, "frame_memory": frame_memory}
    few = shaken(20)
    if files is not None:
        few = fd.convert(few, Path(files).with_name("few.h5"), progress=False)
    _one_epoch(fd, trainer_for, few, {**memory, "frame_memory": 0.0})    # compiles
    before = peak()
    frames = shaken(n_frames) if files is None else files
    with_frames = peak()
    seconds, trainer = _one_epoch(fd, trainer_for, frames, memory)
    return {
        "frames": n_frames,
        "epoch_cpu_s": seconds,
        "atoms": int(trainer.data.n_atoms.sum()),
        "told": trainer.data.about_pairs.lstrip("; ").replace(f"{Path(files or '').parent}/", ""),
        "frames_bytes": with_frames - before,
        "training_bytes": peak() - with_frames,
    }


def prepared(files, frame_memory):
    """Bytes that all takes that is known of the frames of some files, and the steps of an epoch."""
    import fastdesc as fd
    from fastdesc.training import trainer_for
    from fastdesc.training.budget import step_frames

    before = peak()
    potential = fd.Potential(fd.GaussianMoments(species=["Cu"], seed=0, n_radial=1, max_rank=0), hidden=[2], seed=0)
    trainer = trainer_for(potential, files, epochs=1, valid_fraction=0.0, frame_memory=frame_memory)
    steps = step_frames(trainer.settings, trainer.data, trainer.data.order(trainer.rng))
    return peak() - before if steps else 0


def write(n_frames, folder):
    """Make files of frames in a folder; return the pattern of their names."""
    import fastdesc as fd
    from bench.train_from_features import shaken

    for k in range(0, n_frames, IN_A_FILE):
        frames = shaken(min(IN_A_FILE, n_frames - k), seed=k)
        fd.convert(frames, Path(folder) / f"frames-{k:09}.h5", progress=False)
    return str(Path(folder) / "frames-*.h5")


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
    """What `epoch` returns in a process of its own; files are written in another."""
    with TemporaryDirectory() as folder:
        files = _elsewhere(write, n_frames, folder) if pair_memory is None else None
        return _elsewhere(epoch, n_frames, files, pair_memory or 0.0, frame_memory)


def further(n_frames, frame_memory):
    """Bytes that each further structure that streams takes."""
    found = []
    for factor in FACTORS:
        with TemporaryDirectory() as folder:
            files = _elsewhere(write, factor * n_frames, folder)
            found.append(_elsewhere(prepared, files, frame_memory))
    return (found[1] - found[0]) / ((FACTORS[1] - FACTORS[0]) * n_frames)


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
    lines += ["", f"Each further structure that streams takes {found['bytes_of_further']:.0f} bytes."]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=5000, help="default 5000")
    parser.add_argument("--frame-memory", type=float, default=0.01, help="GB of those that stream, default 0.01")
    parser.add_argument("--out", type=Path, default=RESULTS / "large-training.json")
    options = parser.parse_args()
    rows = {name: measured(options.frames, memory, options.frame_memory) for name, memory in ROWS.items()}
    more = further(options.frames, options.frame_memory)
    found = {"frame_memory_GB": options.frame_memory, "rows": rows, "bytes_of_further": more}
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    options.out.with_suffix(".md").write_text(table(found))
    print(table(found))


if __name__ == "__main__":
    main()
