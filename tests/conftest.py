"""What every test may use: the shared reference data, and the tests' own modules on the path."""

import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:    # threads of BLAS spin while they wait, on cores that other workers need
    for library in ("OPENBLAS", "MKL", "OMP"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")

import numpy as np
import pytest
from ase.io import write
from helpers.backends import GPU, absent
from helpers.command_line import CONFIG

from fastdesc.cli import main
from fastdesc.cli.demo import crystals
from fastdesc.features import featurize

REPOSITORY = Path(__file__).resolve().parents[1]


WHOLE = ("training", "analysis", "cli", "docs", "features", "lammps", "bench")
"""Folders of tests of whole programs."""


def shared_folder():
    """Folder of the reference data: $FASTDESC_SHARED, else ../shared beside the checkout."""
    return Path(os.environ.get("FASTDESC_SHARED", REPOSITORY.parent / "shared"))


def pytest_collection_modifyitems(config, items):
    """Leave out what needs a GPU where there is none, and the other way round; parts before what is made of them.

    Kernels are then compiled once, by tests of their own, and not by each program that other tests start.
    """
    items.sort(key=lambda item: WHOLE.index(folder) if (folder := item.path.parent.name) in WHOLE else -1)
    unusable = "no_gpu" if GPU else "gpu"
    out = [item for item in items if item.get_closest_marker(unusable)]
    if out:
        items[:] = [item for item in items if not item.get_closest_marker(unusable)]
        config.hook.pytest_deselected(items=out)


def pytest_terminal_summary(terminalreporter):
    """Say once what this machine lacks."""
    for line in absent():
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def reference_numbers():
    """Return load(name) -> dict of arrays from shared/reference; skips, saying where it looked."""

    def load(name):
        folder = shared_folder() / "reference"
        if not folder.exists():    # one reason for all, which pytest prints once
            pytest.skip(f"no {folder}; set FASTDESC_SHARED to the folder that holds reference/")
        with np.load(folder / name, allow_pickle=False) as data:
            return dict(data)

    return load


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with frames, a configuration and the run it describes; tests write elsewhere."""
    folder = tmp_path_factory.mktemp("cli")
    write(folder / "train.extxyz", crystals(12, 0))
    write(folder / "test.extxyz", crystals(4, 1))
    (folder / "run.toml").write_text(CONFIG)
    assert main(["train", str(folder / "run.toml"), "--quiet"]) == 0
    return folder


@pytest.fixture(scope="session")
def stored(tmp_path_factory):
    """Frames of two sizes, one without energy, one that weighs 3; and a file of their features."""
    from helpers.training import alloy, small_potential

    frames = alloy(8) + alloy(4, seed=1, size=(1, 1, 1))
    del frames[3].calc.results["energy"]
    frames[5].info["weight"] = 3.0
    out = tmp_path_factory.mktemp("stored") / "features.h5"
    return frames, featurize(frames, out, small_potential().descriptor, progress=False)


@pytest.fixture
def run(capsys):
    """Run a command line; return exit code, standard output, standard error."""

    def run(*words):
        code = main([str(w) for w in words])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


@pytest.fixture
def fails(run):
    """Run a command line that must fail; return its one sentence."""

    def fails(*words):
        code, _, err = run(*words)
        assert code == 2, (code, err)
        assert err.startswith("fastdesc: ") and err.count("\n") == 1 and "Traceback" not in err, err
        return err

    return fails
