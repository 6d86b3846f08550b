"""Files that a kill leaves at their last commit: random writes against a plain array, cut off anywhere."""

import os
import shutil
import struct
import zlib

import h5py
import numpy as np
import pytest

from fastdesc.hdf5 import journal
from fastdesc.hdf5.journal import (
    HEAD,
    MAGIC,
    PIECE,
    CommittedFile,
    JournaledFile,
    Overlay,
    discard,
    journal_of,
    read_journal,
)


@pytest.mark.parametrize("seed", range(20))
def test_pieces_against_an_array(seed):
    rng = np.random.default_rng(seed)
    want, known, pieces = np.zeros(200, np.uint8), np.zeros(200, bool), Overlay()
    for _ in range(60):
        a = int(rng.integers(0, 199))
        data = rng.integers(1, 255, int(rng.integers(1, min(40, 200 - a) + 1)), dtype=np.uint8)
        pieces.put(a, data.tobytes())
        want[a : a + len(data)], known[a : a + len(data)] = data, True
        if rng.random() < 0.1:
            cut = int(rng.integers(0, 200))
            pieces.cut(cut)
            known[cut:] = False
        assert all(a + len(p) <= b for (a, p), b in zip(pieces, pieces.starts[1:], strict=False)), "disjoint"
        a, b = np.sort(rng.integers(0, 201, 2))
        got = bytearray(int(b - a))
        pieces.lay_over(int(a), got)
        np.testing.assert_array_equal(np.frombuffer(got, np.uint8), np.where(known, want, 0)[a:b])


def reopened(path):
    with CommittedFile(path) as f:
        f.seek(0, os.SEEK_END)
        data = bytearray(f.tell())
        f.seek(0)
        f.readinto(data)
    return bytes(data)


@pytest.mark.parametrize("seed", range(5))
def test_what_was_not_committed_is_not_there(tmp_path, seed):
    """After every write a copy of what is on disk shows the last commit, to readers and to writers."""
    rng = np.random.default_rng(seed)
    path, copy = tmp_path / "x", tmp_path / "copy"
    f = JournaledFile(path, new=True)
    now, committed = bytearray(), b""
    for k in range(60):
        at = int(rng.integers(0, len(now) + 1))
        data = rng.bytes(int(rng.integers(1, 50)))
        f.seek(at)
        f.write(data)
        now[at : at + len(data)] = data
        f.seek(0)
        mine = bytearray(len(now))
        assert f.readinto(mine) == len(now) and mine == now, "the writer sees what it wrote"
        if k % 7 == 6:
            f.commit()
            committed = bytes(now)
        if k < 7:
            continue
        assert reopened(path) == committed
        for name in (path, journal_of(path)):
            shutil.copy(name, copy if name == path else journal_of(copy))
        with JournaledFile(copy, new=False) as other:
            assert other.length == len(committed)
        assert copy.read_bytes() == committed
    f.close()


def test_a_kill_inside_a_commit(tmp_path, monkeypatch):
    """Before the rename the old state holds, after it the new one, however much of it was applied."""
    path = tmp_path / "x"
    f = JournaledFile(path, new=True)
    f.write(b"a" * 100)
    f.commit()
    f.seek(10)
    f.write(b"b" * 100)
    with monkeypatch.context() as m:
        m.setattr(journal.os, "replace", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            f.commit()
    assert reopened(path) == b"a" * 100
    with monkeypatch.context() as m:
        m.setattr(f, "_apply", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            f.commit()
    assert reopened(path) == b"a" * 10 + b"b" * 100
    f.close()
    JournaledFile(path, new=False).close_for_good()
    assert path.read_bytes() == b"a" * 10 + b"b" * 100 and not journal_of(path).exists()


def test_a_damaged_journal_counts_as_none(tmp_path):
    path = tmp_path / "x"
    f = JournaledFile(path, new=True)
    f.write(b"a" * 10)
    f.commit()
    f.close()
    data = bytearray(journal_of(path).read_bytes())
    assert read_journal(path) == (10, [])
    data[-6] ^= 1
    journal_of(path).write_bytes(data)
    assert read_journal(path) is None
    discard(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "body",
    [
        HEAD.pack(10, 1),    # a piece that is not there
        HEAD.pack(10, 1) + PIECE.pack(0, 1 << 60),    # a piece of more bytes than there are
        HEAD.pack(10, 1) + PIECE.pack(8, 4) + b"abcd",    # a piece beyond the end
        HEAD.pack(10, 1 << 62),
        b"",
    ],
)
def test_a_journal_that_contradicts_itself_counts_as_none(tmp_path, body):
    path = tmp_path / "x"
    path.write_bytes(b"a" * 10)
    whole = MAGIC + body
    journal_of(path).write_bytes(whole + struct.pack("<I", zlib.crc32(whole)))
    assert read_journal(path) is None
    assert reopened(path) == b"a" * 10


def test_a_file_is_never_longer_than_it_is(tmp_path):
    """A journal that speaks of a petabyte; sizes of datasets are compared with that of the file."""
    path = tmp_path / "x"
    path.write_bytes(b"a" * 10)
    whole = MAGIC + HEAD.pack(1 << 50, 0)
    journal_of(path).write_bytes(whole + struct.pack("<I", zlib.crc32(whole)))
    with CommittedFile(path) as f:
        assert f.length == 10
    JournaledFile(path, new=False).close()
    assert path.stat().st_size == 10


def test_a_commit_makes_the_file_as_long_as_it_says(tmp_path, monkeypatch):
    """HDF5 may end with space it has not written to; a reader between the two halves of a commit sees it, too."""
    path = tmp_path / "x"
    f = JournaledFile(path, new=True)
    f.write(b"a" * 10)
    f.truncate(30)
    monkeypatch.setattr(JournaledFile, "_apply", lambda *a: None)    # killed there
    f.commit()
    with CommittedFile(path) as g:
        assert g.length == 30 and g.read() == b"a" * 10 + bytes(20)
    f.close()


def test_hdf5_through_it(tmp_path):
    """Plain h5py opens the file after every commit; later writes are not seen."""
    path = tmp_path / "x.h5"
    file = JournaledFile(path, new=True)
    f = h5py.File(file, "w")
    d = f.create_dataset("x", (0,), "f8", maxshape=(None,), chunks=(64,), compression="gzip")
    for k in range(20):
        d.resize((k + 1) * 50, axis=0)
        d[k * 50 :] = k
        f.flush()
        file.commit()
        d[:] = -1
        f.flush()
        with h5py.File(path) as g:
            np.testing.assert_array_equal(g["x"][...], np.repeat(np.arange(k + 1), 50))
        d[:] = np.repeat(np.arange(k + 1), 50)
    f.close()
    file.commit()
    file.close_for_good()
    with h5py.File(path) as g:
        assert len(g["x"]) == 1000
