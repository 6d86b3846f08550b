"""Model files: one HDF5 file holds a potential, readable without us.

    /                attributes format, format_version, fastdesc_version, descriptor and potential (JSON)
    /parameters/...  one float64 dataset per trainable parameter, named as in Potential.parameters
    /scaler/mean, /scaler/scale, /reference
"""

import json

import h5py
import numpy as np

from fastdesc import __version__
from fastdesc.descriptors import descriptor_from
from fastdesc.errors import FileFormatError, InputError
from fastdesc.files import check_format, open_hdf5, to_json, whole_or_nothing
from fastdesc.potential import Potential
from fastdesc.scaler import FeatureScaler

FORMAT, VERSION = "fastdesc-model", 1


def save(potential, path):
    """Write a potential, whole or not at all.

    Raises
    ------
    InputError, OSError
        When the path cannot be written.
    """
    descriptor = potential.descriptor
    with whole_or_nothing(path) as part, h5py.File(part, "w") as file:
        file.attrs.update(format=FORMAT, format_version=VERSION, fastdesc_version=__version__)
        file.attrs["descriptor"] = to_json({"family": descriptor.family, "arguments": descriptor.get_params()})
        file.attrs["potential"] = to_json(
            {name: getattr(potential, name) for name in ("hidden", "activation", "network", "seed")}
        )
        for name, array in potential.parameters.items():
            file[f"parameters/{name}"] = array
        file["scaler/mean"], file["scaler/scale"] = potential.scaler.mean, potential.scaler.scale
        file["reference"] = potential.reference
        elements = f"({len(descriptor.species_numbers)} elements,)"
        for name, unit in (("reference", "eV"), ("parameters/scale", "eV")):
            file[name].attrs.update(unit=unit, shape=elements)
        for name in ("scaler/mean", "scaler/scale"):
            file[name].attrs.update(unit="that of the features", shape="(features,)")
        file["parameters"].visititems(_describe)


def _describe(name, item):
    """Give a parameter the attributes `unit` and `shape` that every dataset of ours has."""
    if isinstance(item, h5py.Dataset) and "unit" not in item.attrs:
        axes = {"weight": "(outputs, inputs)", "bias": "(outputs, 1)"}.get(name.rsplit("/", 1)[-1], str(item.shape))
        item.attrs.update(unit="1", shape=axes)


def load(path):
    """Read a potential.

    Raises
    ------
    InputError
        When there is no such file.
    FileFormatError
        For a truncated or foreign file, one of a newer version, or parameters that do not fit.
    """
    with open_hdf5(path) as file:
        check_format(file, path, FORMAT, VERSION)
        try:
            description = json.loads(file.attrs["descriptor"])
            arguments = json.loads(file.attrs["potential"])
            parameters = {}
            file["parameters"].visititems(
                lambda name, item: parameters.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
            mean, scale, reference = file["scaler/mean"][()], file["scaler/scale"][()], file["reference"][()]
        except (KeyError, OSError, json.JSONDecodeError) as error:
            raise FileFormatError(f"{path} is not a complete model file ({error}); save the model again") from error
    descriptor = descriptor_from(description.get("family"), description.get("arguments", {}), {}, path)
    try:
        potential = Potential(descriptor, **arguments)
        missing = sorted(set(potential.parameters) - set(parameters))
        if missing:
            raise InputError(f"parameter {missing[0]!r} is missing")
        potential.set_parameters(parameters)
    except (InputError, TypeError) as error:
        raise FileFormatError(f"{path} holds parameters that do not fit its description: {error}") from error
    for name, array, wanted in (
        ("scaler/mean", mean, potential.scaler.mean),
        ("scaler/scale", scale, potential.scaler.scale),
        ("reference", reference, potential.reference),
    ):
        if array.shape != wanted.shape or not np.isfinite(array).all():
            raise FileFormatError(f"{path} holds {name} of shape {array.shape}; the model needs finite {wanted.shape}")
    potential.scaler = FeatureScaler(mean, scale)
    potential.reference = reference.astype(np.float64)
    return potential
