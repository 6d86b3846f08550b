"""A pull to the weights that training goes on from, against forgetting what they had learned.

The loss gets, for arrays a of parameters with the values theta_0 before the first step,

    pull sum_a |theta_a - theta_0a|^2 / |theta_0a|^2                                                         (1)

so that it does not matter in which units a parameter is. An array of zeros counts as if each of its entries were 1.
Li, Grandvalet, Davoine, ICML 2018, compare such penalties.
"""

import numpy as np

from fastdesc.backend.arrays import namespace, to_device, to_host
from fastdesc.checks import numbers
from fastdesc.errors import InputError


class Pull:
    """The penalty (1) and its gradient.

    Parameters
    ----------
    parameters : dict of str to float64 array
        theta_0; copied.
    strength : float
        pull of (1).
    """

    def __init__(self, parameters, strength):
        self.strength = strength
        self._take({name: a.copy() for name, a in parameters.items()})

    def _take(self, start):
        squares = {name: float((to_host(a) ** 2).sum()) for name, a in start.items()}
        self.start, self._weights = start, {
            name: self.strength / (squares[name] or max(a.size, 1)) for name, a in start.items()
        }

    def __call__(self, parameters):
        """Value, where the parameters are, and gradient, named like the parameters."""
        value, gradient = 0.0, {}
        for name, weight in self._weights.items():
            moved = parameters[name] - self.start[name]
            flat = moved.reshape(-1)
            value = value + weight * namespace(moved).einsum("i,i->", flat, flat)
            gradient[name] = 2 * weight * moved
        return value, gradient

    def load_state_dict(self, state, path):
        """Take theta_0 from a checkpoint."""
        device = "cpu" if all(isinstance(a, np.ndarray) for a in self.start.values()) else "cuda"
        kept = {name: numbers(f"{name} of {path}", state[name], a.shape) for name, a in self.start.items()}
        self._take({name: to_device(a, device) for name, a in kept.items()})


def check_pull(potential, strength, further):
    """Judge a pull.

    Raises
    ------
    InputError
        For a potential that has nothing to be pulled to, as a whole or for some of its elements.
    """
    if strength and not further:
        raise InputError(
            f"pull came as {strength:g}, and the potential has not been trained before; leave pull out"
        )
    if strength and potential.without_reference:
        raise InputError(
            f"pull came as {strength:g}, and the weights of {', '.join(potential.without_reference)} are new and mean "
            "nothing yet; leave pull out, and give frames of the old elements beside the new ones"
        )
