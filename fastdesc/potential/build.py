"""From the arguments of a potential to its parts: the heads, and which features go past them."""

from collections.abc import Mapping
from numbers import Real

import numpy as np
from ase.data import chemical_symbols

from fastdesc.checks import MOST, atomic_numbers, count, one_of, several
from fastdesc.errors import InputError, nearest
from fastdesc.networks import feed_forward
from fastdesc.networks.activations import check_activation
from fastdesc.networks.form import Form, checked
from fastdesc.networks.heads import FeedForward, NoNetwork
from fastdesc.networks.residual_head import ResidualHead
from fastdesc.networks.spline import SplineNetwork
from fastdesc.numerics.splines import FEWEST_KNOTS, MOST_KNOTS

FEED_FORWARD = ("per_species", "shared")
NETWORKS = (*FEED_FORWARD, "spline", "none")
HIDDEN = {"per_species": (64, 64), "shared": (64, 64), "spline": (1,), "none": ()}
"""Widths unless given."""


def check_widths(network, hidden):
    """Return the widths of the hidden layers of a kind of network as a tuple of int; None and () mean its default.

    Raises
    ------
    InputError
        For an unknown network, widths below one, more than one layer of splines, or layers of no network.
    """
    one_of("network", network, NETWORKS)
    if hidden is None:
        return HIDDEN[network]
    hidden = several("hidden", hidden, "widths, such as (64, 64)")
    for width in hidden:
        count("a width in hidden", width, most=MOST)
    if network == "spline" and len(hidden) > 1:
        raise InputError(
            f"hidden came as {hidden}; network 'spline' has one layer: (n,) for n embedding functions, or leave it out"
        )
    if network == "none" and hidden:
        raise InputError(f"hidden came as {hidden}, but network 'none' has no layers; leave it out")
    return tuple(int(w) for w in hidden) or (HIDDEN[network] if network == "spline" else ())


def reference_given(reference, known):
    """Return the argument `reference` of a potential as a dict of symbols and floats; {} for None.

    Parameters
    ----------
    reference : dict or None
        Symbol or atomic number -> eV.
    known : sequence of int
        Atomic numbers of the descriptor.

    Raises
    ------
    InputError
        For an element that the descriptor does not know, one named twice, or an energy that is no finite number.
    """
    if reference is None:
        return {}
    if not isinstance(reference, Mapping):
        raise InputError(f"reference came as {reference!r}; give energies by element, such as {{'H': -13.6}}, in eV")
    numbers = [atomic_numbers([element])[0] for element in reference]
    out = {}
    for number, value in zip(numbers, reference.values(), strict=True):
        symbol = chemical_symbols[number]
        if number not in known:
            elements = ", ".join(chemical_symbols[z] for z in known)
            raise InputError(f"reference names {symbol}, which the descriptor does not know; it knows {elements}")
        if symbol in out:
            raise InputError(f"reference names {symbol} twice; name each element once")
        if isinstance(value, bool) or not isinstance(value, Real) or not np.isfinite(value):
            raise InputError(f"reference of {symbol} came as {value!r}; it must be a finite number, in eV")
        out[symbol] = float(value)
    return out


def check_form(network, hidden, activation, blocks, layer_norm, bias):
    """Return the Form of a potential's networks.

    Raises
    ------
    InputError
        For an unknown activation, or residual blocks where there can be none.
    """
    if network not in FEED_FORWARD:
        check_activation(activation)
        if blocks or layer_norm:
            given = f"blocks={blocks!r}" if blocks else f"layer_norm={layer_norm!r}"
            raise InputError(
                f"{given} came with network {network!r}; residual blocks are for 'per_species' and 'shared'"
            )
        return Form(hidden, activation, 0, False)
    form = checked(hidden, activation, blocks, layer_norm)
    if form.residual and not bias:
        raise InputError(f"bias=False came with activation {activation!r}, whose networks have biases; leave it out")
    return form


def make_heads(network, n_in, n_species, form, bias, n_knots, seed):
    """Return the heads of a potential, with initial parameters: one for all elements, or one for each."""
    count("n_knots", n_knots, FEWEST_KNOTS, MOST_KNOTS)
    rng = np.random.default_rng(seed)
    if network == "none":
        return [NoNetwork()]
    if network == "spline":
        return [SplineNetwork.initial(n_in, form.hidden[0], n_knots, rng, bias) for _ in range(n_species)]

    def one():
        if form.residual:
            return ResidualHead.initial(n_in, form, rng)
        layers = feed_forward.initial(n_in, form.hidden, 1, form.activation, rng, bias)
        return FeedForward(layers, form.activation)

    return [one() for _ in range(1 if network == "shared" else n_species)]


def direct_features(direct, network, names):
    """Which features enter the energy directly, and which the network sees.

    Parameters
    ----------
    direct : bool or sequence of str
        False for none; True for all; or names, or beginnings of names, of those that the network does not see.
    network : str
    names : list of str
        Of all features.

    Returns
    -------
    direct : (n_direct,) int array
    seen : (n_seen,) int array, or None for all

    Raises
    ------
    InputError
        For another kind of `direct`, a name that fits no feature, or a potential of which nothing is left.
    """
    if isinstance(direct, bool):
        if network == "none" and not direct:
            raise InputError("network 'none' leaves the direct term alone, and there is none; add direct=True")
        return np.arange(len(names) if direct else 0), None
    chosen = set()
    for wanted in several("direct", direct, 'names of features, such as ["pair_0"], or True or False'):
        fitting = [n for n in names if isinstance(wanted, str) and n.startswith(wanted)]
        fitting = [wanted] if wanted in fitting else fitting
        if not fitting:
            raise InputError(
                f"direct holds {wanted!r}, which no feature is called{nearest(wanted, names)}; "
                "descriptor.feature_names_out() lists them"
            )
        chosen.update(fitting)
    if network == "none":
        raise InputError("network 'none' takes all features directly; give direct=True, and make no others")
    picked = np.array([name in chosen for name in names])
    if not picked.any():
        raise InputError("direct came as an empty list; name features, or give False")
    if picked.all():
        raise InputError("direct names all features and leaves the network none; use network='none' with direct=True")
    return np.flatnonzero(picked), np.flatnonzero(~picked)
