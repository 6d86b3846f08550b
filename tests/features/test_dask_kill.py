"""Workers and schedulers that die at any moment: the run completes, or says how to go on; the file is the same."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers.distributed_runs import Slow, many, same, start_cluster
from helpers.featurizing import Fake

from fastdesc.errors import FastdescError, InputError
from fastdesc.features import dask as module
from fastdesc.features import dask_tasks, featurize

WHY = "dask.distributed is not installed: pip install 'fastdesc[distributed]'"
dask = pytest.importorskip("distributed", reason=WHY)


@pytest.fixture
def cluster():
    """Two workers, which their nannies start again when they die."""
    with start_cluster(2) as cluster:
        cluster.wait_for_workers(2, timeout=60)
        yield cluster


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    """The file of one process."""
    return featurize(many(), tmp_path_factory.mktemp("serial") / "one.h5", Fake(), chunk_atoms=20)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "SHARD_BATCHES", 2)
    monkeypatch.setattr(module, "TIMEOUT", "2s")


@pytest.fixture
def at(monkeypatch):
    """Return a function that has something done before the n-th task is handed out, or its result is taken."""

    def arrange(name, n, do):
        calls, original = [], getattr(dask_tasks.Tasks, name)

        def wrapped(self, *arguments):
            calls.append(name)
            if len(calls) == n:
                do()
            return original(self, *arguments)

        monkeypatch.setattr(dask_tasks.Tasks, name, wrapped)

    return arrange


MOMENTS = {"at start": ("submit", 1), "during submission": ("submit", 4), "in the middle": ("next", 3)}


@pytest.mark.parametrize("moment, which", [
    ("during submission", 1), ("in the middle", 2),
    *(pytest.param(*more, marks=pytest.mark.thorough) for more in (("at start", 2), ("in the middle", 1))),
])  # fmt: skip
def test_workers_die_and_the_run_completes(tmp_path, cluster, serial, at, moment, which):
    killed = []

    def kill():
        for worker in list(cluster.workers.values())[:which]:
            os.kill(worker.pid, signal.SIGKILL)
            killed.append(worker.pid)

    at(*MOMENTS[moment], kill)
    out = featurize(many(), tmp_path / "out.h5", Slow(), scheduler=cluster.scheduler_address, chunk_atoms=20)
    assert len(killed) == which
    same(out, serial)
    assert all("-" not in path.name for path in (tmp_path / "out.h5.shards").iterdir()), "nothing unfinished is left"


SCHEDULER = """
import sys, time
from helpers.distributed_runs import start_cluster
if __name__ == "__main__":
    with start_cluster(1, scheduler_port=int(sys.argv[1])) as cluster:
        print(cluster.scheduler_address, flush=True)
        time.sleep(120)
"""


@contextlib.contextmanager
def scheduler(folder, port=0):
    """A scheduler and a worker, in processes of their own; gives its address, and its process to be killed."""
    (folder / "scheduler.py").write_text(SCHEDULER)
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join([str(tests), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "scheduler.py", str(port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        cwd=folder, env=os.environ | {"PYTHONPATH": paths}, start_new_session=True,
    )  # fmt: skip
    try:
        yield process.stdout.readline().strip(), process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def test_the_scheduler_dies_and_a_resume_completes(tmp_path, cluster, serial, at):
    out, job = tmp_path / "out.h5", {"chunk_atoms": 20}
    with scheduler(tmp_path) as (address, process):
        at("next", 3, lambda: os.killpg(process.pid, signal.SIGKILL))
        with pytest.raises(FastdescError, match=r"the Dask scheduler is gone; .* go on with --resume \(resume=True\)"):
            featurize(many(), out, Slow(), scheduler=address, **job)
    assert not out.exists()
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out.h5.shards").glob("??????.h5")}
    assert done, "something was done before"
    same(featurize(many(), out, Fake(), scheduler=cluster.scheduler_address, resume=True, **job), serial)
    assert done.items() <= {path: path.stat().st_mtime_ns for path in done}.items(), "and is not done again"


def test_the_scheduler_is_started_again_and_the_run_completes(tmp_path, serial, at, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", "60s")    # Dask's own wait for a scheduler to come back
    with contextlib.ExitStack() as stack:
        address, process = stack.enter_context(scheduler(tmp_path))
        port = int(address.rsplit(":", 1)[1])

        def restart():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            threading.Thread(target=lambda: stack.enter_context(scheduler(tmp_path, port))).start()

        at("next", 3, restart)
        same(featurize(many(), tmp_path / "out.h5", Slow(), scheduler=address, chunk_atoms=20), serial)


def test_without_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(dask_tasks, "WITHOUT_WORKERS", 0.5)
    with (
        dask.LocalCluster(n_workers=0, processes=False, dashboard_address=None, silence_logs=50) as cluster,
        pytest.raises(FastdescError, match=r"has had no workers for 0.5 s; start some; .* go on with --resume"),
    ):
        featurize(many(4), tmp_path / "out.h5", Slow(), scheduler=cluster.scheduler_address, chunk_atoms=20)


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_run_of_the_same_output_is_refused(tmp_path, cluster, serial, at, resume):
    """While the first is at work: it would remove the shards, or write them twice. With Dask and without."""
    out, refused = tmp_path / "out.h5", []

    def again():
        for options in ({"scheduler": cluster.scheduler_address}, {}):
            with pytest.raises(InputError, match=r"out.h5.part is being written by another process; wait for it"):
                featurize(many(), out, Fake(), chunk_atoms=20, resume=resume, **options)
            refused.append(options)

    at("next", 3, again)
    featurize(many(), out, Fake(), scheduler=cluster.scheduler_address, chunk_atoms=20)
    same(out, serial)
    assert len(refused) == 2 and sorted(p.name for p in tmp_path.iterdir()) == ["out.h5", "out.h5.shards"]
