"""Room on the disk: asked for ahead, given back, and done without where there is none to be had."""

import os

import numpy as np
import pytest

from fastdesc.hdf5 import preallocate
from fastdesc.hdf5.journal import JournaledFile, StreamedFile

BLOCK = 512    # bytes that st_blocks counts


@pytest.fixture
def file(tmp_path):
    fd = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def allocated(fd):
    return os.fstat(fd).st_blocks * BLOCK


def test_asked_for_ahead_and_given_back(file):
    space = preallocate.Room(file)
    space.make(1 << 20)
    if space.end == preallocate.NEVER:
        pytest.skip("this file system cannot reserve room")
    assert os.fstat(file).st_size == 0 and allocated(file) >= 2 << 20
    os.pwrite(file, b"x" * 1000, 0)
    assert os.fstat(file).st_size == 1000
    space.cut(1000)
    assert os.fstat(file).st_size == 1000 and allocated(file) <= 1 << 16


def test_few_large_steps(file, monkeypatch):
    calls = []
    monkeypatch.setattr(preallocate, "_fallocate", lambda: lambda *given: calls.append(given[2:]) or 0)
    space = preallocate.Room(file)
    for end in range(1000, 1 << 28, 1 << 20):
        space.make(end)
        assert calls[-1][0] <= end <= sum(calls[-1])
    assert len(calls) < 20
    assert all(start == 0 or n == 2 * preallocate.STEP for start, n in calls if start + n > 4 * preallocate.STEP)


@pytest.mark.parametrize("answer", [None, lambda *given: -1])
@pytest.mark.parametrize("kind", ["streamed", "journaled"])
def test_without_any(tmp_path, monkeypatch, answer, kind):
    """Asked once, and what is written is the same."""
    asked = []
    monkeypatch.setattr(preallocate, "_fallocate", lambda: asked.append(1) or answer)
    data = np.random.default_rng(0).bytes(3 << 20)
    path = tmp_path / "x"
    with StreamedFile(path) if kind == "streamed" else JournaledFile(path, new=True) as f:
        for k in range(0, len(data), 1 << 19):
            f.write(data[k : k + (1 << 19)])
        if kind == "journaled":
            f.commit()
    assert path.read_bytes() == data and len(asked) == 1


def test_what_is_written_ends_where_it_ends(tmp_path):
    path = tmp_path / "x"
    with StreamedFile(path) as f:
        f.write(b"y" * (3 << 20))
    assert path.stat().st_size == 3 << 20 and path.stat().st_blocks * BLOCK <= (3 << 20) + (1 << 16)
