"""The head of splines: its passes and parameters by the complex step, its formula by another one, and its edges."""

import numpy as np
import pytest
from helpers.networks import EXACT, STEP

from fastdesc.errors import InputError
from fastdesc.networks.scaler import FeatureScaler
from fastdesc.networks.spline import SplineNetwork
from fastdesc.numerics.splines import Splines

N_FEATURES, SEEN = 7, np.array([0, 2, 3, 6])


def head(bias, n_embeddings=3, n_knots=5, n_in=N_FEATURES):
    rng = np.random.default_rng(0)
    x0 = rng.uniform(-2, -1, (n_embeddings, 1))
    return SplineNetwork(
        rng.normal(size=(n_embeddings, n_in)),
        rng.normal(size=(n_embeddings, n_knots + 2)),
        np.hstack([x0, x0 + rng.uniform(2, 3, (n_embeddings, 1))]),
        bias,
    )


def scaler(bias):
    rng = np.random.default_rng(1)
    return FeatureScaler(rng.normal(size=N_FEATURES) * bias, rng.uniform(0.5, 2, N_FEATURES))


def running(h, bias, seen=None, parameters=None, dtype=np.float64):
    return h.folded(parameters or h.parameters, scaler(bias), seen, dtype)


def arrays(n=40):
    rng = np.random.default_rng(2)
    return rng.normal(size=(N_FEATURES, n)), rng.normal(size=(N_FEATURES, n)), *rng.normal(size=(2, 1, n))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("seen", [None, SEEN])
def test_value_is_a_sum_of_splines_of_scaled_features(bias, seen):
    h, (x, *_) = head(bias, n_in=N_FEATURES if seen is None else len(seen)), arrays()
    scaled = scaler(bias).transform(x)
    n = h.weight @ (scaled if seen is None else scaled[seen])
    expected = 0.0
    for p, (x0, x1), row in zip(h.splines, h.grid, n, strict=True):
        spline = Splines(x0, x1, h.n_knots)
        assert (row < x0).any() and (row > x1).any()    # the straight lines are tested too
        expected = expected + spline.values(p, row) - (0 if bias else spline.values(p, 0.0))
    np.testing.assert_allclose(running(h, bias, seen).forward(x)[0][0], expected, **EXACT)


@pytest.mark.parametrize("bias", [True, False])
def test_passes_are_exact(bias):
    f, (x, tx, dy, c) = running(head(bias), bias), arrays()
    y, saved = f.forward(x)
    stepped = f.forward(x + 1j * STEP * tx)[0]
    np.testing.assert_allclose(stepped.real, y, **EXACT)
    ty, tsaved = f.tangent(saved, tx)
    np.testing.assert_allclose(ty, stepped.imag / STEP, **EXACT)
    cx, chain = f.pullback(saved, c)
    assert (cx * tx).sum() == pytest.approx((c * ty).sum(), rel=1e-12)
    gradient, dz = f.dual_gradients(saved, tsaved, chain, dy, -1.0)
    assert [g.shape for g in gradient] == [a.shape for a in f.arrays]
    rng = np.random.default_rng(5)
    along = rng.normal(size=x.shape)

    def loss(f, x):
        y, saved = f.forward(x)
        return (dy * y).sum() - (c * f.tangent(saved, tx)[0]).sum()

    assert (f.to_inputs(dz) * along).sum() == pytest.approx(loss(f, x + 1j * STEP * along).imag / STEP, rel=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("seen", [None, SEEN])
@pytest.mark.parametrize("name", ["weight", "splines"])
def test_gradient_of_parameters_through_the_fold(bias, seen, name):
    h, (x, tx, dy, c) = head(bias, n_in=N_FEATURES if seen is None else len(seen)), arrays()
    f = running(h, bias, seen)
    _, saved = f.forward(x)
    _, chain = f.pullback(saved, c)
    gradient, _ = f.dual_gradients(saved, f.tangent(saved, tx)[1], chain, dy, -1.0)
    found = h.unfolded(gradient, scaler(bias), seen)[name]
    along = np.random.default_rng(6).normal(size=found.shape)
    moved = {**h.parameters, name: h.parameters[name] + 1j * STEP * along}
    g = running(h, bias, seen, moved, np.complex128)
    y, saved = g.forward(x)
    loss = (dy * y).sum() - (c * g.tangent(saved, tx)[0]).sum()
    assert (found * along).sum() == pytest.approx(loss.imag / STEP, rel=1e-12)


def test_zero_features_give_exactly_zero():
    for n_embeddings in (1, 3):
        for dtype in (np.float32, np.float64):
            y, _ = running(head(False, n_embeddings), False, dtype=dtype).forward(np.zeros((N_FEATURES, 5), dtype))
            np.testing.assert_array_equal(y, 0)


def test_float32_stays_float32_and_near():
    h, data = head(True), arrays()

    def everything(dtype):
        f, (x, tx, dy, c) = running(h, True, dtype=dtype), (a.astype(dtype) for a in data)
        y, saved = f.forward(x)
        cx, chain = f.pullback(saved, c)
        ty, tsaved = f.tangent(saved, tx)
        gradient, dz = f.dual_gradients(saved, tsaved, chain, dy, -1.0)
        return [y, cx, ty, f.to_inputs(dz), *gradient]

    for exact, near in zip(everything(np.float64), everything(np.float32), strict=True):
        assert near.dtype == np.float32
        np.testing.assert_allclose(near, exact, rtol=1e-5, atol=1e-5 * abs(exact).max())


def test_smooth_to_the_second_derivative_at_knots_and_ends():
    h = head(True, n_embeddings=1, n_in=N_FEATURES)
    f = running(h, True)
    along = np.zeros((N_FEATURES, 1))
    along[0] = 1 / f.weight[0, 0]
    for knot in range(h.n_knots):
        x = along * (knot - f.shift[0, 0] + np.array([[-1e-9, 1e-9]]))
        (below, above), saved = f.forward(x)[0][0], f.forward(x)[1]
        slopes = f.tangent(saved, np.broadcast_to(along, x.shape))[0][0]
        assert abs(above - below) < 1e-7 and abs(slopes[1] - slopes[0]) < 1e-7


def test_what_is_not_finite_stays_so():
    f = running(head(True), True)
    x = np.zeros((N_FEATURES, 3))
    x[0] = np.nan, np.inf, 1.0
    with np.errstate(invalid="ignore"):
        y = f.forward(x)[0][0]
    assert not np.isfinite(y[:2]).any() and np.isfinite(y[2])


def test_range_is_fitted_to_what_was_seen():
    h, s = head(True), scaler(True)
    blocks = [arrays(n)[0] for n in (40, 7)]
    fitted = h.fitted(iter(blocks), s, None)
    n = h.weight @ s.transform(np.hstack(blocks))
    low, high = n.min(axis=1), n.max(axis=1)
    np.testing.assert_allclose(fitted.grid, np.stack([low - 0.1 * (high - low), high + 0.1 * (high - low)], 1))
    np.testing.assert_array_equal(fitted.splines[:, :-2], h.splines[:, :-2])
    stretched = h.splines[:, -2:] * (np.diff(h.grid) / np.diff(fitted.grid))
    np.testing.assert_allclose(fitted.splines[:, -2:], stretched)
    one = h.fitted([blocks[0][:, :1]], s, None)
    np.testing.assert_allclose(np.diff(one.grid)[:, 0], 1.0)    # a single environment
    assert h.fitted([], s, None) is h


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": np.ones(3)}, r"shapes \(3,\)"),
        ({"splines": np.ones((3, 3))}, "at least 2 knots"),
        ({"splines": np.ones((2, 7))}, r"'splines' came with shape \(2, 7\); \(3, 7\)"),
        ({"grid": np.ones((3, 3))}, r"'grid' came with shape \(3, 3\); \(3, 2\)"),
        ({"grid": np.ones((3, 2))}, "from 1.0 to 1.0; the first must lie below"),
        ({"weight": np.full((3, 7), np.nan)}, "'weight' holds NaN"),
    ],
)
def test_bad_arrays_are_refused(change, message):
    h = head(True)
    with pytest.raises(InputError, match=message):
        SplineNetwork(**{"weight": h.weight, "splines": h.splines, "grid": h.grid, **change})


@pytest.mark.parametrize("knots", [[5, 5, 6], [1, 1, 1], [4.5, 4.5, 4.5]])
def test_bad_numbers_of_knots_are_refused(knots):
    h = head(True)
    with pytest.raises(InputError, match="the same whole number from 2 to"):
        h.replaced({"grid": np.column_stack([h.grid, knots])})
