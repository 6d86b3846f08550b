"""Featurizing that fails: nothing half-written stays; what cannot be used, written or read is named."""

import h5py
import numpy as np
import pytest
from helpers.featurizing import Fake, files, frames

import fastdesc as fd
from fastdesc.backend import cuda
from fastdesc.errors import DeviceError, FileFormatError, InputError
from fastdesc.features import featurize, open_features, read_features
from fastdesc.features.layout import VERSION


@pytest.fixture
def out(tmp_path):
    return tmp_path / "features.h5"


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
