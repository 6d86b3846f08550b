"""Networks of a file of the REANN package as those of fastdesc/networks/residual.py.

    0.weight, 0.bias                          "first"
    <n>.resblock.<k>.*, n = 1..blocks         layers of a block: alpha, beta; weight, bias of one axis where values are
                                              normalised; weight of two axes, bias. Numbers k may have gaps (dropout)
    <blocks+1>.alpha, .beta; <blocks+2>.weight, .bias    "last"
"""

from collections import namedtuple
from itertools import pairwise

from fastdesc.errors import InputError
from fastdesc.networks.form import checked
from fastdesc.networks.residual import shapes

ReadNetworks = namedtuple("ReadNetworks", "form networks")
"""Form that all share, and parameters by element: dict of symbol to dict of name to array."""


def read_networks(names, prefix, elements, n_in, n_out, activation):
    """Return the ReadNetworks below a prefix.

    Parameters
    ----------
    names : Names
    prefix : str
        Such as "nnmod.".
    elements : list of str
    n_in, n_out : int
    activation : str
        Ours.
    """
    names.check(names.elements(prefix) == elements, f"{prefix} has networks of other elements, or in another order")
    found = [_network(names, f"{prefix}elemental_nets.{symbol}.", activation) for symbol in elements]
    form = found[0][0]
    names.check(all(other == form for other, _ in found), f"networks below {prefix} differ in form")
    for symbol, (_, arrays) in zip(elements, found, strict=True):
        for name, shape in shapes(n_in, n_out, form).items():
            fits = name in arrays and arrays[name].shape == shape
            names.check(fits, f"the network {prefix}elemental_nets.{symbol} does not fit ({name})")
    return ReadNetworks(form, {symbol: arrays for symbol, (_, arrays) in zip(elements, found, strict=True)})


def _network(names, prefix, activation):
    """Form and parameters of one network."""
    kinds = {}
    for name in names.below(prefix):
        step, _, rest = name.partition(".")
        kinds.setdefault(step, []).append(rest)
    names.check(all(map(str.isdecimal, kinds)), f"{prefix} is no sequence of layers")
    steps = sorted(kinds, key=int)
    blocks = [step for step in steps if any(rest.startswith("resblock.") for rest in kinds[step])]
    known = steps == [str(k) for k in range(len(blocks) + 3)] and blocks == steps[1:-2]
    names.check(known, f"{prefix} has other layers")
    arrays = {}
    _linear(names, f"{prefix}0.", arrays, "first")
    found = [_block(names, f"{prefix}{step}.resblock.", arrays, f"block{n}") for n, step in enumerate(blocks, 1)]
    _activation(names, f"{prefix}{steps[-2]}.", arrays, "last")
    _linear(names, f"{prefix}{steps[-1]}.", arrays, "last")
    names.check(len(set(found)) <= 1, f"{prefix} has blocks of several forms")
    widths, normed = found[0] if found else ((len(arrays["first/weight"]),), False)
    try:
        return checked(widths, activation, len(blocks), normed), arrays
    except InputError as error:
        names.check(False, str(error))


def _block(names, prefix, arrays, block):
    """Parameters of a block into `arrays`; return widths, and whether values are normalised."""
    own = names.below(prefix)
    steps = sorted({name.partition(".")[0] for name in own}, key=lambda step: (len(step), step))
    has = {step: {name.partition(".")[2] for name in own if name.partition(".")[0] == step} for step in steps}
    starts = [k for k, step in enumerate(steps) if "alpha" in has[step]]
    names.check(starts[:1] == [0], f"{prefix} does not begin with an activation")
    widths, normed = [], set()
    for l, (a, b) in enumerate(pairwise([*starts, len(steps)])):
        layer = f"{block}/{l}"
        names.check(b - a in (2, 3), f"{prefix} has layers that are not known")
        _activation(names, f"{prefix}{steps[a]}.", arrays, layer)
        if b - a == 3:
            arrays[f"{layer}/gain"] = names.array(f"{prefix}{steps[a + 1]}.weight", 1)[:, None]
            arrays[f"{layer}/shift"] = names.array(f"{prefix}{steps[a + 1]}.bias", 1)[:, None]
        _linear(names, f"{prefix}{steps[b - 1]}.", arrays, layer)
        widths.append(arrays[f"{layer}/weight"].shape[1])
        normed.add(b - a == 3)
    names.check(len(normed) == 1, f"{prefix} is normalised here and there")
    return tuple(widths), normed.pop()


def _linear(names, prefix, arrays, layer):
    arrays[f"{layer}/weight"] = names.array(f"{prefix}weight", 2)
    arrays[f"{layer}/bias"] = names.array(f"{prefix}bias", 1)[:, None]


def _activation(names, prefix, arrays, layer):
    for kind in ("alpha", "beta"):
        arrays[f"{layer}/{kind}"] = names.array(f"{prefix}{kind}", 2).reshape(-1, 1)
