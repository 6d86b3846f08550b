"""Model files: one HDF5 file holds a potential, readable without us.

    /                attributes format, format_version, fastdesc_version, descriptor and potential (JSON)
    /parameters/...  one float64 dataset per trainable parameter, named as in Potential.parameters
    /scaler/mean, /scaler/scale, /reference
"""

import json

import h5py

from fastdesc.descriptors import descriptor_from
from fastdesc.descriptors.checks import numbers
from fastdesc.errors import FileFormatError, InputError
from fastdesc.files import check_format, damage_named, new_hdf5, open_hdf5, to_json
from fastdesc.potential import Potential
from fastdesc.scaler import FeatureScaler

FORMAT, VERSION = "fastdesc-model", 1


def save(potential, path):
    """Write a potential, whole or not at all.

    Raises
    ------
    InputError, OSError
        When the path cannot be written, or holds something else than a model.
    """
    descriptor = potential.descriptor
    with new_hdf5(path, FORMAT, VERSION) as file:
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
        with damage_named(path, "save the model again"):
            description = json.loads(file.attrs["descriptor"])
            family, settings = description["family"], description["arguments"]
            arguments = json.loads(file.attrs["potential"])
            parameters = {}
            file["parameters"].visititems(
                lambda name, item: parameters.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
            mean, scale, reference = file["scaler/mean"][()], file["scaler/scale"][()], file["reference"][()]
    descriptor = descriptor_from(family, settings, {}, path)
    try:
        potential = Potential(descriptor, **arguments)
        missing = sorted(set(potential.parameters) - set(parameters))
        if missing:
            raise InputError(f"parameter {missing[0]!r} is missing")
        potential.set_parameters(parameters)
        potential.reference = numbers("reference", reference, potential.reference.shape)
        n = (descriptor.n_features,)
        potential.scaler = FeatureScaler(numbers("scaler/mean", mean, n), numbers("scaler/scale", scale, n))
    except (InputError, TypeError) as error:
        raise FileFormatError(f"{path} holds parameters that do not fit its description: {error}") from error
    return potential
