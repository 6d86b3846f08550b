"""Schedules by their corners and formulas."""

import math

import numpy as np
import pytest

from fastdesc.errors import InputError
from fastdesc.training.schedules import SCHEDULES, Plateau, constant, cosine, linear


@pytest.mark.parametrize("schedule", SCHEDULES.values())
@pytest.mark.parametrize("n_warmup", [0, 1, 10])
def test_schedules_rise_then_fall(schedule, n_warmup):
    factors = [schedule(step, 100, n_warmup) for step in range(100)]
    assert factors[0] > 0
    assert factors[n_warmup] == 1
    rising, falling = np.diff(factors[: n_warmup + 1]), np.diff(factors[n_warmup:])
    np.testing.assert_allclose(rising, 1 / (n_warmup + 1), rtol=1e-12)
    if schedule is constant:
        assert not falling.any()
    else:
        assert (falling < 0).all()
        assert abs(factors[-1]) < 1e-12


def test_schedules_by_their_formulas():
    assert linear(50, 101) == pytest.approx(0.5, rel=1e-14)
    assert cosine(25, 101) == pytest.approx((1 + math.cos(math.pi / 4)) / 2, rel=1e-14)
    assert linear(100, 101, final=0.1) == cosine(100, 101, final=0.1) == pytest.approx(0.1, rel=1e-14)
    assert cosine(500, 101, final=0.1) == pytest.approx(0.1, rel=1e-14)
    assert cosine(0, 1) == 1


def test_plateau_waits_then_halves():
    plateau = Plateau(reduce=0.5, patience=2, lowest=0.2, threshold=0.01)
    factors = [plateau.update(m) for m in (1.0, 0.9, 0.899, math.nan, 0.95, 0.95, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6)]
    assert factors == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2]
    assert plateau.best == 0.5


def test_plateau_takes_negative_metrics():
    plateau = Plateau(patience=0, threshold=0.1)
    assert plateau.update(-1.0) == 1
    assert plateau.update(-1.05) == 0.5
    assert plateau.update(-1.2) == 0.5


@pytest.mark.parametrize("setting", [{"reduce": 1.0}, {"patience": -1}, {"lowest": -0.1}, {"threshold": 2}])
def test_plateau_out_of_range(setting):
    with pytest.raises(InputError, match=next(iter(setting))):
        Plateau(**setting)
