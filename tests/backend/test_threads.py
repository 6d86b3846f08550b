"""Chunks on threads: order, errors, and tasks that have chunks of their own."""

import threading

import pytest

from fastdesc.backend import threads as parallel


@pytest.fixture(params=[1, 2, 5])
def threads(request):
    parallel.set_threads(request.param)
    yield request.param
    parallel.set_threads(None)


def test_chunks_cover_everything_once_and_in_order(threads):
    found = parallel.for_chunks(lambda a, b: (a, b), 23, 5)
    assert found == [(0, 5), (5, 10), (10, 15), (15, 20), (20, 23)]
    assert parallel.for_chunks(lambda a, b: (a, b), 0) == []


def test_an_error_in_a_task_is_raised(threads):
    def task(a, b):
        if a == 12:
            raise KeyError(a)

    with pytest.raises(KeyError, match="12"):
        parallel.for_chunks(task, 40, 3)
    assert parallel.for_chunks(lambda a, b: a, 4, 2) == [0, 2]


def test_chunks_within_a_task_stay_on_its_thread(threads):
    def task(a, b):
        return {threading.get_ident()} | set(parallel.for_chunks(lambda *_: threading.get_ident(), 50, 1))

    assert all(len(used) == 1 for used in parallel.for_chunks(task, 16, 1))


def test_items_come_back_in_order_and_only_a_few_ahead(threads):
    handed = []

    def items():
        for k in range(20):
            handed.append(k)
            yield k

    for k, found in enumerate(parallel.in_order(lambda k: 3 * k, items())):
        assert found == 3 * k and len(handed) <= k + threads + 1
    with pytest.raises(ZeroDivisionError):
        list(parallel.in_order(lambda k: 1 // (3 - k), range(9)))
    assert next(iter(parallel.in_order(str, range(9)))) == "0", "one that stops early leaves nothing behind"
