"""Files: what must not be overwritten, what a full disk leaves, and what a damaged file says."""

import os
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import pytest
from ase.io import write

import fastdesc as fd
from fastdesc.analysis.info import describe
from fastdesc.cli.demo import crystals
from fastdesc.errors import FastdescError, FileFormatError, InputError
from fastdesc.hdf5.files import as_path, check_apart, check_target, new_hdf5, whole_or_nothing, write_text
from fastdesc.hdf5.journal import StreamedFile
from fastdesc.training.checkpoint import read_checkpoint, write_checkpoint

# No file may grow beyond this: what a full disk does, without a disk.
LIMITED = """
import resource, signal, sys
from fastdesc.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Frames and a model."""
    folder = tmp_path_factory.mktemp("files")
    write(folder / "in.extxyz", crystals(8, 0))
    descriptor = fd.GaussianMoments(species=["Cu", "Au"], cutoff=4.0, n_radial=3)
    fd.Potential(descriptor, hidden=(16,)).save(folder / "model.h5")
    return folder


def names(folder):
    return sorted(p.name for p in folder.iterdir())


# --- what is not overwritten


def test_outputs_keep_apart(tmp_path):
    a, b = tmp_path / "a", str(tmp_path / "b")
    check_apart([a, b, None], [None, tmp_path / "c"])
    with pytest.raises(InputError, match="a would be written twice; give each output a name of its own"):
        check_apart([b, a, tmp_path / ".." / tmp_path.name / "a"])
    for read in (b, f"{b}.part"):
        with pytest.raises(InputError, match="b would be written over a file that is read; give the output another"):
            check_apart([a, b], [read])
    with pytest.raises(InputError, match="a would be written twice"):
        check_apart([f"{a}.part", a])
    for name in (3, "", "a\0b"):
        with pytest.raises(InputError, match="came where the name of a file belongs"):
            check_apart([name])
        with pytest.raises(InputError, match="came where the name of a file belongs"):
            as_path(name)


def test_a_file_of_another_kind_is_not_overwritten(folder):
    """Such as the frames to be read, when the two names are exchanged."""
    before = (folder / "in.extxyz").read_bytes()
    potential = fd.load(folder / "model.h5")
    for attempt in (
        lambda: fd.featurize(folder / "in.extxyz", folder / "in.extxyz", potential.descriptor, progress=False),
        lambda: potential.save(folder / "in.extxyz"),
        lambda: fd.convert(folder / "in.extxyz", folder / "in.extxyz", progress=False),
    ):
        with pytest.raises(InputError, match=r"in.extxyz (would be written over|exists and is not a file of the kind)"):
            attempt()
    with pytest.raises(InputError, match=r"model.h5 exists and is not a file of the kind 'fastdesc-features'"):
        fd.featurize(folder / "in.extxyz", folder / "model.h5", potential.descriptor, progress=False)
    with pytest.raises(InputError, match=r"model.h5 exists and is not a file of the kind 'fastdesc-checkpoint'"):
        fd.train(potential, folder / "in.extxyz", epochs=1, progress=False, checkpoint=folder / "model.h5")
    assert (folder / "in.extxyz").read_bytes() == before and names(folder) == ["in.extxyz", "model.h5"]
    fd.load(folder / "model.h5").save(folder / "model.h5")


def test_only_a_file_of_its_kind_gives_way_to_a_potential_for_lammps(folder, tmp_path):
    filters = fd.SplineFilters(species=["Cu"], n_pair=1, n_triplet=1)
    potential = fd.Potential(filters, network="spline", direct=["pair_0"], bias=False)
    potential.save(tmp_path / "model.h5")
    (tmp_path / "cut.spline").write_text("#\nmeam/spline 1 Cu\n")
    for name in ("model.h5", "cut.spline", folder / "in.extxyz"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(InputError, match=r"exists and is no meam/spline file; choose another name, or remove it"):
            fd.write_meam_spline(tmp_path / name, potential)
        assert (tmp_path / name).read_bytes() == before
    for form in ("named", "single", "single", "named"):
        fd.write_meam_spline(tmp_path / "cu.spline", potential, form=form)
    assert names(tmp_path) == ["cu.spline", "cut.spline", "model.h5"]


def test_an_empty_file_may_be_filled(tmp_path):
    (tmp_path / "x.h5").touch()
    write_checkpoint(tmp_path / "x.h5", {"a": 1})
    write_checkpoint(tmp_path / "x.h5", {"a": 2})
    assert read_checkpoint(tmp_path / "x.h5") == {"a": 2}


def test_devices_folders_and_places_below_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    for path, message in (
        (tmp_path, "is a folder; name a file in it"),
        (tmp_path / "pipe", "is a device or a pipe; name a file"),
        ("/dev/null", "is a device or a pipe; name a file"),
        (tmp_path / "file" / "x", "file is no folder; choose one"),
        (tmp_path / "no" / "x", "there is no folder .*no; create it first"),
        ("/proc/x", r"/proc/x cannot be written \(.*\); choose another folder"),
    ):
        with pytest.raises(InputError, match=message):
            check_target(path)
    assert names(tmp_path) == ["file", "pipe"]


# --- full disks


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        (("featurize", "in.extxyz", "out.h5", "--cutoff", "4", "--quiet"), 40_000),
        (("featurize", "in.extxyz", "out.h5", "--cutoff", "4", "--quiet", "--resume"), 40_000),
        (("convert", "in.extxyz", "out.h5", "--quiet"), 4_000),
        (("evaluate", "model.h5", "in.extxyz", "--predictions", "out.h5"), 2_000),
        (("evaluate", "model.h5", "in.extxyz", "--plot", "out.png"), 2_000),
        (("train", "c.toml", "--quiet"), 4_000),
    ],
    ids=lambda x: x[0] if isinstance(x, tuple) else None,
)
def test_a_full_disk_is_told_in_one_sentence(folder, tmp_path, words, limit):
    """HDF5 left to itself prints pages of tracebacks and crashes when Python ends."""
    for name in names(folder):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    text = '[data]\ntrain = "in.extxyz"\n[descriptor]\ncutoff = 4\n[training]\nepochs = 1\n'
    (tmp_path / "c.toml").write_text(text)
    before = names(tmp_path)
    command = [sys.executable, "-c", LIMITED, str(limit), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr[-2000:]
    assert done.stderr.startswith("fastdesc: ") and done.stderr.count("\n") == 1, done.stderr[-2000:]
    assert "File too large" in done.stderr
    left = [name for name in names(tmp_path) if name not in before]
    assert left == (["fastdesc-run"] if words[0] == "train" else [])
    if words[0] == "train":
        assert names(tmp_path / "fastdesc-run") == ["config.toml", "history.csv"]    # written line by line


def test_failed_writes_wait_for_their_check(tmp_path, monkeypatch):
    def no_room(fd, data, offset):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as error, StreamedFile(tmp_path / "x") as file:
        file.write(b"before")
        monkeypatch.setattr(os, "pwrite", no_room)
        file.write(b"lost")
        file.seek(0)
        assert file.read() == b"beforelost", "what follows sees what was written"
    assert error.value.filename == str(tmp_path / "x")


def test_errors_without_a_name_get_one(tmp_path):
    with pytest.raises(OSError, match="No space") as error, whole_or_nothing(tmp_path / "x"):
        raise OSError(28, "No space left on device")
    assert error.value.filename == str(tmp_path / "x") and names(tmp_path) == []
    write_text(tmp_path / "x", "text")
    assert names(tmp_path) == ["x"]


def test_an_error_while_a_file_is_made_leaves_the_old_one(tmp_path):
    write_checkpoint(tmp_path / "x.h5", {"a": 1})
    with pytest.raises(ZeroDivisionError), new_hdf5(tmp_path / "x.h5", "fastdesc-checkpoint", 1) as file:
        file["a"] = 1 / 0
    assert read_checkpoint(tmp_path / "x.h5") == {"a": 1} and names(tmp_path) == ["x.h5"]


# --- damaged files


@pytest.fixture
def damaged(folder, tmp_path):
    """Return a function that copies the model and damages the copy."""

    def damaged(change):
        path = tmp_path / "damaged.h5"
        path.write_bytes((folder / "model.h5").read_bytes())
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    return damaged


def replaced(name, value):
    def change(file):
        del file[name]
        if value is not None:
            file[name] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.attrs.__setitem__("format_version", "x"),
        lambda f: f.attrs.__setitem__("format_version", np.nan),
        lambda f: f.attrs.__setitem__("descriptor", "[]"),
        lambda f: f.attrs.__setitem__("descriptor", "null"),
        lambda f: f.attrs.__setitem__("descriptor", 3),
        lambda f: f.attrs.__setitem__("descriptor", '{"family": [], "arguments": {}}'),
        lambda f: f.attrs.__setitem__("potential", "[]"),
        replaced("parameters", 3.0),
        replaced("parameters", None),
        replaced("parameters/scale", "words"),
        replaced("reference", ["a", "b"]),
        replaced("reference", [np.inf, 0.0]),
        replaced("scaler/mean", [1.0]),
        lambda f: f["scaler/scale"].__setitem__(0, 0.0),
    ],
)
def test_a_model_with_anything_wrong_is_named(damaged, change):
    path = damaged(change)
    with pytest.raises(FileFormatError, match=r"damaged.h5"):
        fd.load(path)


def test_a_model_with_wrong_bytes_is_named(folder, tmp_path):
    """Whatever HDF5 raises: an error with the file's name, or the wrong byte was in no place that matters."""
    whole, path, rng = (folder / "model.h5").read_bytes(), tmp_path / "damaged.h5", np.random.default_rng(0)
    refused = 0
    for _ in range(40):
        data = bytearray(whole)
        for k in rng.integers(0, len(data), 60):
            data[k] = rng.integers(256)
        path.write_bytes(data)
        for read in (fd.load, describe):
            try:
                read(path)
            except FastdescError as error:
                refused += 1
                assert "damaged.h5" in str(error)
    assert refused > 40


def test_features_with_wrong_contents_are_named(folder, tmp_path):
    descriptor = fd.load(folder / "model.h5").descriptor
    path = fd.featurize(folder / "in.extxyz", tmp_path / "f.h5", descriptor, progress=False)
    with h5py.File(path, "r+") as f:
        f["numbers"][0] = 500
    with pytest.raises(FileFormatError, match=r"f.h5 is damaged"):
        describe(path)


FORBIDDEN = """
import os, sys
from fastdesc.cli import main
from fastdesc.errors import FastdescError
from fastdesc.hdf5.files import open_hdf5
import fastdesc.analysis.info, fastdesc.io.frames_file
if os.geteuid() == 0:    # root may read everything
    os.setresuid(65534, 65534, 65534)
sys.exit(main(["info", sys.argv[1]]))
"""


def test_a_file_that_may_not_be_read_is_not_called_damaged():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = os.path.join(folder, "x.h5")
        with new_hdf5(path, "kind", 1):
            pass
        os.chmod(path, 0o000)
        words = [sys.executable, "-c", FORBIDDEN, path]
        found = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert (found.returncode, found.stderr) == (2, f"fastdesc: {path}: Permission denied\n")
