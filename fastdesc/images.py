"""ASE calculators of many images, evaluated together: bands of NEB, beads, replicas."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from fastdesc.backend.arrays import resolve_device, resolve_dtype
from fastdesc.calculator import load_potential
from fastdesc.errors import InputError
from fastdesc.geometry import stress_voigt
from fastdesc.io.frames import read_frames
from fastdesc.potential import Potential
from fastdesc.structures import Structures
from fastdesc.types import Device, DType, FilePath


class ImageCalculator(Calculator):
    """Calculator of one of several images; see `calculate_together`."""

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 (as ASE's)

    def __init__(self, together):
        super().__init__()
        self.together = together

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        """Compute all properties of this image, and of all others that have moved (ASE's entry)."""
        super().calculate(atoms, properties, system_changes)
        self.together.evaluate(self)


class Together:
    """The images, and the one evaluation of those that have moved.

    Attributes
    ----------
    evaluations : int
        How often images were evaluated so far, one or many at a time.
    """

    def __init__(self, images, potential, device, dtype):
        self.images, self.potential = images, potential
        self.model = potential.model(resolve_dtype(dtype), resolve_device(device))
        self.evaluations = 0

    def evaluate(self, asking):
        """Evaluate the image of the calculator that asks, and all others that have moved."""
        moved = []
        for image in self.images:
            own = image.calc
            if own is asking:
                moved.append((own, asking.atoms))
            elif getattr(own, "together", None) is self and own.calculation_required(image, ["forces"]):
                own.atoms = image.copy()
                moved.append((own, own.atoms))
        if not any(own is asking for own, _ in moved):    # of atoms that are no longer, or never were, an image
            moved.append((asking, asking.atoms))
        for own, _ in moved:
            own.results = {}    # those of before are not those of images that are refused
        structures = Structures.from_ase([atoms for _, atoms in moved])
        with np.errstate(over="ignore", invalid="ignore"):    # told below, in one sentence
            energy, forces, virials, energies = self.potential.evaluate(structures, None, self.model)
        self._judge([own for own, _ in moved], structures, energy, forces)
        stress = stress_voigt(virials, structures.volumes)
        self.evaluations += 1
        for k, (own, _) in enumerate(moved):
            part = slice(structures.first[k], structures.first[k + 1])
            own.results = {
                "energy": float(energy[k]), "free_energy": float(energy[k]), "energies": energies[part],
                "forces": forces[part],
            }  # fmt: skip
            if np.isfinite(stress[k]).all():
                own.results["stress"] = stress[k]


    def _judge(self, calculators, structures, energy, forces):
        """InputError that names the image whose energy or forces are not finite."""
        wrong = ~np.isfinite(energy)
        wrong[structures.frame_of_atom[~np.isfinite(forces).all(axis=1)]] = True
        if wrong.any():
            k = int(np.argmax(wrong))
            numbers = [n for n, image in enumerate(self.images) if image.calc is calculators[k]]
            what = f"image {numbers[0]}" if numbers else "the structure"
            raise InputError(
                f"the energy or the forces of {what} are not finite (energy {energy[k]:g} eV): look at the structure, "
                "or take a shorter step"
            )


def calculate_together(
    images: Sequence[Atoms], potential: Potential | FilePath, device: Device = "cpu", dtype: DType = "float64"
) -> Together:
    """Give every image a calculator of its own; whoever asks first has all that moved evaluated in one batch.

    Parameters
    ----------
    images : list of ase.Atoms
        Each gets its `calc`.
    potential : Potential, str or Path
        A potential, or a model file.
    device : {"cpu", "cuda", "auto"}
    dtype : {"float64", "float32"}

    Returns
    -------
    Together

    Raises
    ------
    InputError
        For an empty list, or what is no potential; and, when forces are asked for, for images that cannot be
        evaluated, or whose energy or forces are not finite.

    Examples
    --------
    >>> fd.calculate_together(images, "model.h5")    # doctest: +SKIP
    >>> NEB(images).get_forces()                     # doctest: +SKIP
    """
    images = read_frames(images)
    if len({id(image) for image in images}) < len(images):
        raise InputError("an image came twice; give each a copy of its own")
    together = Together(images, load_potential(potential), device, dtype)
    for image in images:
        image.calc = ImageCalculator(together)
    return together
