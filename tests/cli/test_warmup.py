"""fastdesc warmup: what it has compiled, no later process compiles; a terminal is told what takes so long."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from fastdesc.backend import compilation
from fastdesc.cli import main

WORK = """
import fastdesc as fd
from ase.build import molecule
fd.SplineFilters(species=["H", "O"], cutoff=5.0).compute(molecule("H2O"), dtype="float32")
from fastdesc.backend.compilation import compilation
print("compiled", len(compilation.kernels))
"""


def run(code):
    return subprocess.run([sys.executable, *code], capture_output=True, text=True, check=True).stdout


def test_what_it_compiled_is_there_for_the_next_process():
    command = ["-m", "fastdesc", "warmup", "spline_filters", "--dtype", "float32", "--job", "features"]
    assert "kernels compiled in" in run(command)
    assert "spline_filters float32 features: 0 kernels compiled" in run(command)
    assert run(["-c", WORK]) == "compiled 0\n"


def test_where_nothing_can_be_kept_nothing_is_compiled(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FASTDESC_CACHE", str(tmp_path / "file"))
    assert main(["warmup"]) == 2
    assert "give FASTDESC_CACHE a folder" in capsys.readouterr().err


def test_unknown_family(capsys):
    assert main(["warmup", "gausian_moments"]) == 2
    assert "did you mean 'gaussian_moments'" in capsys.readouterr().err


def heard(module, monkeypatch, terminal):
    """Compile one kernel after another, as Numba tells it."""
    listener = compilation.Compilation()
    monkeypatch.setattr(compilation, "_seen", lambda: terminal)
    function = SimpleNamespace(__module__=module, __name__="kernel")
    event = SimpleNamespace(data={"dispatcher": SimpleNamespace(py_func=function)})
    for _ in range(2):
        listener.on_start(event)
        listener.on_start(event)    # what the kernel calls
        listener.on_end(event)
        listener.on_end(event)
    return listener


def test_a_terminal_is_told_once(monkeypatch, capsys):
    assert [name for name, _ in heard("fastdesc.pairs", monkeypatch, True).kernels] == ["kernel"] * 2
    assert capsys.readouterr().err == compilation.NOTICE + "\n"


@pytest.mark.parametrize("module, terminal", [("fastdesc.pairs", False), ("others", True)])
def test_nothing_is_printed_for_files_and_for_the_kernels_of_others(module, terminal, monkeypatch, capsys):
    heard(module, monkeypatch, terminal)
    assert capsys.readouterr().err == ""


def test_the_logger_tells_each_kernel(monkeypatch, caplog):
    with caplog.at_level("INFO", logger="fastdesc"):
        heard("fastdesc.pairs", monkeypatch, False)
    assert [record.message for record in caplog.records] == ["compiled kernel in 0.0 s"] * 2
