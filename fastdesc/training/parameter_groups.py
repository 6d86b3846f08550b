"""How each parameter of a potential learns: by which optimizer, how fast, and which ones not at all."""

import math
from fnmatch import fnmatchcase

import numpy as np

from fastdesc.errors import InputError, nearest
from fastdesc.training.matrix_optimizers import SOAP, Muon
from fastdesc.training.optimizer import AdamW, AMSGrad, Group

MOST_ROWS = 1024
"""Of what SOAP steps as a matrix in a descriptor: a table of 30 elements has 3600 and more, and improving their basis
takes most of the time of training."""


def optimizer_for(potential, parameters, settings):
    """Return the optimizer of a run.

    Parameters
    ----------
    potential : Potential
    parameters : dict of str to float64 array
        What it will change: those of the potential, where they are trained.
    settings : Settings
        optimizer, learning_rate, descriptor_learning_rate, weight_decay, freeze and clip.
    """
    given = {"learning_rate": 1.0, "groups": groups_for(potential, settings), "clip": settings.clip}
    if settings.optimizer in ("adamw", "amsgrad"):
        return {"adamw": AdamW, "amsgrad": AMSGrad}[settings.optimizer](parameters, **given)
    weights = {name: a.shape for name, a in parameters.items() if name.endswith("weight")}
    if settings.optimizer == "muon":
        return Muon(parameters, _matrices(weights), **given)
    own = [f"descriptor/{name}" for name in potential.descriptor.training_hints.matrices]
    own = {name: parameters[name].shape for name in own if name in parameters}
    weights |= {name: shape for name, shape in own.items() if math.prod(shape[:-1]) <= MOST_ROWS}
    return SOAP(parameters, _matrices(weights), **given)


def _matrices(shapes):
    """Shapes (rows, columns) of those that are matrices, all axes but the last as rows."""
    found = {name: (math.prod(shape[:-1]), shape[-1]) for name, shape in shapes.items()}
    return {name: shape for name, shape in found.items() if min(shape) > 1}


def groups_for(potential, settings):
    """Return what the optimizer wants to know of every parameter: name -> Group.

    Parameters
    ----------
    potential : Potential
    settings : Settings
        learning_rate, descriptor_learning_rate, weight_decay and freeze.

    Raises
    ------
    InputError
        For a pattern in `freeze` that fits no parameter, and when nothing is left to train.
    """
    s, names = settings.with_rates(potential.fitted), list(potential.parameters)
    networks = Group(s.learning_rate, s.weight_decay)
    groups = {"descriptor/": Group(s.descriptor_learning_rate), "network/": networks, "": Group(s.learning_rate)}
    # Networks inside a descriptor diverge at the rate that suits its radial functions.
    inside = potential.descriptor.training_hints.trained_like_networks if s.descriptor_learning_rate else ()
    groups |= {f"descriptor/{name}": networks for name in inside}
    # Knots are values of a function, which shall not shrink like weights.
    groups |= {name: Group(s.learning_rate) for name in names if name.endswith("/splines")}
    # Weights of features differ by orders of magnitude between descriptors, and so must their steps.
    scales = potential.scaler.scale[potential.direct_columns]
    groups["direct"] = Group(s.learning_rate / np.sqrt(np.mean(scales**2)) if len(scales) else 0.0)
    out = {name: groups[max((g for g in groups if name.startswith(g)), key=len)] for name in names}
    out |= dict.fromkeys(frozen(names, s.freeze), Group(0.0, 0.0))
    if not any(group.rate for group in out.values()):
        raise InputError(
            f"freeze {list(s.freeze)} and learning rates of {s.learning_rate:g} and {s.descriptor_learning_rate:g} "
            "leave nothing to train; let some parameter learn"
        )
    return out


def check_penalty(groups, settings, fitted):
    """Judge penalties of filters that do not learn.

    Parameters
    ----------
    groups : list of Group
        Of the filters.
    settings : Settings
    fitted : bool
        Whether the potential is: only others begin with the setting `start`.

    Raises
    ------
    InputError
        For a curvature or magnitude that nothing follows.
    """
    if any(group.rate for group in groups):
        return
    # A linear start smooths the filter that it fits.
    acting = {"curvature"} if settings.start == "linear" and not fitted else set()
    for name in ("curvature", "magnitude"):
        if (value := getattr(settings, name)) and name not in acting:
            raise InputError(
                f"{name} is {value:g}, and no filter learns: descriptor_learning_rate is "
                f"{settings.descriptor_learning_rate:g} and freeze {list(settings.freeze)}. Leave {name} out, or let "
                "filters learn"
            )


def frozen(names, patterns):
    """Return the names that fit any of the patterns (of the shell: *, ?, [..]).

    Raises
    ------
    InputError
        For a pattern that fits none; names the nearest.
    """
    found = []
    for pattern in patterns:
        fitting = [name for name in names if fnmatchcase(name, pattern)]
        if not fitting:
            raise InputError(
                f"freeze: no parameter fits {pattern!r}{nearest(pattern, names)}; there are {', '.join(names)}"
            )
        found += fitting
    return found
