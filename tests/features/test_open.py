"""An open features file: in many processes, closed, huge; and files that cannot be opened."""

import multiprocessing
import pickle
import time

import h5py
import numpy as np
import pytest
from helpers.featurizing import Fake, frames

import fastdesc as fd
from fastdesc.errors import FileFormatError, InputError
from fastdesc.features import featurize


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return featurize(frames(), tmp_path_factory.mktemp("opened") / "features.h5", Fake(), chunk_atoms=20)


@pytest.fixture(scope="module")
def rows():
    data = frames()
    return np.split(Fake().compute(data), np.cumsum([len(a) for a in data])[:-1])


INHERITED = []


def _sum_of_inherited(_):
    return _sum(INHERITED[0])


def _sum(f):
    return float(f[3].sum())


def test_many_processes_read_one_file(path, rows):
    with fd.open_features(path) as f:
        _ = f[0]
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(_sum, [f] * 6) == [rows[3].sum()] * 6, "a pickled copy opens the file anew"
        again = pickle.loads(pickle.dumps(f))
        np.testing.assert_array_equal(again[2], rows[2])
        again.close()


def test_a_fork_opens_the_file_anew(path, rows):
    with fd.open_features(path) as f:
        mine = f.file
        INHERITED.append(f)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(_sum_of_inherited, range(4)) == [rows[3].sum()] * 4
        assert f.file is mine
    INHERITED.clear()


def test_closed(path):
    with fd.open_features(path) as f:
        pass
    with pytest.raises(InputError, match="was closed"):
        f[0]
    f.close()


def test_opening_does_not_read_the_index(tmp_path, path):
    """A million structures of zeros: one structure is there at once. (The limit is generous: 20 ms is usual.)"""
    big = tmp_path / "big.h5"
    n = 1_000_000
    with h5py.File(path) as old, h5py.File(big, "w") as f:
        for name, value in old.attrs.items():
            f.attrs[name] = value
        f.attrs.update(n_frames=n, n_seen=n)
        for name in ("names", "files", "skipped", "parameters"):
            old.copy(name, f)
        f.create_group("info")
        for name in ("numbers", "energies", "forces", "stress", "number", "file", "index", "keys", "features"):
            d = old[name]
            rows = 50 * n if d.attrs["shape"].startswith(b"n_atoms") else n
            made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            made.set_chunk(d.chunks)
            made.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)    # a hole in the file
            made.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            space = h5py.h5s.create_simple((rows, *d.shape[1:]))
            h5py.h5d.create(f.id, name.encode(), d.id.get_type(), space, made)
        offsets = f.create_dataset("offsets", (n + 1,), np.int64, chunks=old["offsets"].chunks, compression="gzip")
        for a in range(0, n + 1, 1 << 20):
            b = min(a + (1 << 20), n + 1)
            offsets[a:b] = 50 * np.arange(a, b)
    times = []
    for k in (765_432, 12, 999_999):
        start = time.process_time()
        with fd.open_features(big) as f:
            assert f[k].shape == (50, 2)
        times.append(time.process_time() - start)
    assert len(f"{f!r}") < 200 and min(times) < 0.05, times


def test_damage_is_named(tmp_path, path):
    copy = tmp_path / "f.h5"
    data = path.read_bytes()
    for change, message in (
        (lambda f: f.__delitem__("offsets"), "is damaged"),
        (lambda f: f["energies"].resize(3, axis=0), r"is damaged .energies has the shape \(3,\).* where \(10,\)"),
        (lambda f: f.attrs.__delitem__("parameters"), "is damaged"),
        (lambda f: f.attrs.__setitem__("format", "fastdesc-model"), "of the kind 'fastdesc-model'"),
    ):
        copy.write_bytes(data)
        with h5py.File(copy, "r+") as f:
            change(f)
        with pytest.raises(FileFormatError, match=message):
            fd.open_features(copy)
    copy.write_bytes(data[:-100])
    with pytest.raises(FileFormatError, match=r"truncated|damaged"):
        fd.open_features(copy)
    with pytest.raises(InputError, match="does not exist"):
        fd.open_features(tmp_path / "nowhere.h5")
    for nothing in (None, 3, b"x", ""):
        with pytest.raises(InputError, match="came where the name of a file belongs"):
            fd.open_features(nothing)
