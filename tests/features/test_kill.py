"""SIGKILL at any moment: no code of ours runs any more, and yet nothing committed is lost and nothing else is there."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase.io import write
from helpers.featurizing import Fake, frames

from fastdesc.features import featurize, open_features, read_frames, stream
from fastdesc.hdf5 import journal

N_FRAMES = 60


def content(path):
    """Everything in a features file: values, types, attributes."""
    found = {}

    def add(name, d):
        if isinstance(d, h5py.Dataset):
            found[name] = (str(d.dtype), d.shape, d[...].tobytes() if d.dtype.kind != "O" else d[...].tolist())
            found[name] += (dict(d.attrs),)

    with h5py.File(path) as f:
        f.visititems(add)
        found["/"] = {k: v for k, v in f.attrs.items()}
    return found


def featurize_slowly(source, out, kill_at=None):
    """In a child: featurize with a commit after every batch; kill ourselves at a write, where one is named."""
    stream.COMMIT_SECONDS = 0
    if kill_at is not None:
        writes = iter(range(10**9))
        for name in ("pwrite", "replace", "ftruncate", "unlink", "fdatasync", "fsync"):
            original = getattr(os, name)

            def counted(*args, original=original, name=name):
                if next(writes) == kill_at:
                    if name == "pwrite":    # a write may be cut in two
                        original(args[0], bytes(args[1])[: len(args[1]) // 2], args[2])
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*args)

            setattr(journal.os, name, counted)
    featurize(source, out, Fake(), chunk_atoms=16, resume=True, progress=False, on_error="skip")


def child(*args):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            featurize_slowly(*args)
            code = 0
        finally:
            os._exit(code)
    return pid


def committed(out, good):
    """Frames of what is on disk, which must open whatever happened; -1 before the first commit."""
    for path in (Path(out), Path(out + ".part")):
        if path.exists() and (path.name.endswith(".h5") or journal.journal_of(path).exists()):
            with open_features(path) as f:
                n = len(f)
                got = f[:]
                if n:
                    np.testing.assert_array_equal(got, Fake().compute(good[:n]))
                return n
    return -1


def main(source, out, mode, n):
    """Fork, kill, look, again; print what was seen. Runs in a process of its own: forks want no threads around."""
    rng = random.Random(7)
    seen, kills, longest = [], 0, 0.3
    good = [a for a in read_frames(source) if a.info["id"] != 30]
    for k in range(int(n)):
        if mode == "time":
            pid = child(source, out)
            time.sleep(rng.uniform(0.0, longest))
            os.kill(pid, signal.SIGKILL)
        else:
            if k % 4 == 0:    # from the start as often as from where the last kill left it
                for path in Path(out).parent.glob(Path(out).name + "*"):
                    path.unlink()
                seen.append(-1)
            pid = child(source, out, rng.randrange(400) if k % 2 else k)
        status = os.waitpid(pid, 0)[1]
        kills += os.WIFSIGNALED(status)
        assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0, status
        seen.append(committed(out, good))
        if len(seen) > 1 and seen[-1] == seen[-2]:
            longest *= 1.5    # a busy machine comes less far
        if mode == "time" and Path(out).exists():
            os.unlink(out)
            seen.append(-1)
    pid = child(source, out)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    print(json.dumps([kills, seen]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize(("mode", "n"), [
    ("time", 12), ("write", 20),
    *(pytest.param(*more, marks=pytest.mark.thorough) for more in (("time", 24), ("write", 40))),
])  # fmt: skip
def test_killed_again_and_again(tmp_path, mode, n):
    """Killed at random times, and at the writes themselves, each cut in two."""
    data = frames(N_FRAMES)
    data[30].positions[1] = np.nan
    source, out, whole = tmp_path / "in.extxyz", tmp_path / "features.h5", tmp_path / "whole.h5"
    write(source, data)
    run = subprocess.run(
        [sys.executable, __file__, source, out, mode, str(n)], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "NUMBA_NUM_THREADS": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    kills, seen = json.loads(run.stdout)
    assert kills >= n // 2, "most of the runs were killed before their end"
    for a, b in pairwise(seen):
        assert b >= a or b == -1, f"frames were lost: {seen}"
    assert len(set(seen)) > n // 5, f"killed at many different places: {seen}"
    featurize(source, whole, Fake(), chunk_atoms=16, progress=False, on_error="skip")
    assert content(out) == content(whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["features.h5", "in.extxyz", "whole.h5"]


if __name__ == "__main__":
    main(*sys.argv[1:])
