"""Tasks on a cluster, without a cluster: what is handed out, how much at once, and how often again."""

from types import SimpleNamespace

import pytest
from ase import Atoms
from helpers.featurizing import Fake, frames

from fastdesc.errors import FastdescError
from fastdesc.features import dask_tasks, open_features
from fastdesc.features.dask import make_shard
from fastdesc.features.dask_tasks import Tasks
from fastdesc.io.sources import Source

WHY = "dask.distributed is not installed: pip install 'fastdesc[distributed]'"
distributed = pytest.importorskip("distributed", reason=WHY)


class Client:
    """A client whose tasks end as they are told to: a list of statuses, one for each time a task is handed out."""

    status = "running"

    def __init__(self, *ends, n_workers=2):
        self.ends, self.n_workers, self.submitted = list(ends), n_workers, []

    def ncores(self):
        return dict.fromkeys(range(self.n_workers), 1)

    def submit(self, function, *arguments, **options):
        self.submitted.append((arguments, options))
        end = self.ends.pop(0) if self.ends else "pending"
        error = end if isinstance(end, Exception) else None
        result = function(*arguments) if end == "finished" else None
        return Future("error" if error else end, result, error)


class Future(SimpleNamespace):
    """Each is a key of its own."""

    __hash__ = object.__hash__

    def __init__(self, status, result, error):
        super().__init__(status=status, result=lambda timeout: result, exception=lambda: error)

    def __eq__(self, other):
        return self is other


def add(*numbers):
    return sum(numbers)


def test_a_bounded_number_is_handed_out():
    """Two for each worker: batches that wait for a worker lie in memory."""
    tasks, n = Tasks(Client(n_workers=3), add), 0
    while not tasks.full():
        tasks.submit(1)
        n += 1
        assert n < 100
    assert n == len(tasks.waiting) == 6
    assert [Tasks(Client(n_workers=0), add).full()] == [False], "one is handed out where no worker is known"


def test_results_are_not_shared_between_equal_tasks():
    """A task writes a file: equal ones are two, and a result of before is none."""
    client = Client("finished")
    tasks = Tasks(client, add, 10)
    tasks.submit(1, 2)
    assert client.submitted == [((1, 2, 10), {"pure": False})] and tasks.next() == 13 and not tasks.waiting


def test_a_task_that_is_lost_is_handed_out_again():
    client = Client("cancelled", "cancelled", "finished")
    tasks = Tasks(client, add, 10)
    tasks.submit(1, 2)
    assert tasks.next() == 13 and [given for given, _ in client.submitted] == [(1, 2, 10)] * 3


def test_a_task_that_is_lost_again_and_again_ends_the_run(monkeypatch):
    monkeypatch.setattr(dask_tasks, "MOST_LOSSES", 3)
    client = Client(*["cancelled"] * 50, RuntimeError("handed out without end"))
    tasks = Tasks(client, add)
    tasks.submit(1)
    with pytest.raises(FastdescError, match=r"cancelled one task 3 times; what is done is kept: go on with --resume"):
        tasks.next()
    assert len(client.submitted) == 4


def test_workers_that_die_of_one_task_are_told_with_the_remedy():
    error = distributed.scheduler.KilledWorker("make_shard", SimpleNamespace(address="tcp://1"), 3)
    tasks = Tasks(Client(error), add)
    tasks.submit(1)
    with pytest.raises(FastdescError, match=r"several workers died on one task .*memory enough for them"):
        tasks.next()


def test_what_a_task_raises_is_raised():
    tasks = Tasks(Client(ZeroDivisionError("here")), add)
    tasks.submit(1)
    with pytest.raises(ZeroDivisionError, match="here"):
        tasks.next()


@pytest.mark.parametrize("status", ["closing", "closed"])
def test_a_scheduler_that_is_gone(status):
    client = Client()
    tasks = Tasks(client, add)
    tasks.submit(1)
    client.status = status
    for call in (tasks.next, lambda: tasks.submit(2)):
        with pytest.raises(FastdescError, match=r"the Dask scheduler is gone; .* go on with --resume"):
            call()


def test_a_shard_tells_of_all_its_frames(tmp_path):
    """Skipped ones too: the bar would not come to its end."""
    batches = list(Source([*frames(3), Atoms("Au"), *frames(2)]).raw_batches(20))
    options = {"pool": None, "jacobian": False, "compression": "none"}
    job = Fake(), "cpu", "float64", "skip", options, [], {}
    assert len(batches) > 1 and make_shard(batches, str(tmp_path / "000000.h5"), job)[0] == 6
    with open_features(tmp_path / "000000.h5") as f:
        assert len(f) == 5 and [one["number"] for one in f.skipped] == [3]
    assert [path.name for path in tmp_path.iterdir()] == ["000000.h5"]
