"""Where frames come from: every kind of input gives the same features file; bad frames are named and stepped over."""

import gzip
import os
import pickle
import random
import signal
import time
import weakref
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.io.extxyz import key_val_str_to_dict
from test_dataset import Fake, frames

import fastdesc as fd
from fastdesc import frames_file, reading
from fastdesc.batch import Batch
from fastdesc.cli import main
from fastdesc.dataset import convert, featurize, open_features
from fastdesc.errors import FastdescError, FileFormatError, InputError
from fastdesc.extxyz import _header
from fastdesc.features import FeaturesWriter
from fastdesc.frames import elements, read_frames
from fastdesc.frames_file import SLAB, iread_frames_file
from fastdesc.pipeline import AHEAD
from fastdesc.sources import Source, build


def table(path):
    with open_features(path) as f:
        names = ("energies", "forces", "stress", "numbers", "offsets", "number", "index", "file")
        return {"features": f[:], **{name: f.file[name][...] for name in names}, "id": f.table().get("id")}


def same(a, b, exact=True):
    for name in a:
        if a[name] is not None and b[name] is not None:
            np.testing.assert_allclose(a[name], b[name], rtol=0, atol=0 if exact else 1e-7, err_msg=name)


@pytest.fixture
def memory(tmp_path):
    """What frames handed over in memory give."""
    return table(featurize(frames(), tmp_path / "memory.h5", Fake(), chunk_atoms=16))


@pytest.mark.parametrize("suffix", ["traj", "extxyz", "extxyz.gz", "db", "h5", "json"])
def test_every_kind_of_file(tmp_path, memory, suffix):
    path = tmp_path / f"frames.{suffix}"
    if suffix == "h5":
        convert(frames(), path)
    elif suffix == "db":
        import ase.db

        with ase.db.connect(path) as db:
            for atoms in frames():
                db.write(atoms, id_in_run=atoms.info["id"])
    else:
        write(path, frames(), **({"format": "extxyz"} if "xyz" in suffix else {}))
    found = table(featurize(path, tmp_path / "f.h5", Fake(), chunk_atoms=16))
    assert (found.pop("file") == 0).all()
    memory["id"] = memory["id"] if suffix not in ("db", "json") else None
    same(found, memory, exact=suffix in ("h5", "traj"))
    if suffix == "db":
        with open_features(tmp_path / "f.h5") as f:
            assert f.table()["id_in_run"].tolist() == list(range(10))
    assert Source(path).n_frames == (10 if suffix in ("db", "h5") else None)
    assert elements(path) == ["Cu"]


def test_globs_and_lists_of_paths(tmp_path, memory):
    data = frames()
    for name, part in (("a.traj", data[:3]), ("b.extxyz", data[3:4]), ("c.traj", data[4:])):
        write(tmp_path / name, part)
    paths = [tmp_path / n for n in ("a.traj", "b.extxyz", "c.traj")]
    for given in (paths, [str(tmp_path / "[ab].*"), tmp_path / "c.traj"], tmp_path / "*[!5]"):
        found = table(featurize(given, tmp_path / "f.h5", Fake(), chunk_atoms=16))
        (tmp_path / "f.h5").unlink()
        (tmp_path / "memory.h5").unlink(missing_ok=True)
        assert found["file"].tolist() == [0, 0, 0, 1, 2, 2, 2, 2, 2, 2]
        assert found["index"].tolist() == [0, 1, 2, 0, 0, 1, 2, 3, 4, 5]
        for name in ("file", "index"):
            found[name] = memory[name]
        same(found, memory, exact=False)
    assert len(read_frames(tmp_path / "?.*")) == len(read_frames(paths)) == 10
    with pytest.raises(InputError, match="no file matches"):
        Source(tmp_path / "*.cif")
    with pytest.raises(InputError, match=r"nowhere.xyz does not exist"):
        Source([tmp_path / "a.traj", tmp_path / "nowhere.xyz"])


def test_other_input_is_refused(tmp_path):
    data, out = frames(), tmp_path / "f.h5"
    write(tmp_path / "a.traj", data[:5])
    write(tmp_path / "b.traj", data[5:])
    with pytest.raises(KeyboardInterrupt):
        featurize([tmp_path / "a.traj", tmp_path / "b.traj"], out, Fake(fails_at=7), chunk_atoms=8)
    with pytest.raises(InputError, match=r"another input \(file 0 was a.traj, now b.traj\)"):
        featurize(tmp_path / "b.traj", out, Fake(), resume=True)
    with pytest.raises(InputError, match=r"other settings \(pool: none, now mean\)"):
        featurize([tmp_path / "a.traj", tmp_path / "b.traj"], out, Fake(), resume=True, pool="mean")
    with pytest.raises(InputError, match=r"other settings \(jacobian"):
        featurize([tmp_path / "a.traj", tmp_path / "b.traj"], out, Fake(), resume=True, jacobian=True)
    data[2].positions[0, 0] += 0.01
    write(tmp_path / "a.traj", data[:5])
    with pytest.raises(InputError, match="frame 2 of the input is not the one in"):
        featurize([tmp_path / "a.traj", tmp_path / "b.traj"], out, Fake(), resume=True)


def test_a_finished_file_of_untouched_input_is_left_alone(tmp_path):
    source, out = tmp_path / "a.traj", tmp_path / "f.h5"
    write(source, frames())
    featurize(source, out, Fake())
    before = out.stat().st_mtime_ns, out.stat().st_ino
    fake = Fake()
    assert featurize(source, out, fake, resume=True) == out and not fake.calls
    assert (out.stat().st_mtime_ns, out.stat().st_ino) == before
    with pytest.raises(InputError, match=r"scale 1\.0, now 2\.0"):
        featurize(source, out, Fake(scale=2.0), resume=True)
    write(source, frames(12))
    featurize(source, out, fake, resume=True)
    assert fake.calls == [2] and len(table(out)["energies"]) == 12


# --- convert


def test_convert_keeps_everything(tmp_path, capsys):
    data = frames(SLAB + 10)
    data[3] = Atoms("H2O", [[0, 0, 0], [0, 0, 1], [0, 1, 0]])
    data[4].pbc = [True, False, True]
    data[5].info.update(method="PBE", converged=True)
    data[6].calc = SinglePointCalculator(data[6], energy=-3.0)
    out = tmp_path / "x.h5"
    assert convert(data, out, compression="lzf") == out
    back = read_frames(out)
    assert back == data
    assert back[5].info["method"] == "PBE" and back[5].info["converged"] == 1 and "method" not in back[6].info
    assert back[6].get_potential_energy() == -3.0 and "forces" not in back[6].calc.results
    np.testing.assert_array_equal(back[7].get_forces(), data[7].get_forces())
    np.testing.assert_allclose(back[7].get_stress(), data[7].get_stress(), atol=1e-15)
    assert [f.as_dict()["info"].get("id") for f in iread_frames_file(out)] == [a.info.get("id") for a in data]
    with fd.open_features(featurize(out, tmp_path / "f.h5", Fake())) as f:
        assert len(f) == len(data)
    assert main(["info", str(out)]) == 0
    assert f"{SLAB + 10} frames" in capsys.readouterr().out
    write(tmp_path / "x.extxyz", data[:4])
    assert main(["convert", str(tmp_path / "x.extxyz"), str(tmp_path / "y.h5"), "--quiet"]) == 0
    assert "4 frames (2 with energy" in capsys.readouterr().out
    for wrong in (tmp_path / "f.h5",):
        with pytest.raises(FileFormatError, match="expected is 'fastdesc-frames'"):
            read_frames(wrong)
    data = bytearray(out.read_bytes())
    out.write_bytes(data[: len(data) // 2])
    with pytest.raises(FileFormatError, match="truncated"):
        read_frames(out)


# --- bad frames


def messy(path, compress=False):
    """Ten frames; 2 has a word for a number, 5 loses a line (and takes 6 with it), the last is cut short."""
    plain = path.with_suffix("") if compress else path
    write(plain, frames(), format="extxyz")
    lines = plain.read_text().splitlines(keepends=True)
    starts = [k for k, line in enumerate(lines) if line.strip().isdecimal()]
    lines[starts[2] + 2] = "Cu nonsense 0 0 0 0 0\n"
    lines[starts[5] + 3] = ""
    text = "".join(lines[:-1])
    if compress:
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


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


# --- processes that parse


def batches_of(path, readers, **keywords):
    source = Source(path)
    return list(reading.batches(source, source.raw_batches(20), readers=readers, **keywords))


def test_reading_by_processes(tmp_path):
    path = tmp_path / "in.extxyz"
    messy(path)
    here, there = batches_of(path, 0, on_error="skip"), batches_of(path, 2, on_error="skip")
    assert len(here) == len(there) > 3
    for a, b in zip(here, there, strict=True):
        assert a.skipped == b.skipped and a.infos == b.infos
        np.testing.assert_array_equal(a.keys(), b.keys())
        np.testing.assert_array_equal(a.forces, b.forces)
    with pytest.raises(FileFormatError, match="nonsense"):
        batches_of(path, 1)


def test_a_parsing_process_that_dies_is_replaced(tmp_path, monkeypatch):
    path = tmp_path / "in.extxyz"
    write(path, frames())
    begin, killed = reading._Worker.begin, []

    def killing(self, raw):
        begin(self, raw)
        if len(killed) < 2:
            killed.append(os.kill(self.process.pid, signal.SIGKILL))

    with monkeypatch.context() as patch:
        patch.setattr(reading._Worker, "begin", killing)
        got = batches_of(path, 1)
    assert len(killed) == 2
    for a, b in zip(got, batches_of(path, 0), strict=True):
        np.testing.assert_array_equal(a.keys(), b.keys())
    monkeypatch.setattr(reading, "SERVE", "import sys; sys.exit(3)")
    with pytest.raises(FastdescError, match=r"died 3 times on one batch \(exit code 3\)"):
        batches_of(path, 1)


def test_readers_follow_the_input(tmp_path, monkeypatch):
    path = tmp_path / "in.extxyz"
    write(path, frames())
    assert reading.default_readers(Source(path), 64) == 0
    monkeypatch.setattr(reading, "WORTH_PROCESSES", 100)
    assert [reading.default_readers(Source(path), n) for n in (2, 4, 16, 64)] == [0, 1, 4, 8]
    assert reading.default_readers(Source(frames()), 64) == 0
    with pytest.raises(InputError, match="readers came as -1"):
        featurize(path, tmp_path / "f.h5", Fake(), readers=-1)
    same(
        table(featurize(path, tmp_path / "f.h5", Fake(), readers=1, chunk_atoms=20)),
        table(featurize(path, tmp_path / "g.h5", Fake(), readers=0, chunk_atoms=20)),
    )


def test_length_is_estimated_while_reading(tmp_path):
    for name in ("in.extxyz", "in.extxyz.gz"):
        path = tmp_path / name
        write(path, frames(60) * 20, format="extxyz")
        source, seen = Source(path), []
        for number, (file, index, _, _) in enumerate(source.raw_frames()):
            assert (file, index) == (0, number)
            seen.append(source.estimate(number + 1))
        assert 600 < seen[700] < 2400 and seen[-1] == 1200
    assert Source([path, path]).estimate(0) is None
    assert build(next(iter(source.raw_batches(8))), [Path("x")]).n_frames >= 1


@pytest.mark.parametrize("slow", ["reader", "compute", "writer"])
def test_few_batches_are_alive_at_a_time(tmp_path, monkeypatch, slow):
    """Whichever stage is slow, the others wait for it: memory does not grow with the input."""
    alive, most, init = weakref.WeakSet(), [], Batch.__init__
    forward, append = Fake.forward, FeaturesWriter.append

    def counted(self, *args):
        init(self, *args)
        alive.add(self)
        most.append(len(alive))
        time.sleep(0.01 * (slow == "reader"))

    def computing(*args):
        time.sleep(0.01 * (slow == "compute"))
        return forward(*args)

    def writing(*args):
        time.sleep(0.01 * (slow == "writer"))
        return append(*args)

    monkeypatch.setattr(Batch, "__init__", counted)
    monkeypatch.setattr(Fake, "forward", computing)
    monkeypatch.setattr(FeaturesWriter, "append", writing)
    write(tmp_path / "in.extxyz", frames() * 6)
    featurize(tmp_path / "in.extxyz", tmp_path / "f.h5", Fake(), chunk_atoms=4)
    assert len(most) == 60 and max(most) <= 2 * AHEAD + 5
