"""Ranks of MPI train as one process does, agree on how they end, and none waits for one that is gone."""

import copy
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from ase.io import write
from doubles.thread_ranks import on_ranks
from helpers.training import alloy, small_potential

import fastdesc as fd
from fastdesc.backend import mpi
from fastdesc.backend.mpi import MpiSum, share, world
from fastdesc.cli import experiment, main
from fastdesc.errors import InputError
from fastdesc.training import run_trainer, team_ranks, trainer_for
from fastdesc.training.checkpoint import read_checkpoint
from fastdesc.training.team_ranks import TeamOfRanks

SETTINGS = {"epochs": 4, "batch_size": 4, "dtype": "float64", "learning_rate": 1e-3, "uncertainty": False}
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def frames():
    return alloy(7) + alloy(3, seed=5, size=(2, 2, 1))


def mpiexec():
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.is_file() else shutil.which("mpiexec")
    return found if importlib.util.find_spec("mpi4py") else None


needs_mpi = pytest.mark.skipif(mpiexec() is None, reason="needs the packages mpi4py and mpich")


@pytest.mark.parametrize("size", [2, 3, 7])
def test_sums_go_in_the_order_of_ranks(size):
    rng = np.random.default_rng(size)
    for n in (1, 5, 64):
        arrays = 10.0 ** rng.uniform(-8, 8, (size, n))

        def work(comm, arrays=arrays):
            x = arrays[comm.rank].copy()
            MpiSum(comm)(x)
            return x

        expected = sum(arrays[1:], arrays[0])
        for found in on_ranks(size, work):
            np.testing.assert_array_equal(found, expected)


def test_sums_of_device_arrays():
    pytest.importorskip("cupy")
    from doubles.cupy_double import device_double

    with device_double():
        import cupy

        def work(comm):
            x = cupy.asarray(np.arange(3.0) + comm.rank)
            MpiSum(comm)(x)
            return x.get()

        assert [x.tolist() for x in on_ranks(2, work)] == 2 * [[1.0, 3.0, 5.0]]


@pytest.mark.parametrize("by_nccl", [True, False])
def test_sums_of_ranks_with_a_gpu_each_go_by_nccl(monkeypatch, by_nccl):
    made, taken = [], []

    class Nccl:
        key = staticmethod(lambda: "key")

        def __init__(self, *given):
            made.append(given)

    monkeypatch.setattr(team_ranks, "NcclSum", Nccl)
    monkeypatch.setattr(team_ranks, "take_gpu", taken.append)
    monkeypatch.setattr(team_ranks, "resolve_device", lambda device: device)

    def work(comm):
        team = TeamOfRanks(comm, (comm.rank, 2))
        team.take_device("cuda")
        return type(team._add)

    monkeypatch.setattr(team_ranks, "one_each", lambda ranks: by_nccl and ranks == 2)
    assert on_ranks(2, work) == 2 * [Nccl if by_nccl else MpiSum]
    assert sorted(taken) == [0, 1]
    assert sorted(made) == ([(0, 2, "key", 0), (1, 2, "key", 1)] if by_nccl else [])


def test_cores_of_a_node_are_shared():
    four = set(range(4))
    assert share(four, [four] * 2) == 2
    assert share(four, [four] * 3) == 1
    assert share(four, [four] * 9) == 1, "one at least"
    assert share({0, 1}, [{0, 1}, {2, 3}]) == 2, "bound by mpiexec"
    assert share({0, 1}, [{0, 1}, {1}]) == 1


def test_an_error_of_one_rank_is_one_of_all():
    def work(comm):
        def judge():
            if comm.rank == 1:
                raise OSError(28, "No space left on device")
            return comm.rank

        return TeamOfRanks(comm).agreed(judge)

    found = on_ranks(3, work)
    assert isinstance(found[1], OSError) and all(error.of_all for error in found)
    assert str(found[0]) == str(found[2]) == "rank 1 of 3: [Errno 28] No space left on device"
    assert on_ranks(2, lambda comm: TeamOfRanks(comm).agreed(lambda: comm.rank)) == [0, 1]


def test_ranks_that_read_other_things():
    def work(comm):
        TeamOfRanks(comm).check_alike(configuration="a = 1", training={"frames": "abc" if comm.rank < 2 else "abd"})

    for error in on_ranks(3, work):
        assert isinstance(error, InputError) and error.of_all
        assert "training of rank 2 of 3 is not that of rank 0; all must read the same" in str(error)


def trained(comm, frames, checkpoint, act=lambda team, epoch: None, **settings):
    """The trainer of a rank after its run, or what ended it, and whether all stopped together."""
    team = TeamOfRanks(comm)
    given = copy.deepcopy(frames), None
    trainer = trainer_for(small_potential(), *given, team=team, **{**SETTINGS, **settings})
    if comm.rank:
        for array in trainer.parameters.values():
            array += 1.0    # another processor may round otherwise
    team.begin_alike(trainer)
    ended = None
    try:
        own = checkpoint if comm.rank == 0 else None
        run_trainer(trainer, own, progress=False, callback=lambda epoch: act(team, epoch.row["epoch"]))
    except KeyboardInterrupt as error:
        ended = error
    return trainer, ended, team.stopped


def test_ranks_take_the_steps_of_one_and_resume_as_one(frames, tmp_path):
    """One rank is asked to stop in the middle of an epoch: all do at one step, and one process goes on exactly."""
    single = small_potential()
    alone = fd.train(single, frames, progress=False, **SETTINGS)

    def stop(team, epoch):
        if epoch == 2 and team.rank == 1:
            team._handlers = {signal.SIGTERM: interrupted}
            team._arrived(signal.SIGTERM, None)

    def interrupted(number, frame):
        raise KeyboardInterrupt("by a signal")

    found = on_ranks(2, lambda comm: trained(comm, frames, tmp_path / "c.h5", stop))
    steps = [trainer.step for trainer, *_ in found]
    assert steps[0] == steps[1] == 2 * 3, "the first step of epoch 3 was not taken"
    assert all(isinstance(ended, KeyboardInterrupt) and stopped for _, ended, stopped in found)
    assert str(found[1][1]) == "by a signal"
    assert read_checkpoint(tmp_path / "c.h5")["epoch"] == 2
    resumed = small_potential()
    history = fd.train(resumed, frames, progress=False, checkpoint=tmp_path / "c.h5", resume=True, **SETTINGS)
    for name in ("train_loss", "valid_loss"):
        np.testing.assert_allclose(history[name], alone[name], rtol=1e-9)
    for name, array in resumed.parameters.items():
        np.testing.assert_allclose(array, single.parameters[name], rtol=1e-9, atol=1e-11, err_msg=name)


def test_an_interruption_of_the_first_epoch_keeps_what_is_there(frames):
    def ask(comm):
        team = TeamOfRanks(comm)
        trainer = trainer_for(small_potential(), frames, None, team=team, **SETTINGS)
        team.asked = False
        original = trainer._step

        def step(*given):
            original(*given)
            if comm.rank == 0:
                team._handlers = {signal.SIGINT: signal.default_int_handler}
                team._arrived(signal.SIGINT, None)

        trainer._step = step
        with pytest.raises(KeyboardInterrupt):
            trainer.run(progress=False)
        return trainer

    first, second = on_ranks(2, ask)
    assert first.step == second.step == 1
    assert first.interim["valid_loss"] == second.interim["valid_loss"] > 0


def test_minutes_are_those_of_the_first_rank(frames, tmp_path):
    found = on_ranks(2, lambda comm: trained(comm, frames, None, epochs=None, minutes=1e-4))
    assert found[0][0].settings.epochs == found[1][0].settings.epochs
    assert len(found[0][0].history) == len(found[1][0].history) > 0


def test_one_process_is_no_rank(monkeypatch):
    for name in mpi.COUNTS:
        monkeypatch.delenv(name, raising=False)
    assert world() is None
    monkeypatch.setenv("PMI_SIZE", "1")
    assert world() is None


def test_ranks_without_mpi4py_or_with_another_mpi(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(InputError, match="2 processes were started together and need mpi4py"):
        world()
    assert main(["train", str(tmp_path / "no.toml")]) == 2
    assert capsys.readouterr().err == "", "rank 0 says it"
    other = types.SimpleNamespace(
        COMM_WORLD=types.SimpleNamespace(size=1), Get_library_version=lambda: "Other MPI 1.0\nBuilt today"
    )
    monkeypatch.setitem(sys.modules, "mpi4py", types.SimpleNamespace(MPI=other))
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", other)
    with pytest.raises(InputError, match=r"which uses Other MPI 1\.0, sees 1; start them by the mpiexec of that MPI"):
        world()


CONFIG = """
[data]
train = "train.extxyz"
[descriptor]
cutoff = 4.5
n_radial = 3
n_basis = 5
[potential]
hidden = [12, 8]
seed = 3
[training]
epochs = 3
batch_size = 4
dtype = "float64"
learning_rate = 1e-3
uncertainty = false
checkpoint_every = 1
[output]
folder = "run"
plots = false
"""
FAILS = """
import sys
from fastdesc.backend import mpi
from fastdesc.cli import main
from fastdesc.training.trainer import Trainer
step, rank = Trainer._step, mpi.told(mpi.RANKS)
def failing(self, *given):
    if rank == 1 and self.step == 4:
        raise MemoryError("of this rank")
    step(self, *given)
Trainer._step = failing
sys.exit(main(["train", "run.toml", "--resume", "--quiet"][:{words}]))
"""


def ranks(code, folder):
    """Two ranks that run a program."""
    paths = [str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
    command = [mpiexec(), "-n", "2", sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


@needs_mpi
def test_the_command_on_two_ranks(frames, tmp_path, monkeypatch):
    """One rank fails in the second epoch; two go on from the checkpoint, and arrive where one process does."""
    write(tmp_path / "train.extxyz", frames)
    (tmp_path / "run.toml").write_text(CONFIG)
    failed = ranks(FAILS.format(words=2), tmp_path)
    told = [line for line in failed.stderr.splitlines() if line.startswith("fastdesc: ") and "warning" not in line]
    assert failed.returncode == 2 and len(told) == 1, failed.stderr
    assert told[0].startswith("fastdesc: rank 1 of 2: there is not enough memory")
    assert read_checkpoint(tmp_path / "run" / "checkpoint.h5")["epoch"] == 1

    done = ranks(FAILS.replace("== 4", "== -1").format(words=4), tmp_path)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert done.stdout.count("model.h5") == 1, "one rank speaks"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alone.toml").write_text(CONFIG.replace('"run"', '"alone"'))
    experiment.run(experiment.configuration.load_config("alone.toml"), progress=False, say=lambda text: None)
    both = [fd.load(folder + "/model.h5") for folder in ("run", "alone")]
    for name, array in both[0].parameters.items():
        np.testing.assert_allclose(array, both[1].parameters[name], rtol=1e-9, atol=1e-11, err_msg=name)
