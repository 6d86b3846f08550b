"""What a sweep tries next: values at random, or by Optuna's TPE from the trials before."""

import numpy as np

from fastdesc.cli.sweep_config import Choice
from fastdesc.errors import InputError


class AtRandom:
    """Values of trial k depend on the seed and on k alone."""

    def __init__(self, space, seed):
        self.space, self.seed = space, seed

    def values(self, number):
        """Values of a trial."""
        rng = np.random.default_rng([self.seed, number])
        return {name: dimension.draw(rng) for name, dimension in self.space.items()}

    def told(self, number, values, result):
        """Learn nothing from what a trial came to."""


class ByOptuna:
    """Values by Optuna's TPE.

    Trials of earlier calls are told to it again, so nothing is kept but the files of the sweep.

    Raises
    ------
    InputError
        Where Optuna is not installed.
    """

    def __init__(self, space, seed):
        try:
            import optuna
        except ImportError as error:
            text = "method = \"optuna\" needs the package optuna: pip install 'fastdesc[optuna]'; or use \"random\""
            raise InputError(text) from error
        self._optuna, self.space, self._asked = optuna, space, {}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        self._study = optuna.create_study(direction="minimize", sampler=sampler)
        self._distributions = {name: self._distribution(dimension) for name, dimension in space.items()}

    def _distribution(self, dimension):
        kinds = self._optuna.distributions
        if isinstance(dimension, Choice):    # by number: values may be lists
            return kinds.CategoricalDistribution(list(range(len(dimension.values))))
        kind = kinds.IntDistribution if dimension.whole else kinds.FloatDistribution
        return kind(dimension.low, dimension.high, log=dimension.log)

    def values(self, number):
        """Values of a trial."""
        trial = self._asked[number] = self._study.ask(self._distributions)
        return {
            name: dimension.values[trial.params[name]] if isinstance(dimension, Choice) else trial.params[name]
            for name, dimension in self.space.items()
        }

    def told(self, number, values, result):
        """Learn what a trial came to; an error of one that was pruned counts, too, as the least it may have had."""
        state, value = self._optuna.trial.TrialState, result.get("value")
        asked = self._asked.pop(number, None)
        if value is None or not np.isfinite(value):
            if asked is not None:
                self._study.tell(asked, state=state.FAIL)
        elif asked is not None:
            self._study.tell(asked, value)
        else:
            params = {name: _number(dimension, values[name]) for name, dimension in self.space.items()}
            make = self._optuna.trial.create_trial
            self._study.add_trial(make(params=params, distributions=self._distributions, value=value))


def _number(dimension, value):
    """A value as Optuna knows it."""
    return dimension.values.index(value) if isinstance(dimension, Choice) else value


CHOOSERS = {"random": AtRandom, "optuna": ByOptuna}
