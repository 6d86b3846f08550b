"""A network of one hidden layer whose activations are trainable splines: the embedding functions of EAM and s-MEAM.

    N(q) = sum_u U_u(n_u),    n = W q                                    q: scaled features               (1)

U_u is a cubic spline (fastdesc/numerics/splines.py, both ends clamped) on its own range [x0, x1] of n, with straight
lines outside. Without bias N(q) = sum_u [U_u(n_u) - U_u(0)], exactly zero where all features are. In running form
scaler and
grid are folded into the affine map, so that knots lie at 0, 1, ..; with piece k of (4) there,

    s = W' q + b',    k = floor(s) + 1 (clipped),    t = s - k,    U = sum_m c[m, u, k] t^m               (2)

and, with the cotangents dy of the value and h = sign c of the tangent ty = sum_u U'(s_u) ts_u, ts = W' tq,

    ds = U' dy + U'' ts h,    dts = U' h,    dc[m, u, k] = sum over atoms in piece k of dy t^m + h ts m t^(m-1)   (3)

Vita, Trinkle, Comput. Mater. Sci. 232, 112655 (2024); Lenosky et al., Modelling Simul. Mater. Sci. Eng. 8, 825 (2000).
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from fastdesc.backend.arrays import namespace, to_host
from fastdesc.backend.jit import kernel
from fastdesc.checks import numbers
from fastdesc.errors import InputError
from fastdesc.networks.activations import ACTIVATIONS
from fastdesc.networks.feed_forward import affine, transposed
from fastdesc.networks.scaler import fold, unfold_gradients
from fastdesc.numerics.splines import FEWEST_KNOTS, MOST_KNOTS, Splines

START = (-3.0, 3.0)
"""Range of n before it has been fitted."""
MARGIN = 0.1
"""By how much of its spread the range goes beyond what n was seen to be, on each side: filters move in training."""
SMALL = 64
"""Numbers in W up to which values and gradients are found atom by atom: larger products are for BLAS."""
NARROWEST = 1.0
"""Narrower ranges are widened: one crystal alone has no spread."""


@dataclass(frozen=True)
class SplineNetwork:
    """The head (1); see fastdesc/networks/heads.py.

    Parameters
    ----------
    weight : (n_embeddings, n_features) array
        W, of the features that the network sees.
    splines : (n_embeddings, n_knots + 2) array
        Values of each U at its knots, then its slopes at the first and the last knot.
    grid : (n_embeddings, 2) array
        First and last knot of each U, on the scale of n; training does not move them.
    bias : bool
        Whether U(0) may differ from zero; else it is subtracted.

    Raises
    ------
    InputError
        For arrays that do not fit each other, values that are not finite, or a grid that is empty.
    """

    weight: object
    splines: object
    grid: object
    bias: bool = True

    def __post_init__(self):
        shape = np.shape(self.weight)
        if len(shape) != 2 or np.ndim(self.splines) != 2 or np.shape(self.splines)[1] < FEWEST_KNOTS + 2:
            raise InputError(
                f"weight and splines came with shapes {shape} and {np.shape(self.splines)}; (n_embeddings, n_features) "
                f"and (n_embeddings, n_knots + 2) with at least {FEWEST_KNOTS} knots are needed"
            )
        wanted = {"weight": shape, "splines": (shape[0], np.shape(self.splines)[1]), "grid": (shape[0], 2)}
        for name, expected in wanted.items():
            object.__setattr__(self, name, numbers(name, getattr(self, name), expected))
        for x0, x1 in self.grid:
            if x0 >= x1:
                raise InputError(f"an embedding came with knots from {x0} to {x1}; the first must lie below the last")

    @classmethod
    def initial(cls, n_in, n_embeddings, n_knots, rng, bias=True):
        """Random W, and for every U a silu of either sign: the network starts as a feed-forward one would."""
        weight = rng.standard_normal((n_embeddings, n_in)) / np.sqrt(n_in)
        sign = rng.choice([-1.0, 1.0], (n_embeddings, 1)) / np.sqrt(n_embeddings)
        silu = ACTIVATIONS["silu"]
        knots = np.linspace(*START, n_knots)
        value, gate = silu.value(knots, 1.0)
        slopes = silu.slope(value, gate, 1.0)[[0, -1]]
        return cls(weight, sign * np.concatenate([value, slopes]), np.tile(START, (n_embeddings, 1)), bias)

    @property
    def n_knots(self):
        return self.splines.shape[1] - 2

    @property
    def parameters(self):
        return {"weight": self.weight, "splines": self.splines}

    @property
    def buffers(self):
        """`grid` (n_embeddings, 3): first knot, last knot, number of knots of every U."""
        return {"grid": np.column_stack([self.grid, np.full(len(self.grid), float(self.n_knots))])}

    @property
    def placed(self):
        """Whether the grid has been fitted, or set."""
        return not np.array_equal(self.grid, np.tile(START, (len(self.grid), 1)))

    def replaced(self, arrays):
        """With other parameters, or another grid; where that changes the number of knots, every U is zero."""
        new = {name: arrays[name] for name in ("weight", "splines") if name in arrays}
        if "grid" in arrays:
            grid = numbers("grid", arrays["grid"], (len(self.grid), 3))
            n_knots = set(grid[:, 2])
            if len(n_knots) > 1 or not FEWEST_KNOTS <= min(n_knots) <= MOST_KNOTS or min(n_knots) % 1:
                raise InputError(
                    f"a grid came with {sorted(n_knots)} knots; all embeddings of one network need the same whole "
                    f"number from {FEWEST_KNOTS} to {MOST_KNOTS}"
                )
            new["grid"] = grid[:, :2]
            if min(n_knots) != self.n_knots:
                new.setdefault("splines", np.zeros((len(grid), int(min(n_knots)) + 2)))
        return replace(self, **new)

    def fitted(self, inputs, scaler, seen):
        """With every U stretched over the range of its n in `inputs`."""
        w, b = self._affine(self.weight, scaler, seen)
        low, high = np.full(len(w), np.inf), np.full(len(w), -np.inf)
        for q in inputs:
            if q.shape[1]:
                n = w @ to_host(q).astype(np.float64)
                low, high = np.minimum(low, n.min(axis=1)), np.maximum(high, n.max(axis=1))
        if not np.isfinite(low).all():
            return self    # an element without atoms
        middle, half = (low + high) / 2 + b[:, 0], np.maximum((0.5 + MARGIN) * (high - low), NARROWEST / 2)
        splines = self.splines.copy()
        splines[:, -2:] *= ((self.grid[:, 1] - self.grid[:, 0]) / (2 * half))[:, None]
        return replace(self, splines=splines, grid=np.column_stack([middle - half, middle + half]))

    def folded(self, parameters, scaler, seen, dtype):
        xp = namespace(parameters["weight"])
        w, b = self._affine(parameters["weight"], scaler, seen)
        x0, dx = (xp.asarray(a) for a in self._spacing())
        shift = (b - x0) / dx
        pieces, unit = self._pieces(w)
        c = xp.einsum("kqp,up->quk", pieces, parameters["splines"] * unit)
        return Embeddings.made((w / dx).astype(dtype), shift.astype(dtype), c.astype(dtype), self.bias)

    def unfolded(self, gradient, scaler, seen):
        dw, db, dc = gradient
        xp = namespace(dw)
        x0, dx = self._spacing()
        shift = db / xp.asarray(dx) if self.bias else None
        (dw, _), = unfold_gradients([(dw / xp.asarray(dx), shift)], scaler, seen)
        pieces, unit = self._pieces(dw)
        dsplines = xp.einsum("kqp,quk->up", pieces, dc)
        if not self.bias:
            zero = xp.asarray(_unit(self.n_knots).rows(-x0[:, 0] / dx[:, 0]))
            dsplines -= dc[0].sum(axis=1)[:, None] * zero    # sum of dc[0] over pieces: that of dy over atoms
        return {"weight": dw, "splines": dsplines * unit}

    def _affine(self, weight, scaler, seen):
        """W and shift (n_embeddings, 1) that turn features into n."""
        none = namespace(weight).zeros((len(weight), 1))
        w, b = fold([(weight, none if self.bias else None)], scaler, seen)[0]
        return w, none if b is None else b

    def _spacing(self):
        """First knot and spacing, (n_embeddings, 1) each."""
        return self.grid[:, :1], (self.grid[:, 1:] - self.grid[:, :1]) / (self.n_knots - 1)

    def _pieces(self, like):
        """Matrices of (4) in fastdesc/numerics/splines.py for knots one apart, and the units of parameters there."""
        xp = namespace(like)
        unit = np.ones((len(self.grid), self.n_knots + 2))
        unit[:, -2:] = self._spacing()[1]
        return xp.asarray(_unit(self.n_knots).pieces), xp.asarray(unit)


@kernel
def embedded(weight, shift, c, at_zero, x, dy, y, dx):
    """Values y (1, n) of the head (2) and gradient dx (n_features, n), atom by atom; other arrays as of Embeddings."""
    last, two, three = np.float64(c.shape[2] - 1), x.dtype.type(2), x.dtype.type(3)
    for a in range(x.shape[1]):
        total = x.dtype.type(0)
        for f in range(len(x)):
            dx[f, a] = 0
        for u in range(len(weight)):
            s = x.dtype.type(0)
            for f in range(len(x)):
                s += weight[u, f] * x[f, a]
            s += shift[u, 0]
            k = np.floor(s) + 1
            k = min(k, last) if k >= 0 else 0.0    # what diverged finds a piece, too, and stays NaN in t
            piece, t = np.int64(k), x.dtype.type(s - k)
            c0, c1, c2, c3 = c[0, u, piece], c[1, u, piece], c[2, u, piece], c[3, u, piece]
            total += (((c3 * t + c2) * t + c1) * t + c0) - at_zero[u, 0]
            slope = ((three * c3 * t + two * c2) * t + c1) * dy[0, a]
            for f in range(len(x)):
                dx[f, a] += weight[u, f] * slope
        y[0, a] = total


@cache
def _unit(n_knots):
    return Splines(0.0, n_knots - 1.0, n_knots)


@dataclass(frozen=True)
class Embeddings:
    """The head (2) in running form.

    Attributes
    ----------
    weight : (n_embeddings, n_features) array
    shift : (n_embeddings, 1) array
    c : (4, n_embeddings, n_knots + 1) array
    at_zero : (n_embeddings, 1) array
        U(0) where it is subtracted, else zero.
    bias : bool
        Whether it is not subtracted.
    """

    weight: object
    shift: object
    c: object
    at_zero: object
    bias: bool = True

    constant = False

    @classmethod
    def made(cls, weight, shift, c, bias):
        """With U(0) computed by what computes U, so that their difference vanishes to the last bit."""
        made = cls(weight, shift, c, namespace(shift).zeros_like(shift), bias)
        return made if bias else replace(made, at_zero=made._values(*made._pieces(shift)))

    @property
    def arrays(self):
        return [self.weight, self.shift, self.c]

    def _pieces(self, s):
        """Piece of every s, t in it, and its coefficients (4, n_embeddings, n)."""
        xp = namespace(s)
        n_pieces = self.c.shape[2]
        # fmin and fmax take the number where the other is NaN: what diverged stays NaN in t and finds a piece.
        k = xp.fmin(xp.fmax(xp.floor(xp.real(s)) + 1, 0), n_pieces - 1)
        index = k.astype(np.int32) + n_pieces * xp.arange(len(s), dtype=np.int32)[:, None]
        return k, s - k, xp.take(self.c.reshape(4, -1), index, axis=1)

    def _values(self, k, t, c):
        return ((c[3] * t + c[2]) * t + c[1]) * t + c[0]

    def forward(self, x):
        pieces = self._pieces(affine(self.weight, self.shift, x))
        y = (self._values(*pieces) - self.at_zero).sum(axis=0, keepdims=True)
        return y, (x, pieces)

    def pullback(self, saved, dy):
        _, pieces = saved
        return transposed(self.weight, _slopes(*pieces) * dy), dy

    def value_and_gradient(self, x, dy, dx):
        if self.weight.size <= SMALL and namespace(x) is np and x.dtype.kind == "f":
            y, own = np.empty((1, x.shape[1]), x.dtype), np.empty(x.shape, x.dtype)
            arrays = self.weight, self.shift, self.c, self.at_zero, x, dy
            embedded(*map(np.ascontiguousarray, arrays), y, own)
            dx[:] = own
            return y
        y, saved = self.forward(x)
        dx[:], _ = self.pullback(saved, dy)
        return y

    def tangent(self, saved, tx):
        _, pieces = saved
        ts = self.weight @ tx
        return (_slopes(*pieces) * ts).sum(axis=0, keepdims=True), (tx, ts)

    def gradients(self, saved, dy):
        """(3) without the tangent."""
        x, (k, t, c) = saved
        ds = _slopes(k, t, c) * dy
        dt = dy * t
        dc = self._by_piece(k, [dy + 0 * t, dt, dt * t, dt * t * t])
        return [ds @ x.T, ds.sum(axis=1, keepdims=True), dc], ds

    def dual_gradients(self, saved, tsaved, chain, dy, sign):
        """(3)."""
        (x, (k, t, c)), (tx, ts), h = saved, tsaved, sign * chain
        slopes, moved, dt = _slopes(k, t, c), ts * h, dy * t
        ds = slopes * dy + (6 * c[3] * t + 2 * c[2]) * moved
        dw = ds @ x.T
        dw += (slopes * h) @ tx.T
        dc = self._by_piece(k, [dy + 0 * t, dt + moved, (dt + 2 * moved) * t, (dt + 3 * moved) * t * t])
        return [dw, ds.sum(axis=1, keepdims=True), dc], ds

    def to_inputs(self, dz):
        return transposed(self.weight, dz)

    @property
    def n_last(self):
        return self.c.shape[1] * (self.c.shape[2] + 1)

    def last(self, saved):
        """Basis functions of all U: what knot values and end slopes multiply; without bias less those at zero."""
        xp = namespace(self.c)
        _, (k, t, _) = saved
        rows = self._basis(k, [xp.ones_like(t), t, t * t, t * t * t])
        if not self.bias:
            k, t, _ = self._pieces(self.shift)
            rows = rows - self._basis(k, [xp.ones_like(t), t, t * t, t * t * t])
        return rows.reshape(self.n_last, -1)

    def last_after(self, x):
        return self.last(self.forward(x)[1])

    def last_pullback(self, saved, dphi):
        _, (k, t, _) = saved
        dphi = dphi.reshape(len(self.weight), -1, dphi.shape[1])
        return transposed(self.weight, (self._basis_slopes(k, t) * dphi).sum(axis=1))

    def last_tangent(self, saved, tsaved):
        _, (k, t, _) = saved
        return (self._basis_slopes(k, t) * tsaved[1][:, None]).reshape(self.n_last, -1)

    def _basis_slopes(self, k, t):
        xp = namespace(t)
        return self._basis(k, [xp.zeros_like(t), xp.ones_like(t), 2 * t, 3 * t * t])

    def _basis(self, k, powers):
        """Rows (n_embeddings, n_knots + 2, n) of `pieces` summed with four (n_embeddings, n) arrays."""
        xp = namespace(k)
        pieces = xp.asarray(_unit(self.c.shape[2] - 1).pieces.astype(self.c.dtype))
        own = xp.take(pieces, k.astype(np.int32), axis=0)
        return sum(power[:, None] * own[:, :, q].transpose(0, 2, 1) for q, power in enumerate(powers))

    def _by_piece(self, k, terms):
        """Sum four (n_embeddings, n) arrays over the atoms in each piece: (4, n_embeddings, n_knots + 1)."""
        xp = namespace(k)
        # Products with 0 and 1 instead of a scattered sum: its order would be that of a GPU's threads.
        inside = (k[:, :, None] == xp.arange(self.c.shape[2], dtype=k.dtype)).astype(terms[0].dtype)
        return xp.matmul(xp.stack(terms, axis=1), inside).transpose(1, 0, 2)


def _slopes(k, t, c):
    return (3 * c[3] * t + 2 * c[2]) * t + c[1]
