"""A potential: descriptor, feature scaler and networks; energies, forces and stresses of frames; one file."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Literal, NamedTuple

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from fastdesc.backend.arrays import empty, namespace, resolve_device, resolve_dtype, to_device, to_host_together
from fastdesc.backend.device_memory import enough_for
from fastdesc.backend.unchanged import Unchanged
from fastdesc.backend.workspace import kept_memory
from fastdesc.checks import flag, numbers
from fastdesc.checks import seed as check_seed
from fastdesc.descriptors.descriptor import Descriptor
from fastdesc.descriptors.gaussian_moments.large_list import SlicedList
from fastdesc.errors import InputError
from fastdesc.geometry import frame_sums, stress_voigt
from fastdesc.io.frames import read_frames
from fastdesc.networks.scaler import FeatureScaler, scatter_columns
from fastdesc.pairs import Pairs, find_on
from fastdesc.potential import large_system
from fastdesc.potential.build import check_form, check_widths, direct_features, make_heads, reference_given
from fastdesc.potential.evaluation import Model, energies, energies_forces_virials
from fastdesc.potential.parameters import Parameters, below
from fastdesc.potential.prediction import Prediction, evaluated_with_spread, groups
from fastdesc.potential.repulsion import repulsion_of
from fastdesc.potential.uncertainty import (
    MEMBERS,
    Spread,
    Uncertainty,
    check_kind,
    check_members,
    needed,
)
from fastdesc.structures import Structures
from fastdesc.types import Activation, Array, Device, DType, FilePath, Float64, Frames


class Species(NamedTuple):
    """Index of the element of every atom, int32 (n_atoms,), twice."""

    on_host: Array
    on_device: Array


ARGUMENTS = ("hidden", "activation", "network", "seed", "direct", "bias", "n_knots", "blocks", "layer_norm")
SUMMED_ON_HOST = 4096
"""Atoms up to which the host adds up the energies that come from a device: fewer launches."""


class Potential(Parameters):
    """Potential over a descriptor: networks of its features, and a sum of features themselves.

        E_i = scale_{Z_i} N_{Z_i}(scaled q_i) + sum_a w_{Z_i,a} q_i[a] + reference_{Z_i}                    (1)

    Parameters
    ----------
    descriptor : Descriptor
        For instance a GaussianMoments. The potential trains a copy: several may be made of one.
    hidden : sequence of int
        Widths of the hidden layers; (64, 64) unless given, () is a linear model. For "spline" the number of embedding
        functions, (n,); one unless given.
    activation : {"silu", "tanh", "celu", "softplus", "trained_silu", "trained_isru"}
        Of the hidden layers, not for "spline". The last two have trained numbers, and networks with them residual
        blocks (fastdesc/networks/residual.py), as REANN's have: `hidden` are then the widths of a block.
    network : {"per_species", "shared", "spline", "none"}
        One feed-forward network per element, or one for all, which sees the element only through the descriptor. Or,
        per element, one hidden layer whose activations are trainable splines (fastdesc/networks/spline.py). Or N = 0.
    seed : int
        Of the initial weights.
    direct : bool, or list of str
        True: all features enter the energy also directly, by trained weights w. A list of feature names, or of their
        beginnings: these enter directly only, and the network sees the others.
    bias : bool
        False: no biases, features scaled but not shifted, and U(0) subtracted from a spline U, so that an isolated
        atom has exactly its reference energy. All activations vanish at zero.
    n_knots : int
        Of each spline of network "spline".
    blocks : int
        Residual blocks of each network, for a trained activation.
    layer_norm : bool
        Whether the layers of a block are normalised.
    repulsion : {None, "zbl"}
        "zbl": the repulsion of nuclei by Ziegler, Biersack and Littmark is added at short distances, smoothly joined
        (fastdesc/potential/repulsion.py); the network learns the rest. Atoms then stay apart wherever it extrapolates.
    reference : dict, optional
        Energy of an isolated atom, in eV, by element, such as {H = -13.6}: used as it is. Other elements get theirs
        from the training frames: from one of an isolated atom where there is one, else by least squares.

    Attributes
    ----------
    scaler : FeatureScaler
        Mean and scale of every feature; identity until fitted.
    reference : (n_species,) float64, eV
        Energy of each element that the network does not have to learn. Numbers set here before training are used.
    scale : (n_species,) float64, eV
    networks : list of heads (fastdesc/networks/heads.py)
        Float64, on scaled features; one for all elements or one for each.
    direct_weights : (n_species, n_direct) float64, eV
        w of (1) for the features that enter directly.
    uncertainty : Uncertainty or None
        Covariance of the last layer (fastdesc/potential/uncertainty.py), of these parameters: it goes when they change.
    without_reference : tuple of str
        Elements that were added (`add_elements`) and whose reference energies the next training fits.
    training : dict
        What it was trained on, with which settings and versions, for how long, and its errors then; {} before.

    Raises
    ------
    InputError
        For what is no descriptor, an unknown activation, network or feature, or widths below one.

    Notes
    -----
    The ladder of Vita, Trinkle, Comput. Mater. Sci. 232, 112655 (2024), from classical potentials to networks. With
    ``d`` a SplineFilters of two pair filters and one triplet filter (without triplets for the first two rungs):

    - pair potential: ``Potential(d, network="none", direct=True)``
    - EAM, sum of phi + U(rho): ``Potential(d, network="spline", direct=["pair_0"], bias=False)``
    - s-MEAM: the same, with the triplet filter
    - several embeddings: ``Potential(d, network="spline", hidden=(8,), direct=["pair_0"], bias=False)``
    - s-NNP: ``Potential(d, hidden=(64, 64), direct=True, bias=False)``
    """

    def __init__(
        self,
        descriptor: Descriptor,
        hidden: Sequence[int] | None = None,
        activation: Activation = "silu",
        network: Literal["per_species", "shared", "spline", "none"] = "per_species",
        seed: int = 0,
        *,
        direct: bool | Sequence[str] = False,
        bias: bool = True,
        n_knots: int = 9,
        blocks: int = 0,
        layer_norm: bool = False,
        repulsion: Literal["zbl"] | None = None,
        reference: Mapping[str | int, float] | None = None,
    ) -> None:
        if not isinstance(descriptor, Descriptor):
            raise InputError(f"descriptor came as {descriptor!r}; give an object such as GaussianMoments(species=[..])")
        if not isinstance(bias, bool):
            raise InputError(f"bias came as {bias!r}; it must be True or False")
        check_seed(seed)
        self.repulsion = repulsion_of(repulsion, descriptor)
        self.hidden = check_widths(network, hidden)
        single = isinstance(direct, bool | str) or not hasattr(direct, "__iter__") or getattr(direct, "shape", 1) == ()
        self.direct = direct if single or isinstance(direct, bool | str) else list(direct)
        self.descriptor, self.activation, self.network = deepcopy(descriptor), activation, network
        self.seed, self.bias, self.n_knots, self.blocks, self.layer_norm = seed, bias, n_knots, blocks, layer_norm
        self.direct_columns, self.seen = direct_features(self.direct, network, descriptor.feature_names_out())
        n_species = len(descriptor.species_numbers)
        n_in = descriptor.n_features if self.seen is None else len(self.seen)
        self.scaler = FeatureScaler.identity(descriptor.n_features)
        self.given = reference_given(reference, descriptor.species_numbers)
        self.reference = np.array([self.given.get(chemical_symbols[z], 0.0) for z in descriptor.species_numbers])
        self.scale = np.ones(n_species)
        self.training: dict[str, Any] = {}
        self.uncertainty: Uncertainty | None = None
        self.without_reference: tuple[str, ...] = ()
        self.direct_weights = np.ones((n_species, len(self.direct_columns)))
        form = check_form(network, self.hidden, activation, blocks, layer_norm, bias)
        self.networks = make_heads(network, n_in, n_species, form, bias, n_knots, seed)

    # ----------------------------------------------------------------------------------------- what it is made of

    @property
    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments but for the descriptor, by name; `repulsion` and `reference` where given."""
        arguments = {name: getattr(self, name) for name in ARGUMENTS}
        arguments |= {"repulsion": "zbl"} if self.repulsion is not None else {}
        return arguments | ({"reference": dict(self.given)} if self.given else {})

    @property
    def set_references(self) -> np.ndarray:
        """Reference energies that are not to be fitted, (n_species,) eV, NaN for the others.

        Those of the argument `reference`; all of them where the attribute was set.
        """
        given = np.array([self.given.get(chemical_symbols[z], np.nan) for z in self.descriptor.species_numbers])
        plain = np.nan_to_num(given)
        return given if np.array_equal(self.reference, plain) else np.array(self.reference, np.float64)

    @property
    def reference(self) -> Float64:
        """(n_species,) float64, eV: energies of isolated atoms."""
        return self._reference

    @reference.setter
    def reference(self, values: Array) -> None:
        self._reference = numbers("reference", values, (len(self.descriptor.species_numbers),))

    @property
    def fitted(self) -> bool:
        """Whether feature scaler, direct weights or ranges of splines have been fitted, or set, or it was trained."""
        plain = FeatureScaler.identity(self.descriptor.n_features)
        same = np.array_equal(self.scaler.mean, plain.mean) and np.array_equal(self.scaler.scale, plain.scale)
        weighted = bool((self.direct_weights != 1).any())
        return not same or weighted or bool(self.training) or any(network.placed for network in self.networks)

    def model(
        self, dtype: DType = "float64", device: Device = "cpu", parameters: Mapping[str, Array] | None = None
    ) -> Model:
        """Return the parameters in one dtype on one device, as fastdesc.potential.evaluation wants them.

        Parameters
        ----------
        parameters : dict of str to array, optional
            Instead of the potential's own; where they lie is where the model lies.
        """
        dtype = resolve_dtype(dtype)
        if parameters is None:
            parameters = {name: to_device(array, device) for name, array in self.parameters.items()}
        networks = [
            network.folded(below(f"network/{k}/", parameters), self.scaler, self.seen, dtype)
            for k, network in enumerate(self.networks)
        ]
        theta = {name: array.astype(dtype) for name, array in below("descriptor/", parameters).items()}
        theta = self.descriptor.prepared(theta, dtype)
        direct = parameters.get("direct")
        if direct is not None:
            direct = scatter_columns(direct, self.direct_columns, self.descriptor.n_features).astype(dtype)
        scale = parameters["scale"] if "scale" in parameters else namespace(parameters["direct"]).asarray(self.scale)
        return Model(self.descriptor, theta, networks, scale.astype(dtype), direct, self.repulsion)

    def _kept_model(self, dtype):
        """The model of the last call on the host, where no parameter has changed since."""
        arrays = [*self.parameters.values(), *self.buffers.values(), self.scaler.mean, self.scaler.scale, self.scale]
        kept = self.__dict__.get("_kept")
        if kept is None or kept[0] != dtype or not kept[1].holds(arrays):
            self._kept = kept = dtype, Unchanged(arrays), self.model(dtype)
        return kept[2]

    def __getstate__(self) -> dict[str, Any]:
        return {name: x for name, x in self.__dict__.items() if name != "_kept"}    # copies do without

    # ------------------------------------------------------------------------------------------- prediction

    def predict(
        self,
        frames: Frames,
        device: Device = "cpu",
        dtype: DType = "float64",
        forces: bool = True,
        stress: bool = True,
        uncertainty: bool | Literal["energy", "local"] = False,
        members: int = MEMBERS,
    ) -> Prediction:
        """Energies, forces and stresses of frames, and how sure they are.

        Parameters
        ----------
        frames : ase.Atoms, list of ase.Atoms, or a path that ASE can read
        device : {"cpu", "cuda", "auto"}
        dtype : {"float64", "float32"}
            Precision of descriptor and network; float32 is about twice as fast. Energies are summed in float64.
        forces, stress : bool
            Energies alone cost about half.
        uncertainty : {False, True, "energy", "local"}
            True: standard deviations of what is predicted, but for stresses; those of forces take a pullback per
            member. "energy": of energies only. "local": those of forces by the distance from the training atoms.
        members : int
            Last layers from which the spread of forces is taken, at least 2.

        Returns
        -------
        Prediction

        Raises
        ------
        InputError
            For frames that cannot be used: unknown elements, positions that are not finite, coinciding atoms; for a
            model without uncertainty where it is asked for.
        """
        check_kind(uncertainty)
        flag("forces", forces)
        flag("stress", stress)
        check_members(members)
        known = needed(self, uncertainty) if uncertainty else None
        structures = Structures.from_ase(read_frames(frames))
        device, dtype = resolve_device(device), resolve_dtype(dtype)
        model = self._kept_model(dtype) if device == "cpu" else self.model(dtype, device)
        parts = []
        for group in groups(structures):
            part = structures.take(group) if len(group) < structures.n_frames else structures
            if known is None:
                parts.append(self.evaluate(part, None, model, derivatives=forces or stress))
                continue
            several = members if forces and uncertainty is True else 0
            with enough_for(part.n_atoms, device):
                *found, spread = evaluated_with_spread(self, part, model, forces or stress, several)
            parts.append((*found, spread.energy, spread.energies, spread.distances, spread.forces))
        joined: list[Any] = [
            np.concatenate(p) if p[0] is not None else None for p in zip(*parts, strict=True)
        ] if len(parts) > 1 else list(parts[0])
        energy, found_forces, found_virials, atomic, *spreads = joined
        voigt = stress_voigt(found_virials, structures.volumes) if stress else None
        sure = {}
        if known is not None:
            species = structures.species(self.descriptor.species_numbers)
            sure = known.scaled(Spread(*spreads), species, structures.first, forces and uncertainty == "local")
        return Prediction(energy, found_forces if forces else None, voigt, atomic, **sure)

    def evaluate(
        self, structures: Structures, pairs: Pairs | SlicedList | None = None, model: Model | None = None,
        derivatives: bool = True,
    ) -> tuple[Float64, Float64 | None, Float64 | None, Float64]:
        """Energies, forces and virials as arrays: the engine behind `predict` and the calculator.

        Parameters
        ----------
        structures : Structures
        pairs : Pairs, optional
            A list of at least the descriptor's cutoff; found when not given: of large cells on the model's device. Or
            what fastdesc.potential.large_system.list_for made for such frames.
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
        with kept_memory(), enough_for(structures.n_atoms, model.device):
            if pairs is None or isinstance(pairs, SlicedList):
                whole = self._without_pairs(structures, pairs, model, derivatives)
                if whole is not None:
                    return whole
                pairs = None    # found below
            structures, pairs, species = self.placed(structures, pairs, model, empty)
            placed, found = (structures.positions, structures.cells, pairs, species.on_device), None
            periodic = large_system.suited(model, structures, pairs)
            if periodic is not None:
                found = large_system.large_system(model, periodic, pairs, species.on_device, derivatives)
            if found is None:
                found = energies_forces_virials(model, *placed) if derivatives else (energies(model, *placed),)
            atomic, *rest = found
            if model.device == "cuda" and pairs.n_atoms > SUMMED_ON_HOST:
                atomic = atomic + namespace(atomic).asarray(self.reference)[species.on_device]
                energy, atomic, *found = to_host_together(frame_sums(atomic[None], pairs)[:, 0], atomic, *rest)
            else:
                atomic, *found = to_host_together(atomic, *rest)    # the one wait for a device
                energy, atomic = self.totals(atomic, species.on_host, pairs.first)
        return energy, *(found or (None, None)), atomic

    def _without_pairs(self, structures, listed, model, derivatives):
        """What `evaluate` returns of a large system on a device; None where pairs must be found first."""
        periodic = large_system.suited(model, structures, listed)
        if listed is not None and (periodic is None or listed.n_atoms != structures.n_atoms):
            raise InputError(
                f"a list of one large system of {listed.n_atoms} atoms came, which does not suit this model and "
                f"{structures}; make one for them by list_for, or leave pairs out"
            )
        if periodic is None:
            return None
        species = large_system.species_of(model, structures, listed)
        found = large_system.large_system(model, periodic.to_device(model.device), listed, species, derivatives)
        if found is None:
            return None
        atomic = found[0] + namespace(species).asarray(self.reference)[species]
        energy, atomic, *rest = to_host_together(atomic.sum(), atomic, *found[1:])
        return energy.reshape(1), *(rest or (None, None)), atomic

    def placed(
        self, structures: Structures, pairs: Pairs | None, model: Model, memory: Callable[..., Array] = np.empty
    ) -> tuple[Structures, Pairs, "Species"]:
        """Structures, pairs (found where None came, in this memory) and species of all atoms, where a model is."""
        device = model.device
        species = structures.species(self.descriptor.species_numbers)
        if pairs is None:
            structures, pairs = find_on(structures, self.descriptor.cutoff, device, memory)
        elif device == "cuda":
            structures, pairs = structures.to_device(device), pairs.to_device(device)
        if device == "cuda" and pairs.columns is None:
            pairs.note_species(species, len(model.scale))
        return structures, pairs, Species(species, to_device(species, device))

    def totals(self, atomic: Array, species: Array, first: Array) -> tuple[Float64, Float64]:
        """Energies of frames and of their atoms (float64, eV), references added to `atomic`."""
        atomic = atomic + self.reference[species]
        return np.add.reduceat(atomic, first[:-1]), atomic

    def hessian(self, atoms: Atoms, indices: Sequence[int] | None = None, device: Device = "cpu") -> Float64:
        """Second derivatives of the energy of one structure, exact: see fastdesc.potential.hessian.hessian.

        Parameters
        ----------
        atoms : ase.Atoms
        indices : sequence of int, optional
            Atoms whose rows and columns are asked for; all by default.
        device : {"cpu", "cuda", "auto"}

        Returns
        -------
        (n, 3, n, 3) float64 array, eV/Å²
            As ``ase.vibrations.VibrationsData(atoms, potential.hessian(atoms))`` takes it.
        """
        from fastdesc.potential.hessian import hessian

        return hessian(self, atoms, indices, device)

    # ------------------------------------------------------------------------------------------------ files

    def save(self, path: FilePath) -> None:
        """Write the potential to one HDF5 file, whole or not at all (see fastdesc.potential.file)."""
        from fastdesc.potential.file import save

        save(self, path)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"Potential({self.descriptor!r}, {arguments})"
