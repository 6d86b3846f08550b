"""Batches and the like, made in threads while those before them are used: in order, and only a few ahead."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor


def prefetched(make, arguments, threads=1, waiting=1):
    """Yield make(x) for each x of `arguments`, in order.

    Parameters
    ----------
    make : callable
    arguments : iterable
        Taken one by one, no more of them ahead than may wait.
    threads : int
        That make.
    waiting : int
        How many are made, or on their way, while one is used.
    """
    with ThreadPoolExecutor(threads) as pool:
        coming = deque()
        try:
            for x in arguments:
                coming.append(pool.submit(make, x))
                if len(coming) > waiting:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for one in coming:
                one.cancel()
