"""Potentials from model files (fastdesc/potential/file.py)."""

import json

import h5py

from fastdesc.checks import numbers
from fastdesc.descriptors import descriptor_from
from fastdesc.errors import FileFormatError, InputError
from fastdesc.hdf5.files import check_format, damage_named, open_hdf5
from fastdesc.networks.scaler import FeatureScaler
from fastdesc.potential import Potential
from fastdesc.potential.file import FORMAT, VERSION
from fastdesc.types import FilePath


def load(path: FilePath) -> Potential:
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
            training = dict(json.loads(file.attrs.get("training", "{}")))
            parameters, buffers = _arrays(file["parameters"]), _arrays(file.get("buffers", {}))
            mean, scale, reference = file["scaler/mean"][()], file["scaler/scale"][()], file["reference"][()]
    descriptor = descriptor_from(family, settings, {}, path)
    try:
        potential = Potential(descriptor, **arguments)
        for wanted, found in ((potential.parameters, parameters), (potential.buffers, buffers)):
            missing = sorted(set(wanted) - set(found))
            if missing:
                raise InputError(f"parameter {missing[0]!r} is missing")
        potential.training = training
        potential.set_buffers(buffers)
        potential.set_parameters(parameters)
        potential.reference = numbers("reference", reference, potential.reference.shape)
        n = (descriptor.n_features,)
        potential.scaler = FeatureScaler(numbers("scaler/mean", mean, n), numbers("scaler/scale", scale, n))
    except (InputError, TypeError) as error:
        raise FileFormatError(f"{path} holds parameters that do not fit its description: {error}") from error
    return potential


def _arrays(group):
    """Return all datasets below a group, by their path in it."""
    found = {}
    if group:
        group.visititems(
            lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
        )
    return found
