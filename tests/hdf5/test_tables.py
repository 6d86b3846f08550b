"""Datasets that grow by rows: against an array, whatever comes in which portions; and what the file has when."""

import h5py
import numpy as np
import pytest

from fastdesc.hdf5 import journal, tables
from fastdesc.hdf5.journal import CommittedFile, JournaledFile, StreamedFile
from fastdesc.hdf5.tables import Growing, Strings, growing

CHUNK = 16


def table(f, dtype=np.float64, row=(3,), compression="none"):
    return tables.create(f, "x", "1", "n", row, dtype, compression, chunk_rows=CHUNK)


def rows_of(rng, n, dtype=np.float64, row=(3,)):
    return (100 * rng.normal(size=(n, *row))).astype(dtype)


@pytest.mark.parametrize("compression", ["none", "gzip", "lzf"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "?"])
@pytest.mark.parametrize("row", [(), (3,), (2, 2)])
def test_against_an_array(tmp_path, compression, dtype, row):
    """Appended in random portions, flushed and reopened in between, the file holds what was given."""
    rng = np.random.default_rng(0)
    path, want = tmp_path / "x.h5", np.zeros((0, *row), dtype)
    with h5py.File(path, "w") as f:
        table(f, dtype, row, compression)
    for _ in range(6):
        with h5py.File(path, "r+") as f:
            g = growing(f["x"])
            for n in rng.choice([0, 1, 3, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 2], 6):
                given = rows_of(rng, n, dtype, row)
                g.append(given)
                want = np.concatenate([want, given])
                given[...] = 0    # what was handed over is the giver's again
                assert len(g) == len(want) and len(f["x"]) <= len(want)
                if rng.random() < 0.5:
                    g.flush()
                    g.flush()
                    np.testing.assert_array_equal(f["x"][...], want)
            g.flush()
        with h5py.File(path) as f:
            np.testing.assert_array_equal(f["x"][...], want)
            assert f["x"].dtype == dtype


def test_other_types_and_layouts_are_converted(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as f:
        g = growing(table(f, "f4"))
        given = np.arange(300.0).reshape(3, 100).T    # float64, columns contiguous
        g.append(given)
        g.append(given.astype(int)[::2])
        g.flush()
        np.testing.assert_array_equal(f["x"][...], np.concatenate([given, given[::2]]))


def test_what_waits_is_less_than_a_chunk(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as f:
        g, total = growing(table(f)), 0
        for n in (5, 10, 1, 47, 3):
            g.append(np.ones((n, 3)))
            total += n
            assert len(f["x"]) == total // CHUNK * CHUNK
            np.testing.assert_array_equal(f["x"][...], 1)


def test_each_byte_is_written_once(tmp_path, monkeypatch):
    """Chunks of floats go to the file as they are, once, in pieces as large as they are; nothing is read back."""
    written, read = [], []
    original = journal.os.pwrite

    def pwrite(fd, data, at):
        written.append(len(data))
        return original(fd, data, at)

    monkeypatch.setattr(journal.os, "pwrite", pwrite)
    monkeypatch.setattr(journal.os, "preadv", lambda *a: read.append(a))
    rng = np.random.default_rng(1)
    with StreamedFile(tmp_path / "x.h5") as raw, h5py.File(raw, "w") as f:
        d = tables.create(f, "x", "1", "n", (360,), "f4", chunk_rows=512)
        f.flush()
        written.clear()
        g = growing(d)
        for _ in range(40):
            g.append(rng.normal(size=(1000, 360)))
        assert written.count(512 * 360 * 4) == 40_000 // 512 and not read
        assert sum(written) < 1.01 * 40_000 * 360 * 4


def test_little_stays_in_memory(tmp_path):
    """Of integers, too, which go through HDF5's filters and caches: a megabyte of each dataset at most."""
    rows = np.random.default_rng(2).integers(0, 2**63, 1 << 19)
    with StreamedFile(tmp_path / "x.h5") as raw, tables.open_to_append(raw, "w") as f:
        g = growing(tables.create(f, "x", "1", "n", (), np.int64))
        g.append(rows)
        assert raw.length > rows.nbytes - 2 * tables.CHUNK_BYTES


def test_the_rest_of_a_chunk_is_zero(tmp_path):
    """Rows that nobody gave yet are the same in every run, whatever stood in memory before."""
    with h5py.File(tmp_path / "x.h5", "w") as f:
        g = growing(table(f))
        g.append(np.full((CHUNK + 3, 3), 7.0))
        g.append(np.full((CHUNK, 3), 8.0))
        g.flush()
        _, raw = f["x"].id.read_direct_chunk((2 * CHUNK, 0))
        last = np.frombuffer(raw).reshape(CHUNK, 3)
        assert (last[:3] == 8).all() and (last[3:] == 0).all()


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_committed_rows_are_there_and_no_others(tmp_path, compression):
    """Copies of the journaled file, made at any time, hold the rows of the last commit."""
    rng, path = np.random.default_rng(2), tmp_path / "x.h5"
    file = JournaledFile(path, new=True)
    f = h5py.File(file, "w")
    g = growing(table(f, compression=compression))
    want = committed = np.zeros((0, 3))
    for k in range(60):
        given = rows_of(rng, int(rng.integers(0, 3 * CHUNK)))
        g.append(given)
        want = np.concatenate([want, given])
        if k % 5 == 2:
            g.flush()
            f.flush()
            file.commit()
            committed = want
        if k >= 2:
            with CommittedFile(path) as raw, h5py.File(raw, "r") as seen:
                np.testing.assert_array_equal(seen["x"][...], committed)
            with h5py.File(path, "r") as seen:
                np.testing.assert_array_equal(seen["x"][...], committed)
    f.close()
    file.close()


def test_strings(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as f:
        g = growing(tables.create(f, "x", "1", "n", (), tables.TEXT))
        assert isinstance(g, Strings) and not isinstance(g, Growing)
        for words in (["ä", ""], [], ["c" * 1000]):
            g.append(np.array(words, object))
        g.flush()
        assert list(f["x"].asstr()[...]) == ["ä", "", "c" * 1000] and len(g) == 3
