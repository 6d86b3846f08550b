"""Training on several devices is training on one: the same steps, to rounding, whoever takes which frames."""

import copy
import sys
import types
import warnings
from contextlib import suppress
from multiprocessing import active_children

import numpy as np
import pytest
from doubles.socket_sum import SocketSum, die_after, fail_after, sum_thrice, together
from helpers.training import alloy, small_potential

import fastdesc as fd
from fastdesc.backend.nccl import NcclSum, gpus
from fastdesc.errors import DeviceError, FastdescError, FastdescWarning, InputError
from fastdesc.training import run_trainer, team_processes, trainer_for
from fastdesc.training.checkpoint import fetched
from fastdesc.training.settings import Settings
from fastdesc.training.team import ALONE, Team
from fastdesc.training.team_processes import gathered, team_size
from fastdesc.training.trainer import Trainer
from fastdesc.training.trainer_state import restore, state_of

SETTINGS = {"epochs": 3, "batch_size": 4, "dtype": "float64", "learning_rate": 1e-3}
ERRORS = ("train_loss", "valid_loss", "train_energy_mae", "valid_forces_rmse", "train_stress_mae")


@pytest.fixture(scope="module")
def frames():
    """Frames of 8 and of 16 atoms, so that shares of atoms are not shares of frames: the last batch has two of them."""
    found = alloy(7) + alloy(3, seed=5, size=(2, 2, 1))
    del found[2].calc.results["forces"]
    return found


def assert_same_training(one, other):
    """One trainer is a team's, the other is alone: (history, parameters) of each."""
    for name in ERRORS:
        np.testing.assert_allclose(one[0][name], other[0][name], rtol=1e-10, err_msg=name)
    for name, array in one[1].items():
        np.testing.assert_allclose(array, other[1][name], rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_shares_are_all_frames_once_and_balanced(size):
    rng = np.random.default_rng(0)
    n_atoms = rng.integers(1, 60, 40)
    frames = rng.permutation(100)[:40]
    teams = [Team(rank, size) for rank in range(size)]
    shares = [team.share(frames, n_atoms) for team in teams]
    np.testing.assert_array_equal(np.concatenate(shares), frames)
    atoms = [team.share(n_atoms, n_atoms).sum() for team in teams]
    assert max(atoms) - n_atoms.sum() / size <= 60
    assert sum(len(team.share(frames[:1], n_atoms[:1])) for team in teams) == 1


def test_sums_keep_shapes_and_all_members_get_the_same():
    rng = np.random.default_rng(1)
    arrays = [[rng.standard_normal(shape) for shape in ((2, 3), (), (4,))] for _ in range(3)]
    found = together(3, lambda team: team.sum(arrays[team.rank], factor=0.5))
    for k, parts in enumerate(zip(*found, strict=True)):
        assert parts[0].shape == arrays[0][k].shape
        np.testing.assert_allclose(parts[0], 0.5 * sum(a[k] for a in arrays), rtol=1e-15)
        assert all(np.array_equal(part, parts[0]) for part in parts)
    assert together(3, lambda team: team.any(team.rank == 2, np.zeros(1))) == [True] * 3
    assert together(2, lambda team: team.any(False, np.zeros(1))) == [False] * 2


def test_members_that_drift_apart_are_noticed():
    with pytest.raises(FastdescError, match="did not arrive at the same numbers"):
        together(3, lambda team: team.check_same([np.array([1.0, 1.0 + (team.rank == 2) * 1e-16 * 4])]))
    together(3, lambda team: team.check_same([np.array([0.1, 0.3])]))
    ALONE.check_same([np.ones(1)])


@pytest.mark.parametrize("size", [2, 5])
@pytest.mark.parametrize("more", [{}, {"force_weight": 0, "stress_weight": 0, "descriptor_learning_rate": 0}])
def test_a_team_takes_the_steps_of_one(frames, size, more):
    """Five share batches of four frames: some have none, in the last batch of one frame all but one."""
    settings = {**SETTINGS, **more}
    single, shared = small_potential(), small_potential()
    alone = fd.train(single, frames, progress=False, **settings)
    trainer = trainer_for(shared, frames, **settings)
    given = shared, *trainer.sources, trainer.settings, fetched(state_of(trainer))

    def work(team):
        potential, *rest, state = copy.deepcopy(given)
        member = Trainer(potential, *rest, np.random.default_rng())
        restore(member, state, "the first member")
        return member.run(progress=False, team=team), potential.parameters

    found = together(size, work)
    for name in ERRORS[: 2 if more else None]:
        for history, _ in found:
            np.testing.assert_allclose(history[name], alone[name], rtol=1e-10, err_msg=name)
    for name, array in found[0][1].items():
        np.testing.assert_allclose(array, single.parameters[name], rtol=1e-9, atol=1e-11, err_msg=name)
        assert all(np.array_equal(array, parameters[name]) for _, parameters in found[1:])


def test_one_process_for_each_member(frames, monkeypatch, tmp_path):
    """The real thing but for NCCL: processes that train from frames, state and settings sent to them."""
    monkeypatch.setattr("fastdesc.training.team_size", lambda devices, device: devices)
    monkeypatch.setattr("fastdesc.training.gathered", lambda *given: gathered(*given, SocketSum))
    single, shared = small_potential(), small_potential()
    alone = fd.train(single, frames, progress=False, **SETTINGS)
    history = fd.train(shared, frames, progress=False, devices=2, checkpoint=tmp_path / "c.h5", **SETTINGS)
    assert_same_training((history, shared.parameters), (alone, single.parameters))
    longer = {**SETTINGS, "epochs": 4}
    resumed = trainer_for(shared, frames, checkpoint=tmp_path / "c.h5", resume=True, devices=1, **longer)
    assert len(run_trainer(resumed, progress=False)) == 4, "the number of devices may change"


@pytest.mark.parametrize(
    ("work", "given", "words"),
    [(fail_after, 7, "device 1 ended early: a mistake after 7 frames"), (die_after, 9, "device 1 ended early: code 9")],
)
def test_a_member_that_ends_early_ends_the_team(work, given, words):
    with pytest.raises(FastdescError, match=words), gathered(2, work, (given,), SocketSum) as team:
        for _ in range(100):
            team.sum([np.ones(3)])


def test_a_member_that_cannot_start():
    class Lost:
        """Pickles, and does not come back."""

        def __reduce__(self):
            return (__import__, ("no_such_module_here",))

    with pytest.raises(FastdescError, match="device 1 did not start"), gathered(2, sum_thrice, (Lost(),), SocketSum):
        raise AssertionError("nobody is there")


def test_an_interruption_of_the_first_member_ends_the_others():
    before = set(active_children())    # of other tests
    with suppress(KeyboardInterrupt), gathered(2, sum_thrice, (1.0,), SocketSum) as team:
        assert team.sum([np.zeros(3)])[0].tolist() == [2.0] * 3
        raise KeyboardInterrupt
    assert set(active_children()) <= before


class FakeNccl(types.ModuleType):
    """What NcclSum uses of cupy.cuda.nccl."""

    available, NCCL_FLOAT64, NCCL_SUM = True, "float64", "sum"

    def __init__(self):
        super().__init__("nccl")
        self.calls = []

    def get_unique_id(self):
        return b"key" + bytes(125)

    def NcclCommunicator(self, size, key, rank):
        assert (type(size), type(key), len(key), type(rank)) == (int, bytes, 128, int), "CuPy 14's types"
        self.calls.append((size, key, rank))
        return types.SimpleNamespace(
            allReduce=lambda *given: self.calls.append(given), abort=lambda: self.calls.append("abort")
        )


@pytest.fixture
def two_gpus(monkeypatch):
    """A CuPy that has two devices, and NCCL; gives the module of NCCL."""
    used, nccl = [], FakeNccl()
    device = types.SimpleNamespace(use=lambda: None)
    cuda = types.SimpleNamespace(
        Device=lambda k: used.append(k) or device, runtime=types.SimpleNamespace(getDeviceCount=lambda: 2),
        get_current_stream=lambda: types.SimpleNamespace(ptr=77), nccl=nccl,
    )  # fmt: skip
    cupy = types.SimpleNamespace(cuda=cuda)
    for name, module in (("cupy", cupy), ("cupy.cuda", cuda), ("cupy.cuda.nccl", nccl)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(team_processes, "resolve_device", lambda device: device)
    nccl.used = used
    return nccl


def test_sums_by_nccl(two_gpus):
    key = NcclSum.key()
    add = NcclSum(1, 2, key)
    add(types.SimpleNamespace(data=types.SimpleNamespace(ptr=5), size=10))
    add.abort()
    assert two_gpus.used == [1]
    assert two_gpus.calls == [(2, key, 1), (5, 5, 10, "float64", "sum", 77), "abort"]


def test_how_many_devices(two_gpus):
    assert [team_size(n, "cuda") for n in (1, 2, "all")] == [1, 2, 2]
    assert team_size("all", "cpu") == 1
    with pytest.raises(InputError, match="devices came as 3; this machine has 2"):
        team_size(3, "cuda")
    two_gpus.available = False
    with pytest.raises(DeviceError, match="needs NCCL; install NCCL with pip install"):
        team_size(2, "cuda")
    with pytest.warns(FastdescWarning, match="one of 2 GPUs is used"):
        assert team_size("all", "cuda") == 1


def test_one_gpu_needs_no_nccl(two_gpus, monkeypatch):
    """Nobody looks for it: CuPy would warn that it is missing."""
    monkeypatch.setattr(sys.modules["cupy"].cuda.runtime, "getDeviceCount", lambda: 1)
    monkeypatch.setitem(sys.modules, "cupy.cuda.nccl", None)
    monkeypatch.delattr(sys.modules["cupy"].cuda, "nccl")
    assert gpus() == (1, False) and team_size("all", "cuda") == 1
    with pytest.raises(InputError, match="this machine has 1"):
        team_size(2, "cuda")


def test_cupys_warning_is_not_ours(two_gpus):
    class Missing(types.ModuleType):
        @property
        def available(self):
            warnings.warn("nccl library could not be loaded", UserWarning, stacklevel=2)
            return False

    cuda = sys.modules["cupy"].cuda
    cuda.nccl = Missing("nccl")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gpus() == (2, False)


def test_bad_numbers_of_devices(frames):
    with pytest.raises(InputError, match="devices came as 2 with device 'cpu'"):
        fd.train(small_potential(), frames, devices=2)
    for bad in (0, -1, 1.5, True, "two"):
        with pytest.raises(InputError, match=r"devices.* came as"):
            Settings.named(devices=bad)
