"""Networks that update what neighbours weigh: one atom after the other.

Parameters are network.<t>.<element>.<layer>.<kind>, elements in the order of their indices; a network shared by all
elements is told the element by ones and zeros after the features. Analytic, and imports nothing of ours.
"""

import numpy as np
from references import residual

ACTIVATIONS = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "celu": lambda x: np.where(x.real < 0, np.exp(np.where(x.real < 0, x, 0)) - 1, x),
    "softplus": lambda x: np.log((1 + np.exp(x)) / 2),
}


def network(theta, prefix, x, activation, form):
    """Network whose parameters begin with `prefix`: feed-forward, or residual blocks for a trained activation."""
    if activation.startswith("trained"):
        own = {n.removeprefix(prefix).replace(".", "/"): a for n, a in theta.items() if n.startswith(prefix)}
        return residual.network(own, x, name=activation, **form)
    return feed_forward(theta, prefix, x, activation)


def feed_forward(theta, prefix, x, activation):
    """Feed-forward network whose parameters are theta[prefix + layer + '.weight' and '.bias']; x (n_in,)."""
    n_layers = sum(name.startswith(prefix) and name.endswith(".weight") for name in theta)
    for layer in range(n_layers):
        x = theta[f"{prefix}{layer}.weight"] @ x + theta[f"{prefix}{layer}.bias"]
        if layer < n_layers - 1:
            x = ACTIVATIONS[activation](x)
    return x


def updates(theta, t, species, q, n_species, *, activation, shared, hidden=(), blocks=0, layer_norm=False):
    """Return what iteration t adds to the weights, (n_atoms, n_out), of features q (n_atoms, n_in)."""
    names = list(dict.fromkeys(n.split(".")[2] for n in theta if n.startswith(f"network.{t}.")))
    update = []
    for z, x in zip(species, q, strict=True):
        if shared:
            z, x = 0, np.concatenate([x, np.eye(n_species)[z]])
        form = {"hidden": hidden, "blocks": blocks, "layer_norm_": layer_norm}
        update.append(network(theta, f"network.{t}.{names[z]}.", x, activation, form))
    return np.array(update)
