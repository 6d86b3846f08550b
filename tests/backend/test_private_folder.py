"""Compiled kernels are pickles: a folder where another user could have put some is not read."""

import os
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fastdesc.backend import jit
from fastdesc.backend import private_folder as module
from fastdesc.backend.private_folder import private_folder, weakness

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no owners of files")
ME = os.geteuid() if hasattr(os, "geteuid") else 0
OTHER = ME + 1234


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """The private folder is made here, not in the system's."""
    (tmp_path / "tmp").mkdir(mode=0o700)
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path / "tmp"))
    private_folder.cache_clear()
    yield
    private_folder.cache_clear()


def status(uid, mode, gid=OTHER):
    return SimpleNamespace(st_uid=uid, st_mode=0o040000 | mode, st_gid=gid)


@pytest.mark.parametrize("uid, mode, own, found", [
    (ME, 0o700, True, None), (ME, 0o755, True, None), (ME, 0o755, False, None),
    (OTHER, 0o700, True, "another user"), (OTHER, 0o755, False, "another user"),
    (ME, 0o777, True, "written to by others"), (ME, 0o775, True, "written to by others"),
    (ME, 0o1777, True, "written to by others"),    # anyone may put files there
    (0, 0o1777, False, None),    # /tmp
    (0, 0o777, False, "written to by others"), (0, 0o775, False, "written to by others"), (0, 0o755, False, None),
])  # fmt: skip
def test_who_may_write(uid, mode, own, found):
    why = weakness(status(uid, mode), own)
    assert (why is None) if found is None else (found in why)


def test_a_folder_of_ones_own_is_used(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder = private_folder(str(tmp_path / "cache"))
    assert folder == tmp_path / "cache" / "fastdesc"
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("weak", ["cache", "cache/fastdesc"])
def test_a_folder_that_others_may_write_to_is_not_used(tmp_path, weak):
    (tmp_path / "cache" / "fastdesc").mkdir(parents=True)
    (tmp_path / weak).chmod(0o777)
    with pytest.warns(UserWarning, match=rf"{tmp_path / weak} may be written to by others \(mode 777\); .* is used"):
        folder = private_folder(str(tmp_path / "cache"))
    assert folder == tmp_path / "tmp" / f"fastdesc-{ME}"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_link_to_such_a_folder_is_not_used(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "fastdesc").symlink_to(tmp_path / "open")
    with pytest.warns(UserWarning, match="may be written to by others"):
        assert private_folder(str(tmp_path / "cache")).parent == tmp_path / "tmp"


def test_the_private_folder_is_judged_too(tmp_path):
    """Someone else made it first."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    (tmp_path / "tmp" / f"fastdesc-{ME}").mkdir()
    (tmp_path / "tmp" / f"fastdesc-{ME}").chmod(0o777)
    with pytest.warns(UserWarning, match="is used"):
        folder = private_folder(str(tmp_path / "cache"))
    assert folder.parent == tmp_path / "tmp" and folder.name != f"fastdesc-{ME}"
    assert folder.stat().st_mode & 0o777 == 0o700


def doubled(x):
    return 2 * x.sum()


def test_nothing_is_loaded_from_such_a_folder(tmp_path, monkeypatch):
    """A file with the right name, put where others may write, is not unpickled."""
    base = tmp_path / "cache"
    monkeypatch.setenv("FASTDESC_CACHE", str(base))
    assert jit.kernel(doubled)(np.ones(3)) == 6
    (planted,) = [path for path in (base / "fastdesc").rglob("*") if path.is_file()]
    private_folder.cache_clear()
    (base / "fastdesc").chmod(0o777)
    with pytest.warns(UserWarning, match="is not used"):
        compiled = jit.kernel(doubled)
    assert compiled(np.ones(3)) == 6
    assert not compiled.stats.cache_hits, f"{planted} was loaded"
    assert tmp_path / "tmp" in Path(compiled.stats.cache_path).parents
