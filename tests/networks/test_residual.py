"""Networks of residual blocks against the paper's formulas, the complex step and adjoint identities; and their head."""

import numpy as np
import pytest
from cuda_emulator import gcc_status, load
from helpers.networks import EXACT, STEP
from references import residual as textbook

from fastdesc.backend import cuda
from fastdesc.errors import InputError
from fastdesc.networks import form as forms
from fastdesc.networks import residual
from fastdesc.networks.duals import Dual
from fastdesc.networks.residual_head import ResidualHead
from fastdesc.networks.scaler import FeatureScaler

FORMS = [
    forms.Form((4,), "trained_silu", 0, False),
    forms.Form((5,), "trained_isru", 1, False),
    forms.Form((6, 4), "trained_silu", 1, True),
    forms.Form((5, 3, 4), "trained_isru", 2, True),
    forms.Form((5, 7), "trained_silu", 3, False),
]
N_IN, N = 7, 9
every_form = pytest.mark.parametrize("form", FORMS, ids=lambda f: f"{f.activation}-{f.blocks}-{f.layer_norm}")


def network(form, n_out=1, seed=0):
    """Parameters in general position."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=shape) / (shape[1] ** 0.5 if name.endswith("weight") else 1.0)
        for name, shape in residual.shapes(N_IN, n_out, form).items()
    }


def like(arrays, seed):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=a.shape) for name, a in arrays.items()}


def expected(form, p, x):
    """(n_out, n) of the textbook."""
    settings = {
        "name": form.activation, "hidden": form.hidden, "blocks": form.blocks, "layer_norm_": form.layer_norm
    }    # fmt: skip
    return np.stack([textbook.network(p, column, **settings) for column in x.T], axis=1)


def moved(p, direction, step):
    return {name: a + step * direction[name] for name, a in p.items()}


def duals(p, tangents=None):
    return {name: Dual(a, None if tangents is None else tangents[name]) for name, a in p.items()}


def inner(a, b):
    return sum((a[name] * b[name]).sum() for name in a)


def data(n_out, n=N, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(m, n)) for m in (N_IN, N_IN, N_IN, n_out, n_out)]


@every_form
@pytest.mark.parametrize("n_out", [1, 3])
def test_value_is_that_of_the_textbook(form, n_out):
    p, (x, *_) = network(form, n_out), data(n_out)
    y, _ = residual.forward(form, duals(p), Dual(x))
    assert y.t is None
    np.testing.assert_allclose(y.v, expected(form, p, x), **EXACT)


@every_form
def test_gradients_are_those_of_the_textbook(form):
    """Of inputs and of every parameter; the first by the fast passes and by those that training takes."""
    p, (x, tx, _, dy, _) = network(form, 3), data(3)
    _, saved = residual.forward(form, duals(p), Dual(x))
    dx = residual.pullback(form, duals(p), saved, Dual(dy)).v
    wanted = (dy * expected(form, p, x + 1j * STEP * tx).imag).sum() / STEP
    np.testing.assert_allclose((dx * tx).sum(), wanted, **EXACT)
    found, ds = residual.backward(form, duals(p), saved, Dual(dy), lambda make: make().v)
    np.testing.assert_allclose(residual.to_inputs(duals(p), ds).v, dx, **EXACT)
    assert list(found) == list(p) and all(found[name].shape == a.shape for name, a in p.items())
    for seed, name in enumerate(p):
        along = {k: (k == name) * v for k, v in like(p, seed).items()}
        wanted = (dy * expected(form, moved(p, along, 1j * STEP), x).imag).sum() / STEP
        np.testing.assert_allclose(inner(found, along), wanted, **EXACT, err_msg=name)


@every_form
@pytest.mark.parametrize("moving", [False, True])
def test_duals_are_derivatives_of_the_plain_passes(form, moving):
    """Tangents of value, gradient and gradients of parameters, by the complex step of our own passes."""
    p, (x, tx, _, dy, tdy) = network(form, 2), data(2)
    tp = like(p, 5)
    given = duals(p, tp if moving else None)
    y, saved = residual.forward(form, given, Dual(x, tx))
    dx = residual.pullback(form, given, saved, Dual(dy, tdy))
    found, _ = residual.backward(form, given, saved, Dual(dy, tdy), lambda make: make())
    step = 1j * STEP
    stepped = duals(moved(p, tp, step) if moving else {name: a + 0j for name, a in p.items()})
    other, other_saved = residual.forward(form, stepped, Dual(x + step * tx))
    other_dx = residual.pullback(form, stepped, other_saved, Dual(dy + step * tdy)).v
    others, _ = residual.backward(form, stepped, other_saved, Dual(dy + step * tdy), lambda make: make().v)
    for a, b in [(y, other), (dx, Dual(other_dx)), *((found[name], Dual(others[name])) for name in p)]:
        np.testing.assert_allclose(a.v, b.v.real, **EXACT)
        np.testing.assert_allclose(a.t, b.v.imag / STEP, rtol=1e-11, atol=1e-11 * max(1, abs(a.t).max()))


@every_form
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels_are_what_the_host_computes(form, dtype):
    if not gcc_status()[0]:
        pytest.skip(gcc_status()[1])
    for n in (1, 32, 45):
        p, (x, *_, dy, _) = network(form), data(1, n)
        p = duals({name: a.astype(dtype) for name, a in p.items()})
        x, dy = Dual(x.astype(dtype)), Dual(dy.astype(dtype))

        def run(p=p, x=x, dy=dy):
            y, saved = residual.forward(form, p, x)
            return y.v, residual.pullback(form, p, saved, dy).v

        wanted = run()
        asked = []

        def loader(path, names, asked=asked):
            asked.extend(names)
            return load(path, names)

        with cuda.executor(loader):
            found = run()
        kind = "true" if form.layer_norm else "false"
        assert any(name.startswith("residual_value<") for name in asked)
        assert form.blocks == 0 or any(name.startswith("residual_pullback<") and kind in name for name in asked)
        for a, b in zip(found, wanted, strict=True):
            assert a.dtype == b.dtype == dtype
            tolerance = 1e-12 if dtype == "float64" else 2e-5
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * abs(b).max())


@every_form
def test_float32_is_near_and_large_arguments_stay_finite(form):
    p, (x, *_, dy, _) = network(form), data(1)
    for scale in (1.0, 1e3):
        results = []
        for dtype in ("float64", "float32"):
            given = duals({name: a.astype(dtype) for name, a in p.items()})
            with np.errstate(over="raise", invalid="raise", divide="raise"):
                y, saved = residual.forward(form, given, Dual((scale * x).astype(dtype)))
                dx = residual.pullback(form, given, saved, Dual(dy.astype(dtype))).v
                residual.backward(form, given, saved, Dual(dy.astype(dtype)), lambda make: make().v)
            assert y.v.dtype == dx.dtype == dtype and np.isfinite(y.v).all() and np.isfinite(dx).all()
            results.append((y.v, dx))
        if scale == 1.0:
            for a, b in zip(*results, strict=True):
                # Norms of five values divide float32 differences by their spread, which may be small.
                np.testing.assert_allclose(b, a, rtol=0, atol=2e-5 * abs(a).max())


@every_form
def test_initial_network_passes_variance_on_and_blocks_begin_as_nothing(form):
    wide = form._replace(hidden=(300,) * len(form.hidden))
    p = residual.initial(200, 300, wide, np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(200, 100))
    y, saved = residual.forward(wide, duals(p), Dual(x))
    # over 300 x 300 weights and 100 columns the second moment scatters by a few per cent per layer
    assert abs((y.v**2).mean() - 1) < 0.15
    np.testing.assert_array_equal(saved[1].v, saved[-1].v)
    assert residual.n_parameters(200, 300, wide) == sum(a.size for a in p.values())


# the head


SEEN = np.array([0, 2, 3, 6])


def head_and_scaler(form, seen):
    n_in, rng = N_IN if seen is None else len(seen), np.random.default_rng(2)
    shapes = residual.shapes(n_in, 1, form)
    head = ResidualHead(form, {name: rng.normal(size=shape) for name, shape in shapes.items()})
    return head, FeatureScaler(rng.normal(size=N_IN), rng.uniform(0.5, 2, N_IN))


@every_form
@pytest.mark.parametrize("seen", [None, SEEN])
def test_running_head_is_the_network_of_scaled_features(form, seen):
    head, scaler = head_and_scaler(form, seen)
    x = data(1)[0]
    scaled = scaler.transform(x)
    y, _ = head.folded(head.parameters, scaler, seen, "float64").forward(x)
    np.testing.assert_allclose(y, expected(form, head.parameters, scaled if seen is None else scaled[seen]), **EXACT)


@every_form
@pytest.mark.parametrize("seen", [None, SEEN])
def test_training_gradient_of_the_head_through_the_fold(form, seen):
    """Of <dy, y> + sign <c, ty>, for inputs and parameters; and of <dy, y> alone."""
    head, scaler = head_and_scaler(form, seen)
    running = head.folded(head.parameters, scaler, seen, "float64")
    x, tx, along_x, dy, c = data(1)
    y, saved = running.forward(x)
    cx, chain = running.pullback(saved, c)
    ty, tsaved = running.tangent(saved, tx)
    np.testing.assert_allclose((cx * tx).sum(), (c * ty).sum(), **EXACT)
    written = np.empty_like(x)
    np.testing.assert_array_equal(running.value_and_gradient(x, c, written), y)
    np.testing.assert_array_equal(written, cx)
    along, step = like(head.parameters, 8), 1j * STEP

    def loss(sign):
        """By the complex step of our own value and tangent, whose values are the textbook's."""
        other = head.folded(moved(head.parameters, along, step), scaler, seen, complex)
        y, kept = other.forward(x + step * along_x)
        return ((dy * y).sum() + sign * (c * other.tangent(kept, tx)[0]).sum()).imag / STEP

    gradient, dz = running.dual_gradients(saved, tsaved, chain, dy, -0.7)
    found = inner(head.unfolded(gradient, scaler, seen), along) + (running.to_inputs(dz) * along_x).sum()
    np.testing.assert_allclose(found, loss(-0.7), rtol=1e-11)
    gradient, dz = running.gradients(saved, dy)
    assert [g.shape for g in gradient] == [a.shape for a in running.arrays]
    found = inner(head.unfolded(gradient, scaler, seen), along) + (running.to_inputs(dz) * along_x).sum()
    np.testing.assert_allclose(found, loss(0.0), rtol=1e-11)


@every_form
def test_energy_is_linear_in_what_the_last_layer_multiplies(form):
    head, scaler = head_and_scaler(form, None)
    running = head.folded(head.parameters, scaler, None, "float64")
    x, tx, *_ = data(1)
    y, saved = running.forward(x)
    phi, w = running.last(saved), running.parameters["last/weight"]
    assert running.n_last == len(phi) and running.constant
    np.testing.assert_allclose(w @ phi + running.parameters["last/bias"], y, **EXACT)
    tphi = running.last_tangent(saved, running.tangent(saved, tx)[1])
    other = head.folded({name: a + 0j for name, a in head.parameters.items()}, scaler, None, complex)
    stepped = other.last(other.forward(x + 1j * STEP * tx)[1])
    np.testing.assert_allclose(tphi, stepped.imag / STEP, **EXACT)
    dphi = np.random.default_rng(4).normal(size=phi.shape)
    for given in (dphi, dphi[:, :1]):
        wanted = (given * tphi).sum()
        np.testing.assert_allclose((running.last_pullback(saved, given) * tx).sum(), wanted, **EXACT)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((4,), "trained_sill", 1, True), "'trained_sill' is not known .*'trained_silu'"),
        (((4,), "silu", 1, False), "blocks=1 came with activation 'silu'; residual blocks have 'trained_silu'"),
        (((4,), "tanh", 0, True), "layer_norm=True came with activation 'tanh'"),
        (((), "trained_silu", 1, True), "hidden came empty"),
        (((4, 3), "trained_isru", 0, False), r"hidden=\(4, 3\) came .* no blocks; give blocks=1"),
        (((4,), "trained_isru", 0, True), "layer_norm=True came .* no blocks"),
        (((4,), "trained_silu", -1, True), "blocks came as -1"),
        (((4,), "trained_silu", 101, True), "from 0 to 100"),
        (((4,), "trained_silu", True, True), "blocks came as True"),
        (((4,), "trained_silu", 1, "yes"), "layer_norm came as 'yes'"),
    ],
)
def test_impossible_forms_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        forms.checked(*arguments)
