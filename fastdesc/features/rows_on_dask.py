"""Rows of a features file that the workers of a Dask cluster go through, with the numbers that one process finds."""

from fastdesc.errors import InputError
from fastdesc.features import rows as serial
from fastdesc.features.dask_tasks import Tasks
from fastdesc.features.reader import FeaturesFile, open_features
from fastdesc.features.rows import Rows

BLOCKS = 16
"""Blocks of rows in a task."""


class RowsOnDask(Rows):
    """As Rows; what `each` calls runs on workers, which open the file under the same name.

    Parameters
    ----------
    features : FeaturesFile
    scale, environments
        As of Rows.
    client : distributed.Client

    Raises
    ------
    InputError
        As Rows does, and for features in memory.
    """

    def __init__(self, features, scale, environments, client):
        if not isinstance(features, FeaturesFile):
            raise InputError(
                f"features came as a {type(features).__name__}, and workers of a cluster read a file; featurize to a "
                "file and open it with open_features"
            )
        self._client, self._where = client, (str(features.path.absolute()), environments)
        super().__init__(features, scale, environments)

    def each(self, function, of_rows=(), common=()):
        """As Rows.each."""
        scaled = self._mean, self._weights
        tasks, done, due = Tasks(self._client, _on_worker, (*self._where, *scaled), function, tuple(common)), {}, []
        size = BLOCKS * serial.BLOCK
        for a in range(0, self.n, size):
            b = min(a + size, self.n)
            while tasks.full():
                start, found = tasks.next()
                done[start] = found
                yield from _in_order(done, due)
            tasks.submit(a, b, serial.BLOCK, tuple(values[a:b] for values in of_rows))
            due.append(a)
        while tasks.waiting:
            start, found = tasks.next()
            done[start] = found
            yield from _in_order(done, due)


def _in_order(done, due):
    """Hand out what came, as far as nothing before it is missing."""
    while due and due[0] in done:
        yield from done.pop(due.pop(0))


def _on_worker(a, b, size, of_rows, where, function, common):
    """Call a function for the blocks of the rows a .. b; runs on a worker."""
    path, environments, mean, weights = where
    with open_features(path) as file:
        rows = _Part(file, environments, mean, weights)
        return a, [
            (first, function(block, *(values[first - a : first - a + len(block)] for values in of_rows), *common))
            for first, block in rows._blocks(a, b, size)
        ]


class _Part(Rows):
    """Rows whose scales are known."""

    def __init__(self, file, environments, mean, weights):
        self._source = serial._file(file, environments)
        self._mean, self._weights, self._kept = mean, weights, None
