"""Models of apax as potentials: Gaussian moments, one network for all elements.

Schaefer, Segreto, Zills, Holm, Kaestner, J. Chem. Inf. Model. 65, 8066 (2025). The formulas are those of
fastdesc/descriptors/gaussian_moments/; what is called what in a model:

    representation.radial_fn.atomic_type_embedding    (119, 119, n_radial, n_basis): centre, neighbour
    readout.dense_<l>.w, .b                           layers, W of (in, out); with `use_ntk` W / sqrt(in) and 0.1 b
    scale_shift.scale_per_element, shift_per_element  (119, 1), eV: E = scale N + shift

Gaussian functions have our factor n_basis^(-1/2), Bessel functions none. Two things are otherwise there: apax adds
1e-5 Å to the distance by which it divides a pair vector, which changes features by some 1e-5 of themselves, and leaves
out the images of an atom itself, which matters in cells smaller than the cutoff.
"""

from itertools import combinations, product
from itertools import combinations_with_replacement as unordered
from numbers import Integral, Real

import numpy as np
from ase.data import chemical_symbols

from fastdesc.descriptors.gaussian_moments import CONTRACTIONS, GaussianMoments
from fastdesc.errors import FileFormatError, InputError
from fastdesc.hdf5.files import as_path
from fastdesc.potential import Potential
from fastdesc.potential.apax_files import CONFIG, newest_step, read_arrays, read_config
from fastdesc.types import FilePath
from fastdesc.types import Species as Elements

GAIN = 1.6765324703310907
ACTIVATIONS = {
    "variance_preserving_swish": ("silu", GAIN, 0.0), "swish": ("silu", 1.0, 0.0), "silu": ("silu", 1.0, 0.0),
    "tanh": ("tanh", 1.0, 0.0), "celu": ("celu", 1.0, 0.0), "softplus": ("softplus", 1.0, np.log(2.0)),
}  # fmt: skip
"""apax's f(z) = gain · ours(z) + step."""
R_MIN = 0.5
"""Å, of the first Gaussian function: ours."""
MOST = 1000


def read_apax(path: FilePath, species: Elements | None = None, member: int | None = None) -> Potential:
    """Read a Gaussian-moment model of apax as a potential.

    Parameters
    ----------
    path : path-like
        Directory of an experiment of apax 0.12 or newer: that with `config.yaml` and `best`. JAX is not needed.
    species : list of str or int, optional
        Elements that the potential shall know. By default those that training saw: of which scale or shift is not that
        of the others.
    member : int, optional
        Of an ensemble of whole models: which one, from 0.

    Returns
    -------
    Potential
        Over GaussianMoments; float64, to be trained further. Of a shallow ensemble the mean of its members, without
        their spread: ``fd.fit_uncertainty`` gives it one.

    Raises
    ------
    InputError
        When there is no such directory, tensorstore or PyYAML is missing, or an argument does not fit the model.
    FileFormatError
        For another kind of model, corrections such as ZBL, or a checkpoint that is damaged or not whole.
    """
    config = _Config(path, read_config(path)["model"])
    step = newest_step(path)
    arrays = _of_member(read_arrays(step), config, member)
    scale, shift = (_array(arrays, f"scale_shift.{k}_per_element", path, 119, 1)[:, 0] for k in ("scale", "shift"))
    seen = _seen(scale, shift, path) if species is None else species
    try:
        descriptor = GaussianMoments(
            species=seen, cutoff=config.cutoff, n_radial=config.n_radial, n_basis=config.n_basis, basis=config.basis,
            contractions=None if config.n_contr == len(CONTRACTIONS) else list(range(1, config.n_contr + 1)),
        )  # fmt: skip
        potential = Potential(descriptor, config.hidden, config.activation[0], "shared")
    except InputError as error:
        if species is not None and "species" in str(error):
            raise
        raise FileFormatError(f"{path} describes a model that cannot be built: {error}") from error
    numbers = np.array(descriptor.species_numbers)
    parameters = {"descriptor/beta": _beta(arrays, config)[np.ix_(numbers, numbers)], "scale": scale[numbers]}
    for l, (weight, bias) in enumerate(_layers(arrays, config)):
        parameters |= {f"network/0/{l}/weight": weight, f"network/0/{l}/bias": bias}
    potential.set_parameters(parameters)
    potential.reference = shift[numbers]
    potential.training = {"imported": {"package": "apax", "file": as_path(path).name, "step": int(step.parent.name)}}
    return potential


class _Config:
    """What a configuration says of a model, judged."""

    def __init__(self, path, model):
        self.path, self.model = path, model
        kind = self.get("name", str)
        self.check(kind == "gmnn", f"its model is {kind!r}, and 'gmnn', Gaussian moments, is read")
        added = self.get("empirical_corrections", list)
        names = ", ".join(str(entry.get("name")) if isinstance(entry, dict) else str(entry) for entry in added)
        self.check(not added, f"it adds {names}, which is not read")
        basis = self.get("basis", dict)
        self.basis = basis.get("name")
        self.check(self.basis in ("bessel", "gaussian"), f"basis {self.basis!r} is not known")
        if self.basis == "gaussian":
            even = basis.get("spacing", "linear") == "linear" and basis.get("r_min") == R_MIN
            self.check(even, f"its Gaussian functions are read where they are spaced evenly from r_min {R_MIN} Å on")
        self.cutoff = basis.get("r_max")
        real = isinstance(self.cutoff, Real) and not isinstance(self.cutoff, bool)
        self.check(real, f"basis r_max is {self.cutoff!r}; it must be a number, in Å")
        self.n_basis = self.count("n_basis", basis.get("n_basis"))
        self.embedded = model.get("emb_init") is not None
        self.n_radial = self.count("n_radial", model.get("n_radial")) if self.embedded else self.n_basis
        self.n_contr = self.count("n_contr", model.get("n_contr"), len(CONTRACTIONS))
        self.hidden = tuple(self.count("nn", n, 10**5) for n in self.get("nn", list))
        name = self.get("activation_fn", str)
        known = ", ".join(ACTIVATIONS)
        self.check(name in ACTIVATIONS, f"activation_fn {name!r} has no counterpart; known are {known}")
        self.activation = ACTIVATIONS[name]
        self.ntk = self.get("use_ntk", bool)
        ensemble = model.get("ensemble") or {}
        self.kind = ensemble.get("kind") if isinstance(ensemble, dict) else str(ensemble)
        self.check(self.kind in (None, "full", "shallow"), f"ensemble {self.kind!r} is not known")

    def check(self, fits, words):
        if not fits:
            raise FileFormatError(f"{self.path}: {words}")

    def get(self, name, kind):
        """Entry of the model, of one type."""
        found = self.model.get(name)
        self.check(isinstance(found, kind), f"{name} in {CONFIG} is {found!r}, and apax writes a {kind.__name__} there")
        return found

    def count(self, name, found, most=MOST):
        whole = isinstance(found, Integral) and not isinstance(found, bool) and 1 <= found <= most
        self.check(whole, f"{name} in {CONFIG} is {found!r}; it must be a whole number from 1 to {most}")
        return int(found)


def _of_member(arrays, config, member):
    """Arrays of one model: of an ensemble of whole models those of a member."""
    if config.kind != "full":
        if member is not None:
            raise InputError(f"member came as {member!r}, and {config.path} holds one model; leave it out")
        return arrays
    n = {len(array) if array.ndim else 0 for array in arrays.values()}
    config.check(len(n) == 1 and min(n) > 0, "arrays of its ensemble differ in their numbers of members")
    n = n.pop()
    if isinstance(member, bool) or not isinstance(member, Integral) or not 0 <= member < n:
        given = "no member was named" if member is None else f"member came as {member!r}"
        raise InputError(f"{config.path} is an ensemble of {n} models and {given}; give member, 0 to {n - 1}")
    return {name: array[member] for name, array in arrays.items()}


def _array(arrays, name, path, *shape):
    """An array of the model; FileFormatError where it is missing or of another shape."""
    if name not in arrays or arrays[name].shape != shape:
        found = f"has the shape {arrays[name].shape}" if name in arrays else "is missing"
        raise FileFormatError(f"{path}: {name} {found}, and {CONFIG} asks for {shape}")
    return arrays[name]


def _seen(scale, shift, path):
    """Elements whose scale or shift is not that of most, which training did not see."""
    pairs = np.stack([scale, shift], 1)[1:]
    _, where, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    numbers = 1 + np.flatnonzero(where.reshape(-1) != np.argmax(counts))
    if len(numbers) == 0:
        raise InputError(f"{path} does not tell which elements it was trained on; give species")
    return [chemical_symbols[z] for z in numbers]


def _beta(arrays, config):
    """Our radial coefficients, (119, 119, n_radial, n_basis)."""
    factor = 1.0 if config.basis == "gaussian" and config.embedded else np.sqrt(config.n_basis)
    if not config.embedded:
        return np.broadcast_to(np.eye(config.n_basis) * factor, (119, 119, config.n_basis, config.n_basis))
    shape = 119, 119, config.n_radial, config.n_basis
    return _array(arrays, "representation.radial_fn.atomic_type_embedding", config.path, *shape) * factor


def _layers(arrays, config):
    """(W, b) of each layer as ours: features in our order, what the activation differs by in the next layer."""
    _, gain, step = config.activation
    rows = feature_rows(config.n_radial, config.n_contr)
    n_in, layers = len(rows), []
    for l, width in enumerate([*config.hidden, None]):
        bias = arrays.get(f"readout.dense_{l}.b", np.empty(0))
        width = (len(bias) if config.kind == "shallow" else 1) if width is None else width
        w = _array(arrays, f"readout.dense_{l}.w", config.path, n_in, width)
        b = _array(arrays, f"readout.dense_{l}.b", config.path, width)
        w, b = (w / np.sqrt(n_in), 0.1 * b) if config.ntk else (w, b)
        if l == 0:
            ours = np.empty_like(w)
            ours[rows] = w
            w = ours
        else:
            w, b = gain * w, b + step * w.sum(axis=0)
        if l == len(config.hidden):
            w, b = w.mean(axis=1, keepdims=True), b.mean(keepdims=True)
        layers.append((w.T, b[:, None]))
        n_in = width
    return layers


def feature_rows(n_radial, n_contr):
    """Where each feature of apax stands among ours, (n_features,) int: the same, in another order."""
    n = range(n_radial)
    pairs = list(unordered(n, 2))
    triples = []
    for r in n:
        triples += [(r, r, r), *((r, s, s) for s in n if s != r), *((r, s, t) for s, t in combinations(n, 2) if r < s)]
    orders = {
        1: [(r,) for r in n], 2: pairs, 3: pairs, 4: pairs, 5: [tuple(sorted(t)) for t in triples],
        6: [(*p, t) for p in pairs for t in n], 7: [(*p, t) for p in pairs for t in n], 8: list(product(n, repeat=3)),
    }  # fmt: skip
    names = [CONTRACTIONS[k].format(*t) for k in range(1, n_contr + 1) for t in orders[k]]
    ours = GaussianMoments(species=["H"], n_radial=n_radial, contractions=range(1, n_contr + 1)).feature_names_out()
    place = {name: row for row, name in enumerate(ours)}
    return np.array([place[name] for name in names])
