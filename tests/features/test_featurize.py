"""The features file: what is in it, and how it grows."""

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from helpers.featurizing import Fake, files, frames

import fastdesc as fd
from fastdesc.backend import threads
from fastdesc.errors import InputError
from fastdesc.features import CHUNK_ATOMS, featurize, read_features
from fastdesc.features.layout import frame_key
from fastdesc.features.stream import one_ahead
from fastdesc.hdf5.attributes import attribute
from fastdesc.io.labels import labels
from fastdesc.io.sources import Source


@pytest.fixture
def out(tmp_path):
    return tmp_path / "features.h5"


def test_round_trip_and_labels(out):
    data, fake = frames(), Fake()
    assert featurize(data, out, fake, chunk_atoms=16) == out
    got, want = read_features(out), labels(data)
    np.testing.assert_array_equal(got.features, Fake().compute(data))
    np.testing.assert_array_equal(got.offsets, np.cumsum([0, *map(len, data)]))
    np.testing.assert_array_equal(got.numbers, np.full(got.offsets[-1], 29))
    for name in ("energies", "forces", "stress"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name))
    assert np.isnan(got.energies[0]) and got.energies[1] == -1.5
    assert got.names == ["x", "y²"] and got.family == "fake"
    assert got.parameters == {"scale": 1.0, "species": ["Cu"]}
    assert len(fake.calls) > 3, "several chunks"
    assert files(out.parent) == ["features.h5"]


def test_readable_without_fastdesc(out):
    """Every dataset says its unit and shape; the root says version, family and parameters."""
    data = frames()
    featurize(data, out, Fake(), dtype="float32")
    with h5py.File(out) as f:
        seen = []
        f.visititems(lambda name, x: seen.append(name) if isinstance(x, h5py.Dataset) else None)
        want = ["energies", "features", "file", "files", "forces", "index", "info/id", "keys", "names", "number"]
        want += ["numbers", "offsets", "parameters/beta", *(f"skipped/{x}" for x in ("file", "index", "number"))]
        assert sorted(seen) == [*want, "skipped/reason", "stress"]
        for name in seen:
            assert f[name].attrs["unit"] and f[name].attrs["shape"], name
        assert attribute(f["forces"], "unit") == "eV/Å" and attribute(f["stress"], "unit") == "eV/Å^3"
        assert f["features"].dtype == np.float32 and f["energies"].dtype == np.float64
        assert attribute(f, "fastdesc_version") == fd.__version__ and attribute(f, "family") == "fake"
        assert json.loads(f.attrs["parameters"])["scale"] == 1.0
        a, b = f["offsets"][3:5]
        np.testing.assert_array_equal(f["forces"][a:b], data[3].calc.results["forces"])


def test_from_a_path_and_one_frame(tmp_path, out):
    path = tmp_path / "in.extxyz.gz"
    write(path, frames(), format="extxyz")
    featurize(path, out, Fake())
    assert len(read_features(out).energies) == 10
    featurize(frames()[3], out, Fake())
    assert len(read_features(out).energies) == 1


def test_batches():
    data = frames()
    groups = list(Source(data).raw_batches(16))
    assert [payload for g in groups for *_, payload in g] == data
    assert all(len(g) == 1 or sum(len(x[-1]) for x in g) <= 16 for g in groups)
    assert [len(g) for g in Source(data).raw_batches(1)] == [1] * 10
    numbers = [[x[0] for x in g] for g in Source(data).raw_batches(16, start=3, cut=5)]
    assert numbers[0][0] == 3 and any(g[0] == 5 for g in numbers) and [k for g in numbers for k in g] == [*range(3, 10)]
    assert CHUNK_ATOMS > 100


def test_workers_are_threads(out):
    before, fake = threads.n_threads(), Fake()
    featurize(frames(), out, fake, workers=3)
    assert set(fake.threads) == {3} and threads.n_threads() == before


def test_keys_follow_the_structure():
    a, b = frames(2)
    key = frame_key(a)
    assert key != frame_key(b) and key == frame_key(a.copy())
    for change in ("positions", "cell", "pbc", "numbers"):
        c = a.copy()
        if change == "positions":
            c.positions[0, 0] += 1e-12
        elif change == "cell":
            c.cell[2, 2] += 1e-12
        elif change == "pbc":
            c.pbc = [1, 1, 0]
        else:
            c.numbers[0] = 28
        assert frame_key(c) != key, change


# --- resume


def test_interrupted_and_resumed_equals_one_run(tmp_path, out):
    data = frames()
    with pytest.raises(KeyboardInterrupt):
        featurize(data, out, Fake(fails_at=6), resume=True, chunk_atoms=8)
    assert files(tmp_path) == ["features.h5.part", "features.h5.part.journal"]
    fake = Fake()
    featurize(data, out, fake, resume=True, chunk_atoms=8)
    assert sum(fake.calls) < len(data), "the first frames were not computed again"
    assert files(tmp_path) == ["features.h5"]
    whole = featurize(data, tmp_path / "whole.h5", Fake())
    for a, b in zip(read_features(out)[:6], read_features(whole)[:6], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_finished_file_grows(out):
    data = frames()
    featurize(data[:4], out, Fake())
    fake = Fake()
    featurize(data, out, fake, resume=True)
    assert fake.calls == [6]
    np.testing.assert_array_equal(read_features(out).features, Fake().compute(data))
    featurize(data, out, fake, resume=True)
    assert fake.calls == [6], "nothing was left to do"


def test_a_damaged_part_is_begun_anew(tmp_path, out):
    (tmp_path / "features.h5.part").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    featurize(frames(), out, Fake(), resume=True)
    assert len(read_features(out).energies) == 10


@pytest.mark.parametrize("finished", [True, False])
def test_resume_refuses_other_settings(tmp_path, out, finished):
    data = frames()
    if finished:
        featurize(data[:4], out, Fake())
    else:
        with pytest.raises(KeyboardInterrupt):
            featurize(data, out, Fake(fails_at=6), resume=True, chunk_atoms=8)
    before = files(tmp_path)
    with pytest.raises(InputError, match=r"begun with other settings \(parameters: scale 1.0, now 2.0\)"):
        featurize(data, out, Fake(scale=2.0), resume=True)
    other = Fake()
    other.parameters["beta"] = np.ones(3)
    with pytest.raises(InputError, match="other trained parameters"):
        featurize(data, out, other, resume=True)
    with pytest.raises(InputError, match=r"another dtype \(float64, now float32\)"):
        featurize(data, out, Fake(), resume=True, dtype="float32")
    other = Fake()
    other.family = "false"
    with pytest.raises(InputError, match="family: fake, now false"):
        featurize(data, out, other, resume=True)
    with pytest.raises(InputError, match="frame 1 of the input is not the one in"):
        featurize([data[0], *data[2:]], out, Fake(), resume=True)
    with pytest.raises(InputError, match=r"holds \d frames and the input only 2"):
        featurize(data[:2], out, Fake(), resume=True)
    assert files(tmp_path) == before


def test_one_writer_at_a_time(tmp_path, out):
    pytest.importorskip("fcntl")
    part = tmp_path / "features.h5.part"
    code = f"from fastdesc.hdf5.journal import *; f = JournaledFile({str(part)!r}, True); f.write(b'abc')"
    code += "; print(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1) as other:
        other.stdout.readline()
        for resume in (True, False):
            with pytest.raises(InputError, match="is being written by another process"):
                featurize(frames(), out, Fake(), resume=resume)
        assert part.read_bytes() == b"abc"
        other.kill()
    featurize(frames(), out, Fake())
    assert files(tmp_path) == ["features.h5"]


# --- with a real descriptor


def test_gaussian_moments(out):
    data = frames(4)
    d = fd.GaussianMoments(species=["Cu"], cutoff=4.0, n_radial=2, n_basis=4)
    featurize(data, out, d, chunk_atoms=8)
    got = read_features(out)
    np.testing.assert_array_equal(got.features, np.concatenate([d.compute(a) for a in data]))
    assert got.names == d.feature_names_out() and got.parameters["cutoff"] == 4.0
    again = fd.GaussianMoments(**got.parameters)
    with h5py.File(out) as f:
        again.set_parameters(beta=f["parameters/beta"][...])
    np.testing.assert_array_equal(again.compute(data), d.compute(data))
    with pytest.raises(InputError, match="frame 4, atom 0 is Au"):
        featurize([*data, Atoms("Au")], out, d, chunk_atoms=8)


def test_what_was_begun_before_an_error_is_not_lost():
    """The reader finds the third batch broken while the second is being computed."""

    def started():
        yield lambda: 1
        yield lambda: 2
        raise InputError("the third")

    seen = []
    with pytest.raises(InputError, match="the third"):
        for result in one_ahead(started()):
            seen.append(result)
    assert seen == [1, 2]
    assert list(one_ahead(iter([lambda: 1, lambda: 2]))) == [1, 2] and list(one_ahead([])) == []
