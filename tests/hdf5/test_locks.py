"""One writer for each name, from the first look to the last rename."""

import os
import subprocess
import sys

import pytest
from helpers.featurizing import Fake, frames

from fastdesc.errors import InputError
from fastdesc.features import featurize, open_features, stream
from fastdesc.features.writer import FeaturesWriter
from fastdesc.hdf5 import locks
from fastdesc.hdf5.files import check_target, whole_or_nothing, write_text
from fastdesc.hdf5.journal import JournaledFile
from fastdesc.hdf5.locks import WriteLock

pytest.importorskip("fcntl")
BUSY = "is being written by another process; wait for it, or choose another name"


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def lock_elsewhere(path):
    """Try to take a lock in another process; return what it says."""
    code = f"from fastdesc.hdf5.locks import WriteLock; WriteLock({str(path)!r})"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr


def test_one_at_a_time_and_nothing_is_left(tmp_path):
    path = tmp_path / "x"
    with WriteLock(path):
        with pytest.raises(InputError, match=BUSY):
            WriteLock(path)
        assert BUSY in lock_elsewhere(path)
        assert names(tmp_path) == ["x.lock"]
    assert names(tmp_path) == []
    assert BUSY not in lock_elsewhere(path)


def test_a_lock_that_was_removed_is_no_lock(tmp_path, monkeypatch):
    """Opened before its last holder removed it, locked after: somebody else may hold the new file of that name."""
    path, opened = tmp_path / "x", os.open
    first = WriteLock(path)

    def open_late(name, flags, mode=0o777):
        fd = opened(name, flags, mode)
        first.release()
        return fd

    monkeypatch.setattr(locks.os, "open", open_late)
    with WriteLock(path):
        monkeypatch.undo()
        assert names(tmp_path) == ["x.lock"]
        assert BUSY in lock_elsewhere(path)


def test_a_writer_that_looks_at_its_own_file_keeps_it(tmp_path, monkeypatch):
    """Closing any descriptor of a file drops the POSIX locks that the process has on it."""
    monkeypatch.setattr(stream, "COMMIT_SECONDS", 0)
    writer = FeaturesWriter(tmp_path / "f.h5", Fake(), "float64", resume=False)
    writer.commit()
    assert writer.n_committed() == 0
    open_features(writer.part).close()
    assert BUSY in lock_elsewhere(writer.part)
    with pytest.raises(InputError, match=BUSY):
        featurize(frames(), tmp_path / "f.h5", Fake(), progress=False)
    writer.abandon()
    assert names(tmp_path) == []


@pytest.mark.parametrize("resume", [True, False])
def test_nothing_is_discarded_between_a_look_and_a_lock(tmp_path, resume):
    """A second run that begins while a first one writes leaves its file alone, whichever it would do first."""
    first = FeaturesWriter(tmp_path / "f.h5", Fake(), "float64", resume=False)
    before = names(tmp_path)
    with pytest.raises(InputError, match=BUSY):
        FeaturesWriter(tmp_path / "f.h5", Fake(), "float64", resume=resume)
    check_target(tmp_path / "f.h5")    # looks, and touches nothing
    assert names(tmp_path) == before
    first.finish()
    assert names(tmp_path) == ["f.h5"]


def test_whole_files_have_one_writer_too(tmp_path):
    with whole_or_nothing(tmp_path / "x") as part:
        part.write_text("first")
        with pytest.raises(InputError, match=BUSY):
            write_text(tmp_path / "x", "second")
    assert (tmp_path / "x").read_text() == "first" and names(tmp_path) == ["x"]


@pytest.fixture
def no_locks(monkeypatch):
    """A file system without locks."""

    def flock(fd, operation):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", flock)


def test_where_there_are_no_locks_a_file_that_is_not_ours_gets_no_name(tmp_path, no_locks):
    """The file beside us was put there by another run; renamed, it would be half a file under the final name."""
    taken = r"another process wrote .*[xy] at the same time"
    with pytest.raises(InputError, match=taken), whole_or_nothing(tmp_path / "x"):
        (tmp_path / "x.part").unlink()
        (tmp_path / "x.part").write_text("half of ano")
    assert names(tmp_path) == ["x.part"]
    file = JournaledFile(tmp_path / "y.part", new=True)
    file.write(b"ours")
    file.commit()
    (tmp_path / "y.part").unlink()
    (tmp_path / "y.part").write_text("half of ano")
    with pytest.raises(InputError, match=taken):
        file.close_for_good(tmp_path / "y")
    assert not (tmp_path / "y").exists()


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(
            locks.os, name, lambda *args, name=name, original=original: (done.append(name), original(*args))[1]
        )
    write_text(tmp_path / "x", "text")
    assert done == ["fsync", "replace", "fsync"], "the file, its name, and the folder that holds the name"
