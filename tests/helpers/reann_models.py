"""Models of the REANN package: random ones, files of them in both forms, and their energy by the textbook."""

from pathlib import Path
from typing import Any

import numpy as np
from helpers import torch_writer
from helpers.torch_writer import Module
from references import embedded_density, residual

OURS = {"Relu_like": "trained_silu", "Tanh_like": "trained_isru"}


def network(prefix, n_in, hidden, n_out, blocks, normed, rng, gaps=False):
    """State of one network, named as the package does; `gaps` are the places of dropout layers."""
    def linear(name, a, b):
        return {f"{prefix}{name}.weight": rng.normal(size=(b, a)) / a**0.5, f"{prefix}{name}.bias": rng.normal(size=b)}

    def activation(name, width):
        return {f"{prefix}{name}.{kind}": rng.uniform(0.3, 1, (1, width)) for kind in ("alpha", "beta")}

    state = linear(0, n_in, hidden[0])
    for n in range(1, blocks + 1):
        k = 0
        for a, b in zip(hidden, (*hidden[1:], hidden[0]), strict=True):
            state |= activation(f"{n}.resblock.{k}", a)
            k += 1
            if normed:
                for kind in ("weight", "bias"):
                    state[f"{prefix}{n}.resblock.{k}.{kind}"] = rng.normal(size=a)
                k += 1
            k += gaps
            state |= linear(f"{n}.resblock.{k}", a, b)
            k += 1
    return state | activation(blocks + 1, hidden[0]) | linear(blocks + 2, hidden[0], n_out)


def model(
    elements=("O", "H"), cutoff=4.0, n_radial=3, l_max=2, n_features=7, iterations=1, own_hyper=False, hidden=(5, 4),
    inner=(4, 3), blocks=1, normed=True, initpot=None, gaps=False, seed=0,
) -> dict[str, Any]:  # fmt: skip
    """State of a random model, name -> float64 array; some exponents grow with the distance."""
    rng, n = np.random.default_rng(seed), len(elements)
    hyper = (*((iterations + 1,) if own_hyper else ()), l_max + 1, n_radial, n_features)
    state = {
        "density.rs": rng.uniform(0, cutoff, (n, n_radial)), "density.inta": rng.uniform(-1, 0.2, (n, n_radial)),
        "density.params": rng.normal(size=(n, n_radial)), "density.hyper": 0.3 * rng.normal(size=hyper),
        "density.cutoff": np.array([cutoff]),
        "density.index_para": np.repeat(np.arange(l_max + 1), 3 ** np.arange(l_max + 1)),
    }    # fmt: skip
    common = {"blocks": blocks, "normed": normed, "rng": rng, "gaps": gaps}
    for t in range(iterations):
        for el in elements:
            state |= network(f"density.ocmod.memssage_{t}.elemental_nets.{el}.", n_features, inner, n_radial, **common)
    for el in elements:
        state |= network(f"nnmod.elemental_nets.{el}.", n_features, hidden, 1, **common)
    return state if initpot is None else state | {"nnmod.initpot": np.array([initpot])}


def modules(state, activation="Relu_like", inner=None, root="__torch__.pes.PES.PES"):
    """The state as modules within modules, with their classes, as TorchScript has it."""
    top = Module(root, training=False, cutoff=float(state["density.cutoff"][0]))
    for name, array in state.items():
        *path, last = name.split(".")
        at = top
        for depth, step in enumerate(path):
            at = at.members.setdefault(step, Module(f"__torch__.torch.nn.modules.container.___torch_mangle_{depth}.M"))
        at.members[last] = array
        if last == "alpha":
            kind = inner if inner and name.startswith("density") else activation
            at.name = f"__torch__.src.activate.{kind}"
    top.members["density"].members["nipsin"] = int(state["density.hyper"].shape[-3])
    return top


def write_script(path, state, *args, **keywords) -> Path:
    """A file of TorchScript."""
    return torch_writer.write(path, modules(state, *args, **keywords), root="PES")


def write_checkpoint(path, state, prefix="module."):
    """A checkpoint, as of several processes."""
    state = {f"{prefix}{name}": array for name, array in state.items()}
    moments = {0: {"step": np.array(7.0), "exp_avg": np.ones(3)}}
    optimizer = {"state": moments, "param_groups": [{"lr": 1e-3, "params": [0]}]}
    return torch_writer.write(path, {"reannparam": state, "optimizer": optimizer}, root="archive")


def energies(state, rij, i, j, kinds, elements, activation="Relu_like", inner=None):
    """Energy of each atom by the textbook; rij (n_pairs, 3), kinds are indices into `elements`. Complex-safe."""
    hyper = state["density.hyper"]
    iterations = len({name.split(".")[2] for name in state if name.startswith("density.ocmod.")})
    hyper = hyper if hyper.ndim == 4 else [hyper] * (iterations + 1)
    settings = {"cutoff": float(state["density.cutoff"][0]), "l_max": len(hyper[0]) - 1, "normalized": False}
    given = rij, i, j, kinds, -state["density.inta"], state["density.rs"]
    c = state["density.params"][kinds]
    q = embedded_density.density(*given, c, hyper[0], **settings)
    for t in range(iterations):
        own = [_network(state, f"density.ocmod.memssage_{t}.elemental_nets.{elements[z]}.", inner or activation)
               for z in kinds]    # fmt: skip
        c = c + np.array([f(x) for f, x in zip(own, q, strict=True)])
        q = embedded_density.density(*given, c, hyper[t + 1], **settings)
    own = [_network(state, f"nnmod.elemental_nets.{elements[z]}.", activation) for z in kinds]
    return np.array([f(x)[0] for f, x in zip(own, q, strict=True)]) + state.get("nnmod.initpot", [0.0])[0]


def _network(state, prefix, activation):
    """y(x) of one network."""
    own = {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
    tops = sorted({int(name.split(".")[0]) for name in own})

    def linear(name, x):
        return own[f"{name}.weight"] @ x + own[f"{name}.bias"]

    def act(name, x):
        return residual.activation(OURS[activation], x, own[f"{name}.alpha"][0], own[f"{name}.beta"][0])

    def block(n, x):
        steps = sorted({int(name.split(".")[2]) for name in own if name.startswith(f"{n}.")})
        for k in steps:
            name = f"{n}.resblock.{k}"
            if f"{name}.alpha" in own:
                x = act(name, x)
            elif own[f"{name}.weight"].ndim == 1:
                x = residual.layer_norm(x, own[f"{name}.weight"], own[f"{name}.bias"])
            else:
                x = linear(name, x)
        return x

    def evaluate(x):
        y = linear(0, x)
        for n in tops[1:-2]:
            y = y + block(n, y)
        return linear(tops[-1], act(tops[-2], y))

    return evaluate
