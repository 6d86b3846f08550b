"""Schedules of the learning rate: factors between 0 and 1 of the rate that was asked for.

`constant`, `linear` and `cosine` are functions of the step, which counts from 0 to n_steps - 1; a plateau follows a
validation metric.
"""

import math

from fastdesc.errors import InputError


def constant(step, n_steps, n_warmup=0):
    """Rise linearly over `n_warmup` steps, (step + 1) / (n_warmup + 1), then stay at 1."""
    return min(1.0, (step + 1) / (n_warmup + 1))


def linear(step, n_steps, n_warmup=0, final=0.0):
    """Rise as `constant`, then fall linearly to `final` at the last step."""
    return constant(step, n_steps, n_warmup) * (1 - (1 - final) * _progress(step, n_steps, n_warmup))


def cosine(step, n_steps, n_warmup=0, final=0.0):
    """Rise as `constant`, then fall along half a cosine to `final` at the last step: Loshchilov, Hutter, ICLR 2017."""
    fallen = 0.5 * (1 - math.cos(math.pi * _progress(step, n_steps, n_warmup)))
    return constant(step, n_steps, n_warmup) * (1 - (1 - final) * fallen)


def is_late(epoch, epochs, late):
    """Whether the middle of an epoch, which count from 0, lies in the last fraction `late` of all."""
    return (epoch + 0.5) / epochs >= 1 - late


def first_late(epochs, late):
    """First epoch that `is_late`."""
    return next(k for k in range(epochs) if is_late(k, epochs, late))


def _progress(step, n_steps, n_warmup):
    return min(1.0, max(0.0, (step - n_warmup) / max(1, n_steps - 1 - n_warmup)))


SCHEDULES = {"constant": constant, "linear": linear, "cosine": cosine}


class Plateau:
    """Lower the learning rate each time a validation metric has stalled.

    Parameters
    ----------
    reduce : float
        Factor at each stall, between 0 and 1.
    patience : int
        Validations without improvement that are borne.
    lowest : float
        The factor never falls below.
    threshold : float
        Relative improvement that counts.

    Attributes
    ----------
    factor : float
        Present factor of the learning rate.
    best : float
    """

    def __init__(self, reduce=0.5, patience=10, lowest=1e-3, threshold=1e-4):
        check_number("reduce", reduce, 0, 1)
        check_number("lowest", lowest, 0, math.inf)
        check_number("threshold", threshold, 0, 1)
        check_number("patience", patience, 0, math.inf)
        self.reduce, self.patience, self.lowest, self.threshold = reduce, patience, lowest, threshold
        self.factor, self.best, self.waited = 1.0, math.inf, 0

    def update(self, metric):
        """Take the metric of one validation (smaller is better; NaN is no improvement); return the factor."""
        margin = self.threshold * abs(self.best) if math.isfinite(self.best) else 0.0
        if metric < self.best - margin:
            self.best, self.waited = float(metric), 0
        else:
            self.waited += 1
        if self.waited > self.patience:
            self.factor, self.waited = max(self.lowest, self.factor * self.reduce), 0
        return self.factor

    def state_dict(self):
        """Return the state as a dict of numbers."""
        return {"factor": self.factor, "best": self.best, "waited": self.waited}

    def load_state_dict(self, state):
        """Continue from a state; InputError for one of something else."""
        check_state(state, self.state_dict(), "plateau")
        self.factor, self.best, self.waited = float(state["factor"]), float(state["best"]), int(state["waited"])


def check_number(name, value, low, high):
    """Raise InputError unless low <= value < high."""
    if not low <= value < high:
        raise InputError(
            f"{name} came as {value!r}; it must be at least {low}" + (f" and below {high}" if high == 1 else "")
        )


def check_state(state, own, what):
    """Raise InputError unless a state has exactly our keys, and arrays of our shapes."""
    for key in sorted(set(own) ^ set(state)):
        raise InputError(f"this state {'has no' if key in own else 'has'} {key!r}; it is not one of this {what}")
    for key, value in own.items():
        arrived, wanted = getattr(state[key], "shape", ()), getattr(value, "shape", ())
        if arrived != wanted:
            raise InputError(f"{key!r} of this state has shape {arrived}; this {what} needs {wanted}")
