"""Networks of residual blocks as the paper writes them: one atom at a time, literal sums, complex-safe.

Zhang, Xia, Jiang, J. Chem. Phys. 156, 114801 (2022). Imports nothing of ours.
"""

import numpy as np


def activation(name, z, alpha, beta):
    """alpha silu(beta z), or alpha z / sqrt(1 + (beta z)^2)."""
    if name == "trained_silu":
        return alpha * (beta * z) / (1 + np.exp(-beta * z))
    return alpha * z / np.sqrt(1 + (beta * z) ** 2)


def layer_norm(h, gain, shift):
    """Biased variance, 1e-5 added."""
    mean = sum(h) / len(h)
    variance = sum((x - mean) ** 2 for x in h) / len(h)
    return np.array([g * (x - mean) / np.sqrt(variance + 1e-5) + s for x, g, s in zip(h, gain, shift, strict=True)])


def network(theta, x, *, name, hidden, blocks, layer_norm_):
    """y (n_out,) of one atom's x (n_in,); theta has parameters by name, of shape (n, 1) or (n,)."""

    def of(layer, kind):
        a = np.asarray(theta[f"{layer}/{kind}"])
        return a if kind == "weight" else a.reshape(-1)

    def linear(layer, h):
        return of(layer, "weight") @ h + of(layer, "bias")

    y = linear("first", x)
    for n in range(1, blocks + 1):
        z = y
        for l in range(len(hidden)):
            layer = f"block{n}/{l}"
            z = activation(name, z, of(layer, "alpha"), of(layer, "beta"))
            if layer_norm_:
                z = layer_norm(z, of(layer, "gain"), of(layer, "shift"))
            z = linear(layer, z)
        y = y + z
    return linear("last", activation(name, y, of("last", "alpha"), of("last", "beta")))
