"""Steps of the GPU benchmark as processes: each with a limit of its own, results written line by line as they come.

One error that stays with a CUDA context, one hang or one crash then costs its own step only. The file is JSON lines:
`{"step": .., "row": ..}` for everything a step finds, and `{"step": .., "status": "done" | "failed" | "timed out" |
"not run", "seconds": .., "log": ..}` when it has ended. Later steps read in it what earlier ones found.
"""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness.workers import ROOT

LOG_END = 4000
"""Characters of a step's output that are kept beside its status."""
FAULTS = ("exception", "crash", "hang")


@dataclass(frozen=True)
class Step:
    """A part of the benchmark.

    Attributes
    ----------
    name : str
    run : callable
        run(session), in a process of its own; it calls `session.emit(row)` for everything that it finds.
    seconds : float
        The longest it may take.
    vital : bool
        Whether the rest is pointless when it fails.
    """

    name: str
    run: object
    seconds: float
    vital: bool = False


@dataclass
class Session:
    """What a step knows: its sizes, until when it may run, what was found before, and where rows go."""

    sizes: object
    path: Path | None = None
    step: str = ""
    stop: float = float("inf")
    rows: list = field(default_factory=list)

    def left(self):
        """Seconds until the step is ended."""
        return self.stop - time.monotonic()

    def emit(self, **row):
        """Write a row at once."""
        self.rows.append(row)
        if self.path:
            append(self.path, {"step": self.step, "row": row})

    def found(self, step):
        """Rows that an earlier step has written."""
        return [line["row"] for line in read(self.path) if line["step"] == step and "row" in line] if self.path else []


def append(path, line):
    """Add a line of JSON to a file, whole or not at all."""
    text = json.dumps(line, ensure_ascii=False, default=float) + "\n"
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def read(path):
    """Lines of a file of results; one that was cut by a crash is left out."""
    lines = []
    for text in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def run_all(steps, path, budget, command, clock=time.monotonic):
    """Run steps one after another, each in a process.

    Parameters
    ----------
    steps : list of Step
    path : Path
        File of results; steps that it says are done are not run again.
    budget : float
        Seconds for all of them together.
    command : callable
        command(name, seconds) -> words that start the process of a step.

    Returns
    -------
    dict of str to str
        Status of each step.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    done = {line["step"] for line in read(path) if line.get("status") == "done"} if Path(path).exists() else set()
    end, status, vain = clock() + budget, {}, None
    for step in steps:
        if step.name in done:
            status[step.name] = "done"
            continue
        seconds = min(step.seconds, end - clock())
        if vain or seconds <= 1:
            reason = f"{vain} failed" if vain else f"the budget of {budget:.0f} s was spent"
            found = {"status": "not run", "seconds": 0.0, "log": reason}
        else:
            found = _in_a_process(command(step.name, seconds), seconds)
        append(path, {"step": step.name, **found})
        status[step.name] = found["status"]
        print(f"[{found['seconds']:6.1f} s] {step.name}: {found['status']}", flush=True)
        if found["status"] != "done":
            print("    " + "\n    ".join(found["log"].strip().splitlines()[-3:]), flush=True)
            vain = step.name if step.vital else vain
    return status


def _in_a_process(words, seconds):
    start = time.monotonic()
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               errors="replace", start_new_session=True)  # fmt: skip
    try:
        log, _ = process.communicate(timeout=seconds)
        status = "done" if process.returncode == 0 else "failed"
        log += "" if process.returncode == 0 else f"\nexit status {process.returncode}"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        log, _ = process.communicate()
        status = "timed out"
    return {"status": status, "seconds": time.monotonic() - start, "log": log[-LOG_END:]}


def run_one(step, session, fault=None):
    """Run a step in this process; returns the exit status. `fault` is one of FAULTS, for the rehearsal."""
    try:
        if fault == "exception":
            raise RuntimeError("a planted exception")
        if fault == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if fault == "hang":
            time.sleep(3600)
        step.run(session)
    except Exception:
        traceback.print_exc(file=sys.stdout)
        return 1
    return 0
