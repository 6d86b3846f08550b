"""ASE calculator over a potential, with a neighbour list that is kept while it is still complete (Verlet skin).

On a GPU the evaluation of a small system is captured once as a CUDA graph and replayed
(fastdesc/potential/cuda_graph.py); on the host it is bound once and replayed (fastdesc/potential/recorded.py).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from fastdesc.backend.arrays import resolve_device, resolve_dtype
from fastdesc.backend.jit import kernel
from fastdesc.backend.workspace import Workspace
from fastdesc.checks import flag_or_word
from fastdesc.descriptors.gaussian_moments.large_list import SlicedList
from fastdesc.errors import DeviceError, InputError, nearest
from fastdesc.geometry import VOIGT
from fastdesc.pairs import SAME_PLACE, Pairs, check_distances, closest, find_on
from fastdesc.potential import Potential, large_system
from fastdesc.potential.cuda_graph import CapturedEvaluation, check_size
from fastdesc.potential.ensemble import Ensemble
from fastdesc.potential.evaluation import Model
from fastdesc.potential.loading import load
from fastdesc.potential.recorded import RecordedEvaluation
from fastdesc.potential.uncertainty import MEMBERS, check_kind, evaluate_with_spread, needed
from fastdesc.structures import Structures, complete_cells, finite
from fastdesc.types import Device, DType, FilePath

UNCERTAINTIES = ("energy_uncertainty", "energies_uncertainty", "grade", "forces_uncertainty")
ASE_KEYWORDS = ("restart", "label", "atoms", "directory")


class FastdescCalculator(Calculator):
    """Energy, forces, stress and atomic energies of one structure, for ASE's dynamics and optimizers.

    The list of pairs is found with the descriptor's cutoff plus a skin. With F the deformation that takes the cell
    of that moment to the present one and u the displacements beyond it, every pair vector is

        r' = r F + u_j - u_i,    so    |r'| >= s |r| - 2 max|u|,    s the smallest singular value of F,           (1)

    and no pair within the cutoff is missing as long as

        cutoff + 2 max|u| <= s (cutoff + skin).                                                                    (2)

    With a fixed cell this is the usual rule: no atom has moved by more than half of the skin. Pairs beyond the cutoff
    contribute exactly zero, so the skin changes speed and nothing else. Two atoms at one place are refused whatever the
    skin: by (1) distances need a look only where s times the shortest of the list does not exceed 2 max|u|.

    Parameters
    ----------
    potential : Potential, str or Path
        A potential, or a model file.
    skin : float
        Å; 0 finds the pairs anew at every step.
    device : {"cpu", "cuda", "auto"}
    dtype : {"float64", "float32"}
        float32 is about twice as fast; energies are summed in float64 always.
    graph : {"auto", True, False}
        Whether steps on a GPU are replayed as a CUDA graph: "auto" wherever that works, which is for up to 4096 atoms;
        True insists; False launches kernel by kernel always. Numbers are the same.
    uncertainty : {False, True, "energy", "local"}
        What results hold at every step: "energy" adds energy_uncertainty, energies_uncertainty and grade; True also
        forces_uncertainty, which costs a pullback per member (see Prediction); "local" the same by the distance from
        the training atoms, at the cost of "energy". Whatever it is, one of these names asked for by
        ``atoms.calc.get_property`` is found.

    Attributes
    ----------
    searches : int
        How often pairs were found so far.
    captured : CapturedEvaluation or None
        What is replayed.
    captures : int
        How often a graph was captured: for the first step, for other atoms, and for many more pairs than before.
    not_captured : str or None
        Why there is no graph with "auto".

    Raises
    ------
    InputError
        For a negative skin, whatever makes a structure unusable, and energies or forces that are not finite.
    DeviceError
        With ``graph=True``, where the evaluation cannot be captured.
    """

    _model: Model | None
    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress", *UNCERTAINTIES]  # noqa: RUF012

    def __init__(
        self,
        potential: Potential | FilePath,
        skin: float = 0.5,
        device: Device = "cpu",
        dtype: DType = "float64",
        graph: bool | Literal["auto"] = "auto",
        uncertainty: bool | Literal["energy", "local"] = False,
        **keywords: Any,
    ) -> None:
        for name in keywords:    # ASE would take any name for a parameter and forget it
            if name not in ASE_KEYWORDS:
                known = ("skin", "device", "dtype", "graph", "uncertainty", *ASE_KEYWORDS)
                guess = nearest(name, known)
                raise InputError(f"the calculator has no argument {name!r}{guess}; it has {', '.join(known)}")
        super().__init__(**keywords)
        self.potential: Potential = load_potential(potential)
        if isinstance(skin, bool) or not isinstance(skin, int | float) or not 0 <= skin < 1e300:
            raise InputError(f"skin came as {skin!r}; it must be a number of at least 0 (Å)")
        self.skin = float(skin)
        self.device, self.dtype = resolve_device(device), resolve_dtype(dtype)
        flag_or_word("graph", graph, ["auto"])
        if graph is True and self.device == "cpu":
            raise DeviceError("graph=True was asked for on the CPU; CUDA graphs need device 'cuda'")
        self.graph = graph
        check_kind(uncertainty)
        if uncertainty:
            needed(self.potential, uncertainty)
        self.uncertainty = uncertainty
        self.searches = self.captures = 0
        self.reset()

    def reset(self) -> None:
        """Forget results, pairs and the copy of the potential's parameters: call it after changing the potential."""
        super().reset()
        self._last = self._model = self._pairs = self._found_for = self.captured = self.not_captured = None
        self._recorded, self._workspace = None, Workspace()

    @property
    def atoms(self) -> Atoms | None:
        """The structure that the results are of (ASE's name), made when it is asked for; None where there is none."""
        if self._moved_to is not None:
            moved = self._atoms.copy()
            moved.positions[:] = self._moved_to
            self.atoms = moved
        return self._atoms

    @atoms.setter
    def atoms(self, atoms: Atoms | None) -> None:
        self._atoms, self._moved_to = atoms, None

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last step (ASE's entry), to the last bit: faster than ASE's comparison."""
        last = self._last
        if last is None or len(last.numbers) != len(atoms):
            return list(all_changes)
        arrays = atoms.arrays
        now = arrays["positions"], arrays["numbers"], atoms.cell.array, atoms.pbc
        if any(x.dtype != old.dtype or not x.flags.c_contiguous for x, old in zip(now, self._state, strict=True)):
            now = [np.ascontiguousarray(x, old.dtype) for x, old in zip(now, self._state, strict=True)]
        return _CHANGES[_changes(*self._state, *now)].copy()

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute all properties of a structure (ASE's entry); uncertainties where they are asked for."""
        atoms = self.atoms if atoms is None else atoms
        self.results = {}    # those of before are not those of a structure that is refused
        new = self._structures(atoms, system_changes)
        if self._model is None:
            self._model = self.potential.model(self.dtype, self.device)
        placed = new if self._pairs_hold(new) else self._search(new)
        with np.errstate(over="ignore", invalid="ignore"):    # told below, in one sentence
            energy, forces, virials, energies = self._evaluated(placed)
        if not (finite(forces) and finite(virials[0]) and np.isfinite(energy[0])):
            self._refuse(placed, energy[0], forces)
        self.results = {
            "energy": float(energy[0]),
            "free_energy": float(energy[0]),
            "energies": energies,
            "forces": forces,
        }
        if self._volume > 0:    # without a cell ASE reports that stress is not there
            self.results["stress"] = virials.reshape(9)[VOIGT] / self._volume
        asked = set(properties) & set(UNCERTAINTIES)
        if asked or self.uncertainty:
            self.results |= self._uncertainties(placed, self.uncertainty is True or "forces_uncertainty" in asked)

    def _uncertainties(self, placed, of_forces):
        """Results of the names UNCERTAINTIES, the last of them only with `of_forces` or where it is local."""
        known, local = needed(self.potential), self.uncertainty == "local"
        of_forces = of_forces and not local
        members = MEMBERS if of_forces else 0
        *_, spread = evaluate_with_spread(
            self.potential, placed, self._model, known, of_forces, members, None if self._sliced else self._pairs
        )
        species = self._last.species(self.potential.descriptor.species_numbers)
        found = known.scaled(spread, species, placed.first, local)
        found["energy_uncertainty"] = float(found["energy_uncertainty"][0])
        return {name: value for name, value in found.items() if value is not None}

    def _structures(self, atoms, changes):
        """Structures of atoms; where nothing but positions changed, nothing else is judged or copied again."""
        last = self._last
        if last is not None and len(last.numbers) == len(atoms) and set(changes) <= {"positions"}:
            new = last.moved(atoms.arrays["positions"])
            self._atoms, self._moved_to = self._like, new.positions
        else:
            new = Structures.from_ase(atoms)
            self._numbers = new.numbers.astype(np.int64)
            self._volume = float(new.volumes[0])
            self._like = atoms.copy()
            self.atoms = self._like
        self._last, self._state = new, (new.positions, self._numbers, new.cells[0], new.pbc[0])
        return new

    def _search(self, new):
        """Find the pairs anew: for a graph on the host, else where it is faster; return the structures to evaluate."""
        if self._found_for is None or not np.array_equal(self._found_for.numbers, new.numbers):
            self.not_captured = None    # what held for other atoms
        self._pairs, self._recorded, placed = None, None, new    # an error leaves no list that seems to hold
        cutoff = self.potential.descriptor.cutoff + self.skin
        if self.graph and self.device == "cuda" and self.not_captured is None:
            self._pairs = self._captured_pairs(new, cutoff)
        if self._pairs is None:
            self._pairs = large_system.list_for(self._model, new, cutoff)
        if self._pairs is None:
            placed, self._pairs = find_on(new, cutoff, self.device)
        self._found_for = new
        self.searches += 1
        return placed

    def _captured_pairs(self, new, cutoff):
        """A new list, taken into the graph where there is one that fits, else into a new one; None without a graph."""
        species = new.species(self.potential.descriptor.species_numbers)
        try:
            check_size(new.n_atoms)
            pairs = Pairs.find(new, cutoff)
            if self.captured is not None and self.captured.fits(pairs, species):
                self.captured.take(pairs)
                return pairs
            self.captured = None    # before another one takes as much memory
            self.captured = CapturedEvaluation(self._model, species, pairs, new)
            self.captures += 1
            return pairs
        except DeviceError as problem:
            self.captured = None
            if self.graph is True:
                raise
            self.not_captured = str(problem)
            return None

    def _evaluated(self, new):
        """What Potential.evaluate returns."""
        replayed = self.captured
        if self.device == "cpu" and self._model.descriptor.recordable:
            if self._recorded is None:
                species = new.species(self.potential.descriptor.species_numbers)
                self._recorded = RecordedEvaluation(self._model, species, self._pairs, new, self._workspace)
            replayed = self._recorded
        if replayed is None:
            return self.potential.evaluate(new, self._pairs, self._model)
        atomic, forces, virials = replayed.replay(new)
        energy, energies = self.potential.totals(atomic, replayed.species, new.first)
        return energy, forces, virials, energies

    def _pairs_hold(self, new):
        """Whether the list still has every pair within the cutoff, rule (2)."""
        if self._pairs is None:
            return False
        if self._sliced and large_system.suited(self._model, new, self._pairs) is None:
            return False
        old = self._found_for
        if new.cells is old.cells and new.numbers is old.numbers and new.pbc is old.pbc:    # only moved since
            return self._reach(new, _farthest(old.positions, new.positions), 1.0)
        if not (np.array_equal(old.numbers, new.numbers) and np.array_equal(old.pbc, new.pbc)):
            return False
        moved, s = _strain_apart(old, new)
        return self._reach(new, moved, s)

    @property
    def _sliced(self):
        """Whether the list is that of a large system, which has no pairs."""
        return isinstance(self._pairs, SlicedList)

    def _reach(self, new, moved, s):
        """Rule (2); where the list holds, atoms that may have come to one place are looked at."""
        cutoff = self.potential.descriptor.cutoff
        if cutoff + 2 * moved > s * (cutoff + self.skin):
            return False
        if s * self._pairs.shortest - 2 * moved <= SAME_PLACE:
            check_distances(*self._beside(new))
        return True

    def _beside(self, new):
        """Structures and pairs, where the pairs are."""
        if self._sliced:
            return find_on(new, self.potential.descriptor.cutoff, self.device)
        return (new if isinstance(self._pairs.j, np.ndarray) else new.to_device("cuda")), self._pairs

    def _refuse(self, new, energy, forces):
        """Raise the InputError for results that are not finite, with what may be the reason."""
        where = np.flatnonzero(~np.isfinite(forces).all(axis=1))
        what = f"the force on atom {where[0]}" if len(where) else "the energy or the stress"
        found = closest(*self._beside(new))
        apart = "" if found is None else f"; the closest atoms, {found[0]} and {found[1]}, are {found[2]:.3g} Å apart"
        raise InputError(
            f"{what} is not finite (energy {energy:g} eV){apart}: look at the structure, or take a shorter time step"
        )


class EnsembleCalculator(Calculator):
    """Mean of an Ensemble for ASE, and its spread as energy_uncertainty, energies_uncertainty and forces_uncertainty.

    Every member keeps a list of pairs of its own, as a FastdescCalculator does.

    Parameters
    ----------
    ensemble : Ensemble
    skin, device, dtype
        As of FastdescCalculator.

    Attributes
    ----------
    members : list of FastdescCalculator

    Raises
    ------
    InputError
        For what is no Ensemble, and whatever FastdescCalculator refuses.
    """

    implemented_properties = [  # noqa: RUF012 (as ASE's)
        "energy", "free_energy", "energies", "forces", "stress",
        "energy_uncertainty", "energies_uncertainty", "forces_uncertainty",
    ]  # fmt: skip

    def __init__(self, ensemble: Ensemble, skin: float = 0.5, device: Device = "cpu", dtype: DType = "float64") -> None:
        super().__init__()
        if not isinstance(ensemble, Ensemble):
            raise InputError(f"ensemble is a {type(ensemble).__name__}; give an Ensemble, such as Ensemble([m1, m2])")
        self.ensemble = ensemble
        self.members = [FastdescCalculator(member, skin, device, dtype) for member in ensemble.members]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute all properties of a structure (ASE's entry)."""
        super().calculate(atoms, properties, system_changes)
        self.results = {}
        for member in self.members:
            member.calculate(self.atoms, ("energy",), member.check_state(self.atoms))
        each = [member.results for member in self.members]
        factors = {"energy": self.ensemble.energy_factor, "energies": self.ensemble.energy_factor}
        factors["forces"] = self.ensemble.forces_factor
        results: dict[str, Any] = {}
        for name in each[0]:
            values = np.stack([one[name] for one in each])
            results[name] = values.mean(axis=0) if values.ndim > 1 else float(values.mean())
            if name in factors:
                spread = factors[name] * values.std(axis=0, ddof=1)
                results[f"{name}_uncertainty"] = spread if values.ndim > 1 else float(spread)
        self.results = results


def load_potential(potential):
    """Return a potential, read where it is the path of a model file; InputError for anything else."""
    if isinstance(potential, str | Path):
        potential = load(potential)
    if not isinstance(potential, Potential):
        raise InputError(f"potential is a {type(potential).__name__}; give a Potential or the path of a model file")
    return potential


def _strain_apart(old, new):
    """Largest displacement beyond the deformation of the cell, and that deformation's smallest singular value."""
    if not old.pbc.any() or np.array_equal(old.cells, new.cells):
        deformed, s = old.positions, 1.0
    else:
        before, after = complete_cells(old.cells, old.pbc)[0], complete_cells(new.cells, new.pbc)[0]
        f = np.linalg.solve(before, after)
        deformed, s = old.positions @ f, float(np.linalg.svd(f, compute_uv=False)[-1])
    return _farthest(deformed, new.positions), s


@kernel
def _farthest(old, new):
    """Largest displacement beyond the mean one: a common translation changes no pair."""
    n, mean, farthest = len(old), np.zeros(3), 0.0
    for i in range(n):
        for c in range(3):
            mean[c] += (new[i, c] - old[i, c]) / n
    for i in range(n):
        u, v, w = new[i, 0] - old[i, 0] - mean[0], new[i, 1] - old[i, 1] - mean[1], new[i, 2] - old[i, 2] - mean[2]
        farthest = max(farthest, u * u + v * v + w * w)
    return np.sqrt(farthest)


_NAMES = "positions", "numbers", "cell", "pbc"
_CHANGES = [[name for k, name in enumerate(_NAMES) if changes & 1 << k] for changes in range(16)]


@kernel
def _changes(old_positions, old_numbers, old_cell, old_pbc, positions, numbers, cell, pbc):
    """Sum of 1, 2, 4 and 8 for positions, numbers, cell and boundaries that are not the same to the last bit."""
    changes = 0
    for i in range(len(positions)):
        for c in range(3):
            if positions[i, c] != old_positions[i, c]:
                changes |= 1
        if numbers[i] != old_numbers[i]:
            changes |= 2
    for i in range(3):
        for c in range(3):
            if cell[i, c] != old_cell[i, c]:
                changes |= 4
        if pbc[i] != old_pbc[i]:
            changes |= 8
    return changes
