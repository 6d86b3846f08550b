"""Everything that only a GPU can show, in one command of less than eight minutes.

    python -m bench.gpu [--sections kernels,scaling] [--budget 480] [--out FILE]

Where there is a GPU: its name and rates, every kernel timed beside the floor that its bytes and operations imply,
energies and forces from 1e2 to 2e6 atoms beside their prediction, training, dynamics, featurization, every kernel
against float64, and the tests. Results are written after every section; a section that fails is recorded and the rest
runs. Where there is none it says so, prints and writes what is predicted of an H200, compiles every kernel and runs the
emulated battery.
"""

import argparse
import json
import os
import re
import subprocess
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

from bench.gpu import compile_report, launches, sections
from bench.gpu import steps as gpu_steps
from bench.gpu.sections import Session, Sizes
from bench.harness import models, systems
from bench.harness.workers import ROOT
from fastdesc.backend import cuda
from fastdesc.hdf5.files import write_text

RESULTS = ROOT / "bench" / "results"
SECTIONS = {
    "environment": (sections.environment, 40),
    "kernels": (sections.kernels, 90),
    "scaling": (gpu_steps.scaling, 110),
    "training": (gpu_steps.training, 50),
    "dynamics": (gpu_steps.dynamics, 30),
    "checks": (sections.checks, 60),
    "featurization": (gpu_steps.featurization, 40),
    "battery": (sections.battery, 240),
}
"""name -> (function, seconds it may take at most), what is wanted most first."""


def arguments(argv):
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--sections", default=",".join(SECTIONS), help="separated by commas")
    parser.add_argument("--budget", type=float, default=460.0, help="seconds for all sections together")
    parser.add_argument("--out", type=Path, help="JSON file (default: bench/results/<device>.json)")
    parser.add_argument("--quick", action="store_true", help="without a GPU: the prediction alone")
    options = parser.parse_args(argv)
    options.sections = [name for name in options.sections.split(",") if name]
    for name in options.sections:
        if name not in SECTIONS:
            parser.error(f"unknown section {name!r}; there are {', '.join(SECTIONS)}")
    return options


def write(record, path):
    """Replace the file by the record, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def run_sections(names, session, budget, save):
    """Run sections in order, each within its own limit and what is left of the budget; `save` after each.

    A section is not interrupted but by itself: between its figures it asks how much time is left.
    """
    end = time.monotonic() + budget
    for name in names:
        function, most = SECTIONS[name]
        start = time.monotonic()
        if start >= end:
            session.results[name] = {"error": f"not run: the budget of {budget:.0f} s was spent"}
            save()
            continue
        session.stop = min(end, start + most)
        try:
            found = {"result": function(session)}
        except Exception as problem:    # whatever it is, it belongs into the file and the rest runs
            text = f"{type(problem).__name__}: {problem}"
            found = {"error": text[:4000], "traceback": traceback.format_exc()[-4000:]}
        session.results[name] = {**found, "seconds": time.monotonic() - start}
        save()
        print(f"[{time.monotonic() - start:6.1f} s] {name}: {found.get('error', 'done')}", flush=True)


def predicted(system="cu4000"):
    """What kernels and steps should take on an H200 at least, by bytes and operations; runs on any machine."""
    frames, chip, kernels = systems.frames(system), launches.H200, []
    for name in models.EVERY:
        d = models.descriptor(name, system)
        rij, pairs, species = d.prepare(frames, "float32")
        with launches.nothing_runs(), launches.recorded() as used:
            launches.every_map(d, rij, pairs, species, d.theta("float32"))
            if not kernels:
                launches.every_geometry(gpu_steps.fd.Structures.from_ase(frames), pairs, "float32")
                launches.every_layer(rij, pairs)
        known = {row["kernel"] for row in kernels}
        found = launches.rows(used, d, rij, pairs, chip)
        kernels += [{"model": name, **row} for row in found if row["kernel"] not in known]
    steps, each = [], pairs.n_pairs / pairs.n_atoms
    for n in (100, 1000, 10_000, 100_000, 1_000_000):
        for name in models.DESCRIPTORS:
            pot = models.potential(name, "cu1000")
            seconds = gpu_steps.predicted_energies_and_forces(pot, each * n, n, chip)
            steps.append({"model": name, "n_atoms": n, "pairs_per_atom": each, "predicted_s": seconds})
    rates = {"bytes_per_s": chip.bandwidth, "operations_per_s": chip.rates}
    return {"chip": chip.name, "rates": rates, "measured": False, "system": system, "kernels": kernels, "steps": steps}


def without_gpu(reason, options):
    """Say so; run what can run, and show what is predicted."""
    print(f"No GPU: {reason}. Nothing below was measured on one.\n", flush=True)
    record = predicted()
    print(launches.table(record["kernels"], "Predicted least times on an H200, float32"))
    for row in record["steps"]:
        print(f"{row['model']:>20} {row['n_atoms']:>8} atoms: {1e6 * row['predicted_s']:10.1f} µs at least")
    path = options.out or RESULTS / "predicted-h200.json"
    write(record, path)
    print(f"\nwritten to {path}", flush=True)
    if options.quick:
        return 0
    if compile_report.nvrtc_status()[0]:
        spilling = [
            name for file in cuda.all_specialisations()
            for name, r in compile_report.compile_file(file, "sm_90").items() if r.spills
        ]  # fmt: skip
        print(f"\nCompiled for sm_90: {len(spilling)} kernels spill {spilling or ''}", flush=True)
    return subprocess.run(sections.pytest_command("-k", "emulated or device or cuda"), cwd=ROOT).returncode


def show(session):
    """Print what was found, a few lines a section."""
    found = {name: entry.get("result") for name, entry in session.results.items() if entry.get("result")}
    if "kernels" in found:
        print(launches.table(found["kernels"]["rows"], f"Kernels, {session.sizes.kernels}"))
    for row in found.get("scaling", {}).get("rows", ()):
        if "error" in row:
            print(f"{row['model']:>20} {row['n_atoms']:>8} atoms: {row['error'][:90]}")
            continue
        us = {k: 1e6 * row[f"{k}_s"] for k in ("given", "found", "predicted")}
        print(f"{row['model']:>20} {row['n_atoms']:>8} atoms: {us['given']:10.1f} µs with the list given, "
              f"{us['found']:10.1f} with it found, {us['predicted']:10.1f} predicted")  # fmt: skip
    for name in ("training", "dynamics"):
        rows = found.get(name) or ()
        for row in rows["rows"] if isinstance(rows, dict) else rows:
            where = row.get("system", row.get("device"))
            graph = f", graph alone {1e3 * row['replay_s']:.3f} ms" if "replay_s" in row else ""
            took = f"{1e3 * row['step_s']:.3f} ms{graph}" if "step_s" in row else row["error"]
            print(f"{name}, {row['model']}, {where}: {took}")
    for row in found.get("checks", ()):
        if not row["right"]:
            print(f"WRONG: {row['model']} {row['dtype']}: {row.get('worst', row.get('error'))}")
    if "featurization" in found:
        print({k: v for k, v in found["featurization"].items() if k.endswith("frames_per_s")})
    if "battery" in found:
        print(found["battery"]["output"].strip().splitlines()[-1:], "exit", found["battery"]["code"])


def main(argv=None, sizes=None):
    """Run; returns the exit status."""
    options = arguments(argv)
    usable, reason = cuda.gpu_status()
    if not usable:
        return without_gpu(reason, options)
    import cupy

    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    path = options.out or RESULTS / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
    session = Session(sizes or Sizes())
    record = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "device": name, "measured": True,
              "load_before": os.getloadavg()[0], "sections": session.results}  # fmt: skip
    compiling = sections.start_compiling() if "checks" in options.sections else []
    try:
        run_sections(options.sections, session, options.budget, lambda: write(record, path))
    finally:
        for process in compiling:
            process.kill()
            process.wait()
    show(session)
    print(f"written to {path}")
    failed = [section for section, entry in session.results.items() if "error" in entry]
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0

