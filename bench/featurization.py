"""Featurizing many frames to disk: throughput against the compute-only rate, memory against length, and DScribe.

    python -m bench.featurization                    # 10 000 frames of 48 atoms; some minutes
    python -m bench.featurization --quick            # rough figures in under a minute
    python -m bench.featurization --peers FOLDER     # with DScribe's SOAP to HDF5, from bench/peers/make_env.py

Freed memory is kept on both sides, as by the command (fastdesc/backend/process.py). Otherwise computing alone asks for
fresh pages in every batch, which a pipeline with batches in flight does not: the comparison would flatter it. Shares
are medians of
turns, each end to end beside computing alone: over minutes a machine's speed changes by more than what is measured.
Every turn writes a new file, because freeing the pages of an old one takes time, too.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROUNDS = 7
DSCRIBE = """
import sys, time, h5py, numpy as np
from ase.io import iread
from dscribe.descriptors import SOAP
source, out, cutoff, n, jobs = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
soap = SOAP(species=["Cu"], periodic=True, r_cut=cutoff, n_max=8, l_max=6, sigma=0.5)
def batches():
    batch = []
    for atoms in iread(source, f":{n}"):
        batch.append(atoms)
        if len(batch) == 100:
            yield batch
            batch = []
    if batch:
        yield batch
start, first = time.perf_counter(), 0
with h5py.File(out, "w") as f:
    d = f.create_dataset("features", (0, soap.get_number_of_features()), "f8", maxshape=(None, None), chunks=True)
    for batch in batches():
        q = np.concatenate(soap.create(batch, n_jobs=jobs))
        d.resize(first + len(q), axis=0)
        d[first:] = q
        first += len(q)
print(time.perf_counter() - start, d.shape[1] if d else soap.get_number_of_features())
"""


def write_text(path, n, cells=(3, 2, 2), seed=0):
    """Write `n` shaken copper cells as extended XYZ, with energies and random forces."""
    from ase.build import bulk

    base, rng = bulk("Cu", cubic=True) * cells, np.random.default_rng(seed)
    lattice = " ".join(map(str, base.cell.array.ravel()))
    line = "Cu" + " %.8f" * 6
    with open(path, "w") as f:
        for k in range(n):
            rows = np.concatenate([rng.normal(base.positions, 0.07), rng.normal(size=(len(base), 3))], 1)
            f.write(f'{len(base)}\nLattice="{lattice}" Properties=species:S:1:pos:R:3:forces:R:3 energy={-1.5 * k}\n')
            f.write("\n".join(line % tuple(row) for row in rows.tolist()) + "\n")
    return len(base)


def timed(call):
    """Wall and processor seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def throughput(folder, n, cutoff, rounds=ROUNDS):
    """End to end against computing alone, batches in memory, in turns: the best time of each, and the median share."""
    import fastdesc as fd
    from fastdesc.backend import threads as parallel
    from fastdesc.features import CHUNK_ATOMS, stream
    from fastdesc.io.sources import Source, build

    text, fast, out = folder / "frames.extxyz", folder / "frames.h5", folder / "features.h5"
    n_atoms = write_text(text, n)
    converted, _ = timed(lambda: fd.convert(text, fast, progress=False))
    source = Source(fast)
    batches = [build(raw, source.files) for raw in source.raw_batches(CHUNK_ATOMS)]
    found = {"frames": n, "atoms_per_frame": n_atoms, "cutoff": cutoff, "threads": parallel.n_threads()}
    found["convert_frames_per_s"] = n / converted
    for dtype in ("float32", "float64"):
        d = fd.GaussianMoments(species=["Cu"], cutoff=cutoff)
        stream.compute(batches[0], d, "cpu", dtype)

        def alone(d=d, dtype=dtype):
            for batch in batches:
                stream.compute(batch, d, "cpu", dtype)

        calls = {"compute": alone}
        for name, path in (("hdf5", fast), ("extxyz", text)):
            calls[name] = lambda path=path, d=d, dtype=dtype: fd.featurize(path, out, d, dtype=dtype, progress=False)
        times = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                out.unlink(missing_ok=True)
                times[name].append(timed(call))
        best = {name: np.min(t, axis=0) for name, t in times.items()}
        rows = {name: {"frames_per_s": n / t[0], "cpu_us_per_frame": t[1] / n * 1e6} for name, t in best.items()}
        for name in ("hdf5", "extxyz"):
            shares = np.median(np.divide(times["compute"], times[name]), axis=0)
            rows[name]["share"], rows[name]["cpu_share"] = map(float, shares)
        rows["bytes"] = out.stat().st_size
        found[dtype] = rows
    found["n_features"] = d.n_features
    return found


def compressions(folder, n, cutoff):
    """Seconds end to end for `n` of the frames, and sizes of float32 features, by compression."""
    import h5py

    import fastdesc as fd
    from fastdesc.errors import InputError
    from fastdesc.hdf5.tables import COMPRESSIONS

    text, fast, out = folder / "few.extxyz", folder / "few.h5", folder / "few.out.h5"
    write_text(text, n)
    fd.convert(text, fast, progress=False)
    d = fd.GaussianMoments(species=["Cu"], cutoff=cutoff)
    found = {"frames": n}
    for name in COMPRESSIONS:
        out.unlink(missing_ok=True)
        try:
            seconds, _ = timed(lambda name=name: fd.featurize(
                fast, out, d, dtype="float32", progress=False, compression=name))  # fmt: skip
        except InputError as problem:    # hdf5plugin is not installed
            found[name] = {"skipped": str(problem)}
            continue
        with h5py.File(out) as f:
            found[name] = {"seconds": seconds, "bytes": f["features"].id.get_storage_size()}
    return found


MEMORY = """
import resource, sys
from pathlib import Path
import fastdesc as fd
from fastdesc.backend.process import keep_freed_memory
keep_freed_memory()
d = fd.GaussianMoments(species=["Cu"], cutoff=4.0, n_radial=2, n_basis=4, max_rank=1)
fd.featurize(sys.argv[1], sys.argv[2], d, dtype="float32", progress=False)
try:    # Linux counts what the parent had before exec into ru_maxrss
    words = Path("/proc/self/status").read_text().split()
    print(words[words.index("VmHWM:") + 1])
except OSError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1))
"""


def memory(folder, lengths):
    """Peak resident memory, MB, of fresh processes that featurize files of 4-atom frames."""
    found = {}
    for n in lengths:
        path = folder / f"small{n}.extxyz"
        write_text(path, n, (1, 1, 1))
        for kind, given in (("extxyz", path), ("hdf5", folder / f"small{n}.h5")):
            if kind == "hdf5":
                import fastdesc as fd

                fd.convert(path, given, progress=False)
            words = [sys.executable, "-c", MEMORY, given, folder / "small.out.h5"]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            found.setdefault(kind, {})[str(n)] = int(done.stdout) / 1024
    return found


def dscribe(folder, peers, n, cutoff, threads):
    """DScribe's SOAP of the same frames, read by ASE, written to HDF5, on as many processes."""
    python = Path(peers) / "bin" / "python"
    if not python.exists():
        return {"skipped": f"no {python}: run bench/peers/make_env.py, or give --peers"}
    words = [python, "-c", DSCRIBE, folder / "frames.extxyz", folder / "soap.h5", str(cutoff), str(n), str(threads)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        return {"skipped": done.stderr.strip().splitlines()[-1]}
    seconds, features = done.stdout.split()
    return {"frames": n, "frames_per_s": n / float(seconds), "n_features": int(features), "processes": threads}


def table(found):
    """The figures as Markdown."""
    t = found["throughput"]
    lines = [
        f"{t['frames']} frames of {t['atoms_per_frame']} atoms, {t['n_features']} features, cutoff {t['cutoff']} Å, "
        f"{t['threads']} threads",
        "",
        "| what | dtype | frames/s | µs of processor per frame | share of compute-only: wall, processor |",
        "|---|---|---|---|---|",
    ]
    for dtype in ("float32", "float64"):
        for name, what in (("compute", "compute only"), ("hdf5", "HDF5 to HDF5"), ("extxyz", "extended XYZ to HDF5")):
            row = t[dtype][name]
            share = f"{row['share']:.0%}, {row['cpu_share']:.0%}" if "share" in row else ""
            lines.append(f"| {what} | {dtype} | {row['frames_per_s']:.0f} | {row['cpu_us_per_frame']:.0f} | {share} |")
    peer = found["dscribe"]
    if "frames_per_s" in peer:
        what = f"DScribe SOAP, {peer['n_features']} features, to HDF5"
        lines.append(f"| {what} | float64 | {peer['frames_per_s']:.0f} | | |")
    else:
        lines.append(f"\nDScribe: {peer['skipped']}")
    lines += ["", f"`convert` reads text at {t['convert_frames_per_s']:.0f} frames/s."]
    c = found["compressions"]
    lines += ["", f"Compression, {c['frames']} frames, float32, HDF5 to HDF5:", ""]
    for name, row in c.items():
        if isinstance(row, dict):
            ratio = c["none"]["bytes"] / row["bytes"] if "bytes" in row else None
            lines.append(f"* {name}: " + (f"{row['seconds']:.2f} s, 1 / {ratio:.2f}" if ratio else row["skipped"]))
    lines += ["", "Peak resident memory, MB:", ""]
    for kind, row in found["memory"].items():
        lines.append(f"* {kind}: " + ", ".join(f"{mb:.0f} for {n} frames" for n, mb in row.items()))
    return "\n".join(lines)


def main(argv=None):
    """Run everything, print the tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few frames: rough figures")
    peers = os.environ.get("FASTDESC_PEERS", ".bench-env")
    parser.add_argument("--peers", default=peers, help="environment with DScribe (default: %(default)s)")
    parser.add_argument("--cutoff", type=float, default=6.0)
    parser.add_argument("--out", help="write JSON here")
    options = parser.parse_args(argv)
    from bench.harness.machine import describe
    from fastdesc.backend.process import keep_freed_memory

    keep_freed_memory()
    n = 500 if options.quick else 10_000
    with tempfile.TemporaryDirectory(prefix="fastdesc-bench-") as folder:
        folder = Path(folder)
        rounds = 1 if options.quick else ROUNDS
        found = {"machine": describe(), "throughput": throughput(folder, n, options.cutoff, rounds)}
        threads = found["throughput"]["threads"]
        found["compressions"] = compressions(folder, 200 if options.quick else 3000, options.cutoff)
        found["dscribe"] = dscribe(folder, options.peers, 20 if options.quick else 200, options.cutoff, threads)
        found["memory"] = memory(folder, (1000, 3000) if options.quick else (1000, 100_000))
        found["load_after"] = os.getloadavg()[0]
    print(table(found))
    if options.out:
        Path(options.out).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return found


if __name__ == "__main__":
    main()
