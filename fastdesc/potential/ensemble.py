"""Ensembles: several potentials of the same elements, their mean, and their spread as the uncertainty."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastdesc.backend.arrays import resolve_device, resolve_dtype
from fastdesc.errors import InputError
from fastdesc.geometry import stress_voigt
from fastdesc.io.frames import read_frames
from fastdesc.io.labels import advice, labels
from fastdesc.pairs import find_on
from fastdesc.potential import Potential
from fastdesc.potential.evaluation import Model
from fastdesc.potential.loading import load
from fastdesc.potential.prediction import Prediction, groups
from fastdesc.structures import Structures
from fastdesc.types import Device, DType, FilePath, Float64, Frames


class Ensemble:
    """Several potentials that are evaluated together: the mean of what they say, and its spread.

    Pairs are found once for all members. Features are not, also where members share a descriptor: energies and forces
    in one pass over the atoms, with features in the cache, take less time a member than with features kept in memory
    for all of them (``python -m bench.ensemble``); `shallow_ensemble` shares everything but the last layers. The spread
    is the standard deviation over the members, with M - 1 in the denominator; `calibrate` scales it by errors on
    validation frames.

    Parameters
    ----------
    members : sequence of Potential, str or Path
        At least two, of the same elements; paths are those of model files.

    Attributes
    ----------
    members : list of Potential
    energy_factor, forces_factor : float
        By which spreads are multiplied; 1 until calibrated.

    Raises
    ------
    InputError
        For fewer than two members, members of different elements, or what is no potential.
    """

    def __init__(self, members: Sequence[Potential | FilePath]) -> None:
        if isinstance(members, str | Path | Potential) or not hasattr(members, "__iter__"):
            raise InputError(f"members came as a {type(members).__name__}; give a list of potentials or model files")
        found = [load(member) if isinstance(member, str | Path) else member for member in members]
        for k, member in enumerate(found):
            if not isinstance(member, Potential):
                raise InputError(f"member {k} is a {type(member).__name__}; give a Potential or a model file")
        if len(found) < 2:
            raise InputError(f"{len(found)} members came; an ensemble has at least two")
        elements = [list(member.descriptor.species_numbers) for member in found]
        for k, own in enumerate(elements):
            if own != elements[0]:
                raise InputError(
                    f"member {k} knows the elements {own} and member 0 {elements[0]}; give potentials of the same"
                )
        self.members: list[Potential] = found
        self.energy_factor = self.forces_factor = 1.0

    @property
    def cutoff(self) -> float:
        """Largest cutoff of the members, Å."""
        return float(max(member.descriptor.cutoff for member in self.members))

    def models(self, dtype: DType = "float64", device: Device = "cpu") -> list[Model]:
        """Return Potential.model of every member."""
        return [member.model(dtype, device) for member in self.members]

    def evaluate(
        self, structures: Structures, pairs: Any = None, models: list[Model] | None = None, derivatives: bool = True
    ) -> tuple[Float64, ...]:
        """What Potential.evaluate returns, of every member, on a leading axis.

        Parameters
        ----------
        structures : Structures
        pairs : Pairs, optional
            A list of at least the largest cutoff; found once for all members when not given.
        models : list of Model, optional
            From `self.models(dtype, device)`.
        derivatives : bool

        Returns
        -------
        energy, forces, virials, energies
            Arrays (n_members, ..); the second and third empty without derivatives.
        """
        models = self.models() if models is None else models
        if pairs is None:
            device: Device = "cpu" if isinstance(models[0].scale, np.ndarray) else "cuda"
            structures, pairs = find_on(structures, self.cutoff, device)
        parts = [
            member.evaluate(structures, pairs, model, derivatives)
            for member, model in zip(self.members, models, strict=True)
        ]
        return tuple(np.stack(p) if p[0] is not None else np.empty((len(parts), 0)) for p in zip(*parts, strict=True))

    def predict(
        self, frames: Frames, device: Device = "cpu", dtype: DType = "float64", forces: bool = True, stress: bool = True
    ) -> Prediction:
        """Mean and spread of energies, forces and stresses of frames.

        Parameters
        ----------
        frames : ase.Atoms, list of ase.Atoms, or a path that ASE can read
        device : {"cpu", "cuda", "auto"}
        dtype : {"float64", "float32"}
        forces, stress : bool

        Returns
        -------
        Prediction
            With energy_uncertainty, energies_uncertainty and, with forces, forces_uncertainty; without grade.

        Raises
        ------
        InputError
            For frames that cannot be used, as Potential.predict.
        """
        structures = Structures.from_ase(read_frames(frames))
        models, parts = self.models(resolve_dtype(dtype), resolve_device(device)), []
        for group in groups(structures):
            part = structures.take(group) if len(group) < structures.n_frames else structures
            parts.append(self.evaluate(part, None, models, forces or stress))
        energy, found_forces, virials, energies = (np.concatenate(p, axis=1) for p in zip(*parts, strict=True))
        spread = {
            "energy_uncertainty": self.energy_factor * energy.std(axis=0, ddof=1),
            "energies_uncertainty": self.energy_factor * energies.std(axis=0, ddof=1),
        }
        if forces:
            spread["forces_uncertainty"] = self.forces_factor * found_forces.std(axis=0, ddof=1)
        return Prediction(
            energy.mean(axis=0),
            found_forces.mean(axis=0) if forces else None,
            stress_voigt(virials.mean(axis=0), structures.volumes) if stress else None,
            energies.mean(axis=0),
            **spread,
        )

    def calibrate(self, frames: Frames, device: Device = "cpu", dtype: DType = "float32") -> None:
        """Set the factors such that errors on labelled frames are as large as the spread, in the root mean square.

        Parameters
        ----------
        frames : ase.Atoms, list of ase.Atoms, or a path
            Validation frames: on those that the members were trained on errors are too small.
        device : {"cpu", "cuda", "auto"}
        dtype : {"float64", "float32"}

        Raises
        ------
        InputError
            For frames without energies and forces, and members that say the same.
        """
        given = read_frames(frames)
        known = labels(given)
        self.energy_factor = self.forces_factor = 1.0
        found = self.predict(given, device, dtype, stress=False)
        factors = {}
        for name, value, label, spread in (
            ("energy_factor", found.energy, known.energies, found.energy_uncertainty),
            ("forces_factor", found.forces, known.forces, found.forces_uncertainty),
        ):
            if value is None or spread is None:
                continue
            seen = np.isfinite(label) & (spread > 0)
            if seen.any():
                factors[name] = float(np.sqrt((((value - label)[seen] / spread[seen]) ** 2).mean()))
        if not factors and np.isfinite(known.energies).any():
            raise InputError("all members say the same of these frames; give members that were trained apart")
        if not factors:
            raise InputError(f"none of the {len(given)} frames carries an energy or forces; {advice(given)}")
        vars(self).update(factors)

    def __repr__(self) -> str:
        return f"<Ensemble of {len(self.members)} potentials>"
