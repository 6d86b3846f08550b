"""Every option of every command with values out of the ordinary: one clear sentence, or work that is done."""

import argparse
import shutil

import pytest
from ase.io import write
from helpers.training import alloy, small_potential

from fastdesc.cli import main
from fastdesc.cli.options import parser

ODD = (
    "", "-1", "nan", "1e300", "99999999999999999999", "x", "\udc80", ".", "nowhere/x.h5", "in.extxyz", "cutoff=nan",
    "a\0b",
)  # fmt: skip
SMALL = [word for setting in ("n_radial=1", "n_basis=2", "max_rank=0") for word in ("--set", setting)]
COMMANDS = {
    "featurize": ["in.extxyz", "out.h5", "--cutoff", "3", *SMALL, "--quiet"],
    "convert": ["in.extxyz", "out.h5", "--quiet"],
    "train": ["--print-default"],
    "evaluate": ["model.h5", "in.extxyz", "--no-uncertainty"],
    "plot": ["learning", "history.csv"],
    "import": ["published.pt", "out.h5"],
    "export": ["model.h5", "out.spline"],
    "predict": ["model.h5", "in.extxyz", "out.extxyz", "--quiet"],
    "md": ["model.h5", "in.extxyz", "--steps", "1", "--out", "dynamics", "--quiet"],
    "lammps": ["build"],
    "warmup": ["--dtype", "x"],
    "info": ["model.h5"],
}
BUILDS = {"-1", "nan", "1e300", "99999999999999999999", "cutoff=nan"}
"""Names like "x" for a compiler's output."""
FOR_EVER = {("md", "steps", "99999999999999999999")}
HISTORY = "epoch,learning_rate,train_loss,valid_loss\n1,0.1,2.0,2.0\n2,0.1,1.0,1.5\n"


def options():
    """Every option that takes a value, and every place of a file: (command, option or None, place or None)."""
    choices = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    for command, words in COMMANDS.items():
        taking = [a.option_strings[-1] for a in choices[command]._actions if a.option_strings and a.nargs != 0]
        yield from ((command, option) for option in taking if command == "convert" or not option.endswith("-key"))
        yield from ((command, place) for place, word in enumerate(words) if "." in word)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("options")
    write(folder / "in.extxyz", alloy(2, size=(1, 1, 1)))
    potential = small_potential(n_radial=1, n_basis=2, max_rank=0)
    potential.save(folder / "model.h5")
    (folder / "history.csv").write_text(HISTORY)
    (folder / "published.pt").write_bytes(b"no archive")
    return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("command, option", list(options()), ids=str)
def test_odd_values(made, tmp_path, monkeypatch, capsys, command, option):
    monkeypatch.setattr("fastdesc.features.dask.TIMEOUT", "0.1s")
    monkeypatch.setattr("fastdesc.cli.md.plot", lambda *given: None)    # pictures take longer than dynamics
    for n, value in enumerate(ODD):
        if (command, str(option).strip("-"), value) in FOR_EVER or (command == "lammps" and value in BUILDS):
            continue
        folder = tmp_path / str(n)
        shutil.copytree(made, folder)
        monkeypatch.chdir(folder)
        words = list(COMMANDS[command])
        if isinstance(option, int):
            words[option] = value
        elif option == "--repeat":
            words += [option, value, "1", "1"]
        else:
            words.append(f"{option}={value}")
        try:
            code = main([command, *words])
        except SystemExit as end:    # argparse has told it
            code = end.code
        told = capsys.readouterr().err.splitlines()
        errors = [line for line in told if line.startswith(f"fastdesc {command}: error:")]
        errors += [line for line in told if line.startswith("fastdesc: ") and "warning" not in line[:20]]
        assert (code, len(errors)) in ((0, 0), (2, 1)), (value, code, told)
        assert all(20 < len(line) < 700 for line in errors), (value, errors)
        for name in ("in.extxyz", "model.h5", "history.csv", "published.pt"):
            assert (folder / name).read_bytes() == (made / name).read_bytes(), f"{value!r} overwrote {name}"
