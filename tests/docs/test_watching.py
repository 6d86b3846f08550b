"""The callbacks of docs/guides/watching.md hand every epoch to programs that are not here, as these take it."""

import types
from contextlib import contextmanager
from pathlib import Path

import pytest
from ase.io import write
from helpers.training import alloy
from test_snippets import BLOCK

import fastdesc as fd

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "watching.md"
SNIPPETS = {skip.split("needs ")[1].split()[0]: text for skip, _, _, text, _ in BLOCK.findall(PAGE.read_text()) if skip}


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Run the snippet for a package in a folder with data, with a double of the package; two epochs each."""
    monkeypatch.chdir(tmp_path)
    write("train.extxyz", alloy(4))
    train, histories = fd.train, []

    def short(*args, **settings):
        found = train(*args, **{**settings, "epochs": 2, "progress": False, "uncertainty": False})
        histories.append(found)
        return found

    monkeypatch.setattr(fd, "train", short)
    d = fd.GaussianMoments(species=["Cu", "Au"], cutoff=4.5, n_radial=3, n_basis=5)

    def run(package, module):
        monkeypatch.setitem(__import__("sys").modules, package, module)
        names = {"fd": fd, "descriptor": d, "potential": fd.Potential(d, hidden=(12, 8), seed=3)}
        exec(compile(SNIPPETS[package], str(PAGE), "exec"), names)
        return histories, names

    return run


pytestmark = pytest.mark.filterwarnings("ignore::fastdesc.errors.FastdescWarning")


def test_tensorboard(page):
    seen = []

    class SummaryWriter:
        def __init__(self, logdir):
            assert logdir == "runs/first"

        __enter__ = lambda self: self    # noqa: E731
        __exit__ = lambda self, *error: None    # noqa: E731

        def add_scalar(self, tag, scalar_value, global_step):
            seen.append((tag, float(scalar_value), int(global_step)))

    ((history,), _) = page("tensorboardX", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    assert [v for tag, v, _ in seen if tag == "valid/loss"] == history["valid_loss"]
    assert [v for tag, v, _ in seen if tag == "weight/norm"] == history["weight_norm"]
    assert {k for *_, k in seen} == {1, 2}


def test_weights_and_biases(page):
    seen = []

    @contextmanager
    def init(project, config):
        assert config["epochs"] == 500
        yield types.SimpleNamespace(log=lambda data, step: seen.append((data, step)))

    ((history,), _) = page("wandb", types.SimpleNamespace(init=init))
    assert [step for _, step in seen] == [1, 2]
    assert [data["train_loss"] for data, _ in seen] == history["train_loss"]


def test_mlflow(page):
    seen, files = [], []
    module = types.SimpleNamespace(
        start_run=contextmanager(lambda: iter([None])), log_params=lambda params: seen.append(params),
        log_metrics=lambda metrics, step: seen.append((metrics, step)),
        log_artifact=lambda path: files.append(Path(path).read_bytes()),
    )  # fmt: skip
    ((history,), _) = page("mlflow", module)
    assert [step for _, step in seen[1:]] == [1, 2]
    assert [metrics["valid_loss"] for metrics, _ in seen[1:]] == history["valid_loss"]
    assert len(files) == 1 and files[0].startswith(b"\x89HDF")


def test_optuna_ends_a_trial(page):
    class Pruned(Exception):
        pass

    class Trial:
        def __init__(self, worst):
            self.worst, self.reported = worst, []

        def suggest_int(self, name, low, high):
            return low

        def suggest_float(self, name, low, high, log):
            return low

        def report(self, value, step):
            self.reported.append((value, step))

        def should_prune(self):
            return self.worst

    trials, results = [Trial(True), Trial(False)], []

    def optimize(objective, n_trials):
        for trial in trials:
            try:
                results.append(objective(trial))
            except Pruned:
                results.append("pruned")

    module = types.SimpleNamespace(
        create_study=lambda direction: types.SimpleNamespace(optimize=optimize), TrialPruned=Pruned
    )
    histories, _ = page("optuna", module)
    assert [len(trial.reported) for trial in trials] == [1, 2] == list(map(len, histories))
    assert results == ["pruned", min(histories[1]["valid_loss"])]
