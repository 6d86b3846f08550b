"""Coverage, calibration error and rank correlation against simple counts; the table, the file and the picture."""

import json

import numpy as np
import pytest
from scipy.stats import norm, spearmanr

from fastdesc.analysis.accuracy import Comparison
from fastdesc.analysis.reliability import LEVELS, Reliability, ranks
from fastdesc.analysis.reliability_plots import plot_reliability
from fastdesc.errors import InputError

RNG = np.random.default_rng(0)
WIDTH = RNG.uniform(0.5, 5, 20_000)
ERROR = WIDTH * RNG.normal(size=20_000)


def comparison(n=30, **more):
    n_atoms, rng = np.full(n, 2), np.random.default_rng(1)
    reference = rng.normal(size=n), rng.normal(size=(2 * n, 3)), rng.normal(size=(n, 6))
    e, f, s = reference
    predicted = e + 0.2 * rng.normal(size=n), f + 0.1 * rng.normal(size=f.shape), s
    return Comparison(n_atoms, predicted[0], e, predicted[1], f, predicted[2], s, **more)


def with_widths():
    return comparison(energy_uncertainty=np.full(30, 0.2), forces_uncertainty=np.full((60, 3), 0.1))


def test_right_uncertainties_are_found_right():
    one = Reliability(ERROR, WIDTH)
    np.testing.assert_allclose(one.coverage, LEVELS, atol=0.015)    # four standard deviations of 20 000 counts
    assert one.calibration_error < 0.01
    s = one.summary()
    assert s["coverage_90"] == np.mean(abs(ERROR) <= norm.ppf(0.95) * WIDTH) and s["n"] == 20_000
    width, error = one.binned(10)
    np.testing.assert_allclose(error, width, rtol=0.06)    # four standard deviations of a root mean square of 2000


def test_wrong_ones_are_found_wrong():
    small = Reliability(ERROR, WIDTH / 3)
    counted = [np.mean(abs(ERROR) <= norm.ppf(0.5 + p / 2) * WIDTH / 3) for p in LEVELS]
    np.testing.assert_allclose(small.coverage, counted, rtol=1e-12)
    assert small.calibration_error == pytest.approx(abs(np.array(counted) - LEVELS).mean(), rel=1e-12)
    assert small.calibration_error > 0.25
    assert Reliability(ERROR, 100 * WIDTH).calibration_error > 0.4
    assert Reliability(np.ones(3), np.zeros(3)).summary()["coverage_95"] == 0


def test_rank_correlation_is_spearmans():
    for width in (WIDTH, np.round(WIDTH), RNG.permutation(WIDTH)):
        found = Reliability(ERROR, width).rank_correlation
        assert found == pytest.approx(spearmanr(abs(ERROR), width).statistic, abs=1e-12)
    assert np.isnan(Reliability(ERROR, np.ones_like(ERROR)).rank_correlation)
    np.testing.assert_array_equal(ranks(np.array([3.0, 1.0, 3.0, 2.0])), [2.5, 0, 2.5, 1])


def test_comparisons_keep_and_tell_them(tmp_path):
    c = with_widths()
    found = c.reliability()
    assert set(found) == {"energy", "forces"}
    np.testing.assert_array_equal(found["energy"].width, np.full(30, 0.1))    # per atom
    assert len(found["forces"].error) == 180
    assert c.summary()["uncertainty"]["forces"]["n"] == 180
    assert c.summary()["uncertainty"]["forces"]["rank_correlation"] is None
    json.dumps(c.summary(), allow_nan=False)
    assert "in 90 %" in c.table() and "in 90 %" not in comparison().table()
    assert "uncertainty" not in comparison().summary()
    for one in (c, comparison()):
        one.save(tmp_path / "p.h5")
        loaded = Comparison.load(tmp_path / "p.h5")
        assert loaded.summary() == one.summary()
    nothing = comparison(energy_uncertainty=np.full(30, 0.2), forces_uncertainty=np.full((60, 3), np.nan))
    assert set(nothing.reliability()) == {"energy"}
    with pytest.raises(InputError, match="forces_uncertainty must hold"):
        comparison(forces_uncertainty=np.ones(60))


def test_the_picture(tmp_path):
    with_widths().save(tmp_path / "p.h5")
    plot_reliability(tmp_path / "p.h5", tmp_path / "p.svg")
    text = (tmp_path / "p.svg").read_text()
    assert "calibration error" in text or len(text) > 20_000
    with pytest.raises(InputError, match="no uncertainties"):
        plot_reliability(comparison(), tmp_path / "q.svg")
    assert not (tmp_path / "q.svg").exists()
