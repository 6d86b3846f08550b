"""The network on arrays as they come: precision, slices, chunks on threads, the GPU."""

import numpy as np
import pytest
from helpers.networks import EXACT, NAMES, arrays, cast, dual_pullback, everything, leaves, network

from fastdesc.backend import threads as parallel
from fastdesc.networks.feed_forward import forward, pullback, tangent


@pytest.mark.parametrize("activation", NAMES)
@pytest.mark.parametrize("bias", [True, False])
def test_float32_stays_float32_and_near(activation, bias):
    layers, data = network((20, 10), 2, bias, activation), arrays(2)
    exact, _ = everything(layers, activation, *data)
    single, kept = everything(cast(layers, "float32"), activation, *(a.astype("float32") for a in data))
    for a, b in zip(exact, single, strict=True):
        assert b.dtype == np.float32
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5 * abs(a).max())
    assert {a.dtype.name for a in leaves(kept)} == {"float32"}


@pytest.mark.parametrize("activation", NAMES)
def test_nothing_handed_in_is_changed(activation):
    layers, data = network((6, 5), 2, True, activation), arrays(2)
    before = [a.copy() for a in [*leaves(layers), *data]]
    _, kept = everything(layers, activation, *data)
    saved, tsaved, chain = kept
    copies = [a.copy() for a in leaves(kept)]
    first = dual_pullback(layers, activation, saved, tsaved, chain, data[2], -1.0)
    pullback(layers, activation, saved, data[3])
    tangent(layers, activation, saved, data[1])
    second = dual_pullback(layers, activation, saved, tsaved, chain, data[2], -1.0)
    for a, b in [
        *zip(leaves(kept), copies, strict=True),
        *zip([*leaves(layers), *data], before, strict=True),
        *zip(leaves(first), leaves(second), strict=True),
    ]:
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_column_slices_are_used_in_place(dtype):
    layers = cast(network((6, 5), 2, True, "silu"), dtype)
    wide = [a.astype(dtype) for a in arrays(2, n=64)]
    views = [a[:, 17:40] for a in wide]
    assert not views[0].flags.c_contiguous
    from_views, (saved, *_) = everything(layers, "silu", *views)
    from_copies, _ = everything(layers, "silu", *(v.copy() for v in views))
    assert any(np.shares_memory(a, wide[0]) for a in leaves(saved))
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    for a, b in zip(from_views, from_copies, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_broadcast_cotangent():
    layers, (x, tx, _, _) = network((6,), 1, True, "silu"), arrays(1)
    ones = np.ones((1, x.shape[1]))
    for a, b in zip(
        everything(layers, "silu", x, tx, ones, ones)[0],
        everything(layers, "silu", x, tx, *[np.broadcast_to(1.0, ones.shape)] * 2)[0],
        strict=True,
    ):
        np.testing.assert_allclose(a, b, **EXACT)


def test_chunks_on_threads_give_the_whole():
    layers, (x, *_) = network((16, 16), 1, True, "silu"), arrays(1, n=500)
    whole, saved = forward(layers, "silu", x)
    slope, _ = pullback(layers, "silu", saved, np.ones_like(whole))

    def run(threads):
        y, dx = np.empty_like(whole), np.empty_like(x)

        def task(first, last):
            y[:, first:last], kept = forward(layers, "silu", x[:, first:last])
            dx[:, first:last], _ = pullback(layers, "silu", kept, np.ones((1, last - first)))

        parallel.set_threads(threads)
        try:
            parallel.for_chunks(task, x.shape[1], chunk=64)
        finally:
            parallel.set_threads(None)
        return y, dx

    for serial, threaded, expected in zip(run(1), run(3), (whole, slope), strict=True):
        np.testing.assert_array_equal(serial, threaded)
        np.testing.assert_allclose(serial, expected, rtol=1e-13, atol=1e-13)


# CuPy


@pytest.mark.gpu
@pytest.mark.parametrize("activation", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_gpu_gives_what_the_cpu_gives(activation, dtype):
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    layers, data = cast(network((20, 10), 2, True, activation), dtype), [a.astype(dtype) for a in arrays(2)]
    expected, _ = everything(layers, activation, *data)
    on_gpu = [(cupy.asarray(w), cupy.asarray(b)) for w, b in layers]
    y, saved = forward(on_gpu, activation, cupy.asarray(data[0]))
    cx, chain = pullback(on_gpu, activation, saved, cupy.asarray(data[3]))
    ty, tsaved = tangent(on_gpu, activation, saved, cupy.asarray(data[1]))
    dual, dx = dual_pullback(on_gpu, activation, saved, tsaved, chain, cupy.asarray(data[2]), -1.0)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for a, b in zip([y, cx, ty, *(p for layer in dual for p in layer), dx], expected, strict=False):
        assert a.dtype == dtype
        np.testing.assert_allclose(a.get(), b, rtol=tolerance, atol=tolerance * abs(b).max())
