"""`fastdesc sweep`: settings are searched, trials are done once, and the best is a configuration of its own."""

import csv
import json
import sys
import types
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from ase.io import write
from helpers.command_line import CONFIG

import fastdesc as fd
from fastdesc.cli import sweep as module
from fastdesc.cli import sweep_trial, sweep_workers
from fastdesc.cli.config import load_config
from fastdesc.cli.demo import crystals
from fastdesc.cli.sweep_choosers import AtRandom, ByOptuna
from fastdesc.cli.sweep_config import Choice, Range, default_text, load_sweep
from fastdesc.cli.sweep_trial import PARTS, Watch
from fastdesc.errors import InputError
from fastdesc.training.history import History
from fastdesc.training.progress import Epoch

SWEEP = """
[sweep]
trials = 3
training.learning_rate = {low = 1e-3, high = 1e-2, log = true}
potential.hidden = [[8], [4]]
"""


@pytest.fixture
def config(tmp_path):
    write(tmp_path / "train.extxyz", crystals(6, 0))
    write(tmp_path / "test.extxyz", crystals(2, 1))
    (tmp_path / "sweep.toml").write_text(CONFIG + SWEEP)
    return tmp_path / "sweep.toml"


def rows(out):
    with open(out / "sweep.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_trials_are_done_once_and_the_best_is_written(config, tmp_path, run, monkeypatch):
    out, words = tmp_path / "out", ("sweep", config, "--out", tmp_path / "out")
    train, ended = sweep_workers.run_trial, []

    def interrupted(folder, say):
        if folder.name == "0002":
            ended.append(folder)
            raise KeyboardInterrupt
        train(folder, say)

    monkeypatch.setattr(sweep_workers, "run_trial", interrupted)
    assert run(*words)[0] == 130 and ended
    assert [row["trial"] for row in rows(out)] == ["1"]
    monkeypatch.setattr(sweep_workers, "run_trial", train)
    code, _, err = run(*words)
    assert code == 2 and "holds a sweep; go on with --resume" in err
    first = (out / "0001" / "model.h5").stat().st_mtime_ns
    code, told, err = run(*words, "--resume")
    assert code == 0, err
    assert (out / "0001" / "model.h5").stat().st_mtime_ns == first and "1 trials were done before" in told
    found = rows(out)
    assert [row["state"] for row in found] == 3 * ["done"]
    assert "best: trial" in told and (out / "sweep.png").stat().st_size > 10_000
    for row in found:
        model = fd.load(out / f"000{row['trial']}" / "model.h5")
        assert model.training["errors"]["valid_loss"] == float(row["loss"])
        assert model.training["settings"]["learning_rate"] == float(row["training.learning_rate"])
        assert str(list(model.arguments["hidden"])) == row["potential.hidden"]
        assert not (out / f"000{row['trial']}" / "errors.json").exists(), "test frames are not looked at"
    best = min(found, key=lambda row: float(row["loss"]))
    config_of_best = load_config(out / "best.toml")
    assert config_of_best.training.learning_rate == float(best["training.learning_rate"])
    assert config_of_best.data.test == str(tmp_path / "test.extxyz")
    config.write_text(config.read_text().replace("epochs = 3", "epochs = 4"))
    code, _, err = run(*words, "--resume")
    assert code == 2 and "holds a sweep with [training] epochs = 3 and now it is 4" in err


def test_processes_and_those_that_are_lost(config, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(fd.__file__).parents[1]))
    config.write_text(config.read_text().replace("trials = 3", "trials = 2\nworkers = 2"))
    module.sweep(load_sweep(config), tmp_path / "out", say=lambda text: None)
    assert [row["state"] for row in rows(tmp_path / "out")] == ["done", "done"]
    monkeypatch.setattr(sweep_workers, "WORKER", "no_such_module_here")
    with pytest.raises(InputError, match=r"none of 2 trials .*its process ended with code 1: .*no_such_module_here"):
        module.sweep(load_sweep(config), tmp_path / "lost", say=lambda text: None)


def test_a_cluster(config, tmp_path, monkeypatch):
    """Futures of a Dask client: one is lost, and the sweep goes on."""
    submitted = []

    class Client:
        def nthreads(self):
            return {"here": 2}

        def submit(self, task, folder, pure):
            submitted.append(folder)
            assert pure is False, "a task that is submitted again must run again"
            if len(submitted) == 1:
                return types.SimpleNamespace(done=lambda: True, status="error", exception=lambda: MemoryError("lost"))
            task(folder)
            return types.SimpleNamespace(done=lambda: True, status="finished")

    @contextmanager
    def client_of(scheduler, workers):
        assert (scheduler, workers) == ("tcp://there", 1)
        yield Client()

    monkeypatch.setattr(sweep_workers, "client_of", client_of)
    module.sweep(load_sweep(config), tmp_path / "out", scheduler="tcp://there", say=lambda text: None)
    assert [row["state"] for row in rows(tmp_path / "out")] == ["failed", "done", "done"]
    assert json.loads((tmp_path / "out/0001/trial.json").read_text())["reason"] == "its worker failed: lost"


def test_values_do_not_depend_on_what_came_before():
    space = {"a.b": Range(1e-3, 1.0, log=True), "a.c": Range(2, 4, whole=True), "a.d": Choice(("x", "y"))}
    drawn = [AtRandom(space, 1).values(k) for k in range(300)]
    assert AtRandom(space, 1).values(7) == drawn[7] != AtRandom(space, 2).values(7)
    assert {v["a.c"] for v in drawn} == {2, 3, 4} and {v["a.d"] for v in drawn} == {"x", "y"}
    logs = np.log10([v["a.b"] for v in drawn])
    assert logs.min() >= -3 and logs.max() <= 0 and abs(logs.mean() + 1.5) < 0.15
    whole = [AtRandom({"a": Range(1, 8, log=True, whole=True)}, 0).values(k)["a"] for k in range(300)]
    assert set(whole) == set(range(1, 9)) and whole.count(1) > whole.count(8)


def epochs(values, watch, n):
    """Feed errors to a Watch until it ends the run; how many epochs there were."""
    history = History()
    for k, value in enumerate(values, 1):
        history.rows.append({"epoch": k, **({} if value is None else {"valid_loss": value})})
        if watch(Epoch(history.rows[-1], history, n, 0.0)):
            return k
    return len(values)


def test_what_is_worse_than_most_is_pruned():
    falling = [1.0 / k for k in range(1, 41)]
    watch = Watch("loss", [None] * PARTS)
    assert epochs(falling, watch, 40) == 40 and not watch.pruned
    assert watch.curve == falling[1::2]
    limits = [1.05 * x for x in watch.curve]
    better, worse = Watch("loss", limits), Watch("loss", limits)
    assert epochs(falling, better, 40) == 40
    assert epochs([2 * x for x in falling], worse, 40) == 8 and worse.pruned, "at a fifth, not before"
    nan, rare = Watch("loss", limits), Watch("loss", [None] * PARTS)
    assert epochs([float("nan")] * 40, nan, 40) == 8 and nan.pruned
    assert epochs([None, None, 3.0, None], rare, 4) == 4 and rare.curve[13:] == 7 * [3.0]
    late = Watch("loss", [None] * (PARTS - 1) + [0.0])
    assert epochs(falling, late, 40) == 40, "what is at its end is not pruned"
    found = module._limits({k: {"curve": [float(k)] * PARTS} for k in range(1, 6)})
    assert found == [3.0] * PARTS
    assert module._limits({1: {"curve": [1.0] * PARTS}, 2: {}}) == [None] * PARTS


def test_a_trial_that_fails_says_why(config, tmp_path):
    plan = load_sweep(config)
    folder = module._begin(tmp_path, 1, plan, AtRandom({"training.learning_rate": Choice((1e30,))}, 0), {})
    sweep_trial.run_trial(folder)
    told = json.loads((folder / "trial.json").read_text())
    assert told["state"] == "failed" and "learning_rate" in told["reason"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "names nothing to search"),
        ("training = 3", "sweep.training is 3; give keys of"),
        ("training.learning_rate = 3", "is 3; give a list of values or a range"),
        ("training.learning_rate = []", "empty list"),
        ("training.learning_rate = {low = 1}", "a table of low; give a list"),
        ("training.learning_rate = {low = 2, high = 1}", "goes from 2 to 1"),
        ("training.learning_rate = {low = 0, high = 1, log = true}", "low must be above 0"),
        ("training.learning_rate = {low = 0.1, high = 1, log = 3}", "log came as 3"),
        ("training.learning_rate = {low = 0.1, high = nan}", "goes from 0.1 to nan"),
        ("training.learning_rate = [-1.0, 1.0]", "learning_rate came as -1.0"),
        ("training.learning_rat = [1.0]", "did you mean 'learning_rate'"),
        ("descriptor.n_radial = [\"x\"]", "n_radial"),
        ("training.seed = [1, 2]", "seed is the same for all trials"),
        ("training.energy_weight = [1.0]", "losses with other weights cannot be compared"),
        ("trials = 0\ntraining.ema = [0.9]", "trials"),
        ("method = \"grid\"\ntraining.ema = [0.9]", "method"),
        ("workers = 1.5\ntraining.ema = [0.9]", "workers"),
        ("trial = 3", "did you mean 'trials'"),
    ],
)  # fmt: skip
def test_mistakes_are_told(tmp_path, line, words):
    (tmp_path / "sweep.toml").write_text(f"{CONFIG}\n[sweep]\n{line}\n")
    with pytest.raises(InputError, match=r".") as error:
        load_sweep(tmp_path / "sweep.toml")
    assert words in str(error.value)


def test_whole_numbers_stay_whole(tmp_path):
    lines = "training.learning_rate = {low = 1, high = 2}\ndescriptor.n_radial = {low = 2, high = 4}\n"
    lines += "descriptor.cutoff = {low = 4, high = 6}\ntraining.patience = {low = 2, high = 4}\n"
    (tmp_path / "sweep.toml").write_text(f"{CONFIG}\n[sweep]\n{lines}")
    space = load_sweep(tmp_path / "sweep.toml").space
    whole = {"descriptor.n_radial": True, "descriptor.cutoff": False, "training.learning_rate": False}
    assert {name: d.whole for name, d in space.items()} == {**whole, "training.patience": True}


def test_the_printed_configuration_is_one(tmp_path):
    (tmp_path / "sweep.toml").write_text(default_text())
    plan = load_sweep(tmp_path / "sweep.toml")
    assert len(plan.space) == 4 and plan.sweep.trials == 20


def test_no_validation_frames(tmp_path):
    (tmp_path / "sweep.toml").write_text(CONFIG.replace("[data]", "[data]\nvalid_fraction = 0.0") + SWEEP)
    with pytest.raises(InputError, match="no validation frames to compare trials on"):
        load_sweep(tmp_path / "sweep.toml")


class Study:
    """What is used of an Optuna study."""

    def __init__(self):
        self.told, self.added = [], []

    def ask(self, distributions):
        return types.SimpleNamespace(params={name: d.first for name, d in distributions.items()})

    def tell(self, trial, value=None, state=None):
        self.told.append((value, state))

    def add_trial(self, trial):
        self.added.append(trial)


def test_optuna_is_told_of_all_trials(monkeypatch):
    study = Study()

    def distribution(low, high=None, log=False):
        return types.SimpleNamespace(first=low[-1] if high is None else low, log=log)

    optuna = types.SimpleNamespace(
        logging=types.SimpleNamespace(set_verbosity=lambda level: None, WARNING=30),
        samplers=types.SimpleNamespace(TPESampler=lambda seed, constant_liar: (seed, constant_liar)),
        create_study=lambda direction, sampler: study,
        distributions=types.SimpleNamespace(
            CategoricalDistribution=distribution, IntDistribution=distribution, FloatDistribution=distribution
        ),
        trial=types.SimpleNamespace(
            TrialState=types.SimpleNamespace(FAIL="fail"), create_trial=lambda **given: given
        ),
    )
    monkeypatch.setitem(sys.modules, "optuna", optuna)
    chooser = ByOptuna({"a.b": Range(1e-3, 1.0, log=True), "a.c": Choice(([8], [4]))}, 0)
    values = chooser.values(1)
    assert values == {"a.b": 1e-3, "a.c": [4]}
    chooser.told(1, values, {"state": "done", "value": 0.5})
    chooser.told(2, chooser.values(2), {"state": "failed"})
    chooser.told(9, values, {"state": "done", "value": 0.25})
    assert study.told == [(0.5, None), (None, "fail")]
    assert study.added[0]["params"] == {"a.b": 1e-3, "a.c": 1} and study.added[0]["value"] == 0.25
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match="needs the package optuna"):
        ByOptuna({}, 0)
