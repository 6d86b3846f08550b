"""Arguments and surroundings out of the ordinary: one sentence, and nothing is left behind."""

import os
import threading
from fractions import Fraction

import numpy as np
import pytest
from helpers.featurizing import Fake, files, frames

from fastdesc.cli import main
from fastdesc.errors import FastdescError, InputError
from fastdesc.features import convert, featurize, open_features, read_frames

ODD = [np.array(3), np.array([1, 2]), {}, Fraction(1, 2), float("nan"), object(), (x for x in ())]


@pytest.mark.parametrize("odd", ODD, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize(
    "name",
    ["frames", "chunk_atoms", "pool", "on_error", "compression", "resume", "progress", "jacobian", "readers", "workers",
     "device", "dtype", "energy_key"],
)  # fmt: skip
def test_odd_arguments_are_refused(tmp_path, name, odd):
    arguments = {"frames": frames(2), "out": tmp_path / "f.h5", "descriptor": Fake(), "progress": False} | {name: odd}
    with pytest.raises(InputError):
        featurize(**arguments)
    if name in ("frames", "on_error", "compression", "progress", "energy_key"):
        del arguments["descriptor"]
        with pytest.raises(InputError):
            convert(**arguments)
    assert files(tmp_path) == []


def test_none_is_no_number_of_atoms(tmp_path):
    with pytest.raises(InputError, match="chunk_atoms came as None; it must be an integer of at least 1"):
        featurize(frames(2), tmp_path / "f.h5", Fake(), chunk_atoms=None)


@pytest.mark.parametrize("source", [np.array(3), 3, None])
def test_no_frames(source):
    with pytest.raises(InputError, match=r"frames must be an ase.Atoms, a list of them or a path, and a .* arrived"):
        read_frames(source)


def test_convert_takes_finite_frames_only(tmp_path):
    data = frames(4)
    data[1].positions[2, 0] = np.nan
    data[3].cell[0, 0] = np.inf
    with pytest.raises(InputError, match=r"frame 1, atom 2 is at \[.*nan.*\]; positions must be finite"):
        convert(data, tmp_path / "f.h5", progress=False)
    _, skipped = convert(data, tmp_path / "f.h5", progress=False, on_error="skip", report=True)
    assert [s["number"] for s in skipped] == [1, 3] and len(read_frames(tmp_path / "f.h5")) == 2


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed(tmp_path, there):
    """The file it leads to is written; the link stays one."""
    (tmp_path / "disk").mkdir()
    for name, write in (("f.h5", lambda out: featurize(frames(2), out, Fake(), progress=False)),
                        ("g.h5", lambda out: convert(frames(2), out, progress=False))):  # fmt: skip
        link, target = tmp_path / name, tmp_path / "disk" / name
        if there:
            write(target)
        link.symlink_to(target)
        assert write(link) == link
        assert link.is_symlink() and target.is_file() and not target.is_symlink()
    with open_features(tmp_path / "f.h5") as f:
        assert len(f) == 2
    assert files(tmp_path) == ["disk", "f.h5", "g.h5"] and files(tmp_path / "disk") == ["f.h5", "g.h5"]


def test_a_umask_that_forbids_reading(tmp_path):
    before = os.umask(0o777)
    try:
        with pytest.raises(InputError, match="could not be read after it was written: the umask forbids it"):
            featurize(frames(2), tmp_path / "f.h5", Fake(), progress=False)
    finally:
        os.umask(before)
    assert files(tmp_path) == []


def test_no_thread_to_be_had(tmp_path, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(FastdescError, match="no thread could be started"):
        featurize(frames(2), tmp_path / "f.h5", Fake(), progress=False)
    assert files(tmp_path) == []


def test_brackets_without_end(tmp_path, capsys):
    (tmp_path / "c.toml").write_text("x = " + "[" * 5000)
    assert main(["train", str(tmp_path / "c.toml")]) == 2
    assert main(["featurize", "x.xyz", "f.h5", "--set", "n_radial=" + "[" * 5000]) == 2
    assert capsys.readouterr().err.count("\n") == 2
