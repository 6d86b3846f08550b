"""A potential: descriptor, feature scaler and networks; energies, forces and stresses of frames; one file."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from fastdesc import network
from fastdesc.activations import check_activation
from fastdesc.arrays import resolve_device, resolve_dtype, to_device, to_host_together
from fastdesc.descriptors.checks import count, numbers, one_of, several
from fastdesc.descriptors.checks import seed as check_seed
from fastdesc.descriptors.family import Family
from fastdesc.errors import InputError, nearest
from fastdesc.evaluation import Model, energies, energies_and_gradient
from fastdesc.frames import read_frames
from fastdesc.geometry import forces, pair_vectors, stress_voigt, virials
from fastdesc.pairs import Pairs
from fastdesc.scaler import FeatureScaler, fold
from fastdesc.structures import Structures

NETWORKS = ("per_species", "shared")
WIDEST = 100_000
"""A wider layer is a slip of the pen."""
ATOMS_AT_ONCE = 50_000
"""Frames are evaluated in groups of about so many atoms; a larger frame goes alone."""


@dataclass(frozen=True)
class Prediction:
    """What a potential says of frames.

    Attributes
    ----------
    energy : (n_frames,) float64, eV
    forces : (n_atoms, 3) float64, eV/Å; None when not asked for
    stress : (n_frames, 6) float64, eV/Å^3
        Voigt order xx yy zz yz xz xy, ASE's sign; NaN for frames without a volume; None when not asked for.
    energies : (n_atoms,) float64, eV
        Atomic energies; they sum to `energy`.
    """

    energy: np.ndarray
    forces: np.ndarray | None
    stress: np.ndarray | None
    energies: np.ndarray


class Potential:
    """Neural-network potential over a descriptor.

        E_i = scale_{Z_i} N_{Z_i}(scaled q_i) + reference_{Z_i}

    Parameters
    ----------
    descriptor : Family
        For instance a GaussianMoments. The potential trains a copy: several may be made of one.
    hidden : sequence of int
        Widths of the hidden layers; () is a linear model.
    activation : {"silu", "tanh", "celu", "softplus"}
    network : {"per_species", "shared"}
        One network per element, or one for all, which sees the element only through the descriptor.
    seed : int
        Of the initial weights.

    Attributes
    ----------
    scaler : FeatureScaler
        Mean and scale of every feature; identity until fitted.
    reference : (n_species,) float64, eV
        Energy of each element that the network does not have to learn.
    scale : (n_species,) float64, eV
    networks : list of layers
        Float64, on scaled features.

    Raises
    ------
    InputError
        For what is no descriptor, an unknown activation or network, or widths below one.
    """

    def __init__(self, descriptor, hidden=(64, 64), activation="silu", network="per_species", seed=0):
        if not isinstance(descriptor, Family):
            raise InputError(f"descriptor came as {descriptor!r}; give an object such as GaussianMoments(species=[..])")
        hidden = several("hidden", hidden, "widths, such as (64, 64)")
        for width in hidden:
            count("a width in hidden", width, most=WIDEST)
        check_activation(activation)
        one_of("network", network, NETWORKS)
        check_seed(seed)
        self.descriptor, self.hidden, self.activation, self.network, self.seed = (
            deepcopy(descriptor),
            tuple(int(w) for w in hidden),
            activation,
            network,
            seed,
        )
        n_species = len(descriptor.species_numbers)
        self.scaler = FeatureScaler.identity(descriptor.n_features)
        self.reference = np.zeros(n_species)
        self.scale = np.ones(n_species)
        rng = np.random.default_rng(seed)
        self.networks = [
            _initial(descriptor.n_features, self.hidden, activation, rng)
            for _ in range(1 if network == "shared" else n_species)
        ]

    # ------------------------------------------------------------------------------------------- parameters

    @property
    def parameters(self):
        """What training changes, by name: float64 arrays, in a fixed order."""
        out = {f"descriptor/{name}": array for name, array in self.descriptor.parameters.items()}
        for k, layers in enumerate(self.networks):
            for l, (w, b) in enumerate(layers):
                out[f"network/{k}/{l}/weight"] = w
                if b is not None:
                    out[f"network/{k}/{l}/bias"] = b
        out["scale"] = self.scale
        return out

    def set_parameters(self, parameters):
        """Replace parameters by name.

        Raises
        ------
        InputError
            For an unknown name, a wrong shape, or values that are not finite; nothing is replaced then.
        """
        if not isinstance(parameters, Mapping):
            raise InputError(f"parameters came as a {type(parameters).__name__}; give a dict of names and arrays")
        known = self.parameters
        for name in parameters:
            if name not in known:
                raise InputError(f"the potential has no parameter {name!r}{nearest(name, known)}")
        new = {name: numbers(name, array, known[name].shape) for name, array in parameters.items()}
        self.descriptor.set_parameters(
            **{n.removeprefix("descriptor/"): a for n, a in new.items() if n.startswith("descriptor/")}
        )
        self.scale = new.get("scale", self.scale)
        for k, layers in enumerate(self.networks):
            for l, (w, b) in enumerate(layers):
                new_b = None if b is None else new.get(f"network/{k}/{l}/bias", b)
                layers[l] = (new.get(f"network/{k}/{l}/weight", w), new_b)

    @property
    def n_parameters(self):
        """Number of trainable parameters."""
        return sum(array.size for array in self.parameters.values())

    @property
    def fitted(self):
        """Whether feature scaler and reference energies have been fitted, or set."""
        plain = FeatureScaler.identity(self.descriptor.n_features)
        same = np.array_equal(self.scaler.mean, plain.mean) and np.array_equal(self.scaler.scale, plain.scale)
        return bool(self.reference.any()) or not same

    def model(self, dtype="float64", device="cpu", parameters=None):
        """Return the parameters in one dtype on one device, as fastdesc.evaluation wants them.

        Parameters
        ----------
        parameters : dict of str to array, optional
            Instead of the potential's own; where they lie is where the model lies.
        """
        dtype = resolve_dtype(dtype)
        if parameters is None:
            parameters = {name: to_device(array, device) for name, array in self.parameters.items()}
        networks = []
        for k, layers in enumerate(self.networks):
            own = [
                (parameters[f"network/{k}/{l}/weight"], parameters.get(f"network/{k}/{l}/bias"))
                for l in range(len(layers))
            ]
            folded = fold(own, self.scaler)
            networks.append([(w.astype(dtype), None if b is None else b.astype(dtype)) for w, b in folded])
        theta = {
            name.removeprefix("descriptor/"): array.astype(dtype)
            for name, array in parameters.items()
            if name.startswith("descriptor/")
        }
        return Model(self.descriptor, theta, networks, parameters["scale"].astype(dtype), self.activation)

    # ------------------------------------------------------------------------------------------- prediction

    def predict(self, frames, device="cpu", dtype="float64", forces=True, stress=True):
        """Energies, forces and stresses of frames.

        Parameters
        ----------
        frames : ase.Atoms, list of ase.Atoms, or a path that ASE can read
        device : {"cpu", "cuda", "auto"}
        dtype : {"float64", "float32"}
            Precision of descriptor and network; float32 is about twice as fast. Energies are summed in float64.
        forces, stress : bool
            Energies alone cost about half.

        Returns
        -------
        Prediction

        Raises
        ------
        InputError
            For frames that cannot be used: unknown elements, positions that are not finite, coinciding atoms.
        """
        structures = Structures.from_ase(read_frames(frames))
        device, dtype = resolve_device(device), resolve_dtype(dtype)
        model = self.model(dtype, device)
        parts = []
        for group in _groups(structures):
            part = structures.take(group) if len(group) < structures.n_frames else structures
            parts.append(self.evaluate(part, None, model, derivatives=forces or stress))
        joined = [np.concatenate(p) if p[0] is not None else None for p in zip(*parts, strict=True)]
        energy, found_forces, found_virials, atomic = joined
        voigt = stress_voigt(found_virials, structures.volumes) if stress else None
        return Prediction(energy, found_forces if forces else None, voigt, atomic)

    def evaluate(self, structures, pairs=None, model=None, derivatives=True):
        """Energies, forces and virials as arrays: the engine behind `predict` and the calculator.

        Parameters
        ----------
        structures : Structures
        pairs : Pairs, optional
            A list of at least the descriptor's cutoff; found here when not given.
        model : Model, optional
            From `self.model(dtype, device)`; made here in float64 when not given.

        Returns
        -------
        energy : (n_frames,) float64, eV
        forces : (n_atoms, 3) float64, eV/Å, or None
        virials : (n_frames, 3, 3) float64, eV: dE/dstrain; or None
        energies : (n_atoms,) float64, eV
        """
        model = self.model() if model is None else model
        device = "cpu" if isinstance(model.scale, np.ndarray) else "cuda"
        species = structures.species(self.descriptor.species_numbers)
        pairs = Pairs.find(structures, self.descriptor.cutoff) if pairs is None else pairs
        if device == "cuda":
            structures, pairs = structures.to_device(device), pairs.to_device(device)
        if device == "cuda" and pairs.columns is None:
            pairs.note_species(species, len(model.scale))
        on_device = to_device(species, device)
        rij = pair_vectors(structures.positions, structures.cells, pairs, model.scale.dtype)
        if derivatives:
            atomic, drij, _ = energies_and_gradient(model, rij, pairs, on_device)
        else:
            atomic, drij = energies(model, rij, pairs, on_device), None
        found = (atomic,) if drij is None else (atomic, forces(drij, pairs), virials(rij, drij, pairs))
        atomic, *found = to_host_together(*found)    # the one wait for a device
        atomic = atomic + self.reference[species]
        energy = np.add.reduceat(atomic, pairs.first[:-1])
        return energy, *(found or (None, None)), atomic

    # ------------------------------------------------------------------------------------------------ files

    def save(self, path):
        """Write the potential to one HDF5 file, whole or not at all (see fastdesc.model_file)."""
        from fastdesc.model_file import save

        save(self, path)

    def __repr__(self):
        return (
            f"Potential({self.descriptor!r}, hidden={self.hidden}, activation={self.activation!r}, "
            f"network={self.network!r})"
        )


def load(path):
    """Read a potential from a file that `Potential.save` wrote.

    Raises
    ------
    InputError
        When there is no such file.
    FileFormatError
        For a truncated or foreign file, or one of a newer version.
    """
    from fastdesc.model_file import load as read

    return read(path)


def _initial(n_features, hidden, activation, rng):
    return network.initial(n_features, hidden, 1, activation, rng)


def _groups(structures):
    """Indices of consecutive frames in groups of about ATOMS_AT_ONCE atoms."""
    group, atoms = [], 0
    for f, n in enumerate(np.diff(structures.first)):
        if group and atoms + n > ATOMS_AT_ONCE:
            yield np.array(group)
            group, atoms = [], 0
        group.append(f)
        atoms += int(n)
    yield np.array(group)
