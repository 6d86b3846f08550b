"""Bad frames among good ones: named, stepped over, listed."""

import pickle
import random

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from ase.io.extxyz import key_val_str_to_dict
from helpers.featurizing import Fake, frames, messy

from fastdesc.errors import FileFormatError, InputError
from fastdesc.features import convert, featurize, open_features
from fastdesc.io import frames_file
from fastdesc.io.extxyz_header import _header
from fastdesc.io.frames import read_frames
from fastdesc.io.sources import Source, build


@pytest.mark.parametrize("batch_atoms", [1, 30, 10**6])
def test_frames_of_slabs_make_the_batches_of_single_frames(tmp_path, monkeypatch, batch_atoms):
    """Gathered by runs of slabs, or one by one after a journey to another process, batches are the same."""
    monkeypatch.setattr(frames_file, "SLAB", 7)
    data = frames(40)
    data[4].info["method"] = "PBE"
    data[9].calc = None
    source = Source([convert(data[:25], tmp_path / "a.h5"), convert(data[25:], tmp_path / "b.h5")])
    for raw in source.raw_batches(batch_atoms):
        for some in (raw, raw[::3], raw[:1] + raw[5:]):
            a, b = build(some, source.files), build(pickle.loads(pickle.dumps(some)), source.files)
            assert isinstance(pickle.loads(pickle.dumps(some))[0][3], dict) and a.infos == b.infos
            for name in ("energies", "forces", "stress", "number", "file", "index"):
                np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
                assert getattr(a, name).dtype == getattr(b, name).dtype
            for name in ("numbers", "positions", "cells", "pbc", "first"):
                np.testing.assert_array_equal(getattr(a.structures, name), getattr(b.structures, name))
                assert getattr(a.structures, name).dtype == getattr(b.structures, name).dtype
    assert read_frames(tmp_path / "b.h5") == data[25:]


def test_a_stored_frame_without_atoms_is_named(tmp_path):
    """Our own `convert` writes none, but a file may come from elsewhere."""
    out = convert(frames(3), tmp_path / "x.h5")
    with h5py.File(out, "r+") as f:
        f["offsets"][2] = f["offsets"][1]
    source = Source(out)
    (raw,) = source.raw_batches(1000)
    with pytest.raises(InputError, match="frame 1 has no atoms"):
        build(raw, source.files)
    assert [s.number for s in build(raw, source.files, "skip").skipped] == [1]


@pytest.mark.parametrize("compress", [False, True])
def test_parse_errors_are_stepped_over(tmp_path, compress):
    path = tmp_path / ("in.extxyz.gz" if compress else "in.extxyz")
    messy(path, compress)
    out = featurize(path, tmp_path / "f.h5", Fake(), on_error="skip", chunk_atoms=20)
    with open_features(out) as f:
        ids = [int(x) for x in f.table()["id"]]
        assert ids[:4] == [0, 1, 3, 4] and {7, 8} <= set(ids) and 2 not in ids and 5 not in ids and 9 not in ids
        reasons = [s["reason"] for s in f.skipped]
        assert "nonsense" in reasons[0] and "ends inside a frame" in reasons[-1]
        numbers = sorted([*f.table()["number"].tolist(), *(s["number"] for s in f.skipped)])
        assert numbers == list(range(len(numbers))), "every frame has one number, skipped or not"
        assert f.table()["index"].tolist() == f.table()["number"].tolist()
    with pytest.raises(FileFormatError, match="nonsense"):
        featurize(path, tmp_path / "g.h5", Fake())


def test_a_file_that_breaks_does_not_stop_the_others(tmp_path):
    write(tmp_path / "a.traj", frames(4))
    data = (tmp_path / "a.traj").read_bytes()
    (tmp_path / "a.traj").write_bytes(data[: len(data) * 2 // 3])
    write(tmp_path / "b.traj", frames(3))
    out = featurize(tmp_path / "?.traj", tmp_path / "f.h5", Fake(), on_error="skip")
    with open_features(out) as f:
        assert [s["file"] for s in f.skipped] == ["a.traj"] and f.table()["file"].tolist()[-3:] == [1, 1, 1]


def test_a_skipped_frame_is_named_by_its_index_in_its_file(tmp_path):
    """In the second of two files: one that cannot be parsed, one that the descriptor refuses; numbers run on."""
    write(tmp_path / "a.extxyz", frames(3))
    bad = frames(5)
    bad[3].positions[0] = np.nan
    write(tmp_path / "b.extxyz", bad)
    text = (tmp_path / "b.extxyz").read_text().split("\n")
    at = len(bad[0]) + 2    # the header of the second frame
    text[at + 2] = "Cu nonsense 0 0"
    (tmp_path / "b.extxyz").write_text("\n".join(text))
    out = featurize(tmp_path / "?.extxyz", tmp_path / "f.h5", Fake(), on_error="skip")
    with open_features(out) as f:
        assert [(s["file"], s["index"], s["number"]) for s in f.skipped] == [("b.extxyz", 1, 4), ("b.extxyz", 3, 6)]
        table = f.table()
        assert table["index"].tolist() == [0, 1, 2, 0, 2, 4] and table["number"].tolist() == [0, 1, 2, 3, 5, 7]


def test_labels_of_the_wrong_shape_are_skipped(tmp_path):
    data = frames(6)
    data[2].calc.results["forces"] = np.zeros((2, 3))
    data[3].calc.results["stress"] = np.zeros(4)
    data[5] = Atoms()
    with open_features(featurize(data, tmp_path / "f.h5", Fake(), on_error="skip")) as f:
        assert [s["number"] for s in f.skipped] == [2, 3, 5] and len(f) == 3
    with pytest.raises(InputError, match="frame 2 has a label of the wrong shape"):
        featurize(data, tmp_path / "f.h5", Fake())
    with pytest.raises(InputError, match="on_error 'ignore' arrived"):
        featurize(data, tmp_path / "f.h5", Fake(), on_error="ignore")


def test_all_frames_bad(tmp_path):
    with open_features(featurize([Atoms("Au")], tmp_path / "f.h5", Fake(), on_error="skip")) as f:
        assert len(f) == 0 and f[:].shape == (0, 2) and len(f.skipped) == 1 and list(f) == []


def test_headers_as_ase_reads_them():
    """The quick way through comment lines gives what ASE's way gives, type by type."""
    rng = random.Random(0)
    keys = ["energy", "step", "Lattice", "stress", "pbc", "name", "x-y", "virial", "comment", "config_type", "t"]
    values = [
        "1", "-1.5", "+3e-5", "T", "F", '"T F T"', '"1 2 3"', "abc", '"a b"', '"1.0 2 3 4 5 6 7 8 9"', "1e400", "nan",
        "07", '"{1 2}"', "[1,2]", "1,2", "None", "True", '""', "1_000", "9999999999999999999999", ".5", "5.", "'a b'",
        "é", "a=b",
    ]  # fmt: skip
    for _ in range(3000):
        words = [f"{rng.choice(keys)}={rng.choice(values)}" for _ in range(rng.randint(1, 5))]
        if rng.random() < 0.2:
            words.insert(rng.randint(0, len(words)), rng.choice(["T", "alone", '"q r"']))
        line = rng.choice([" ", "  "]).join(words)
        try:
            want = key_val_str_to_dict(line)
        except Exception as error:
            with pytest.raises(type(error)):
                _header(line)
            continue
        got = _header(line)
        assert list(got) == list(want), line
        for key in want:
            assert type(got[key]) is type(want[key]), (line, key)
            np.testing.assert_array_equal(got[key], want[key], err_msg=line)
