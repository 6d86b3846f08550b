"""The network against the complex step, adjoint identities and a textbook loop."""

import numpy as np
import pytest
from helpers.networks import EXACT, HIDDEN, NAMES, STEP, arrays, dual_pullback, inner, moved, network, random_like

from fastdesc.errors import InputError
from fastdesc.networks.activations import ACTIVATIONS
from fastdesc.networks.feed_forward import backward, forward, initial, pullback, tangent

every_network = pytest.mark.parametrize(
    ("hidden", "n_out", "bias", "activation"),
    [(h, n_out, bias, name) for h in HIDDEN for n_out in (1, 3) for bias in (True, False) for name in NAMES
     if h or name == "silu"],
)  # fmt: skip


# initial values


def test_unknown_activation_is_named():
    with pytest.raises(InputError, match=r"'sillu' is not known \(did you mean 'silu'\?\)"):
        initial(3, (4,), 1, "sillu", np.random.default_rng(0))
    with pytest.raises(InputError, match="use one of silu, tanh, celu, softplus"):
        forward([(np.ones((1, 3)), None)], "relu", np.ones((3, 2)))


@pytest.mark.parametrize("name", NAMES)
def test_initial_keeps_variance(name):
    layers = initial(400, (400, 400), 400, name, np.random.default_rng(3))
    _, (inputs, _) = forward(layers, name, np.random.default_rng(4).normal(size=(400, 200)))
    # over 400 x 400 weights and 200 columns the second moment scatters by a few per cent per layer
    for (w, b), h in zip(layers, inputs, strict=True):
        assert w.dtype == np.float64 and not b.any()
        assert abs(((w @ h) ** 2).mean() - 1) < 0.1


def test_initial_gain_of_silu():
    narrow, wide = (initial(50, (50,), 50, "silu", np.random.default_rng(5))[l][0] for l in (0, 1))
    rng = np.random.default_rng(5)
    np.testing.assert_allclose(narrow, rng.standard_normal((50, 50)) / 50**0.5, rtol=1e-14)
    np.testing.assert_allclose(wide, rng.standard_normal((50, 50)) * 1.6765324703310907 / 50**0.5, rtol=1e-9)


@pytest.mark.parametrize("widths", [(0, (3,), 1), (3, (0,), 1), (3, (2.5,), 1), (3, (), -1)])
def test_impossible_widths_are_refused(widths):
    with pytest.raises(InputError, match="whole numbers >= 1"):
        initial(*widths, "silu", np.random.default_rng(0))


# the functions


@every_network
def test_forward_is_the_textbook_loop(hidden, n_out, bias, activation):
    layers = network(hidden, n_out, bias, activation)
    x = arrays(n_out)[0]
    y, _ = forward(layers, activation, x)
    for k in range(x.shape[1]):
        h = list(x[:, k])
        for l, (w, b) in enumerate(layers):
            z = [sum(w[i, m] * h[m] for m in range(len(h))) + (b[i, 0] if bias else 0) for i in range(len(w))]
            h = list(ACTIVATIONS[activation].value(np.array(z), 1.0)[0]) if l < len(layers) - 1 else z
        np.testing.assert_allclose(y[:, k], h, **EXACT)


@every_network
def test_tangent_is_the_complex_step(hidden, n_out, bias, activation):
    layers = network(hidden, n_out, bias, activation)
    x, tx, _, _ = arrays(n_out)
    _, saved = forward(layers, activation, x)
    ty, _ = tangent(layers, activation, saved, tx)
    moved_y, _ = forward(layers, activation, x + 1j * STEP * tx)
    np.testing.assert_allclose(ty, moved_y.imag / STEP, **EXACT)


@every_network
def test_pullback_is_the_adjoint_of_tangent(hidden, n_out, bias, activation):
    layers = network(hidden, n_out, bias, activation)
    x, tx, dy, _ = arrays(n_out)
    _, saved = forward(layers, activation, x)
    ty, _ = tangent(layers, activation, saved, tx)
    dx, _ = pullback(layers, activation, saved, dy)
    assert dx.shape == x.shape
    np.testing.assert_allclose((dx * tx).sum(axis=0), (dy * ty).sum(axis=0), **EXACT)


@every_network
def test_backward_is_the_complex_step(hidden, n_out, bias, activation):
    layers = network(hidden, n_out, bias, activation)
    x, tx, dy, _ = arrays(n_out)
    directions = random_like(layers)
    _, saved = forward(layers, activation, x)
    dlayers, dx = backward(layers, activation, saved, dy)
    y, _ = forward(moved(layers, directions), activation, x + 1j * STEP * tx)
    np.testing.assert_allclose(inner(dlayers, directions) + (dx * tx).sum(), (dy * y).imag.sum() / STEP, **EXACT)


def value_and_tangent(layers, activation, x, tx, dy, c, sign):
    y, saved = forward(layers, activation, x)
    ty, _ = tangent(layers, activation, saved, tx)
    return (dy * y).sum() + sign * (c * ty).sum()


@every_network
def test_dual_pullback_is_the_complex_step(hidden, n_out, bias, activation):
    layers = network(hidden, n_out, bias, activation)
    x, tx, dy, c = arrays(n_out)
    sign = -0.7
    directions, px, ptx = random_like(layers), *np.random.default_rng(3).normal(size=(2, *x.shape))
    _, saved = forward(layers, activation, x)
    cx, chain = pullback(layers, activation, saved, c)
    _, tsaved = tangent(layers, activation, saved, tx)
    dlayers, dx = dual_pullback(layers, activation, saved, tsaved, chain, dy, sign)
    assert [b is None for _, b in dlayers] == [not bias] * len(layers)
    result = inner(dlayers, directions) + (dx * px).sum() + sign * (cx * ptx).sum()
    stepped = moved(layers, directions), activation, x + 1j * STEP * px, tx + 1j * STEP * ptx, dy, c, sign
    np.testing.assert_allclose(result, value_and_tangent(*stepped).imag / STEP, **EXACT)


def test_training_gradient_against_differences():
    """A loss of values and tangents (energies and forces), each weight moved by itself."""
    activation, layers = "silu", network((6, 5), 1, True, "silu")
    x, tx, target, force = arrays(1)

    def loss():
        y, saved = forward(layers, activation, x)
        ty, tsaved = tangent(layers, activation, saved, tx)
        return ((y - target) ** 2).sum() - (force * ty).sum(), saved, tsaved, y

    _, saved, tsaved, y = loss()
    _, chain = pullback(layers, activation, saved, force)
    dlayers, _ = dual_pullback(layers, activation, saved, tsaved, chain, 2 * (y - target), -1.0)
    for pair, dpair in zip(layers, dlayers, strict=True):
        for p, dp in zip(pair, dpair, strict=True):
            for k in np.ndindex(p.shape):
                kept = p[k]
                values = []
                for step in (1e-5, -1e-5):
                    p[k] = kept + step
                    values.append(loss()[0])
                p[k] = kept
                # central differences: truncation h^2 and round-off 1e-16 |loss| / h, both near 1e-9
                assert abs((values[0] - values[1]) / 2e-5 - dp[k]) < 1e-7 * max(1, abs(dp[k]))


@pytest.mark.parametrize("activation", NAMES)
def test_without_sign_the_dual_pullback_is_backward(activation):
    layers = network((6, 5), 2, True, activation)
    x, tx, dy, c = arrays(2)
    _, saved = forward(layers, activation, x)
    _, chain = pullback(layers, activation, saved, c)
    _, tsaved = tangent(layers, activation, saved, tx)
    dual, dual_dx = dual_pullback(layers, activation, saved, tsaved, chain, dy, 0.0)
    plain, dx = backward(layers, activation, saved, dy)
    for a, b in zip(dual, plain, strict=True):
        np.testing.assert_allclose(a[0], b[0], **EXACT)
        np.testing.assert_allclose(a[1], b[1], **EXACT)
    np.testing.assert_allclose(dual_dx, dx, **EXACT)
    np.testing.assert_allclose(dx, pullback(layers, activation, saved, dy)[0], **EXACT)
