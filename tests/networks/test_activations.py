"""Activations against the textbook and the complex step, as arrays, as compiled loops and as CUDA text."""

import math

import numpy as np
import pytest
from doubles.fused_source import floating_types

from fastdesc.networks.activations import ACTIVATIONS, _formulas, passes

STEP = 1e-30
EXACT = {"rtol": 1e-12, "atol": 1e-12}
NAMES = list(ACTIVATIONS)


def textbook(name, z):
    if name == "silu":
        return z / (1 + math.exp(-z))
    if name == "tanh":
        return math.tanh(z)
    if name == "celu":
        return z if z > 0 else math.expm1(z)
    return math.log((1 + math.exp(z)) / 2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-15), ("float32", 3e-7)])
def test_values_are_the_textbook_ones(name, dtype, tolerance):
    z = np.linspace(-30, 30, 601).astype(dtype)
    expected = np.array([textbook(name, float(v)) for v in z])
    h, s = passes(name, z).values(z[None].copy(), np.zeros((1, 1), dtype))
    plain, plain_gate = ACTIVATIONS[name].value(z, z.dtype.type(1))
    for result in (h[0], plain):
        assert result.dtype == dtype
        np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(s[0], plain_gate, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_slope_and_curvature_are_derivatives(name):
    f = ACTIVATIONS[name]
    z = np.concatenate([np.linspace(-20, -0.01, 200), np.linspace(0.01, 20, 200)])
    h, s = f.value(z, 1.0)
    moved_h, moved_s = f.value(z + 1j * STEP, 1.0)
    np.testing.assert_allclose(f.slope(h, s, 1.0), moved_h.imag / STEP, **EXACT)
    np.testing.assert_allclose(f.curvature(h, s, 1.0), f.slope(moved_h, moved_s, 1.0).imag / STEP, **EXACT)


@pytest.mark.parametrize("name", NAMES)
def test_zero_maps_to_zero(name):
    assert ACTIVATIONS[name].value(np.zeros(1), 1.0)[0] == 0
    assert passes(name, np.zeros(1)).values(np.zeros((1, 1)), np.zeros((1, 1)))[0] == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_and_invalid_arguments(name, dtype):
    z = np.array([[-1e30, -1e4, -750, -100, 100, 750, 1e4, 1e30, np.nan]], dtype)
    steps = passes(name, z)
    h, s = steps.values(z.copy(), np.zeros((1, 1), dtype))
    slope = steps.slopes(h, s, np.ones_like(z))
    bounded = {"silu": z.clip(0), "tanh": np.sign(z), "celu": np.where(z < 0, -1, z), "softplus": z.clip(0)}[name]
    shift = math.log(2) if name == "softplus" else 0
    np.testing.assert_allclose(h[0, :-1], bounded[0, :-1] - shift, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(slope[0, :4], 0, atol=1e-12)
    np.testing.assert_allclose(slope[0, 4:-1], 0 if name == "tanh" else 1, atol=1e-12)
    assert np.isnan(h[0, -1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fused_kernels_keep_the_dtype(name, dtype):
    """Every variable of the CUDA text that CuPy makes of the formulas has the arrays' type."""
    own = {"float32": {"float"}, "float64": {"double"}}[dtype]
    for formula, n_arrays, n_scalars in zip(_formulas(*ACTIVATIONS[name]), (2, 3, 5), (1, 1, 2), strict=True):
        assert floating_types(formula, dtype, n_arrays, [np.dtype(dtype).type(1)] * n_scalars) == own
