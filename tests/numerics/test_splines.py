"""Splines against published tables, SciPy, and what makes a spline a spline."""

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from fastdesc.errors import InputError
from fastdesc.numerics.splines import ENDS, LAST_ENDS, Splines

ALL_ENDS = [(first, last) for first in ENDS for last in LAST_ENDS]
everywhere = pytest.mark.parametrize("ends", ALL_ENDS, ids="-".join)


def random_parameters(splines, seed=0, shape=()):
    return np.random.default_rng(seed).normal(size=(*shape, splines.n_parameters))


@pytest.mark.parametrize("name", ["cc", "nc", "nn"])
def test_published_tables(reference_numbers, name):
    data = reference_numbers("snnp_reference.npz")
    ends = tuple({"c": "clamped", "n": "natural"}[letter] for letter in name)
    splines = Splines(1.5, 6.0, 7, ends)
    p, x = data[f"spline_{name}/p"], data[f"spline_{name}/x"]
    for order, name_there in enumerate(("d0", "d1", "d2")):
        # At the very ends the second derivative depends on the side.
        chosen = (x != 1.5) & (x != 6.0) if order == 2 else slice(None)
        published = data[f"spline_{name}/{name_there}"][chosen]
        np.testing.assert_allclose(splines.values(p, x[chosen], order), published, rtol=0, atol=1e-12)


@pytest.mark.parametrize("first", ENDS)
@pytest.mark.parametrize("last", ENDS)
@pytest.mark.parametrize("n_knots", [2, 3, 4, 9])
def test_equals_scipy(first, last, n_knots):
    splines = Splines(-0.7, 2.9, n_knots, (first, last))
    p = random_parameters(splines)

    def condition(end, b):
        return (1, b) if end == "clamped" else (2, b / splines.dx**2)

    scipy = CubicSpline(splines.knots, p[:-2], bc_type=(condition(first, p[-2]), condition(last, p[-1])))
    x = np.linspace(-0.7, 2.9, 101)[1:-1]
    for order in range(3):
        np.testing.assert_allclose(splines.values(p, x, order), scipy(x, order), rtol=0, atol=1e-11)


@everywhere
def test_two_derivatives_are_continuous(ends):
    splines = Splines(1.0, 4.0, 6, ends)
    p = random_parameters(splines)
    for order in range(3):
        # The second derivative jumps at the ends, to zero on the straight line.
        at = splines.knots[1:-1] if order == 2 else splines.knots
        left, right = splines.values(p, at - 1e-13, order), splines.values(p, at + 1e-13, order)
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-10)
    assert abs(np.diff([splines.values(p, splines.knots[2] + h, 3) for h in (-1e-9, 1e-9)])).max() > 1e-3


@everywhere
def test_goes_on_as_a_straight_line(ends):
    splines = Splines(1.0, 4.0, 6, ends)
    p = random_parameters(splines)
    for end, outside in ((1.0, np.array([0.9, 0.0, -7.0])), (4.0, np.array([4.1, 5.0, 70.0]))):
        line = splines.values(p, end) + splines.values(p, end, 1) * (outside - end)
        np.testing.assert_allclose(splines.values(p, outside), line, rtol=0, atol=1e-12)
        assert not splines.values(p, outside, 2).any()


@everywhere
def test_knot_values_and_ends_are_the_parameters(ends):
    splines = Splines(1.0, 4.0, 6, ends)
    p = random_parameters(splines)
    inside = np.array([1.0 + 1e-12, 4.0 - 1e-12])
    order = [1 if end.startswith("clamped") or end == "zero" else 2 for end in ends]
    ended = [splines.values(p, x, o) * (1 if o == 1 else splines.dx**2) for x, o in zip(inside, order, strict=True)]
    expected = p.copy()
    if ends[1].startswith("zero"):
        expected[-3] = expected[-1] = 0
    free = slice(0, -2 if ends[1] == "zero_natural" else None)
    np.testing.assert_allclose(splines.values(p, splines.knots)[free], expected[:-2][free], rtol=0, atol=1e-12)
    np.testing.assert_allclose(ended, expected[-2:], rtol=0, atol=1e-9)


@pytest.mark.parametrize("last", ["zero", "zero_natural"])
def test_pinned_ends_are_exactly_zero_for_any_parameters(last):
    splines = Splines(1.0, 4.0, 6, ("natural", last))
    p = random_parameters(splines, shape=(5,))
    at = np.array([4.0, 4.0 + 1e-9, 10.0])
    assert not splines.values(p, at).any()
    assert not splines.values(p, at, 1).any()
    small = np.array([0.02, 0.01])
    one, two = splines.values(p, 4.0 - small).T
    np.testing.assert_allclose(np.log2(abs(one / two)), 3 if last == "zero_natural" else 2, atol=0.05)
    if last == "zero_natural":
        np.testing.assert_allclose(one / two, 8, rtol=1e-12)


def test_a_cubic_is_reproduced():
    splines = Splines(-1.0, 2.0, 5)
    cubic = np.polynomial.Polynomial([0.3, -1.0, 0.7, 0.4])
    p = np.concatenate([cubic(splines.knots), cubic.deriv()(np.array([-1.0, 2.0]))])
    x = np.linspace(-1, 2, 50, endpoint=False)
    for order in range(4):
        derivative = cubic.deriv(order) if order else cubic
        np.testing.assert_allclose(splines.values(p, x, order), derivative(x), rtol=0, atol=1e-11)


@everywhere
def test_roughness_is_the_integral_of_the_squared_curvature(ends):
    splines = Splines(1.0, 4.0, 6, ends)
    p = random_parameters(splines)
    x, w = np.polynomial.legendre.leggauss(2)  # exact: a quadratic per interval
    points = splines.knots[:-1, None] + (x + 1) / 2 * splines.dx
    integral = (splines.values(p, points, 2) ** 2 * w).sum() * splines.dx / 2
    np.testing.assert_allclose(p @ splines.roughness @ p, integral, rtol=1e-12)


@everywhere
def test_overlap_is_the_integral_of_the_square(ends):
    splines = Splines(1.0, 4.0, 6, ends)
    p = random_parameters(splines)
    x, w = np.polynomial.legendre.leggauss(4)  # exact: a polynomial of degree six per interval
    points = splines.knots[:-1, None] + (x + 1) / 2 * splines.dx
    integral = (splines.values(p, points) ** 2 * w).sum() * splines.dx / 2
    np.testing.assert_allclose(p @ splines.overlap @ p, integral, rtol=1e-12)


def test_many_splines_and_points_at_once():
    splines = Splines(0.0, 1.0, 4)
    p, x = random_parameters(splines, shape=(2, 3)), np.linspace(-0.5, 1.5, 8).reshape(2, 4)
    s = splines.values(p, x)
    assert s.shape == (2, 3, 2, 4)
    np.testing.assert_allclose(s[1, 2, 1, 3], splines.values(p[1, 2], x[1, 3]), rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("arguments", "mention"),
    [
        ((2.0, 2.0, 5), "first must lie below"),
        ((3.0, 2.0, 5), "first must lie below"),
        ((np.nan, 2.0, 5), "first must lie below"),
        ((0.0, 2.0, 1), "1 knots came; a spline has 2 to"),
        ((0.0, 2.0, 10**6), "1000000 knots came"),
        ((0.0, 2.0, 5, ("clamped", "naturel")), "natural"),
        ((0.0, 2.0, 5, ("zero", "clamped")), "zero"),
    ],
)
def test_refuses(arguments, mention):
    with pytest.raises(InputError, match=mention):
        Splines(*arguments)
