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
from helpers.families import in_single
from helpers.once import digest, passed_before, write_down
from helpers.order import rank, unit

from fastdesc.cli import main
from fastdesc.cli.demo import crystals
from fastdesc.features import featurize

REPOSITORY = Path(__file__).resolve().parents[1]


PASSED = {}
"""Names of the checks that passed in this run, and their digests."""


def shared_folder():
    """Folder of the reference data: $FASTDESC_SHARED, else ../shared beside the checkout."""
    return Path(os.environ.get("FASTDESC_SHARED", REPOSITORY.parent / "shared"))


def pytest_addoption(parser):
    words = "make the checks that a state of the sources needs once (tests/helpers/once.py), and note which passed"
    parser.addoption("--record", action="store_true", help=words)
    words = "all the random kills, damages and numbers of processes, of which a few are tried otherwise"
    parser.addoption("--thorough", action="store_true", help=words)


def pytest_collection_modifyitems(config, items):
    """Leave out what needs a GPU where there is none, and the other way round; order by helpers/order.py.

    Checks that passed on the same sources are left out, too.
    """
    items.sort(key=lambda item: rank(unit(item.nodeid)))
    unusable = "no_gpu" if GPU else "gpu"
    out = [item for item in items if item.get_closest_marker(unusable)]
    if not config.option.thorough:
        out += [item for item in items if item.get_closest_marker("thorough") or _of_rare_singles(item)]
    known = [] if config.option.record else passed_before(items)
    config.passed_before = len(known)
    if out or known:
        left_out = {*out, *known}
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=[*out, *known])
    if config.option.record:
        for item in items:
            if item.get_closest_marker("once"):
                item.user_properties.append(("once", digest(item)))


def _of_rare_singles(item):
    """Whether this is a test of float32 on a variant of which --thorough alone tries it."""
    if not item.get_closest_marker("single"):
        return False
    given = item.callspec.params
    return not in_single(*(given["run"][1][:2] if "run" in given else (given["family"], given["variant"])))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Tests that share something go to one worker, unless the command line says how they are distributed."""
    if config.option.dist == "load":
        from helpers.by_unit import ByUnit

        return ByUnit(config, log)


def pytest_runtest_logreport(report):
    """Note the checks that pass; a worker's reports come to the process that started it, too."""
    kept = dict(report.user_properties).get("once")
    if kept and report.when == "call" and report.passed:
        PASSED[report.nodeid] = kept


def pytest_sessionfinish(session):
    """A worker tells how many checks it left out; the process that started it writes down what passed."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["passed_before"] = session.config.passed_before
    elif session.config.option.record and PASSED:
        write_down(PASSED)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    node.config.passed_before = getattr(node, "workeroutput", {}).get("passed_before", 0)


def pytest_terminal_summary(terminalreporter, config):
    """Say once what this machine lacks, and what need not be done again."""
    for line in absent():
        terminalreporter.write_line(line)
    n = getattr(config, "passed_before", 0)
    if n:
        terminalreporter.write_line(f"{n} checks passed on the same sources before; --record makes them anew")


@pytest.fixture(scope="session")
def thorough(pytestconfig):
    """Whether all that can be tried is tried: see --thorough."""
    return pytestconfig.option.thorough


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
    (folder / "run.toml").write_text(CONFIG.replace("plots = false", ""))
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
