"""The average of parameters against its definition."""

import numpy as np
import pytest

from fastdesc.errors import InputError
from fastdesc.training.optimizer import WeightAverage

SHAPES = {"network/0/weight": (5, 4), "scale": (2,)}


def parameters(seed):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_average_is_its_definition(decay):
    history = [parameters(k) for k in range(12)]
    average = WeightAverage(history[0], decay)
    for name, a in average.value().items():
        np.testing.assert_array_equal(a, history[0][name])
    for t in range(1, 12):
        average.update(history[t])
        weights = decay ** np.arange(t - 1, -1, -1.0)
        for name, a in average.value().items():
            expected = np.tensordot(weights / weights.sum(), [p[name] for p in history[1 : t + 1]], 1)
            np.testing.assert_allclose(a, expected, rtol=1e-12, atol=1e-13)


def test_first_average_is_the_parameters():
    start, p = parameters(0), parameters(1)
    average = WeightAverage(start, 0.999)
    average.update(p)
    for name, a in average.value().items():
        np.testing.assert_allclose(a, p[name], rtol=1e-14)
        assert a is not p[name]


def test_average_decay_out_of_range():
    with pytest.raises(InputError, match="decay came as 1"):
        WeightAverage(parameters(0), 1.0)
