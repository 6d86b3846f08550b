"""SIMD values: operations against NumPy in longer numbers, tangents against the complex step, no lane but its own."""

import textwrap

import numba
import numpy as np
import pytest

from fastdesc import simd
from fastdesc.simd import (
    add,
    add_sum,
    broadcast,
    functions,
    integer,
    keep,
    kind_of,
    lanes,
    load,
    peek,
    planes_of,
    poke,
    rows_of,
    scratch,
    set_integer,
    slots,
    store,
)
from fastdesc.simd.functions import at_most, below, tangent, value
from fastdesc.simd.tuples import add_tuple, axpy, dot, load_tuple, store_tuple, zeros

compiled = numba.njit(error_model="numpy")


@compiled
def _sqrt(x):
    return functions.sqrt(x)


@compiled
def _exp(x):
    return functions.exp(x)


@compiled
def _sine(x):
    return functions.sincos(x)[0]


@compiled
def _cosine(x):
    return functions.sincos(x)[1]


@compiled
def _rational(x):
    return (2.0 * x * x - x / 3.0 + 1.0) / (x + 4.0) - 0.5 / x


@compiled
def _cut(x):
    return below(x, 1.5, x * x)


@compiled
def _at_most(x):
    return at_most(x, 1.5)


@compiled
def _tuples(x):
    """5 x² + x + 10, through scratch memory and tuples."""
    kind, memory = _kind(x), _memory(x)
    store_tuple(memory, 0, (x, x + 1.0))
    add_tuple(memory, 0, (x, 1.0 * x))
    found = axpy(x, load_tuple(kind, memory, 0, 2), zeros(x, 2))    # 2x², 2x² + x
    store(memory, 2, found[0] + found[1])
    return load(kind, memory, 2) + dot((x, x + 0.0), (x, x * 0.0)) + simd.splat(kind, 10)


def _kind(x):
    raise TypeError("for compiled code")


@numba.extending.overload(_kind)
def _kind_of_value(x):
    zero = np.dtype(x.scalar.name).type(0)
    return (lambda x: (zero, zero)) if isinstance(x, simd.DualLanes) else (lambda x: zero)


@compiled
def _memory(x):
    return scratch(_kind(x), 3)


def runner(function):
    @compiled
    def run(kind, x, y, n):
        for first in range(0, n, lanes(kind)):
            count = min(lanes(kind), n - first)
            store(y, 0, first, count, function(load(kind, x, 0, first, count)))

    def apply(x):
        """`function` of x (1, n), or of duals (2, 1, n)."""
        dual = x.ndim == 3
        out = np.full_like(x, np.nan)
        run(kind_of(x.dtype, dual), rows_of(x, dual), rows_of(out, dual), x.shape[-1])
        return out

    return apply


CASES = {    # name: (function, the same for NumPy, interval, units in the last place)
    "sqrt": (_sqrt, np.sqrt, (1e-3, 50), 0.5),
    "exp": (_exp, np.exp, (-80, 5), 2),
    "sine": (_sine, np.sin, (0, np.pi), 2),
    "cosine": (_cosine, np.cos, (0, np.pi), 2),
    "rational": (_rational, lambda x: (2 * x * x - x / 3 + 1) / (x + 4) - 0.5 / x, (1, 9), 8),
    "below": (_cut, lambda x: np.where(x.real < 1.5, x * x, 0), (0, 3), 1),
    "at_most": (_at_most, lambda x: np.where(x.real > 1.5, 1.5, x), (0, 3), 1),
    "tuples": (_tuples, lambda x: 5 * x * x + x + 10, (-1, 9), 6),
}
RUN = {name: runner(case[0]) for name, case in CASES.items()}


@pytest.mark.parametrize("n", [1, 15, 64, 1000])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", CASES)
def test_values(name, dtype, n):
    _, exact, bounds, ulps = CASES[name]
    x = np.random.default_rng(n).uniform(*bounds, (1, n)).astype(dtype)
    want = exact(x.astype(np.longdouble))
    scale = np.maximum(np.abs(want), 0 if name in ("sqrt", "exp") else 1)
    assert (np.abs(RUN[name](x) - want) <= ulps * np.finfo(dtype).eps * scale).all()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", CASES)
def test_tangents(name, dtype):
    """The tangent is f'(x) t."""
    _, exact, bounds, ulps = CASES[name]
    rng = np.random.default_rng(3)
    x = np.stack([rng.uniform(*bounds, (1, 333)), rng.normal(size=(1, 333))]).astype(dtype)
    found = RUN[name](x)
    slope = exact(x[0].astype(np.longdouble) + np.clongdouble(1e-30j)).imag / np.longdouble(1e-30)
    size = np.abs(slope * x[1]) + (np.abs(x[1]) if name != "exp" else 0)
    assert (np.abs(found[1] - slope * x[1]) <= 4 * (ulps + 1) * np.finfo(dtype).eps * size).all()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", CASES)
def test_what_is_not_a_number_stays(name, dtype):
    row = np.array([[1.5, np.nan, 2.0]], dtype)
    want = np.isnan(row) & (name != "below")
    for x in (row, np.stack([row, row])):
        np.testing.assert_array_equal(np.isnan(RUN[name](x)), np.broadcast_to(want, x.shape))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_exp_beyond_its_range(dtype):
    """Infinite above, and below the smallest normal number nothing to speak of, but no other number."""
    x = np.array([[89, 710, 1e4, 3e38, np.inf, -88, -709, -1e4, -3e38, -np.inf]], dtype)
    with np.errstate(over="ignore", under="ignore"):
        want = np.exp(x)
    np.testing.assert_allclose(RUN["exp"](x), want, rtol=1e-5 if dtype == "f4" else 1e-12, atol=1e-37)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("dual", [False, True])
def test_nothing_is_written_beyond(dtype, dual):
    """Of a row's last atoms only theirs; rows may be parts of wider ones."""
    x = np.ones((2, 1, 21) if dual else (1, 21), dtype)
    wide = np.full((2, 1, 40) if dual else (1, 40), -7, dtype)

    @compiled
    def copy(kind, x, y, n):
        for first in range(0, n, lanes(kind)):
            count = min(lanes(kind), n - first)
            store(y, 0, first, count, load(kind, x, 0, first, count))

    copy(kind_of(np.dtype(dtype), dual), rows_of(x, dual), rows_of(wide[..., 2:23], dual), 21)
    assert (wide[..., 2:23] == 1).all() and (wide[..., :2] == -7).all() and (wide[..., 23:] == -7).all()


@pytest.mark.parametrize(("dtype", "dual", "n_lanes"), [("f4", True, 4), ("f8", False, None), ("f8", True, 1)])
def test_places(dtype, dual, n_lanes):
    """Rows, plain Rows and scratch memory: whole vectors, sums and single numbers, from any column on."""
    kind, n = kind_of(dtype, dual, n_lanes), n_lanes or simd.width(dtype)
    rng, planes = np.random.default_rng(1), 1 + dual
    x, plain = rng.normal(size=(planes, 3, n + 2)).astype(dtype), rng.normal(size=(3, n)).astype(dtype)
    y, marks = np.zeros((planes, 5, n + 2), dtype), np.zeros((2, 4), np.int32)

    @compiled
    def run(kind, x, plain, y, marks):
        memory = scratch(kind, 2)
        store(memory, 1, load(kind, x, 2, 1))
        store(y, 0, 1, load(kind, memory, 1))
        store(y, 1, 0, broadcast(kind, x, 1, 2))
        add(y, 1, 0, load(kind, plain, 1))
        add_sum(y, 2, 1, load(kind, x, 0))
        store(y, 3, 0, 1, broadcast(kind, memory, 1, 0))
        poke(y, planes_of(kind) - 1, 4, 0, peek(kind, x, planes_of(kind) - 1, 2, 1))
        set_integer(marks, 1, 2, 7)
        set_integer(marks, 0, 3, integer(marks, 1, 2) + 1)
        keep(memory)

    plain_rows = [rows_of(array, False)[::2] for array in (plain, marks)]
    run(kind, rows_of(x if dual else x[0], dual), plain_rows[0], rows_of(y, True), plain_rows[1])
    want = np.zeros_like(y)
    want[:, 0, 1 : n + 1] = x[:, 2, 1 : n + 1]
    want[:, 1, :n] = x[:, 1, 2, None]
    want[0, 1, :n] += plain[1]
    want[:, 2, 1] = x[:, 0, :n].sum(1)
    want[:, 3, 0] = x[:, 2, 1]
    want[-1, 4, 0] = x[-1, 2, 1]
    np.testing.assert_allclose(y, want, rtol=1e-6 if dtype == "f4" else 1e-14)
    np.testing.assert_array_equal(marks, [[0, 0, 0, 8], [0, 0, 7, 0]])


def test_the_worked_kernel():
    """The kernel that the package's text shows finds what the NumPy beside it finds, and its tangents."""
    text = textwrap.dedent(simd.__doc__.split("lengths of n vectors,")[1].split("does what NumPy")[0])
    names = {"lanes": lanes, "load": load, "store": store, "sqrt": functions.sqrt}
    exec(text, names)
    x, tangents = np.random.default_rng(2).normal(size=(2, 3, 21))
    d, step = np.empty((2, 1, 21)), 1e-30
    compiled(names["lengths"])(kind_of(x.dtype, True), 21, rows_of(np.stack([x, tangents]), True), rows_of(d, True))
    want = np.sqrt(((x + step * 1j * tangents) ** 2).sum(0))
    np.testing.assert_allclose(d[:, 0], [want.real, want.imag / step], rtol=1e-14)


def test_sizes():
    @compiled
    def sizes(kind):
        return lanes(kind), slots(kind), planes_of(kind), len(scratch(kind, 3))

    assert sizes(kind_of("f4", False)) == (16, 16, 1, 48) and sizes(kind_of("f8", False)) == (8, 8, 1, 24)
    assert sizes(kind_of("f4", True, 4)) == (4, 8, 2, 24)
    assert sizes(kind_of("f4", True)) == (16, 32, 2, 96) and sizes(kind_of("f8", True)) == (8, 16, 2, 48)


def test_parts_of_a_dual():
    @compiled
    def parts(kind, x, y, n):
        z = load(kind, x, 0, 0, n)
        store(y, 0, 0, n, value(z))
        store(y, 1, 0, n, tangent(z))

    x = np.arange(16.0).reshape(2, 1, 8)
    y = np.zeros((2, 8))
    parts(kind_of(x.dtype, True), rows_of(x, True), rows_of(y, False), 8)
    np.testing.assert_array_equal(y, x[:, 0])


@pytest.mark.parametrize("array", [np.zeros((4, 6, 8))[:, :5], np.zeros((3, 8))[:, ::2]])
def test_rows_that_are_not_evenly_spaced_are_refused(array):
    with pytest.raises(ValueError, match="evenly spaced"):
        rows_of(array, False)
