"""ASE calculator over a potential, with a neighbour list that is kept while it is still complete (Verlet skin)."""

from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

from fastdesc.arrays import resolve_device, resolve_dtype
from fastdesc.errors import InputError, nearest
from fastdesc.geometry import stress_voigt
from fastdesc.pairs import Pairs
from fastdesc.potential import Potential, load
from fastdesc.structures import Structures, complete_cells

ASE_KEYWORDS = ("restart", "label", "atoms", "directory")


class FastdescCalculator(Calculator):
    """Energy, forces, stress and atomic energies of one structure, for ASE's dynamics and optimizers.

    The list of pairs is found with the descriptor's cutoff plus a skin. With F the deformation that takes the cell
    of that moment to the present one and u the displacements beyond it, every pair vector is

        r' = r F + u_j - u_i,    so    |r'| >= s |r| - 2 max|u|,    s the smallest singular value of F,           (1)

    and no pair within the cutoff is missing as long as

        cutoff + 2 max|u| <= s (cutoff + skin).                                                                    (2)

    With a fixed cell this is the usual rule: no atom has moved by more than half of the skin. Pairs beyond the cutoff
    contribute exactly zero, so the skin changes speed and nothing else.

    Parameters
    ----------
    potential : Potential, str or Path
        A potential, or a model file.
    skin : float
        Å; 0 finds the pairs anew at every step.
    device : {"cpu", "cuda", "auto"}
    dtype : {"float64", "float32"}
        float32 is about twice as fast; energies are summed in float64 always.

    Attributes
    ----------
    searches : int
        How often pairs were found so far.

    Raises
    ------
    InputError
        For a negative skin, and whatever makes a structure unusable.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 (as ASE's)

    def __init__(self, potential, skin=0.5, device="cpu", dtype="float64", **keywords):
        for name in keywords:    # ASE would take any name for a parameter and forget it
            if name not in ASE_KEYWORDS:
                known = ("skin", "device", "dtype", *ASE_KEYWORDS)
                guess = nearest(name, known)
                raise InputError(f"the calculator has no argument {name!r}{guess}; it has {', '.join(known)}")
        super().__init__(**keywords)
        if isinstance(potential, str | Path):
            potential = load(potential)
        if not isinstance(potential, Potential):
            raise InputError(
                f"potential is a {type(potential).__name__}; give FastdescCalculator a Potential or a model file's path"
            )
        if isinstance(skin, bool) or not isinstance(skin, int | float) or not 0 <= skin < np.inf:
            raise InputError(f"skin came as {skin!r}; it must be a number of at least 0 (Å)")
        self.potential, self.skin = potential, float(skin)
        self.device, self.dtype = resolve_device(device), resolve_dtype(dtype)
        self.searches = 0
        self.reset()

    def reset(self):
        """Forget results, pairs and the copy of the potential's parameters: call it after changing the potential."""
        super().reset()
        self._model = self._pairs = None

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        """Compute all properties of a structure (ASE's entry)."""
        super().calculate(atoms, properties, system_changes)
        new = Structures.from_ase(self.atoms)
        if self._model is None:
            self._model = self.potential.model(self.dtype, self.device)
        if not self._pairs_hold(new):
            self._pairs = Pairs.find(new, self.potential.descriptor.cutoff + self.skin).to_device(self.device)
            self._found_for = new
            self.searches += 1
        energy, forces, virials, energies = self.potential.evaluate(new, self._pairs, self._model)
        self.results = {
            "energy": float(energy[0]),
            "free_energy": float(energy[0]),
            "energies": energies,
            "forces": forces,
        }
        if new.volumes[0] > 0:    # without a cell ASE reports that stress is not there
            self.results["stress"] = stress_voigt(virials, new.volumes)[0]

    def _pairs_hold(self, new):
        """Whether the list still has every pair within the cutoff, rule (2)."""
        if self._pairs is None:
            return False
        old = self._found_for
        same = np.array_equal(old.numbers, new.numbers) and np.array_equal(old.pbc, new.pbc)
        if not same:
            return False
        moved, s = _strain_apart(old, new)
        cutoff = self.potential.descriptor.cutoff
        return cutoff + 2 * moved <= s * (cutoff + self.skin)


def _strain_apart(old, new):
    """Largest displacement beyond the deformation of the cell, and that deformation's smallest singular value."""
    if not old.pbc.any() or np.array_equal(old.cells, new.cells):
        deformed, s = old.positions, 1.0
    else:
        before, after = complete_cells(old.cells, old.pbc)[0], complete_cells(new.cells, new.pbc)[0]
        f = np.linalg.solve(before, after)
        deformed, s = old.positions @ f, float(np.linalg.svd(f, compute_uv=False)[-1])
    u = new.positions - deformed
    u -= u.mean(0)    # a common translation changes no pair
    return float(np.sqrt((u**2).sum(1).max())), s
