"""Predictions beside their references: errors, and a file from which they can be looked at again."""

from dataclasses import MISSING, dataclass, fields

import numpy as np

from fastdesc.analysis.reliability import Reliability, table
from fastdesc.checks import brief
from fastdesc.descriptors.short_distances import of_structures
from fastdesc.errors import FileFormatError, InputError
from fastdesc.hdf5.files import check_format, damage_named, new_hdf5, open_hdf5
from fastdesc.hdf5.tables import describe, store
from fastdesc.io.frames import read_frames
from fastdesc.io.labels import advice, labels
from fastdesc.potential.uncertainty import check_kind
from fastdesc.structures import Structures

FORMAT, VERSION = "fastdesc-predictions", 1
UNITS = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å^3"}


@dataclass(frozen=True)
class Comparison:
    """Predictions and references of some frames; references are NaN where a frame has none.

    Attributes
    ----------
    n_atoms : (n_frames,) int
    energy, reference_energy : (n_frames,) eV
    forces, reference_forces : (n_atoms, 3) eV/Å
    stress, reference_stress : (n_frames, 6) eV/Å^3, Voigt order xx yy zz yz xz xy
    energy_uncertainty : (n_frames,) eV, or None
    forces_uncertainty : (n_atoms, 3) eV/Å, or None
        Standard deviations.
    """

    n_atoms: np.ndarray
    energy: np.ndarray
    reference_energy: np.ndarray
    forces: np.ndarray
    reference_forces: np.ndarray
    stress: np.ndarray
    reference_stress: np.ndarray
    energy_uncertainty: np.ndarray | None = None
    forces_uncertainty: np.ndarray | None = None

    def __post_init__(self):
        arrays = {name: np.asarray(array) for name, array in vars(self).items() if array is not None}
        n_atoms = arrays["n_atoms"]
        if n_atoms.ndim != 1 or n_atoms.dtype.kind not in "iu" or n_atoms.min(initial=1) < 1:
            raise InputError("n_atoms must be a row of integers of at least 1, one for each frame")
        n = n_atoms.shape
        shapes = {"energy": n, "forces": (int(n_atoms.sum()), 3), "stress": (*n, 6)}
        for name, array in arrays.items():
            wanted = shapes.get(_quantity(name), n)
            if array.shape != wanted or array.dtype.kind not in "fiu":
                raise InputError(f"{name} must hold numbers of the shape {wanted}, and {brief(array)} came")

    def pairs(self, name):
        """Return (reference, predicted) of "energy" (per atom), "forces" or "stress", flat, where there is a reference.

        Stresses also where there is a prediction: without a volume there is none. Energies and forces there always are,
        and errors of those that are not finite are not finite.
        """
        reference, predicted = getattr(self, f"reference_{name}"), getattr(self, name)
        if name == "energy":
            reference, predicted = reference / self.n_atoms, predicted / self.n_atoms
        known = np.isfinite(reference)
        if name == "stress":
            known &= np.isfinite(predicted)
        return reference[known], predicted[known]

    def reliability(self):
        """Return "energy" (per atom) and "forces" -> Reliability, those that have references and uncertainties."""
        out = {}
        for name in ("energy", "forces"):
            width = getattr(self, f"{name}_uncertainty")
            if width is None:
                continue
            reference, predicted = getattr(self, f"reference_{name}"), getattr(self, name)
            if name == "energy":
                reference, predicted, width = (x / self.n_atoms for x in (reference, predicted, width))
            known = np.isfinite(reference) & np.isfinite(predicted) & np.isfinite(width)
            if known.any():
                out[name] = Reliability((predicted - reference)[known], width[known])
        return out

    def errors(self):
        """Return quantity -> mae, rmse, max, n (numbers compared) and unit; quantities without labels are left out."""
        out = {}
        for name, unit in UNITS.items():
            reference, predicted = self.pairs(name)
            if len(reference):
                e = np.abs(predicted - reference)
                out[name] = {
                    "mae": float(e.mean()),
                    "rmse": float(np.sqrt((e**2).mean())),
                    "max": float(e.max()),
                    "n": len(e),
                    "unit": unit,
                }
        return out

    def summary(self):
        """Return the sizes and the errors as one dict of plain values."""
        out = {"n_frames": len(self.n_atoms), "n_atoms": int(self.n_atoms.sum()), **self.errors()}
        found = {name: one.summary() for name, one in self.reliability().items()}
        return out | ({"uncertainty": found} if found else {})

    def table(self):
        """Return the errors as text, in meV."""
        n = len(self.n_atoms)
        lines = [f"{n} frame{'s'[:n != 1]}, {self.n_atoms.sum()} atoms", f"{'':8}{'MAE':>10}{'RMSE':>10}{'max':>10}"]
        for name, e in self.errors().items():
            numbers = "".join(f"{three_digits(1000 * e[k]):>10}" for k in ("mae", "rmse", "max"))
            lines.append(f"{name:8}{numbers}  m{e['unit']}")
        found = self.reliability()
        return "\n".join([*lines, *(["", table(found)] if found else [])])

    def save(self, path):
        """Write an HDF5 file, whole or not at all; every dataset carries `unit` and `shape`."""
        words = {"forces": "n_atoms, 3", "stress": "n_frames, 6", "energy": "n_frames", "n_atoms": "n_frames"}
        with new_hdf5(path, FORMAT, VERSION) as f:
            for name, array in vars(self).items():
                if array is None:
                    continue
                what = _quantity(name)
                unit = {"energy": "eV", "n_atoms": "1"}.get(what) or UNITS[what]
                describe(store(f, name, array), unit, words[what])

    @classmethod
    def load(cls, path):
        """Read what `save` wrote.

        Raises
        ------
        InputError, FileFormatError
            For a missing, truncated or foreign file, or one of a newer version.
        """
        with open_hdf5(path) as f:
            check_format(f, path, FORMAT, VERSION)
            with damage_named(path, "evaluate again"):
                arrays = {k.name: f[k.name][...] for k in fields(cls) if k.default is MISSING or k.name in f}
        try:
            return cls(**arrays)
        except InputError as error:
            raise FileFormatError(f"{path} is damaged ({error}); evaluate again") from error


def _quantity(name):
    """energy, forces or stress of a field's name; others as they are."""
    return name.removeprefix("reference_").removesuffix("_uncertainty")


def compare(potential, frames, device="cpu", dtype="float64", uncertainty=True):
    """Predict frames and put the predictions beside the frames' labels.

    Parameters
    ----------
    potential : Potential
    frames : path, ase.Atoms or list of ase.Atoms
    device : {"cpu", "cuda", "auto"}
    dtype : {"float64", "float32"}
    uncertainty : {True, False, "energy", "local"}
        Predict standard deviations too, where the model has what that needs; see Potential.predict.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        When no frame carries any label, and for frames the potential cannot be used on.
    """
    if not hasattr(potential, "predict") or isinstance(potential, type):
        raise InputError(f"potential came as {brief(potential)}; give a Potential, or fd.load(path) of one")
    check_kind(uncertainty)
    frames = read_frames(frames)
    found = labels(frames)
    if not any(found.counts(frames).values()):
        raise InputError(
            f"none of the {len(frames)} frames carries an energy, forces or a stress to compare with; {advice(frames)}"
        )
    uncertainty = False if potential.uncertainty is None else uncertainty
    out = potential.predict(frames, device=device, dtype=dtype, uncertainty=uncertainty)
    of_structures(potential.descriptor, Structures.from_ase(frames)).warn(potential.descriptor, "the frames")
    s = found.stress
    voigt = np.stack([s[:, 0, 0], s[:, 1, 1], s[:, 2, 2], s[:, 1, 2], s[:, 0, 2], s[:, 0, 1]], axis=1)
    return Comparison(
        np.array([len(a) for a in frames]),
        out.energy,
        found.energies,
        out.forces,
        found.forces,
        out.stress,
        voigt,
        out.energy_uncertainty,
        out.forces_uncertainty,
    )


def three_digits(x):
    """Three significant digits, without an exponent where that is readable."""
    if x >= 999.5:    # rounds to 1000
        return f"{x:.0f}"
    return f"{x:#.3g}".rstrip(".") if x >= 1e-3 else f"{x:.1e}" if x else "0"
