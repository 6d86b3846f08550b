"""Networks of residual blocks with trained activations, components first: value, gradient, and both in dual numbers.

    s_0 = W x + b                                                            "first"                          (1)
    s_n = s_{n-1} + B_n(s_{n-1}),   n = 1..blocks                                                             (2)
    y = W a(s_N) + b                                                         "last"                           (3)

A block B goes through the widths `hidden` and back to the first of them. Each of its layers is

    z -> W norm(a(z)) + b,                                                   "block<n>/<layer>"               (4)
    a(z) = alpha phi(z, beta),   phi = z sigmoid(beta z) beta   or   z / sqrt(1 + (beta z)^2)                 (5)
    norm(h) = gain (h - mean h) / sqrt(mean (h - mean h)^2 + 1e-5) + shift   with `layer_norm`, else h        (6)

with means over the values of an atom; alpha, beta, gain and shift are trained, one of each for every value. The first
phi is silu(beta z); the second is the inverse square root unit. With D = dh gain and x = (h - mean h) r, r the inverse
square root in (6), the pullback of (6) is

    dh <- r (D - mean D - x mean(D x))                                                                        (7)

Zhang, Xia, Jiang, J. Chem. Phys. 156, 114801 (2022); Ba, Kiros, Hinton, arXiv:1607.06450 (2016).

Parameters are a dict: names as above with /weight (n_out, n_in), /bias, /alpha, /beta, /gain, /shift (n, 1). Arrays are
NumPy or CuPy; columns are atoms. Only what enters (4) and (3) is kept for the way back.
"""

from itertools import pairwise

import numpy as np

from fastdesc.networks import residual_duals as compiled
from fastdesc.networks import residual_units as units
from fastdesc.networks.duals import Dual, column_means, inverse_sqrt, matrix_product, sigmoid
from fastdesc.networks.feed_forward import affine, transposed

FIRST, LAST = "first", "last"
EPSILON = units.EPSILON


def layers(form):
    """Return the names of all layers behind the first in their order, (name, whether it is in a block)."""
    return [name for block in _blocks(form) for name in block] + [LAST]


def _blocks(form):
    return [[f"block{n}/{l}" for l in range(len(form.hidden))] for n in range(1, 1 + form.blocks)]


def shapes(n_in, n_out, form):
    """Return name -> shape of all parameters of a network, in a fixed order."""
    hidden = form.hidden
    found = {f"{FIRST}/weight": (hidden[0], n_in), f"{FIRST}/bias": (hidden[0], 1)}
    for block in _blocks(form):
        for name, (width, out) in zip(block, pairwise((*hidden, hidden[0])), strict=True):
            found |= _layer_shapes(name, width, out, form.layer_norm)
    return found | _layer_shapes(LAST, hidden[0], n_out, False)


def _layer_shapes(name, width, out, normed):
    kinds = ("alpha", "beta", "gain", "shift") if normed else ("alpha", "beta")
    found = {f"{name}/{kind}": (width, 1) for kind in kinds}
    return found | {f"{name}/weight": (out, width), f"{name}/bias": (out, 1)}


def n_parameters(n_in, n_out, form):
    """Number of parameters of a network."""
    return sum(a * b for a, b in shapes(n_in, n_out, form).values())


def initial(n_in, n_out, form, rng):
    """Random parameters, float64, such that variance is passed on and every block begins as nothing.

    W ~ N(0, a^2 / n_in) as of fastdesc/networks/feed_forward.py, with the gain a of the activation at alpha = beta = 1
    behind one that is not normalised; zero for the last layer of a block.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    ones = Dual(np.ones((1, 1)))
    phi = _phi(form.activation, Dual(nodes[None]), ones)[0].v[0]
    gain = (weights @ phi**2 / weights.sum()) ** -0.5
    parameters = {}
    ends = {f"{block[-1]}/weight" for block in _blocks(form)}
    for name, shape in shapes(n_in, n_out, form).items():
        layer, kind = name.rsplit("/", 1)
        if kind == "weight":
            a = 1.0 if layer == FIRST or (form.layer_norm and layer != LAST) else gain
            parameters[name] = rng.standard_normal(shape) * ((name not in ends) * a / shape[1] ** 0.5)
        else:
            parameters[name] = np.full(shape, float(kind in ("alpha", "beta", "gain")))
    return parameters


# ------------------------------------------------------------------------------------------------------- the network


def forward(form, p, x):
    """Value of the network.

    Parameters
    ----------
    form : Form
    p : dict of str to Dual
        Parameters by name.
    x : Dual (n_in, n)

    Returns
    -------
    y : Dual (n_out, n)
    saved : list of Dual
        What the other functions want handed back; it keeps a reference to `x`.
    """
    s, saved = _linear(p, FIRST, x), [x]
    for block in _blocks(form):
        z = s
        for name in block:
            saved.append(z)
            z = _linear(p, name, _unit(form, p, name, z))
        s = s + z
    saved.append(s)
    return _linear(p, LAST, _unit(form, p, LAST, s)), saved


def tangent(form, p, saved, tx):
    """Derivative of y along `tx` (n_in, n), of plain numbers, and what is `saved` with it in dual numbers."""
    x, *inputs = saved
    left = iter(inputs)

    def layer(name, tz):
        moving.append(Dual(next(left).v, tz))
        return p[f"{name}/weight"].v @ _unit(form, p, name, moving[-1]).t

    ts, moving = p[f"{FIRST}/weight"].v @ tx, [Dual(x.v, tx)]
    for block in _blocks(form):
        tz = ts
        for name in block:
            tz = layer(name, tz)
        ts = ts + tz
    return layer(LAST, ts), moving


def pullback(form, p, saved, dy):
    """Gradient with respect to the inputs, like x, from dy (n_out, n); in dual numbers where any of them is."""
    return last_pullback(form, p, saved, _back(p, LAST, dy))


def last(form, p, saved):
    """What the last layer multiplies, a(s_N) in (3)."""
    return _unit(form, p, LAST, saved[-1])


def last_pullback(form, p, saved, dh):
    """Gradient with respect to the inputs, like x, from the cotangent of what the last layer multiplies."""
    _, *inputs = saved
    back = iter(inputs[::-1])
    ds = _unit_pullback(form, p, LAST, next(back), dh)
    for block in _blocks(form)[::-1]:
        dz = ds
        for name in block[::-1]:
            dz = _unit_pullback(form, p, name, next(back), _back(p, name, dz))
        ds = ds + dz
    return _back(p, FIRST, ds)


def backward(form, p, saved, dy, of=lambda gradient: gradient):
    """Gradient of <dy, y> with respect to all parameters, and what that with respect to the inputs is made of.

    Parameters
    ----------
    of : function, optional
        What becomes of the gradient of each parameter, a function without arguments that returns a Dual.

    Returns
    -------
    gradient : dict like p
    ds : Dual (width of the first layer, n)
        Cotangent of s_0.
    """
    x, *inputs = saved
    found, back = {}, iter(inputs[::-1])

    def layer(name, dz):
        z = next(back)
        h, pull = _unit_and_pullback(form, p, name, z)
        found.update(_of_linear(name, dz, h, of))
        dz, others = pull(_back(p, name, dz))
        found.update({f"{name}/{kind}": of(gradient) for kind, gradient in others.items()})
        return dz

    ds = layer(LAST, dy)
    for block in _blocks(form)[::-1]:
        dz = ds
        for name in block[::-1]:
            dz = layer(name, dz)
        ds = ds + dz
    found.update(_of_linear(FIRST, ds, x, of))
    return {name: found[name] for name in p}, ds


def to_inputs(p, ds):
    """Gradient with respect to the inputs from that with respect to s_0."""
    return _back(p, FIRST, ds)


def _linear(p, name, h):
    """W h + b."""
    w, b = p[f"{name}/weight"], p[f"{name}/bias"]
    z = matrix_product(w, h, lambda w, h: affine(w, b.v, h))
    if b.t is not None:
        z.t = b.t if z.t is None else z.t + b.t
    return z


def _back(p, name, dz):
    """W^T dz."""
    w = p[f"{name}/weight"]
    return matrix_product(w.map(lambda a: a.T), dz, lambda wt, dz: transposed(wt.T, dz))


def tangents_alone(make):
    """What `backward` may make of gradients: their tangents."""
    return make(True) if make.__name__ == "weight" else make().t


def _of_linear(name, dz, h, of):
    def weight(tangent_alone=False):
        if tangent_alone:
            found = dz.t @ h.v.T
            found += dz.v @ h.t.T
            return found
        return matrix_product(dz, h.map(lambda a: a.T), lambda a, b: a @ b)

    def bias():
        return _row_sums(dz)

    return {f"{name}/weight": of(weight), f"{name}/bias": of(bias)}


def _row_sums(x):
    return x.map(lambda a: a.sum(axis=1, keepdims=True))


# --------------------------------------------------------------------------------------------- activation and norm (4)


def _normed(form, name):
    return form.layer_norm and name != LAST


def _own(form, p, name):
    """alpha, beta and, where values are normalised, gain and shift."""
    kinds = ("alpha", "beta", "gain", "shift") if _normed(form, name) else ("alpha", "beta")
    return [p[f"{name}/{kind}"] for kind in kinds]


def _unit(form, p, name, z):
    """norm(a(z))."""
    own = _own(form, p, name)
    if units.plain(z, *own):
        return Dual(units.value(form.activation, z.v, *(a.v for a in own)))
    return _unit_and_pullback(form, p, name, z)[0]


def _unit_pullback(form, p, name, z, dh):
    """Cotangent of z from that of norm(a(z))."""
    own = _own(form, p, name)
    if units.plain(z, dh, *own):
        return Dual(units.pullback(form.activation, z.v, dh.v, *(a.v for a in own)))
    return _unit_and_pullback(form, p, name, z)[1](dh)[0]


def _phi(activation, z, beta):
    """phi of (5) and its derivatives with respect to z and beta."""
    u = z * beta
    if activation == "trained_silu":
        s = sigmoid(u)
        slope = s * (u * (1.0 - s) + 1.0)
        return u * s, beta * slope, z * slope
    s = inverse_sqrt(u * u + 1.0)
    cube = s * s * s
    return z * s, cube, -(z * z * u * cube)


def _unit_and_pullback(form, p, name, z):
    """norm(a(z)) and the function dh -> dz and functions that make the cotangents of alpha, beta, gain and shift."""
    alpha, beta, *norm = _own(form, p, name)
    if compiled.suits(z, alpha, beta, *norm):
        return _compiled_unit(form, z, alpha, beta, *norm)
    phi, by_z, by_beta = _phi(form.activation, z, beta)
    a = alpha * phi
    if not norm:
        def pull(dh):
            return dh * (alpha * by_z), _of_activation(dh, alpha, phi, by_beta)

        return a, pull
    gain, shift = norm
    centred = a - column_means(a)
    r = inverse_sqrt(column_means(centred * centred) + EPSILON)
    x = centred * r

    def pull_normed(dh):
        D = dh * gain
        da = r * (D - column_means(D) - x * column_means(D * x))
        others = {"gain": lambda: _row_sums(dh * x), "shift": lambda: _row_sums(dh)}
        return da * (alpha * by_z), {**_of_activation(da, alpha, phi, by_beta), **others}

    return x * gain + shift, pull_normed


def _compiled_unit(form, z, alpha, beta, *norm):
    """The same of plain parameters on the host, by compiled loops."""
    h, th, saved = compiled.value(form.activation, z.v, z.t, alpha.v, beta.v, *(a.v for a in norm))
    (phi, tphi, _, _, by_beta, tby_beta, x, tx), _ = saved

    def pull(dh):
        d, e = dh.v, np.zeros_like(dh.v) if dh.t is None else dh.t
        dz, da = compiled.pullback(saved, d, e, alpha.v, *(a.v for a in norm[:1]))
        others = {
            "alpha": lambda: Dual(*compiled.row_products(*da, phi, tphi)),
            "beta": lambda: Dual(*compiled.row_products(*da, by_beta, tby_beta)) * alpha,
        }
        if norm:
            others["gain"] = lambda: Dual(*compiled.row_products(d, e, x, tx))
            others["shift"] = lambda: _row_sums(dh)
        return Dual(*dz), others

    return Dual(h, th), pull


def _of_activation(da, alpha, phi, by_beta):
    return {"alpha": lambda: _row_sums(da * phi), "beta": lambda: _row_sums(da * (alpha * by_beta))}
