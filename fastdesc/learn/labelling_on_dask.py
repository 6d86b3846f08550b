"""Labels on the workers of a Dask cluster, which write them where the loop looks (fastdesc/learn/labelling.py)."""

import threading
from pathlib import Path

from fastdesc.errors import InputError
from fastdesc.features.dask import client_of, require_dask
from fastdesc.features.dask_tasks import Tasks
from fastdesc.hdf5.files import write_text
from fastdesc.io.frames import read_frames
from fastdesc.learn.calculators import make_calculator
from fastdesc.learn.files import read_table
from fastdesc.learn.one_label import done, label_one

ONE_AT_A_TIME = threading.Lock()
"""In each worker, whatever its threads: a process has one folder that it is in."""
KEPT = {}
"""The calculator of a task that keeps it, by the folder of the task."""


def label_on_dask(folder, n, label, say):
    """Label the structures of a task that have no result; one on which several workers die has failed.

    Parameters
    ----------
    folder : Path
        With task.json.
    n : int
        Structures.
    label : Label
    say : callable
        Takes lines of progress.
    """
    require_dask()
    left = [k for k in range(n) if not done(folder, k)]
    if not left:
        return
    suspects, told = [], n - len(left)

    def failed(k):
        write_text(folder / f"{k:05d}.failed", "several Dask workers that labelled it ended\n")
        return k

    def take_one(tasks):
        nonlocal told
        k = tasks.next()
        if k in suspects:
            return
        if not done(folder, k):
            raise InputError(
                f"a Dask worker labelled structure {k}, and {folder} is without it; workers must see this folder under "
                "the same name"
            )
        told += 1
        say(f"labelled {told} of {n}")

    with client_of(label.scheduler, label.workers or None) as client:
        given = client, _on_worker, str(folder.absolute())
        tasks = Tasks(*given, killed=lambda k: suspects.append(k) or k)
        for k in left:
            while tasks.full():
                take_one(tasks)
            tasks.submit(k)
        while tasks.waiting:
            take_one(tasks)
        # Who waits beside a structure that ends workers is blamed with it: each is tried again alone.
        again, suspects = suspects, []
        tasks = Tasks(*given, killed=failed)
        for k in again:
            tasks.submit(k)
            take_one(tasks)


def check_on_dask(label, modules):
    """InputError unless a worker can make the calculator."""
    require_dask()
    with client_of(label.scheduler, label.workers or None) as client:
        tasks = Tasks(client, _try, label.arguments, str(Path(modules).absolute()))
        tasks.submit(label.calculator)
        tasks.next()


def _try(name, arguments, modules):
    make_calculator(name, arguments, modules)


def _on_worker(k, folder):
    """Label one structure; runs on a worker."""
    folder = Path(folder)
    with ONE_AT_A_TIME:
        if done(folder, k):    # by a worker that was believed dead
            return k
        told = read_table(folder / "task.json")
        calculator = KEPT.get(str(folder)) if told["reuse"] else None
        if calculator is None:
            calculator = make_calculator(told["calculator"], told["arguments"], told["modules"])
        if told["reuse"]:
            KEPT.clear()
            KEPT[str(folder)] = calculator
        label_one(folder, k, read_frames(told["frames"])[k], calculator, told["largest_force"])
    return k
