"""Where frames come from: every kind of input gives the same features file."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from helpers.featurizing import Fake, frames, same, table

import fastdesc as fd
from fastdesc.cli import main
from fastdesc.errors import FileFormatError, InputError
from fastdesc.features import convert, featurize, open_features
from fastdesc.io.frames import read_frames
from fastdesc.io.frames_file import SLAB, iread_frames_file
from fastdesc.io.sources import Source, elements


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


@pytest.mark.parametrize("name", ["relax.traj@2", "t@1.traj", "job-2024@host.traj", "a@1.json", "d@1.db", "-", "a@:"])
def test_a_name_is_a_name(tmp_path, monkeypatch, name):
    """ASE reads part of a name after @ as an index and `-` as standard input; the file of that name has the frames."""
    monkeypatch.chdir(tmp_path)
    kind = "db" if ".db" in name else "json" if ".json" in name else "traj"
    for n, target in ((5, name.partition("@")[0].strip("-") or "other"), (3, name)):    # the first is not to be read
        write(f"made.{kind}", frames(n))
        (tmp_path / f"made.{kind}").rename(target)
    for read in (read_frames(name), read_frames(tmp_path / name), read_frames(convert(name, "out.h5", progress=False))):
        assert len(read) == 3
        np.testing.assert_array_equal(read[2].positions, frames(3)[2].positions)
