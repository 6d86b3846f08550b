"""Optimizers on dicts of parameters, and the average of parameters.

Parameters are a dict of name -> float64 array, NumPy or CuPy. They are the masters, changed in place: a step is often
smaller than float32 resolves, so compute in float32 with copies cast from them, not on them. Gradients may be of
either precision. Every state is a plain dict of arrays and numbers; a run continued from one gives the same bits.
"""

import math
from collections import namedtuple
from functools import cache

import numpy as np
from numba.extending import register_jitable

from fastdesc.backend.arrays import namespace, to_host
from fastdesc.backend.jit import kernel
from fastdesc.errors import FastdescError, InputError
from fastdesc.numerics.elementary import COMPILED, maximum, sqrt
from fastdesc.training.schedules import check_number, check_state

Group = namedtuple("Group", "rate weight_decay", defaults=(1.0, None))
Group.__doc__ = "Factor of the learning rate (0 freezes), and weight decay (None: the optimizer's), of a group."


# The step of one parameter: one text, compiled for NumPy, fused for CuPy (which must see no scalar arithmetic).


@register_jitable(**COMPILED)
def _moments(g, m, v, beta1, beta2, rest1, rest2):
    return beta1 * m + rest1 * g, beta2 * v + rest2 * (g * g)  # (2)


@register_jitable(**COMPILED)
def _moved(p, m, v, rate, decay, eps, per_m, per_v):
    return p - rate * (per_m * m / (sqrt(per_v * v) + eps) + decay * p)  # (3)


@register_jitable(**COMPILED)
def _adamw(p, m, v, g, shorten, beta1, beta2, rest1, rest2, rate, decay, eps, per_m, per_v):
    m, v = _moments(shorten * g, m, v, beta1, beta2, rest1, rest2)
    return _moved(p, m, v, rate, decay, eps, per_m, per_v), m, v


@register_jitable(**COMPILED)
def _amsgrad(p, m, v, top, g, shorten, beta1, beta2, rest1, rest2, rate, decay, eps, per_m, per_v):
    m, v = _moments(shorten * g, m, v, beta1, beta2, rest1, rest2)
    top = maximum(v, top)  # (4)
    return _moved(p, m, top, rate, decay, eps, per_m, per_v), m, v, top


@register_jitable(**COMPILED)
def _average(a, p, weight):
    return (a + weight * (p - a),)  # (5)


@kernel
def _adamw_loop(p, m, v, g, shorten, beta1, beta2, rest1, rest2, rate, decay, eps, per_m, per_v):
    for k in range(p.size):
        p[k], m[k], v[k] = _adamw(
            p[k], m[k], v[k], g[k], shorten, beta1, beta2, rest1, rest2, rate, decay, eps, per_m, per_v
        )


@kernel
def _amsgrad_loop(p, m, v, top, g, shorten, beta1, beta2, rest1, rest2, rate, decay, eps, per_m, per_v):
    for k in range(p.size):
        p[k], m[k], v[k], top[k] = _amsgrad(
            p[k], m[k], v[k], top[k], g[k], shorten, beta1, beta2, rest1, rest2, rate, decay, eps, per_m, per_v
        )


@kernel
def _average_loop(a, p, weight):
    for k in range(a.size):
        a[k] = _average(a[k], p[k], weight)[0]


@cache
def _fused(formula, xp):
    return xp.fuse(formula)


def _change(formula, loop, changed, given, numbers):
    """Give the arrays `changed` the values that the formula returns, from themselves, an array and numbers."""
    xp = namespace(changed[0])
    numbers = [float(x) for x in numbers]
    if xp is np:
        loop(*(a.reshape(-1) for a in (*changed, np.ascontiguousarray(given))), *numbers)
    else:
        for old, new in zip(changed, _fused(formula, xp)(*changed, given, *numbers), strict=True):
            old[...] = new


class AdamW:
    """Adam with decoupled weight decay: Loshchilov, Hutter, ICLR 2019.

        g <- g min(1, clip / |g|)                                      |g| over all parameters          (1)
        m <- beta1 m + (1 - beta1) g,    v <- beta2 v + (1 - beta2) g^2                                 (2)
        p <- p - rate ( m_t / (sqrt(v_t) + eps) + weight_decay p ),    x_t = x / (1 - beta^t)           (3)

    Parameters
    ----------
    parameters : dict of str to float64 array
        Names, shapes and devices of what will be trained.
    learning_rate : float
        Times the factor of the group and that of the step.
    weight_decay : float
        Of parameters whose group does not say otherwise.
    groups : dict of str to Group, optional
        Prefix of names -> Group(rate, weight_decay), or a dict of the same; the longest prefix that fits counts.
    beta1, beta2, eps : float
    clip : float, optional
        Largest norm of the gradient.

    Raises
    ------
    InputError
        For numbers out of range, or parameters that are not contiguous float64.
    """

    _formula, _loop = staticmethod(_adamw), staticmethod(_adamw_loop)
    _kept = ("m", "v")
    _longest = math.inf    # gradient that can be followed

    def __init__(
        self,
        parameters,
        learning_rate=1e-3,
        weight_decay=0.0,
        groups=None,
        beta1=0.9,
        beta2=0.999,
        eps=1e-8,
        clip=None,
    ):
        positive = {"learning_rate": learning_rate, "weight_decay": weight_decay, "eps": eps}
        for name, value in (positive if clip is None else {**positive, "clip": clip}).items():
            check_number(name, value, 0, math.inf)
        check_number("beta1", beta1, 0, 1)
        check_number("beta2", beta2, 0, 1)
        self.learning_rate, self.beta1, self.beta2, self.eps, self.clip = learning_rate, beta1, beta2, eps, clip
        self.groups = {name: _group(name, groups or {}, weight_decay) for name in parameters}
        self.n_steps = 0
        self._moments, self._shapes = {}, {name: p.shape for name, p in parameters.items()}
        if eps == 0:
            raise InputError("eps is 0; it must be above 0, for a parameter that nothing depends on has v = 0")
        for name, p in parameters.items():
            _check_master(name, p)
            self._moments |= {f"{kind}/{name}": a for kind, a in self._start(name, p).items()}

    def _start(self, name, p):
        """What is kept of a parameter before the first step: kind -> array."""
        return {kind: namespace(p).zeros_like(p) for kind in self._kept}

    def square_norm(self, gradients):
        """|g|^2 over all parameters that are not frozen, float64, where the gradients are."""
        found = [gradients[name] for name, group in self.groups.items() if group.rate > 0 and name in gradients]
        flat = [a.astype(np.float64, copy=False).reshape(-1) for a in found]
        return sum(namespace(a).einsum("i,i->", a, a) for a in flat)

    def step(self, parameters, gradients, factor=1.0, norm=None):
        """Change, in place, all parameters that are not frozen.

        Parameters
        ----------
        parameters : dict of str to float64 array
        gradients : dict of str to array
            Those of frozen parameters may be missing.
        factor : float
            Of the learning rate, for this step: what a schedule says (fastdesc.training.schedules).
        norm : float, optional
            Of the gradient, by a caller who has fetched its `square_norm` from a device with other numbers.

        Returns
        -------
        float
            Norm of the gradient before it was shortened.

        Raises
        ------
        InputError
            For a parameter or gradient that is missing or of another shape.
        FastdescError
            When the gradient is not finite.

        In both cases nothing has been changed.
        """
        active = [name for name, group in self.groups.items() if group.rate > 0]
        for name in active:
            for what, given in (("parameter", parameters), ("gradient", gradients)):
                shape, wanted = getattr(given.get(name), "shape", None), self._shapes[name]
                if shape != wanted:
                    raise InputError(
                        f"{what} {name!r} "
                        + (f"has shape {shape}" if name in given else "is missing")
                        + f"; this optimizer needs {wanted}, or a group with rate 0 to freeze it"
                    )
            _check_master(name, parameters[name])
        norm = math.sqrt(self.square_norm(gradients)) if norm is None else norm
        shorten = 1.0 if self.clip is None or norm <= self.clip else self.clip / norm
        if not math.isfinite(norm) or shorten * norm > self._longest:
            words = "too long" if math.isfinite(norm) else "not finite"
            raise FastdescError(
                f"the gradient is {words} at step {self.n_steps + 1} (its norm is {norm:.4g}); "
                "lower the learning rate, or look for a wrong label"
            )
        self.n_steps += 1
        rate = self.learning_rate * factor

        def move(name):
            group = self.groups[name]
            self._move(name, parameters[name], gradients[name], shorten, rate * group.rate, group.weight_decay)

        self._each(move, active)
        return norm

    def _each(self, move, names):
        """Call move(name) for all names."""
        for name in names:
            move(name)

    def _move(self, name, p, g, shorten, rate, decay):
        """Change one parameter: (2) and (3)."""
        per_m, per_v = (1 / (1 - beta**self.n_steps) for beta in (self.beta1, self.beta2))
        numbers = (shorten, self.beta1, self.beta2, 1 - self.beta1, 1 - self.beta2)
        changed = [p, *(self._moments[f"{kind}/{name}"] for kind in self._kept)]
        _change(self._formula, self._loop, changed, g, (*numbers, rate, decay, self.eps, per_m, per_v))

    def state_dict(self):
        """Return the state: number of steps and moments, as NumPy copies."""
        return {"n_steps": self.n_steps, **{key: to_host(a).copy() for key, a in self._moments.items()}}

    def load_state_dict(self, state):
        """Continue from a state; InputError for one of other parameters or of another optimizer."""
        check_state(state, {"n_steps": None, **self._moments}, "optimizer")
        self.n_steps = int(state["n_steps"])
        for key, a in self._moments.items():
            a[...] = namespace(a).asarray(state[key])


class AMSGrad(AdamW):
    """AdamW whose second moment in (3) never falls: Reddi, Kale, Kumar, ICLR 2018.

        v in (3) is replaced by    top <- max(v, top)                                                   (4)

    Parameters as AdamW.
    """

    _formula, _loop = staticmethod(_amsgrad), staticmethod(_amsgrad_loop)
    _kept = ("m", "v", "top")


class WeightAverage:
    """Exponential average of parameters over steps, without a bias towards the start.

        a_t = a_{t-1} + w_t (p_t - a_{t-1}),    w_t = (1 - decay) / (1 - decay^t)                       (5)

    which is the average with weights decay^(t-s), divided by their sum: at t = 1 the parameters themselves.

    Parameters
    ----------
    parameters : dict of str to float64 array
        Names, shapes and devices of what will be averaged.
    decay : float
        From 0 (the last parameters) to below 1.
    """

    def __init__(self, parameters, decay=0.999):
        check_number("decay", decay, 0, 1)
        self.decay, self.n_steps = decay, 0
        for name, p in parameters.items():
            _check_master(name, p)
        self._average = {name: p.copy() for name, p in parameters.items()}

    def update(self, parameters):
        """Take the parameters after a step."""
        self.n_steps += 1
        weight = self._weight()
        for name, a in self._average.items():
            _change(_average, _average_loop, [a], parameters[name], [weight])

    def _weight(self):
        return (1 - self.decay) / (1 - self.decay**self.n_steps)

    def value(self):
        """Return the average, a dict like the parameters; before the first update the parameters handed in.

        The arrays are those that `update` goes on changing; copy what must stay.
        """
        return self._average

    def state_dict(self):
        """Return the state: number of steps and averages, as NumPy copies."""
        averages = {f"a/{name}": to_host(a).copy() for name, a in self._average.items()}
        return {"n_steps": self.n_steps, **averages}

    def load_state_dict(self, state):
        """Continue from a state; InputError for one of other parameters."""
        averages = {f"a/{name}": a for name, a in self._average.items()}
        check_state(state, {"n_steps": None, **averages}, "weight average")
        self.n_steps = int(state["n_steps"])
        for key, a in averages.items():
            a[...] = namespace(a).asarray(state[key])


class WeightMean(WeightAverage):
    """Mean of parameters: w_t = 1 / t in (5).

    Parameters
    ----------
    parameters : dict of str to float64 array
        Names, shapes and devices of what will be averaged.
    """

    def __init__(self, parameters):
        super().__init__(parameters, 0.0)

    def _weight(self):
        return 1 / self.n_steps


def _group(name, groups, weight_decay):
    """Group of a parameter, its weight decay filled in."""
    fitting = [prefix for prefix in groups if name.startswith(prefix)]
    group = groups[max(fitting, key=len)] if fitting else Group()
    group = Group(**group) if isinstance(group, dict) else group
    group = Group(group.rate, weight_decay if group.weight_decay is None else group.weight_decay)
    check_number(f"rate of the group of {name!r}", group.rate, 0, math.inf)
    check_number(f"weight_decay of the group of {name!r}", group.weight_decay, 0, math.inf)
    return group


def _check_master(name, p):
    if p.dtype != np.float64 or not p.flags.c_contiguous:
        raise InputError(f"parameter {name!r} is {p.dtype}; an optimizer changes contiguous float64 masters in place")
