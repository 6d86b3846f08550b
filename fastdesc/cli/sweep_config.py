"""Configuration of a sweep: that of a training run, and a section [sweep] with settings and what is searched."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fastdesc.checks import brief, count, one_of
from fastdesc.cli import config as configuration
from fastdesc.cli.config import comments_of, example_line, options_of, options_of_class, toml_value
from fastdesc.errors import InputError

SEARCHED = ("descriptor", "potential", "training")
METHODS = ("random", "optuna")
OBJECTIVES = ("loss", "energy_mae", "energy_rmse", "forces_mae", "forces_rmse")
OF_THE_LOSS = ("energy_weight", "force_weight", "stress_weight", "stress_limit", "late", "late_energy_factor")
SHARED = ("seed", "valid_fraction", "device", "devices", "checkpoint_every", "uncertainty", "pair_memory",
          "frame_memory", "time_limit")    # fmt: skip
"""Settings of training that are those of the sweep and no matter of search."""
TABLE = {"low", "high", "log"}


@dataclass(frozen=True)
class Sweep:
    """The [sweep] section.

    Attributes
    ----------
    trials : int
        How many trainings, those of earlier calls included.
    method : {"random", "optuna"}
        "random" draws each trial from the ranges; "optuna" learns from those before (TPE) and needs the package optuna.
    objective : {"loss", "energy_mae", "energy_rmse", "forces_mae", "forces_rmse"}
        Error on the validation frames that is made small. The loss means nothing between trials with other weights.
    workers : int
        Trainings at a time, each in a process with its share of the cores; 1 trains in the process of the command.
    prune : bool
        End a training that is worse than the median of those before at the same fraction of its epochs.
    seed : int
        Of the draws.
    """

    trials: int = 20
    method: str = "random"
    objective: str = "loss"
    workers: int = 1
    prune: bool = True
    seed: int = 0

    def __post_init__(self):
        count("trials", self.trials)
        count("workers", self.workers)
        count("seed", self.seed, 0)
        one_of("method", self.method, METHODS)
        one_of("objective", self.objective, OBJECTIVES)
        for name, most in (("trials", 10**6), ("workers", 1024)):
            if getattr(self, name) > most:
                raise InputError(f"{name} came as {brief(getattr(self, name))}; it must be at most {most}")


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple

    def draw(self, rng):
        return self.values[int(rng.integers(len(self.values)))]

    def ends(self):
        return self.values


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`; uniform, or uniform in its logarithm."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def draw(self, rng):
        if self.log:
            low, high = np.log(self.low - 0.5 * self.whole), np.log(self.high + 0.5 * self.whole)
            value = np.exp(rng.uniform(low, high))
        elif self.whole:
            value = rng.integers(self.low, self.high, endpoint=True)
        else:
            value = rng.uniform(self.low, self.high)
        value = min(max(value, self.low), self.high)
        return round(float(value)) if self.whole else float(value)

    def ends(self):
        return self.low, self.high


@dataclass(frozen=True)
class Plan:
    """A checked sweep.

    Attributes
    ----------
    config : Config
        Of what all trials share.
    sweep : Sweep
    space : dict
        "section.key" -> Choice or Range.
    tables : dict
        Of the configuration file, without [sweep].
    path : Path
        Of that file.
    """

    config: configuration.Config
    sweep: Sweep
    space: dict
    tables: dict
    path: Path

    def config_with(self, values, folder):
        """The configuration of a run with some values, "section.key" -> value, whose results go to a folder."""
        tables = {name: dict(table) for name, table in self.tables.items()}
        for name, value in values.items():
            section, key = name.split(".")
            tables.setdefault(section, {})[key] = value
        found = configuration.config_from(tables, self.path)
        return replace(found, output=replace(found.output, folder=str(folder)))


def load_sweep(path):
    """Read and check a configuration file with a section [sweep].

    Raises
    ------
    InputError, FileFormatError
        As of `fastdesc.cli.config.load_config`, also for each value that the sweep may try.
    """
    tables = configuration.read_toml(path)
    configuration.check_sections(tables, ("sweep", *configuration.SECTIONS), path)
    own = dict(tables.pop("sweep", {}))
    searched = {name: own.pop(name) for name in SEARCHED if name in own}
    own = configuration.checked(own, "sweep", {**options_of_class(Sweep), **dict.fromkeys(SEARCHED)}, path)
    try:
        sweep = Sweep(**own)
    except InputError as error:
        raise InputError(f"{path}: [sweep] {error}") from error
    config = configuration.config_from(tables, path)
    space = {}
    for section, table in searched.items():
        if not isinstance(table, dict):
            raise InputError(f"{path}: sweep.{section} is {_short(table)}; give keys of [{section}], as in {EXAMPLE}")
        for key, given in table.items():
            space[f"{section}.{key}"] = _dimension(f"{path}: sweep.{section}.{key}", section, key, given)
    if not space:
        raise InputError(f"{path}: [sweep] names nothing to search; add keys, as in {EXAMPLE}")
    plan = Plan(config, sweep, space, tables, Path(path))
    _check(plan)
    return plan


EXAMPLE = "training.learning_rate = {low = 5e-4, high = 1e-2, log = true}"


def _dimension(where, section, key, given):
    """What one key may be."""
    if section == "training" and key in SHARED:
        raise InputError(f"{where}: {key} is the same for all trials; set it in [training]")
    if isinstance(given, list):
        if not given:
            raise InputError(f"{where} is an empty list; give the values to try")
        return Choice(tuple(given))
    if not isinstance(given, dict) or not {"low", "high"} <= set(given) <= TABLE:
        text = f"a table of {', '.join(given) or 'nothing'}" if isinstance(given, dict) else _short(given)
        raise InputError(f"{where} is {text}; give a list of values or a range, {{low = 1.0, high = 2.0, log = false}}")
    low, high, log = given["low"], given["high"], given.get("log", False)
    if any(isinstance(x, bool) or not isinstance(x, int | float) for x in (low, high)) or not low < high < np.inf:
        raise InputError(f"{where} goes from {brief(low)} to {brief(high)}; give two numbers, the smaller one as low")
    if not isinstance(log, bool):
        raise InputError(f"{where}: log came as {brief(log)}; it must be true or false")
    if log and low <= 0:
        raise InputError(f"{where} goes from {low} with log = true; low must be above 0")
    whole = isinstance(low, int) and isinstance(high, int) and not _takes_fractions(section, key)
    return Range(low, high, log, whole)


def _short(value):
    """A value as TOML has it, cut where it is long."""
    text = toml_value(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _takes_fractions(section, key):
    """Whether a key is known to take any number."""
    default = options_of(section).get(key) if section != "descriptor" else None
    accepted, _ = configuration.SPECIAL.get(key) or configuration.KINDS.get(type(default), (object, ""))
    return accepted == int | float or key.endswith("cutoff")


def _check(plan):
    """InputError for values that no run takes, and for errors that cannot be compared."""
    for name, dimension in plan.space.items():
        for value in dimension.ends():
            plan.config_with({name: value}, "x")
    keys = [name.split(".")[1] for name in plan.space]
    weights = [key for key in keys if key in OF_THE_LOSS]
    if weights and plan.sweep.objective == "loss":
        raise InputError(
            f"{plan.path}: [sweep] searches {weights[0]}, and losses with other weights cannot be compared; set "
            'objective = "forces_mae" or another error'
        )
    if plan.config.data.valid is None and not plan.config.data.valid_fraction:
        raise InputError(f"{plan.path}: there are no validation frames to compare trials on; set data.valid_fraction")


def default_text():
    """Return a commented configuration with every key of [sweep] at its default, and an example of a search."""
    lines = [
        "# Configuration of `fastdesc sweep`: that of `fastdesc train --print-default`, and what to search.",
        "", "[sweep]",
    ]  # fmt: skip
    for key, default in options_of_class(Sweep).items():
        names, text = comments_of(Sweep.__doc__)[key]
        lines += [f"# {line}" for line in text if key == names[0]] + [example_line(key, default)]
    lines += [
        "# Any key of [training], [descriptor] and [potential]: a list of values, or a range.", EXAMPLE,
        "training.batch_atoms = [64, 128, 256]",
        "descriptor.cutoff = {low = 4.5, high = 6.0}", "potential.hidden = [[32, 32], [64, 64]]",
        "", "[data]", 'train = "train.extxyz"', "", "[training]", "steps = 4000", "",
    ]  # fmt: skip
    return "\n".join(lines)
