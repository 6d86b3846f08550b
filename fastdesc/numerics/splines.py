"""Cubic splines on equally spaced knots, continuous to the second derivative and linear in their parameters.

A spline on n knots over [x0, x1], dx = (x1 - x0) / (n - 1), has n + 2 parameters p = (y_0 .. y_{n-1}, b_0, b_1):
values at the knots and one number per end. With t in [0, 1] between knots k and k+1 (Hermite's form)

    S = h00(t) y_k + h10(t) dx m_k + h01(t) y_{k+1} + h11(t) dx m_{k+1}                                     (1)
    h00 = 1 - 3 t² + 2 t³,  h10 = t - 2 t² + t³,  h01 = 3 t² - 2 t³,  h11 = t³ - t²

and slopes m that make the second derivative continuous,

    m_{k-1} + 4 m_k + m_{k+1} = 3 (y_{k+1} - y_{k-1}) / dx                                                  (2)
    "clamped" end: m = b;   "natural" end: dx² S'' = b                                                      (3)

Outside [x0, x1] it goes on as a straight line. The last end may also be pinned: "zero" has y = m = 0 there, and
"zero_natural" S'' = 0 as well, for which y_{n-2} gives way; pinned parameters are ignored. Sorted by powers,

    S = sum_q c_q t^q,   t = (x - x0) / dx - k,   c = pieces[k] p,   q = 0..3                                (4)

with fixed matrices `pieces`: piece k ends at knot k, from which t counts, so that a pinned spline goes to zero without
cancellation; k = 0 and k = n are the straight lines. All is linear in p, and a value costs the same for any n.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fastdesc.errors import InputError, nearest

ENDS = ("clamped", "natural")
LAST_ENDS = (*ENDS, "zero", "zero_natural")
FEWEST_KNOTS, MOST_KNOTS = 2, 2000
"""Its matrices grow with the square of the number of knots."""

# Powers of t in [-1, 0] in rows, (y_{k-1}, dx m_{k-1}, y_k, dx m_k) in columns: (1) seen from the right.
HERMITE = np.array([[0, 0, 1, 0], [0, 0, 0, 1], [3, 1, -3, 2], [2, 1, -2, 1]], float)


@dataclass(frozen=True)
class Splines:
    """All splines on one grid of knots.

    Parameters
    ----------
    x0, x1 : float
        First and last knot.
    n_knots : int
        At least two.
    ends : (str, str)
        Each "clamped" or "natural"; the second also "zero" or "zero_natural".

    Raises
    ------
    InputError
        For a grid that is empty, or an end of another name.
    """

    x0: float
    x1: float
    n_knots: int
    ends: tuple[str, str] = ("clamped", "clamped")

    def __post_init__(self):
        if not (np.isfinite(self.x0) and np.isfinite(self.x1) and self.x0 < self.x1):
            raise InputError(f"knots from {self.x0} to {self.x1} came; the first must lie below the last")
        if not FEWEST_KNOTS <= self.n_knots <= MOST_KNOTS:
            raise InputError(f"{self.n_knots} knots came; a spline has {FEWEST_KNOTS} to {MOST_KNOTS}")
        for end, allowed in zip(self.ends, (ENDS, LAST_ENDS), strict=True):
            if end not in allowed:
                raise InputError(f"end {end!r} is not known{nearest(end, allowed)}; use one of {', '.join(allowed)}")

    @property
    def dx(self):
        return (self.x1 - self.x0) / (self.n_knots - 1)

    @property
    def n_parameters(self):
        return self.n_knots + 2

    @property
    def knots(self):
        return np.linspace(self.x0, self.x1, self.n_knots)

    @cached_property
    def nodes(self):
        """(2, n_knots, n_parameters): knot values and slopes from parameters, (2) and (3)."""
        n, dx = self.n_knots, self.dx
        equations, given = np.zeros((2 * n, 2 * n)), np.zeros((2 * n, n + 2))
        y, m = np.arange(n), n + np.arange(n)
        equations[y, y] = 1
        given[y, y] = 1
        for k in range(1, n - 1):
            equations[m[k], [m[k - 1], m[k], m[k + 1], y[k - 1], y[k + 1]]] = 1, 4, 1, 3 / dx, -3 / dx
        first, last = self.ends
        if first == "clamped":
            equations[m[0], m[0]] = 1
        else:
            equations[m[0], [y[0], y[1], m[0], m[1]]] = -6, 6, -4 * dx, -2 * dx
        given[m[0], n] = 1
        curvature = [y[-2], y[-1], m[-2], m[-1]], [6, -6, 2 * dx, 4 * dx]
        if last == "natural":
            equations[m[-1], curvature[0]] = curvature[1]
        else:
            equations[m[-1], m[-1]] = 1
        given[m[-1], n + 1] = 1
        if last in ("zero", "zero_natural"):
            given[y[-1]] = 0
            given[m[-1]] = 0
        if last == "zero_natural":
            equations[y[-2]] = 0
            equations[y[-2], curvature[0]] = curvature[1]
            given[y[-2]] = 0
        nodes = np.linalg.solve(equations, given).reshape(2, n, n + 2)
        if last in ("zero", "zero_natural"):
            nodes[:, -1] = 0  # exactly
        return nodes

    @cached_property
    def pieces(self):
        """(n_knots + 1, 4, n_parameters) of (4)."""
        y, m = self.nodes[0], self.nodes[1] * self.dx
        pieces = np.zeros((self.n_knots + 1, 4, self.n_parameters))
        pieces[0, :2] = y[0], m[0]
        pieces[1:-1] = np.einsum("qh,hkp->kqp", HERMITE, np.stack([y[:-1], m[:-1], y[1:], m[1:]]))
        pieces[-1, :2] = y[-1] + m[-1], m[-1]
        return pieces

    def rows(self, x, order=0):
        """Return the row vectors r with S(x) = r p, or with the derivative of that order.

        Parameters
        ----------
        x : array_like of float
        order : {0, 1, 2, 3}

        Returns
        -------
        (*x.shape, n_parameters)
        """
        scaled = (np.asarray(x, float) - self.x0) / self.dx
        k = np.clip(np.floor(scaled) + 1, 0, self.n_knots)
        t = (scaled - k)[..., None]
        c = self.pieces[k.astype(int)]
        s = np.zeros(c[..., 0, :].shape)
        for q in range(3, order - 1, -1):
            factor = float(np.prod(np.arange(q - order + 1, q + 1)))
            s = s * t + factor * c[..., q, :]
        return s / self.dx**order

    def values(self, parameters, x, order=0):
        """Return S(x), or a derivative, of splines with parameters (.., n_parameters): (.., *x.shape)."""
        return np.tensordot(parameters, self.rows(x, order), (-1, -1))

    @cached_property
    def roughness(self):
        """(n_parameters, n_parameters) matrix R: p R p is the integral of S''² over [x0, x1]."""
        second = np.stack([2 * self.pieces[1:-1, 2], 6 * self.pieces[1:-1, 3]])  # S'' dx² = second[0] + second[1] t
        overlap = np.array([[1, -1 / 2], [-1 / 2, 1 / 3]])
        return np.einsum("akp,ab,bkq->pq", second, overlap, second) / self.dx**3

    @cached_property
    def overlap(self):
        """(n_parameters, n_parameters) matrix G: p G p is the integral of S² over [x0, x1]."""
        q = np.arange(4)
        powers = (-1.0) ** (q[:, None] + q) / (q[:, None] + q + 1)    # integrals of t^(q + q') over [-1, 0]
        return np.einsum("kqp,qs,ksr->pr", self.pieces[1:-1], powers, self.pieces[1:-1]) * self.dx
