"""Optimizers against the textbook step; exact continuation, of averages and schedules too."""

import math

import numpy as np
import pytest
from doubles.fused_source import floating_types

from fastdesc.errors import FastdescError, InputError
from fastdesc.training.optimizer import AdamW, AMSGrad, Group, WeightAverage, _adamw, _amsgrad, _average
from fastdesc.training.schedules import Plateau, cosine, linear

SHAPES = {"descriptor/beta": (2, 2, 3), "network/0/weight": (5, 4), "network/0/bias": (5, 1), "scale": (2,)}
OPTIMIZERS = [AdamW, AMSGrad]


def parameters(seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape) for name, shape in SHAPES.items()}


def gradients(k, scale=1.0):
    rng = np.random.default_rng(1000 + k)
    return {name: scale * rng.normal(size=shape) * rng.lognormal() for name, shape in SHAPES.items()}


def copied(tree):
    return {name: a.copy() for name, a in tree.items()}


def textbook(p, grads, rates, decay, amsgrad, clip=None, beta1=0.9, beta2=0.999, eps=1e-8):
    """One number at a time, as the papers write it."""
    p = copied(p)
    m, v, top = ({name: np.zeros_like(a) for name, a in p.items()} for _ in range(3))
    for t, g in enumerate(grads, 1):
        norm = math.sqrt(sum(x**2 for a in g.values() for x in a.flat))
        shorten = min(1, clip / norm) if clip else 1
        for name in p:
            for k in np.ndindex(p[name].shape):
                x = g[name][k] * shorten
                m[name][k] = beta1 * m[name][k] + (1 - beta1) * x
                v[name][k] = beta2 * v[name][k] + (1 - beta2) * x**2
                top[name][k] = max(top[name][k], v[name][k])
                second = (top if amsgrad else v)[name][k] / (1 - beta2**t)
                direction = m[name][k] / (1 - beta1**t) / (math.sqrt(second) + eps)
                p[name][k] -= rates(name, t) * (direction + decay(name) * p[name][k])
    return p


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("clip", [None, 2.0])
def test_steps_are_the_textbook_ones(kind, clip):
    start, grads = parameters(), [gradients(k) for k in range(6)]
    factors = {"descriptor/beta": 5.0, "scale": 0.1}
    decays = {"network/0/weight": 0.3, "network/0/bias": 0.0}
    expected = textbook(
        start,
        grads,
        lambda name, t: 0.01 / t * factors.get(name, 1.0),
        lambda name: decays.get(name, 0.02),
        kind is AMSGrad,
        clip,
    )
    found = copied(start)
    optimizer = kind(
        found,
        learning_rate=0.02,
        weight_decay=0.02,
        groups={
            "descriptor/": Group(rate=5.0),
            "network/": {"weight_decay": 0.3},
            "network/0/bias": Group(weight_decay=0.0),
            "scale": {"rate": 0.1},
        },
        clip=clip,
    )
    for t, g in enumerate(grads, 1):
        norm = optimizer.step(found, g, factor=0.5 / t)
        assert norm == pytest.approx(math.sqrt(sum((a**2).sum() for a in g.values())), rel=1e-14)
    for name in SHAPES:
        assert abs(found[name] - start[name]).max() > 1e-4
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-13, atol=1e-14)


def test_amsgrad_remembers_where_adam_forgets():
    moved = []
    for kind in OPTIMIZERS:
        p = {"x": np.zeros(1)}
        optimizer = kind(p, learning_rate=1.0, beta2=0.5)
        optimizer.step(p, {"x": np.array([100.0])})
        for _ in range(30):
            before = p["x"].copy()
            optimizer.step(p, {"x": np.array([1e-3])})
        moved.append(abs(p["x"] - before)[0])
    assert moved[0] > 100 * moved[1]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_quadratic_is_minimised(kind):
    target = parameters(1)
    p = parameters(2)
    optimizer = kind(p, learning_rate=0.1)
    for step in range(600):
        optimizer.step(p, {name: 2 * (p[name] - target[name]) for name in p}, cosine(step, 600, 20))
    for name in p:
        np.testing.assert_allclose(p[name], target[name], atol=1e-6)


def test_frozen_parameters_stay_and_need_no_gradient():
    start = parameters()
    p = copied(start)
    optimizer = AdamW(p, weight_decay=0.1, groups={"network/": Group(rate=0.0)})
    g = gradients(0)
    g["network/0/weight"][:] = np.nan
    norm = optimizer.step(p, {name: a for name, a in g.items() if name != "network/0/bias"})
    assert norm == pytest.approx(math.sqrt((g["descriptor/beta"] ** 2).sum() + (g["scale"] ** 2).sum()))
    assert (p["network/0/weight"] == start["network/0/weight"]).all()
    assert (p["scale"] != start["scale"]).all()


def test_gradients_of_float32_and_of_any_layout():
    p, q = parameters(), parameters()
    g = {name: a.astype("float32") for name, a in gradients(0).items()}
    odd = {name: np.asfortranarray(a) for name, a in g.items()}
    AdamW(p).step(p, {name: a.astype("float64") for name, a in g.items()})
    AdamW(q).step(q, odd)
    for name in SHAPES:
        assert q[name].dtype == np.float64
        np.testing.assert_array_equal(p[name], q[name])


def test_zero_gradient_moves_nothing():
    p = parameters()
    AdamW(p).step(p, {name: np.zeros(shape) for name, shape in SHAPES.items()})
    for name, a in parameters().items():
        np.testing.assert_array_equal(p[name], a)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(bad):
    p = parameters()
    optimizer = AdamW(p)
    optimizer.step(p, gradients(0))
    before, state = copied(p), optimizer.state_dict()
    g = gradients(1)
    g["network/0/weight"][2, 1] = bad
    with pytest.raises(FastdescError, match="not finite at step 2"):
        optimizer.step(p, g)
    assert all((p[name] == before[name]).all() for name in p)
    assert all(np.array_equal(state[key], a) for key, a in optimizer.state_dict().items())


def test_what_cannot_be_optimised_is_named():
    p, g = parameters(), gradients(0)
    for wrong in ({"a": np.zeros(3, "float32")}, {"a": np.zeros((4, 4))[:, ::2]}):
        with pytest.raises(InputError, match=r"'a' is float.*contiguous float64"):
            AdamW(wrong)
    optimizer = AdamW(p)
    with pytest.raises(InputError, match="gradient 'scale' is missing"):
        optimizer.step(p, {name: a for name, a in g.items() if name != "scale"})
    with pytest.raises(InputError, match=r"gradient 'scale' has shape \(3,\); this optimizer needs \(2,\)"):
        optimizer.step(p, {**g, "scale": np.zeros(3)})
    with pytest.raises(InputError, match="parameter 'scale' is missing"):
        optimizer.step({name: a for name, a in p.items() if name != "scale"}, g)
    with pytest.raises(InputError, match="'scale' is float32"):
        optimizer.step({**p, "scale": np.zeros(2, "float32")}, g)
    assert optimizer.n_steps == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", -1.0), ("weight_decay", math.nan), ("beta1", 1.0), ("beta2", -0.1), ("eps", 0), ("clip", -1)],
)
def test_settings_out_of_range(name, value):
    with pytest.raises(InputError, match=name):
        AdamW(parameters(), **{name: value})


@pytest.mark.parametrize("group", [Group(rate=-1.0), {"weight_decay": -0.1}])
def test_groups_out_of_range(group):
    with pytest.raises(InputError, match="group of 'scale'"):
        AdamW(parameters(), groups={"sca": group})


# states


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_continuation_gives_the_same_bits(kind):
    def fresh(p):
        return (
            kind(p, weight_decay=0.01, groups={"scale": Group(2.0)}, clip=1.5),
            WeightAverage(p, 0.9),
            Plateau(0.5, 1),
        )

    def advance(p, optimizer, average, plateau, first, last):
        for k in range(first, last):
            optimizer.step(p, gradients(k), linear(k, 9, 2) * plateau.factor)
            average.update(p)
            plateau.update(float(k % 3))

    whole = parameters()
    parts = fresh(whole)
    advance(whole, *parts, 0, 9)

    half = parameters()
    before = fresh(half)
    advance(half, *before, 0, 4)
    states, kept = [part.state_dict() for part in before], copied(half)
    advance(half, *before, 4, 6)  # a state is a copy: going on does not change it
    after = fresh(kept)
    for part, state in zip(after, states, strict=True):
        for value in state.values():
            assert isinstance(value, (np.ndarray, int, float))
        part.load_state_dict(state)
    advance(kept, *after, 4, 9)
    for name in SHAPES:
        np.testing.assert_array_equal(kept[name], whole[name])
        np.testing.assert_array_equal(after[1].value()[name], parts[1].value()[name])
    assert after[2].state_dict() == parts[2].state_dict()


def test_foreign_states_are_refused():
    p = parameters()
    state = AdamW(p).state_dict()
    with pytest.raises(InputError, match="has no 'top/"):
        AMSGrad(p).load_state_dict(state)
    with pytest.raises(InputError, match=r"'m/scale' of this state has shape \(5,\); this optimizer needs \(2,\)"):
        AdamW(p).load_state_dict({**state, "m/scale": np.zeros(5)})
    with pytest.raises(InputError, match="not one of this weight average"):
        WeightAverage(p).load_state_dict(state)
    with pytest.raises(InputError, match="not one of this plateau"):
        Plateau().load_state_dict({"factor": 1.0})


# CuPy


@pytest.mark.parametrize(("formula", "n_arrays", "n_numbers"), [(_adamw, 4, 10), (_amsgrad, 5, 10), (_average, 2, 1)])
def test_fused_kernels_calculate_in_double(formula, n_arrays, n_numbers):
    assert floating_types(formula, "float64", n_arrays, [0.5] * n_numbers) == {"double"}
    assert floating_types(lambda x, y: x * (1.0 - y), "float64", 1, [0.5]) != {"double"}  # what must not happen


@pytest.mark.gpu
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_gpu_steps_as_the_cpu_does(kind):
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    p = parameters()
    q = {name: cupy.asarray(a) for name, a in p.items()}
    a, b = (kind(x, weight_decay=0.1, clip=1.0) for x in (p, q))
    averages = WeightAverage(p, 0.9), WeightAverage(q, 0.9)
    for k in range(4):
        a.step(p, gradients(k))
        b.step(q, {name: cupy.asarray(g) for name, g in gradients(k).items()})
        averages[0].update(p)
        averages[1].update(q)
    b.load_state_dict(b.state_dict())
    for name in SHAPES:
        np.testing.assert_allclose(q[name].get(), p[name], rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(averages[1].value()[name].get(), averages[0].value()[name], rtol=1e-12, atol=1e-13)
