"""CUDA kernels of networks, emulated, against fastdesc/networks/feed_forward.py on NumPy arrays."""

import numpy as np
import pytest
from cuda_emulator import gcc_status, load
from helpers.networks import NAMES, arrays, cast, everything, network

from fastdesc.backend import cuda
from fastdesc.networks import feed_forward_cuda
from fastdesc.networks.feed_forward import affine, forward, pullback, transposed

pytestmark = pytest.mark.skipif(not gcc_status()[0], reason=gcc_status()[1])


def emulated(function, *args):
    """Result on the emulator, and how many kernels were launched."""
    with cuda.executor(load):
        launched, kernel_call = [], cuda.Kernel.__call__

        def call(self, *rest):
            launched.append(self.name)
            kernel_call(self, *rest)

        with pytest.MonkeyPatch.context() as m:
            m.setattr(cuda.Kernel, "__call__", call)
            return function(*args), launched


def layers_of(hidden, n_in, n_out, activation, bias=True):
    rng = np.random.default_rng(len(hidden))
    widths = [n_in, *hidden, n_out]
    shapes = zip(widths[1:], widths[:-1], strict=True)
    return [(rng.normal(size=s) / s[1] ** 0.5, rng.normal(size=(s[0], 1)) if bias else None) for s in shapes]


@pytest.mark.parametrize("activation", NAMES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n", [1, 16, 37])
@pytest.mark.parametrize(
    ("n_in", "hidden", "n_out"), [(9, (), 1), (64, (16,), 1), (131, (70, 17), 3), (3, (5, 4, 6), 2)]
)
def test_layers_are_those_of_the_host(n_in, hidden, n_out, n, bias, activation):
    layers, rng = layers_of(hidden, n_in, n_out, activation, bias), np.random.default_rng(n)
    x, dy = 2 * rng.normal(size=(n_in, n)), rng.normal(size=(n_out, n))
    y, saved = forward(layers, activation, x)
    dx, chain = pullback(layers, activation, saved, dy)
    (found, found_saved), launched = emulated(forward, layers, activation, x)
    assert len(launched) == len(layers)
    (found_dx, found_chain), launched = emulated(pullback, layers, activation, found_saved, dy)
    assert len(launched) == len(layers)
    expected = [y, *saved[0], *saved[1], dx, *chain]
    for a, b in zip([found, *found_saved[0], *found_saved[1], found_dx, *found_chain], expected, strict=True):
        assert a.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * abs(b).max())


@pytest.mark.parametrize("activation", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_everything_of_a_network(activation, dtype):
    """Gradients are made of what the kernels leave behind."""
    layers, data = cast(network((20, 10), 2, True, activation), dtype), [a.astype(dtype) for a in arrays(2)]
    expected, _ = everything(layers, activation, *data)
    (found, _), _ = emulated(everything, layers, activation, *data)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * abs(b).max())


@pytest.mark.parametrize("activation", NAMES)
def test_large_arguments_and_nan(activation):
    """No overflow where the host has none; NaN stays NaN and in its column."""
    layers = [(np.eye(6), None), (np.eye(6), None)]
    x = np.array([[-800.0, -50.0, -1e-9, 0.0, 50.0, 700.0]] * 6)
    x[0, 2] = np.nan
    (_, (inputs, gates)), _ = emulated(forward, layers, activation, x)
    _, (wanted, wanted_gates) = forward(layers, activation, x)
    for a, b in ((inputs[1], wanted[1]), (gates[0], wanted_gates[0])):
        # NaN times zero is NaN: the host has it in the same column.
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-300)
        assert np.isnan(a[:, 2]).all() and np.isfinite(a[:, [0, 1, 3, 4, 5]]).all()


def test_arrays_as_they_come():
    """Transposed weights, every other column, a single row of a larger array."""
    rng = np.random.default_rng(0)
    w, wide = rng.normal(size=(7, 5)).T, rng.normal(size=(7, 40))
    for x in (wide, wide[:, 3:20], wide[:, ::2], np.asfortranarray(wide)):
        np.testing.assert_allclose(emulated(affine, w, None, x)[0], w @ x, rtol=1e-12, atol=1e-13)
    for dy in (wide[:5], wide[1:6, ::3]):
        np.testing.assert_allclose(emulated(transposed, w, dy)[0], w.T @ dy, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(emulated(transposed, w[:1], wide[2:3])[0], w[:1].T * wide[2:3], rtol=1e-14)


def test_large_batches_and_other_dtypes_are_left_to_products(monkeypatch):
    monkeypatch.setattr(feed_forward_cuda, "MOST", 8)
    layers, x = layers_of((5,), 4, 1, "silu"), np.random.default_rng(0).normal(size=(4, 9))
    assert len(emulated(forward, layers, "silu", x[:, :8])[1]) == 2
    for other in (x, x[:, :3] + 0j):
        assert emulated(forward, layers, "silu", other)[1] == []
