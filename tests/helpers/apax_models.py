"""Models of apax: random ones, directories of them as apax leaves them, and their energy by the textbook."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
import yaml
from references.gaussian_moments import BASES, CONTRACTIONS, cutoff_function

PREFIX = "model.params.params.energy_model."
N = 119


def config(basis="bessel", n_basis=4, n_radial=2, n_contr=8, nn=(5, 4), r_max=3.7, **more) -> dict[str, Any]:
    """The entry `model` of a config.yaml; more entries by name."""
    own = {"name": basis, "n_basis": n_basis, "r_max": r_max}
    own |= {"r_min": 0.5, "spacing": "linear"} if basis == "gaussian" else {}
    return {
        "name": "gmnn", "basis": own, "nn": list(nn), "n_radial": n_radial, "n_contr": n_contr, "emb_init": "uniform",
        "activation_fn": "variance_preserving_swish", "use_ntk": False, "ensemble": None, "property_heads": [],
        "empirical_corrections": [], "calc_stress": False, "w_init": "lecun", "b_init": "zeros",
        "descriptor_dtype": "fp32", "readout_dtype": "fp32", "scale_shift_dtype": "fp64",
    } | more  # fmt: skip


def orders(model):
    """Radial channels of the features of each contraction, as apax lists them."""
    n = range(model["n_radial"] if model["emb_init"] else model["basis"]["n_basis"])
    pairs = [(r, s) for r in n for s in n if r <= s]
    triples = []
    for r in n:
        triples.append((r, r, r))
        triples += [(r, s, s) for s in n if s != r]
        triples += [(r, s, t) for s in n for t in n if r < s < t]
    mixed = [(r, s, t) for r, s in pairs for t in n]
    free = [(r, s, t) for r in n for s in n for t in n]
    return [[(r,) for r in n], pairs, pairs, pairs, triples, mixed, mixed, free][: model["n_contr"]]


def arrays(model, numbers, seed=0, members=()) -> dict[str, np.ndarray]:
    """Random parameters by name; zero radial coefficients of elements that are not among `numbers`."""
    rng = np.random.default_rng(seed)
    n_in, n_out = sum(map(len, orders(model))), 1
    if (model["ensemble"] or {}).get("kind") == "shallow":
        n_out = model["ensemble"]["n_members"]
    out = {}
    for l, width in enumerate([*model["nn"], n_out]):
        size = 1.0 if model["use_ntk"] else n_in**-0.5
        out[f"readout.dense_{l}.w"] = (size * rng.normal(size=(*members, n_in, width))).astype(np.float32)
        out[f"readout.dense_{l}.b"] = rng.normal(size=(*members, width)).astype(np.float32)
        n_in = width
    scale, shift = np.ones((*members, N, 1)), np.zeros((*members, N, 1))
    scale[..., numbers, 0] = rng.uniform(0.5, 1.5, (*members, len(numbers)))
    shift[..., numbers, 0] = rng.normal(size=(*members, len(numbers)))
    if model["emb_init"]:
        beta = np.zeros((*members, N, N, model["n_radial"], model["basis"]["n_basis"]), np.float32)
        for a in numbers:
            for b in numbers:
                beta[..., a, b, :, :] = rng.uniform(-1, 1, beta[..., a, b, :, :].shape)
        out["representation.radial_fn.atomic_type_embedding"] = beta
    return out | {"scale_shift.scale_per_element": scale, "scale_shift.shift_per_element": shift}


def write(folder, model, parameters, step=3) -> Path:
    """A directory as apax leaves it: config.yaml, and a step below `best`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"n_epochs": 4, "model": model}))
    base = folder / "best" / str(step) / "default"
    base.mkdir(parents=True)
    store = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{base}/"}}
    others = {"epoch": np.int64(step), "model.step": np.int64(8), "model.opt_state.0.count": np.int32(1)}
    for name, array in ({f"{PREFIX}{name}": a for name, a in parameters.items()} | others).items():
        array = np.asarray(array)
        metadata = {
            "shape": list(array.shape), "chunks": list(array.shape), "dtype": array.dtype.str,
            "compressor": {"id": "zstd", "level": 1},
        }  # fmt: skip
        place = {"driver": "zarr", "kvstore": {**store, "path": f"{name}/"}, "metadata": metadata}
        own = tensorstore.open({**place, "store_data_equal_to_fill_value": True}, create=True, open=True).result()
        own.write(array).result()
    return folder


def energy(atoms, model, parameters, offset=0.0):
    """Energy (eV) of atoms without cell, by apax's formulas in plain NumPy.

    `offset` (Å) is added to distances by which pair vectors are divided: apax has 1e-5 there.
    """
    basis = model["basis"]
    moments = [[0.0] * 4 for _ in atoms]
    for i, j in np.ndindex(len(atoms), len(atoms)):
        r = atoms.positions[j] - atoms.positions[i]
        d = np.sqrt((r * r).sum())
        if i == j or d.real >= basis["r_max"]:
            continue
        g = BASES[basis["name"]](d, basis["r_max"], basis["n_basis"])
        if model["emb_init"]:
            table = parameters["representation.radial_fn.atomic_type_embedding"].astype(float)
            norm = basis["n_basis"] ** -0.5 if basis["name"] == "gaussian" else 1.0
            g = norm * table[atoms.numbers[i], atoms.numbers[j]] @ g
        tensor = g * cutoff_function(d, basis["r_max"])
        for rank in range(4):
            moments[i][rank] = moments[i][rank] + tensor
            tensor = np.multiply.outer(tensor, r / (d + offset))
    total = 0.0
    for own, z in zip(moments, atoms.numbers, strict=True):
        h = np.array([
            np.einsum(CONTRACTIONS[k][1].replace("n", ""), *(own[rank] for rank in CONTRACTIONS[k][0]))[t]
            for k, tuples in enumerate(orders(model), 1) for t in tuples
        ])  # fmt: skip
        for l in range(len(model["nn"]) + 1):
            w, b = (parameters[f"readout.dense_{l}.{name}"].astype(float) for name in ("w", "b"))
            h = h @ w / len(h) ** 0.5 + 0.1 * b if model["use_ntk"] else h @ w + b
            if l < len(model["nn"]):
                h = FUNCTIONS[model["activation_fn"]](h)
        scale, shift = (parameters[f"scale_shift.{name}_per_element"][z, 0] for name in ("scale", "shift"))
        total += scale * h.mean() + shift
    return total


FUNCTIONS = {
    "variance_preserving_swish": lambda z: 1.6765324703310907 * z / (1 + np.exp(-z)),
    "silu": lambda z: z / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "softplus": lambda z: np.log1p(np.exp(z)),
    "celu": lambda z: np.where(z > 0, z, np.exp(np.minimum(z, 0)) - 1),
}
