"""The command line: help that teaches, and one sentence and exit code 2 for everything that can be wrong."""

import os
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
from ase.build import bulk

import fastdesc as fd
from fastdesc.cli import main
from fastdesc.cli.commands import COMMANDS
from fastdesc.errors import FastdescWarning

# --- help


def test_help_teaches_by_example(capsys):
    for words in ([], ["demo"], ["featurize"], ["train"], ["evaluate"], ["info"], ["plot"]):
        with pytest.raises(SystemExit) as stop:
            main([*words, "--help"])
        out = capsys.readouterr().out
        assert stop.value.code == 0 and "example" in out and f"fastdesc {' '.join(words)}".strip() in out
        assert max(map(len, out.splitlines())) < 121
    assert main([]) == 0 and "COMMAND" in capsys.readouterr().out


def test_help_loads_nothing_heavy():
    code = "import sys; from fastdesc.cli.options import parser; parser().format_help(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"numpy", "numba", "ase", "h5py", "matplotlib", "cupy", "sklearn"}


def test_version_and_module():
    for word in (["--version"], ["info", "--help"]):
        done = subprocess.run([sys.executable, "-m", "fastdesc", *word], capture_output=True, text=True, check=True)
        assert fd.__version__ in done.stdout or "features.h5" in done.stdout


def test_any_terminal_and_none():
    """Å is a question mark where there is none; a closed output is no error, and a full one is told in a sentence."""
    fastdesc = [sys.executable, "-m", "fastdesc"]
    done = subprocess.run(
        [*fastdesc, "--help"], capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=True
    )
    assert b"Units are eV and ?;" in done.stdout
    closed = "import sys; from fastdesc.cli import main; sys.stdout = None; sys.exit(main([]))"
    assert not subprocess.run([sys.executable, "-c", closed], capture_output=True, check=True).stderr
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            words = [*fastdesc, "train", "--print-default"]
            done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 2 and done.stderr == "fastdesc: No space left on device\n"


def test_wrong_words(capsys):
    for words in (["trian"], ["plot", "filters2", "x"], ["featurize", "x"], ["evaluate", "m", "f", "--device", "gpu"]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2 and "usage:" in capsys.readouterr().err


# --- how a command ends


def test_debug_shows_the_traceback(tmp_path):
    for words in (["--debug", "info"], ["info", "--debug"]):
        with pytest.raises(fd.FastdescError):
            main([*words, str(tmp_path / "x.h5")])


def test_os_errors_are_one_sentence(fails, tmp_path, monkeypatch):
    from fastdesc.analysis import info

    def refused(path):
        os.stat(os.path.join(tmp_path, "no", "file"))

    monkeypatch.setattr(info, "describe", refused)
    assert fails("info", "x") == f"fastdesc: {tmp_path}/no/file: No such file or directory\n"


def test_too_little_memory_is_one_sentence(fails, monkeypatch):
    from fastdesc.analysis import info

    def too_much(path):
        return np.empty(1 << 50)

    monkeypatch.setattr(info, "describe", too_much)
    assert "there is not enough memory; use fewer structures at a time" in fails("info", "x")


@pytest.mark.parametrize("lines", [0, 1])
def test_a_closed_pipe_is_no_error(lines):
    """Nobody reads from the start, or a reader goes after one line of many more than a pipe holds."""
    read, write = os.pipe()
    program = "import sys; from fastdesc.cli import commands, main; "
    program += "commands.COMMANDS['info'] = lambda args: [print('x' * 99) for _ in range(9999)]; "
    process = None
    with open(read) as reader:
        if lines:
            process = _start(program, write)
            os.close(write)
            assert reader.readline() == "x" * 99 + "\n"
    if not lines:
        process = _start(program, write)
        os.close(write)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0 and err == ""


def _start(program, out):
    words = [sys.executable, "-c", program + "sys.exit(main(['info', 'x']))"]
    return subprocess.Popen(words, stdout=out, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evaluate model.h5 frames.h5 --plot x.png --predictions x.png", "x.png would be written twice"),
        ("evaluate model.h5 frames.h5 --predictions frames.h5", "frames.h5 would be written over a file that is read"),
        ("evaluate model.h5 frames.h5 --predictions ../here/model.h5", "model.h5 would be written over"),
        ("evaluate model.h5 x.png --plot x.png", "x.png would be written over"),
        ("evaluate model.h5 f*s.h5 --predictions frames.h5", "frames.h5 would be written over a file that is read"),
        ("convert frames.h5 frames.h5", "frames.h5 would be written over"),
        ("convert frames.h5 link.h5", "link.h5 would be written over"),
        ("convert other.h5 frames.h5 other.h5", "other.h5 would be written over"),
        ("convert grown.h5.part grown.h5", "grown.h5 would be written over"),
        ("featurize *.h5 frames.h5 --species Cu", "frames.h5 would be written over"),
        ("featurize frames.h5 model.h5 --descriptor model.h5", "model.h5 would be written over"),
        ("plot learning history.png", "history.png would be written over"),
        ("plot parity predictions.png -o predictions.png", "predictions.png would be written over"),
        ("plot filters model.h5 frames.png --out frames.png", "frames.png would be written over"),
        ("import si.meam si.meam --element Si", "si.meam would be written over"),
        ("export model.h5 model.h5", "model.h5 would be written over"),
    ],
)
def test_no_output_is_an_input_or_another_output(fails, tmp_path, monkeypatch, words, message):
    """Told before the work: the files stay what they are."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    fd.convert(bulk("Cu"), "frames.h5", progress=False)
    files = {"frames.h5": (folder / "frames.h5").read_bytes()}
    for name in ("model.h5", "other.h5", "grown.h5.part"):
        shutil.copy("frames.h5", name)
        files[name] = files["frames.h5"]
    for name in ("history.png", "predictions.png", "frames.png", "si.meam"):
        (folder / name).write_text(name)
        files[name] = name.encode()
    (folder / "link.h5").symlink_to("frames.h5")
    assert message in fails(*words.split())
    assert {path.name: path.read_bytes() for path in folder.iterdir() if not path.is_symlink()} == files


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ('train = "run/errors.json"', "errors.json"),
        ('train = "x"\nvalid = "run/predictions.h5"', "predictions.h5"),
        ('train = "x"\nvalid = "run/pre*.h5"', "predictions.h5"),
        ('train = "x"\ntest = "run/checkpoint.h5"', "checkpoint.h5"),
        ('train = "x"\n[training]\nfilters_from = "run/model.h5"', "model.h5"),
    ],
)
def test_what_a_run_writes_is_not_what_it_reads(fails, tmp_path, line, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "predictions.h5").touch()
    (tmp_path / "c.toml").write_text(f'[data]\n{line}\n[output]\nfolder = "run"\n')
    assert f"run/{name} would be written over a file that is read" in fails("train", tmp_path / "c.toml")


def test_warnings_of_ours_and_of_others(monkeypatch, capsys):
    """Ours in a sentence; those of others with their place, as ever."""

    def warns(args):
        warnings.warn("look at this", FastdescWarning, stacklevel=1)
        warnings.warn("of another library", UserWarning, stacklevel=1)

    monkeypatch.setitem(COMMANDS, "info", warns)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["info", "x.h5"]) == 0
    ours, place, *_ = capsys.readouterr().err.splitlines()
    assert ours == "fastdesc: warning: look at this"
    assert "test_cli.py" in place and place.endswith("UserWarning: of another library")
