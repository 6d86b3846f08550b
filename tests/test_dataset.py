"""The features file: what is in it, how it grows, and that nothing half-written stays."""

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

import fastdesc as fd
from fastdesc import cuda, parallel
from fastdesc.dataset import CHUNK_ATOMS, featurize, open_features, read_features
from fastdesc.errors import DeviceError, FileFormatError, InputError
from fastdesc.features_layout import VERSION, frame_key
from fastdesc.frames import labels
from fastdesc.sources import Source


class Fake:
    """A descriptor whose features say where they come from."""

    family = "fake"
    n_features = 2

    def __init__(self, scale=1.0, fails_at=None):
        self.scale, self.fails_at, self.calls, self.threads = scale, fails_at, [], []
        self.parameters = {"beta": np.arange(3.0)}

    def get_params(self):
        return {"scale": self.scale, "species": ("Cu",)}

    def feature_names_out(self):
        return ["x", "y²"]

    def prepare(self, structures, dtype, device):
        if self.fails_at is not None and sum(self.calls) <= self.fails_at < sum(self.calls) + structures.n_frames:
            raise KeyboardInterrupt
        if (structures.numbers == 79).any():
            atom = int(np.flatnonzero(structures.numbers == 79)[0])
            raise InputError(f"{structures.name_atom(atom)} is Au, which the model does not know")
        return structures.positions.T.astype(dtype), structures, None

    def count_below_r_min(self, rij):
        return 0

    def theta(self, dtype, device):
        return {}

    def forward(self, x, structures, species, theta):
        self.calls.append(structures.n_frames)
        self.threads.append(parallel.n_threads())
        return self.scale * np.stack([x[0], x[1] ** 2]), None

    def compute(self, frames):
        x = np.concatenate([a.positions for a in frames])
        return self.scale * np.stack([x[:, 0], x[:, 1] ** 2], 1)


def frames(n=10):
    out = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True) * (1, 1, k % 3 + 1)
        atoms.rattle(0.1, seed=k)
        atoms.info["id"] = k
        if k % 4:
            rng = np.random.default_rng(k)
            atoms.calc = SinglePointCalculator(
                atoms, energy=-k * 1.5, forces=rng.normal(size=(len(atoms), 3)), stress=rng.normal(size=6)
            )
        out.append(atoms)
    return out


@pytest.fixture
def out(tmp_path):
    return tmp_path / "features.h5"


def files(folder):
    return sorted(p.name for p in folder.iterdir())


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
        assert f["forces"].attrs["unit"] == "eV/Å" and f["stress"].attrs["unit"] == "eV/Å^3"
        assert f["features"].dtype == np.float32 and f["energies"].dtype == np.float64
        assert f.attrs["fastdesc_version"] == fd.__version__ and f.attrs["family"] == "fake"
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
    before, fake = parallel.n_threads(), Fake()
    featurize(frames(), out, fake, workers=3)
    assert set(fake.threads) == {3} and parallel.n_threads() == before


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
    code = f"from fastdesc.journal import *; f = JournaledFile({str(part)!r}, True); f.write(b'abc')"
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


# --- failure


@pytest.mark.parametrize("existing", [True, False])
def test_failure_keeps_what_was_there_and_what_was_done(tmp_path, out, existing):
    data = frames()
    if existing:
        featurize(data[:2], out, Fake())
    before = files(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        featurize(data, out, Fake(fails_at=0), chunk_atoms=8)
    assert files(tmp_path) == before
    with pytest.raises(KeyboardInterrupt):
        featurize(data, out, Fake(fails_at=6), chunk_atoms=8)
    assert files(tmp_path) == [*before, "features.h5.part", "features.h5.part.journal"]
    if existing:
        assert len(read_features(out).energies) == 2
    else:
        with pytest.raises(InputError, match=r"is not finished; open .*part to see what is in it"):
            open_features(out)
    with open_features(tmp_path / "features.h5.part") as f:
        assert len(f) == 6 or len(f) == 5
        np.testing.assert_array_equal(f[:], Fake().compute(data[: len(f)]))
    fake = Fake()
    featurize(data, out, fake, chunk_atoms=8)
    assert sum(fake.calls) == 10 and files(tmp_path) == ["features.h5"], "without resume everything is made anew"


def test_bad_frames_are_counted_in_the_input(out):
    data = frames()
    data[7].positions[0, 1] = np.nan
    with pytest.raises(InputError, match=r"^frame 7, atom 0 is at .*nan"):
        featurize(data, out, Fake(), chunk_atoms=8)
    assert files(out.parent) == ["features.h5.part", "features.h5.part.journal"], "good frames came before it"
    featurize(data, out, Fake(), chunk_atoms=8, on_error="skip", resume=True)
    with open_features(out) as f:
        assert len(f) == 9 and [x["number"] for x in f.skipped] == [7]


def test_output_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match=r"there is no folder .*nowhere; create it first"):
        featurize(frames(), tmp_path / "nowhere" / "f.h5", Fake())
    with pytest.raises(InputError, match="is a folder"):
        featurize(frames(), tmp_path, Fake())
    (tmp_path / "f.h5.part").mkdir()
    fake = Fake()
    with pytest.raises(InputError, match=r"cannot be written \(f.h5.part: Is a directory\); choose another folder"):
        featurize(frames(), tmp_path / "f.h5", fake)
    assert not fake.calls, "no work was done before the output was tried"


def test_what_is_no_descriptor(out):
    potential = fd.Potential(fd.GaussianMoments(species=["H"], cutoff=3.0, n_radial=1), hidden=())
    for wrong, message in (
        ("gaussian_moments", "a str; give one such as"),
        (fd.GaussianMoments, "a type; give one such as"),
        (potential, "a Potential; give its descriptor"),
    ):
        with pytest.raises(InputError, match=message):
            featurize(frames(), out, wrong)


@pytest.mark.parametrize("workers", [0, -1, 2.5, True, 10**9])
def test_workers_are_checked(out, workers):
    for name in ("workers", "readers")[: 1 + (workers != 0)]:
        with pytest.raises(InputError, match=f"{name} came as {workers}; it must be an integer from"):
            featurize(frames(), out, Fake(), **{name: workers})


def test_device_and_dtype_are_checked(out, monkeypatch):
    with pytest.raises(InputError, match="dtype 'float16'"):
        featurize(frames(), out, Fake(), dtype="float16")
    with pytest.raises(InputError, match="device 'gpu'"):
        featurize(frames(), out, Fake(), device="gpu")
    monkeypatch.setattr(cuda, "gpu_status", lambda: (False, "there is no GPU"))
    with pytest.raises(DeviceError, match="there is no GPU"):
        featurize(frames(), out, Fake(), device="cuda")
    assert files(out.parent) == []


# --- reading files that cannot be used


def test_unreadable_features_files(tmp_path, out):
    featurize(frames(), out, Fake())
    data = out.read_bytes()
    with pytest.raises(InputError, match="does not exist"):
        read_features(tmp_path / "nowhere.h5")
    with pytest.raises(InputError, match="is a folder"):
        read_features(tmp_path)
    for content, message in ((b"", "is empty"), (b"hello", "not an HDF5 file"), (data[: len(data) // 2], "truncated")):
        out.write_bytes(content)
        with pytest.raises(FileFormatError, match=message):
            read_features(out)
    with h5py.File(out, "w") as f:
        f["x"] = 1
    with pytest.raises(FileFormatError, match="of a kind fastdesc does not know"):
        read_features(out)
    out.write_bytes(data)
    with h5py.File(out, "r+") as f:
        f.attrs["format"] = "fastdesc-model"
    with pytest.raises(FileFormatError, match="of the kind 'fastdesc-model'; expected is 'fastdesc-features'"):
        read_features(out)
    with h5py.File(out, "r+") as f:
        f.attrs.update(format="fastdesc-features", format_version=VERSION + 1, fastdesc_version="9.9")
    with pytest.raises(FileFormatError, match=r"version 2 .*fastdesc 9.9.* reads up to version 1; upgrade"):
        read_features(out)
    with h5py.File(out, "r+") as f:
        f.attrs["format_version"] = VERSION
        del f["stress"]
    with pytest.raises(FileFormatError, match="is damaged"):
        read_features(out)


def test_a_file_cut_anywhere_is_named(out):
    featurize(frames(), out, Fake())
    data = out.read_bytes()
    for n in np.linspace(1, len(data) - 1, 40).astype(int):
        out.write_bytes(data[:n])
        with pytest.raises(FileFormatError, match=r"features.h5 (is not an HDF5 file|cannot be opened|is damaged)"):
            read_features(out)


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
