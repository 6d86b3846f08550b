"""Readers of a features file that another process is writing: the last commit, whole, or a sentence; never damage."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.featurizing import Fake, frames

from fastdesc.errors import InputError
from fastdesc.features import featurize, open_features, stream
from fastdesc.hdf5 import journal
from fastdesc.hdf5.journal import CommittedFile, JournaledFile, Moved

N_FRAMES = 400
WRITER = """
import sys
from helpers.featurizing import Fake, frames
from fastdesc.features import featurize, stream
stream.COMMIT_SECONDS = 0
featurize(frames(int(sys.argv[2])), sys.argv[1], Fake(), chunk_atoms=8, progress=False)
"""


def test_no_read_gives_rows_of_another_commit(tmp_path):
    """Commits after every batch; a reader opened at any of them, used while others follow, and after the last."""
    data = frames(N_FRAMES)
    want = [Fake().compute([a]) for a in data]
    energies = np.array([a.calc.results["energy"] if a.calc else np.nan for a in data])
    out = tmp_path / "f.h5"
    part = tmp_path / "f.h5.part"
    reads, kept = 0, []
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, out, str(N_FRAMES)], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ) as writer:
        while writer.poll() is None:
            try:
                f = open_features(part)
            except InputError as error:
                assert "does not exist" in str(error) or "nothing is committed" in str(error)
                continue
            kept = [*kept[-3:], f] if len(f) else kept
            for g in kept:
                n = len(g)
                for k in (0, n // 2, n - 1):
                    np.testing.assert_array_equal(g[k], want[k])
                np.testing.assert_array_equal(g.energies, energies[:n])
                assert g.table()["id"].tolist() == list(range(n)) and g.skipped == []
                reads += 1
        assert writer.returncode == 0
    assert reads > 10
    for g in kept:    # finished meanwhile
        np.testing.assert_array_equal(g[:], np.concatenate(want[: len(g)]))
        g.close()


def test_a_read_after_a_commit_fails(tmp_path):
    """The bytes below change in place: a reader of the commit before must not take them for its own."""
    path = tmp_path / "x"
    with JournaledFile(path, new=True) as f:
        f.write(b"a" * 100)
        f.commit()
        old = CommittedFile(path)
        assert old.read(10) == b"a" * 10
        f.seek(0)
        f.write(b"b" * 100)
        f.commit()
        with pytest.raises(Moved):
            old.read(10)
        old.close()
        with CommittedFile(path) as new:
            assert new.read(10) == b"b" * 10


def test_a_file_begun_anew_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "COMMIT_SECONDS", 0)
    out, part = tmp_path / "f.h5", tmp_path / "f.h5.part"
    for k, data in enumerate((frames(6), frames(6)[::-1])):
        if k == 0:
            featurize_and_stop(data, out)
            f = open_features(part)
            assert len(f) > 2
        else:
            featurize_and_stop(data, out)
    with pytest.raises(InputError, match="was begun anew since it was opened; open it again"):
        f[0]


def featurize_and_stop(data, out):
    with pytest.raises(KeyboardInterrupt):
        featurize(data, out, Fake(fails_at=4), chunk_atoms=1, progress=False)


def test_a_file_nothing_of_which_is_committed(tmp_path):
    (tmp_path / "f.h5.part").write_bytes(b"half of something")
    with pytest.raises(InputError, match=r"nothing is committed of .*f\.h5\.part yet"):
        open_features(tmp_path / "f.h5.part")


def test_a_writer_that_never_rests(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "COMMIT_SECONDS", 0)
    featurize_and_stop(frames(6), tmp_path / "f.h5")
    monkeypatch.setattr(CommittedFile, "has_moved", lambda self: True)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(InputError, match="is written faster than it can be read; wait until it is finished"):
        open_features(tmp_path / "f.h5.part")
    assert journal.journal_of(tmp_path / "f.h5.part").exists()
