"""The choice of OpenBLAS kernels: only where it helps, only in time, never over the user's own."""

import os
import subprocess
import sys

import pytest

from fastdesc.backend.process import prefer_avx512

ALL = "flags\t\t: fpu sse avx2 avx512f avx512dq avx512bw avx512vl avx512cd"


@pytest.fixture
def before_numpy(monkeypatch):
    monkeypatch.delitem(sys.modules, "numpy", raising=False)
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    yield
    os.environ.pop("OPENBLAS_CORETYPE", None)


@pytest.mark.parametrize(("text", "chosen"), [(ALL, True), ("flags\t\t: fpu avx2 avx512f", False), ("", False)])
def test_only_where_the_processor_has_it(before_numpy, tmp_path, text, chosen):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{text}\n")
    assert prefer_avx512(tmp_path / "cpuinfo") is chosen
    assert ("OPENBLAS_CORETYPE" in os.environ) is chosen


def test_never_over_the_users_choice(before_numpy, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(ALL)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert not prefer_avx512(tmp_path / "cpuinfo")


def test_missing_cpuinfo_and_late_calls_do_nothing(before_numpy, tmp_path, monkeypatch):
    assert not prefer_avx512(tmp_path / "no")
    (tmp_path / "cpuinfo").write_text(ALL)
    monkeypatch.setitem(sys.modules, "numpy", object())
    assert not prefer_avx512(tmp_path / "cpuinfo")


def test_command_line_asks_before_numpy_is_loaded():
    code = "import sys, fastdesc.cli; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
