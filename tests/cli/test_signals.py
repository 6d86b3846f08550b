"""A command that a signal ends: it unwinds, says so in a word, and loses nothing."""

import ctypes
import signal
import subprocess
import sys
import time

import numba.extending
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write

from fastdesc import cli
from fastdesc.cli.signals import Interruption

SIGNALS = [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
CALLBACK = ctypes.CFUNCTYPE(None)


@pytest.fixture(autouse=True)
def heard():
    """A shell without job control has what it starts in the background ignore SIGINT, and so do its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def command(monkeypatch, capsys):
    """Function that runs `fastdesc info x` with a body of ours: (exit code, what it said to stderr)."""

    def run(body):
        monkeypatch.setitem(cli.COMMANDS, "info", lambda args: body())
        return cli.main(["info", "x"]), capsys.readouterr().err

    return run


@pytest.mark.parametrize(("number", "code", "word"), SIGNALS)
def test_a_signal_ends_a_command(command, number, code, word):
    before = signal.getsignal(number)
    assert command(lambda: signal.raise_signal(number)) == (code, f"fastdesc: {word}\n")
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("number", "code", "word"), SIGNALS)
def test_compiled_code_that_makes_another_error_of_it(command, number, code, word):
    def wrapped():
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt as error:
            raise SystemError("returned a result with an exception set") from error

    assert command(wrapped) == (code, f"fastdesc: {word}\n")


def test_compiled_code_that_drops_it(command):
    calls = []

    @CALLBACK
    def callback():
        calls.append(None)
        signal.raise_signal(signal.SIGINT)

    def loop():
        callback()
        for _ in range(500):
            time.sleep(0.01)
        calls.append("the interruption was lost")

    assert command(loop) == (130, "fastdesc: interrupted\n")
    assert calls == [None]


def test_a_compiler_is_left_to_finish(command):
    """Numba compiles a function whose type is inferred by one of ours, which the signal reaches."""
    seen = []

    def helper(x):
        return x

    @numba.extending.overload(helper)
    def typed(x):
        signal.raise_signal(signal.SIGINT)
        seen.append("typed")
        return lambda x: x + 1

    @numba.njit
    def compiled(x):
        return helper(x)

    def body():
        seen.append(compiled(1))
        for _ in range(500):
            time.sleep(0.01)
        seen.append("the interruption was lost")

    assert command(body) == (130, "fastdesc: interrupted\n")
    assert seen[-1] == 2 and "typed" in seen


def test_other_dropped_exceptions_are_reported_as_ever(monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: reported.append(str(what.exc_value)))

    @CALLBACK
    def callback():
        raise ValueError("of a callback")

    with Interruption() as interruption:
        callback()
    assert reported == ["of a callback"]
    assert interruption.ended(ValueError()) is None and interruption.number is None


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Interruption():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_hangs_is_not_waited_for():
    """A thread waits for a lock that the interruption left locked, and the main thread for that thread."""
    program = """
import signal, sys, threading
from fastdesc import cli
from fastdesc.cli import signals
def hang(args):
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        threading.Event().wait()
signals.PATIENCE = 0.5
cli.COMMANDS["info"] = hang
sys.exit(cli.main(["info", "x"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130
    assert done.stderr == "fastdesc: interrupted, without waiting any longer for what hangs\n"


@pytest.mark.parametrize("wait", [0.5, pytest.param(0.0, marks=pytest.mark.thorough)])
@pytest.mark.parametrize(("number", "code", "word"), SIGNALS)
def test_what_was_done_can_be_resumed(tmp_path, number, code, word, wait):
    atoms = bulk("Cu", cubic=True) * (3, 3, 3)
    atoms.calc = EMT()
    atoms.get_forces()
    write(tmp_path / "many.extxyz", [atoms] * 3000)
    words = [sys.executable, "-m", "fastdesc", "featurize", "many.extxyz", "f.h5", "--species", "Cu"]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "f.h5.part").exists() and process.poll() is None:
            time.sleep(0.05)
        time.sleep(wait)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert err.splitlines()[-1] == f"fastdesc: {word}" and "Traceback" not in err
    assert {p.name for p in tmp_path.iterdir()} <= {"f.h5.part", "f.h5.part.journal", "many.extxyz"}
