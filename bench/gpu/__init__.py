"""Everything that only a GPU can show, in one command of less than eight minutes.

    python -m bench.gpu [--steps kernels,scaling] [--budget 480] [--out FILE]
    python -m bench.gpu --rehearse [--fault dynamics=crash]      # every step on the tests' double of a device, tiny

Where there is a GPU: its name and rates, energies and forces of every family, every kernel timed beside the floor that
its bytes and operations imply, profiler, dynamics, training, sanitizers, pair search, every kernel
against float64, featurization, and the tests. Each step is a process with a limit of its own; what it finds is written
at once, as lines of JSON, so that an error of the device or a hang costs one step. Run again with the same --out, it
goes on with what is not done. Where there is no GPU it says so, prints and writes what is predicted of an H200,
compiles every kernel and runs the emulated battery. bench/gpu/carry.py prepares a machine without network.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

from bench.gpu import compile_report, launches, prediction, sections
from bench.gpu import steps as gpu_steps
from bench.gpu.runner import FAULTS, Session, Step, read, run_all, run_one
from bench.gpu.sections import TINY, Sizes
from bench.harness.workers import ROOT
from fastdesc.backend import cuda
from fastdesc.hdf5.files import write_text

RESULTS = ROOT / "bench" / "results"
STEPS = [
    Step("environment", sections.environment, 20, vital=True),
    Step("smoke", sections.smoke, 60, vital=True),
    Step("rates", sections.rates, 15),
    Step("large_systems", gpu_steps.large_systems, 25),
    Step("energies_and_forces", gpu_steps.energies_and_forces, 70),
    Step("kernels", sections.kernels, 60),
    Step("profile", sections.profile, 90),
    Step("dynamics", gpu_steps.dynamics, 30),
    Step("training", gpu_steps.training, 40),
    Step("sanitizer", sections.sanitizer, 60),
    Step("pair_search", gpu_steps.pair_search, 20),
    Step("checks", sections.checks, 60),
    Step("scaling", gpu_steps.scaling, 60),
    Step("featurization", gpu_steps.featurization, 40),
    Step("battery", sections.battery, 240),
]
"""What is wanted most comes first; seconds are the most that each may take."""


def arguments(argv):
    names = [step.name for step in STEPS]
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", default=",".join(names), help="separated by commas")
    parser.add_argument("--budget", type=float, default=460.0, help="seconds for all steps together")
    parser.add_argument("--out", type=Path, help="file of JSON lines (default: bench/results/<device>.jsonl)")
    parser.add_argument("--quick", action="store_true", help="without a GPU: the prediction alone")
    parser.add_argument("--rehearse", action="store_true", help="run on the double of a device that the tests have")
    parser.add_argument("--fault", default="", help=f"with --rehearse, STEP={'|'.join(FAULTS)}: plant a fault")
    parser.add_argument("--step", help="run one step in this process")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="with --step: the most it may take")
    options = parser.parse_args(argv)
    options.steps = [name for name in options.steps.split(",") if name]
    for name in [*options.steps, *([options.step] if options.step else [])]:
        if name not in names:
            parser.error(f"unknown step {name!r}; there are {', '.join(names)}")
    options.fault = tuple(options.fault.split("=")) if options.fault else (None, None)
    if options.fault != (None, None) and (len(options.fault) != 2 or options.fault[1] not in FAULTS):
        parser.error(f"--fault is STEP=KIND with a kind of {', '.join(FAULTS)}")
    return options


def write(record, path):
    """Replace the file by the record, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def without_gpu(reason, options):
    """Say so; run what can run, and show what is predicted."""
    print(f"No GPU: {reason}. Nothing below was measured on one.\n", flush=True)
    record = prediction.predicted()
    print(launches.table(record["kernels"], "Predicted least times on an H200, float32"))
    for row in record["steps"]:
        of_large = f", {row['way']}" if "way" in row else ""
        print(f"{row['model']:>20} {row['n_atoms']:>8} atoms: {1e6 * row['predicted_s']:10.1f} µs at least{of_large}")
    path = options.out or prediction.FILE
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


def show(path):
    """Print what a file of results says, a few lines a step."""
    rows = {}
    for line in read(path):
        if "row" in line:
            rows.setdefault(line["step"], []).append(line["row"])
    if "kernels" in rows:
        print(launches.table(rows["kernels"], "Kernels"))
    for row in rows.get("energies_and_forces", []) + rows.get("scaling", []):
        if "error" in row:
            print(f"{row['model']:>20} {row['n_atoms']:>8} atoms: {row['error'][:90]}")
            continue
        us = {k: 1e6 * row[f"{k}_s"] for k in ("given", "device", "found") if f"{k}_s" in row}
        print(f"{row['model']:>20} {row['n_atoms']:>8} atoms, µs: " + ", ".join(f"{k} {v:.1f}" for k, v in us.items()))
    for name in ("training", "dynamics"):
        for row in rows.get(name, []):
            where = row.get("system", row.get("device"))
            graph = f", graph alone {1e3 * row['replay_s']:.3f} ms" if "replay_s" in row else ""
            took = f"{1e3 * row['step_s']:.3f} ms{graph}" if "step_s" in row else row["error"]
            print(f"{name}, {row['model']}, {where}: {took}")
    for row in rows.get("checks", []):
        if not row["right"]:
            print(f"WRONG: {row['model']} {row['dtype']}: {row.get('worst', row.get('error'))}")
    for row in rows.get("featurization", []):
        print({k: v for k, v in row.items() if k.endswith("frames_per_s")})
    for row in rows.get("battery", []):
        print(row["output"].strip().splitlines()[-1:], "exit", row["code"])


def one_step(options):
    """Run a step in this process, on the device or its double; returns the exit status."""
    step = next(step for step in STEPS if step.name == options.step)
    session = Session(TINY if options.rehearse else Sizes(), options.out, step.name, time.monotonic() + options.seconds)
    fault = options.fault[1] if options.fault[0] == step.name else None
    if not options.rehearse:
        return run_one(step, session, fault)
    sys.path.insert(0, str(ROOT / "tests"))
    from doubles.cupy_double import device_double

    with device_double():
        return run_one(step, session, fault)


def main(argv=None):
    """Run; returns the exit status."""
    options = arguments(argv)
    if options.step:
        return one_step(options)
    usable, reason = cuda.gpu_status()
    if not usable and not options.rehearse:
        return without_gpu(reason, options)
    path = (options.out or RESULTS / f"{_device_name(options.rehearse)}.jsonl").resolve()

    def command(name, seconds):
        words = [sys.executable, "-m", "bench.gpu", "--step", name, "--seconds", str(seconds), "--out", str(path)]
        words += ["--rehearse"] if options.rehearse else []
        return words + (["--fault", "=".join(options.fault)] if options.fault[0] == name else [])

    steps = [step for step in STEPS if step.name in options.steps]
    status = run_all(steps, path, options.budget, command)
    show(path)
    print(f"written to {path}")
    failed = [name for name, how in status.items() if how != "done"]
    if failed:
        print(f"not done: {', '.join(failed)}")
    return 1 if failed else 0


def _device_name(rehearsed):
    if rehearsed:
        return "rehearsal"
    import cupy

    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
