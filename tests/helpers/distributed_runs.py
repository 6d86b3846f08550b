"""What tests of featurizing on a Dask cluster share."""

import os
import sys
import time
from pathlib import Path

import numpy as np
from helpers.featurizing import Fake, frames

from fastdesc.features import open_features, read_features


class Slow(Fake):
    """Takes its time, so that a worker can be killed at work."""

    def forward(self, x, structures, species, theta):
        time.sleep(0.1)
        return super().forward(x, structures, species, theta)


def start_cluster(n_workers, **options):
    """Workers in processes, started as a user of a cluster would."""
    from distributed import LocalCluster

    tests = str(Path(__file__).parents[1])
    environment = {"NUMBA_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([tests, *sys.path])}
    return LocalCluster(
        n_workers=n_workers, threads_per_worker=1, dashboard_address=":0", env=environment, silence_logs=50,
        memory_limit=0, **options,
    )  # fmt: skip


def many(n=40):
    """Frames, the last ones with a key of their own."""
    data = frames(n)
    for k, atoms in enumerate(data):
        if k >= 30:
            atoms.info["late"] = f"word {k}"
    return data


def same(a, b):
    """Both files hold the same, bit for bit."""
    for x, y in zip(read_features(a), read_features(b), strict=True):
        np.testing.assert_array_equal(x, y) if isinstance(x, np.ndarray) else None
        assert isinstance(x, np.ndarray) or x == y
    with open_features(a) as f, open_features(b) as g:
        s, t = f.table(), g.table()
        assert list(s) == list(t) and f.skipped == g.skipped
        for name in s:
            np.testing.assert_array_equal(s[name], t[name])
        np.testing.assert_array_equal(f.file["keys"][...], g.file["keys"][...])
