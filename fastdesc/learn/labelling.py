"""Labels of structures by a calculator, in worker processes.

Structure k gets `0000k.extxyz`, or `0000k.failed` with the reason, as soon as it is done; what is there is not done
again. A worker takes every n-th structure. It ends when the pipe to the loop closes, and so with the loop, however that
ends. A structure whose worker dies has failed, and another worker takes the rest.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from fastdesc.errors import InputError
from fastdesc.hdf5.files import write_text
from fastdesc.io.frames import read_frames
from fastdesc.learn.calculators import make_calculator
from fastdesc.learn.files import read_table, write_table
from fastdesc.learn.labelling_on_dask import check_on_dask, label_on_dask
from fastdesc.learn.one_label import done, label_one

POLL = 0.05
"""Seconds between looks at the workers."""


def label_frames(frames_file, folder, label, modules, say=print):
    """Label the frames of a file.

    Parameters
    ----------
    frames_file : Path
    folder : Path
        Where labels go, made where it is not there.
    label : Label
    modules : Path
        Folder in which modules are looked for, too.
    say : callable
        Takes lines of progress.

    Returns
    -------
    frames : list of ase.Atoms
        Those that could be labelled, in order.
    failed : dict
        Number of the structure -> reason, for the others.

    Raises
    ------
    InputError
        When none could be labelled; says why the first one could not.
    """
    folder.mkdir(exist_ok=True)
    n = len(read_frames(frames_file))
    told = {
        "frames": str(frames_file.absolute()), "modules": str(Path(modules).absolute()),
        "calculator": label.calculator, "arguments": label.arguments, "reuse": label.reuse,
        "largest_force": label.largest_force,
    }  # fmt: skip
    write_table(folder / "task.json", told)
    if label.scheduler is not None:
        label_on_dask(folder, n, label, say)
    elif label.workers == 0:
        for k in work(folder):
            say(f"labelled {k + 1} of {n}")
    else:
        _with_workers(folder, n, label.workers, say)
    failed = {k: (folder / f"{k:05d}.failed").read_text(encoding="utf-8").strip() for k in range(n)
              if (folder / f"{k:05d}.failed").exists()}    # fmt: skip
    if len(failed) == n:
        raise InputError(f"none of {n} structures could be labelled; the first: {failed[0]}; see {folder}")
    return [read_frames(folder / f"{k:05d}.extxyz")[0] for k in range(n) if k not in failed], failed


def check_calculator(label, modules):
    """InputError unless the calculator can be made where it will be: in a process of its own, or on a Dask worker."""
    if label.scheduler is not None:
        check_on_dask(label, modules)
        return
    if label.workers == 0:
        make_calculator(label.calculator, label.arguments, modules)
        return
    told = json.dumps([label.calculator, label.arguments, str(Path(modules).absolute())])
    done = subprocess.run([sys.executable, "-m", WORKER, "check"], input=told, capture_output=True, text=True,
                          check=False, env=environment())    # fmt: skip
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise InputError(lines[-1])


def work(folder, first=0, step=1):
    """Label every `step`-th structure of a task from the `first` on, those without a result; yield their numbers."""
    folder = Path(folder).absolute()
    told = read_table(folder / "task.json")
    frames, calculator = read_frames(told["frames"]), None
    for k in range(first, len(frames), step):
        if done(folder, k):
            continue
        if calculator is None or not told["reuse"]:
            calculator = make_calculator(told["calculator"], told["arguments"], told["modules"])
        label_one(folder, k, frames[k], calculator, told["largest_force"])
        yield k


WORKER = "fastdesc.learn.worker"


def _with_workers(folder, n, workers, say):
    """Run worker processes until every structure has a result."""
    running, told = {}, 0
    try:
        for first in range(min(workers, n)):
            running[first] = _started(folder, first, workers)
        while running:
            time.sleep(POLL)
            for first, process in list(running.items()):
                if process.poll() is None:
                    continue
                left = [k for k in range(first, n, workers) if not done(folder, k)]
                del running[first]
                if not left:
                    continue
                error = (folder / f"worker-{first}.log").read_text(encoding="utf-8", errors="replace").strip()
                reason = error.splitlines()[-1] if error else f"exit code {process.returncode}"
                write_text(folder / f"{left[0]:05d}.failed", f"the process that labelled it ended: {reason}\n")
                running[first] = _started(folder, first, workers)
            n_done = sum(done(folder, k) for k in range(n))
            if n_done > told:
                told = n_done
                say(f"labelled {n_done} of {n}")
    finally:
        for process in running.values():
            process.stdin.close()    # which ends it
        for process in running.values():
            process.wait()


def _started(folder, first, step):
    with open(folder / f"worker-{first}.log", "wb") as log:
        words = [sys.executable, "-m", WORKER, str(folder.absolute()), str(first), str(step)]
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
                                env=environment())    # fmt: skip


def environment():
    """Variables of a process of ours: these, with the folder of this package on the path, wherever that is."""
    here = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))}
