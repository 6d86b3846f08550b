"""What a potential's uncertainty sees of structures: rows for choosing among them."""

import numpy as np

from fastdesc.backend.arrays import resolve_device, resolve_dtype, to_host
from fastdesc.backend.workspace import kept_memory
from fastdesc.errors import InputError
from fastdesc.geometry import pair_vectors
from fastdesc.io.frames import read_frames
from fastdesc.potential import Potential
from fastdesc.potential.evaluation import energies_of_features
from fastdesc.potential.last_layer import LastLayer
from fastdesc.potential.prediction import groups
from fastdesc.potential.uncertainty import needed
from fastdesc.structures import Structures
from fastdesc.types import Device, DType, Float64, Frames


def last_layer_features(
    potential: Potential, frames: Frames, device: Device = "cpu", dtype: DType = "float64"
) -> Float64:
    """One row for each structure, in the metric of the last layer.

    Products of rows are covariances of energies per atom: a row is as long as the uncertainty of its energy per atom,
    and two rows are parallel where the last layer sees the same. `select_uncertain` and `find_duplicates` (with
    ``scale=False``) take them.

    Parameters
    ----------
    potential : Potential
        With uncertainty, as training leaves it.
    frames : ase.Atoms, list of ase.Atoms, or a path that ASE can read
    device : {"cpu", "cuda", "auto"}
    dtype : {"float64", "float32"}

    Returns
    -------
    (n_frames, n) float64, eV
        n is the number of weights in last layers.

    Raises
    ------
    InputError
        For a potential without uncertainty, and frames that cannot be used.
    """
    if not isinstance(potential, Potential):
        raise InputError(f"potential is a {type(potential).__name__}; give a Potential")
    known = needed(potential)
    model = potential.model(resolve_dtype(dtype), resolve_device(device))
    layer = LastLayer.of(model, potential.direct_columns)
    structures = Structures.from_ase(read_frames(frames))
    out = []
    for group in groups(structures):
        placed, pairs, species = potential.placed(structures.take(group), None, model)
        with kept_memory():
            rij = pair_vectors(placed.positions, placed.cells, pairs, model.scale.dtype)
            q, _ = model.descriptor.forward(rij, pairs, species.on_device, model.theta)
            _, chunks = energies_of_features(model, q, species.on_device, True, pairs.columns)
            phi = layer.features(model, q, species.on_device, chunks)
            out.append(to_host(layer.by_frame(phi, pairs, species.on_device)))
    return known.energy_factor * (np.concatenate(out) @ known.factor) / np.diff(structures.first)[:, None]
