"""Dual arrays with operators, for formulas that are written once: value, and tangent or none.

An array without a tangent is plain, and costs nothing more than it would by itself. Cotangents of dual numbers are dual
numbers too, (cotangent of the tangent, cotangent of the value): what pulls back plain arrays pulls back these.
"""

from fastdesc.backend.arrays import namespace


class Dual:
    """Value `v` and tangent `t` of one shape; `t` None for zero."""

    __slots__ = ("t", "v")
    __array_ufunc__ = None    # array * Dual is asked of Dual

    def __init__(self, v, t=None):
        self.v, self.t = v, t

    def __add__(self, other):
        if not isinstance(other, Dual):
            return Dual(self.v + other, self.t)
        return Dual(self.v + other.v, _sum(self.t, other.t))

    def __neg__(self):
        return Dual(-self.v, None if self.t is None else -self.t)

    def __sub__(self, other):
        return self + (-other)

    def __rsub__(self, other):
        return (-self) + other

    def __mul__(self, other):
        if not isinstance(other, Dual):
            return Dual(self.v * other, None if self.t is None else self.t * other)
        return Dual(self.v * other.v, _sum(_product(self.t, other.v), _product(self.v, other.t)))

    __radd__, __rmul__ = __add__, __mul__

    def map(self, function):
        """A linear function of value and tangent."""
        return Dual(function(self.v), None if self.t is None else function(self.t))


def planes(x, plain_ndim=2):
    """Return an array ((2,) ..) as a Dual."""
    return Dual(x) if x.ndim == plain_ndim else Dual(x[0], x[1])


def stacked(x, like):
    """Return a Dual as an array, with a leading axis of two where `like` has a tangent."""
    if like.t is None:
        return x.v
    xp = namespace(x.v)
    return xp.stack([x.v, xp.zeros_like(x.v) if x.t is None else x.t])


def sigmoid(x):
    """1 / (1 + e^-x), without overflow on either side."""
    xp = namespace(x.v)
    below = xp.real(x.v) < 0
    e = xp.exp(xp.where(below, x.v, -x.v))
    s = xp.where(below, e, 1.0) / (1.0 + e)
    return Dual(s, None if x.t is None else s * (1 - s) * x.t)


def inverse_sqrt(x):
    """x^(-1/2)."""
    y = 1.0 / namespace(x.v).sqrt(x.v)
    return Dual(y, None if x.t is None else -0.5 * y * y * y * x.t)


def column_means(x):
    """Mean over the rows, (1, n)."""
    return x.map(lambda a: a.mean(axis=0, keepdims=True))


def matrix_product(a, b, product):
    """a @ b, where product(a.v, b.v) makes the values."""
    tangent = _sum(None if b.t is None else a.v @ b.t, None if a.t is None else a.t @ b.v)
    return Dual(product(a.v, b.v), tangent)


def _sum(a, b):
    if a is None or b is None:
        return b if a is None else a
    return a + b


def _product(a, b):
    return None if a is None or b is None else a * b
