"""Potentials from model files (fastdesc/potential/file.py)."""

import json
import math
from dataclasses import replace

import h5py
import numpy as np

from fastdesc.checks import numbers
from fastdesc.descriptors import descriptor_from
from fastdesc.descriptors.sizes import check_held, of_layers
from fastdesc.errors import FileFormatError, InputError
from fastdesc.hdf5.attributes import attribute
from fastdesc.hdf5.files import check_format, damage_named, open_hdf5
from fastdesc.networks.residual import n_parameters
from fastdesc.networks.scaler import FeatureScaler
from fastdesc.potential import Potential
from fastdesc.potential.build import check_form, check_widths, direct_features
from fastdesc.potential.file import FORMAT, VERSION
from fastdesc.potential.last_layer import LastLayer
from fastdesc.potential.uncertainty import Uncertainty
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
            description = json.loads(attribute(file, "descriptor"))
            family, settings = description["family"], description["arguments"]
            arguments = json.loads(attribute(file, "potential"))
            training = dict(json.loads(attribute(file, "training", "{}")))
            parameters, buffers = _arrays(file["parameters"]), _arrays(file.get("buffers", {}))
            uncertainty = _uncertainty(file)
            mean, scale, reference = file["scaler/mean"][()], file["scaler/scale"][()], file["reference"][()]
    arrays = (*parameters.values(), *buffers.values(), mean, scale, reference)
    held = sum(array.size for array in arrays if isinstance(array, np.ndarray))
    descriptor = descriptor_from(family, settings, {}, path, held)
    try:
        check_held(path, held, _network_size(descriptor, **arguments))
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
        potential.uncertainty = uncertainty and _checked(uncertainty, potential)
    except (InputError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path} holds parameters that do not fit its description: {error}") from error
    return potential


def _uncertainty(file):
    """The Uncertainty of a file as it stands there, or None."""
    if "uncertainty" not in file:
        return None
    group = file["uncertainty"]
    arrays, factors = _arrays(group), json.loads(attribute(group, "factors"))
    return Uncertainty(
        arrays["factor"], arrays["largest"],
        *(math.nan if factors[name] is None else float(factors[name]) for name in ("energy_factor", "forces_factor")),
        dict(json.loads(attribute(group, "told"))),
        *(arrays.get(name) for name in ("by_element", "local", "local_forces", "least", "reach")),
    )  # fmt: skip


def _checked(uncertainty, potential):
    layer = LastLayer.of(potential.model(), potential.direct_columns)
    n = layer.n
    shape = np.shape(uncertainty.factor)
    columns = shape[1] if len(shape) == 2 and 2 <= shape[1] <= n else n    # fewer in a shallow ensemble
    factor = numbers("uncertainty/factor", uncertainty.factor, (n, columns))
    largest = numbers("uncertainty/largest", uncertainty.largest, potential.reference.shape)
    n_species, more = len(layer.places), {}
    shapes = {"local": (n_species, layer.n_rows, layer.n_rows)}
    for name in ("by_element", "local", "local_forces", "least", "reach"):
        wanted = shapes.get(name, (n_species,))
        array = getattr(uncertainty, name)
        more[name] = None if array is None else numbers(f"uncertainty/{name}", array, wanted)
    return replace(uncertainty, factor=factor, largest=largest, **more)


def _network_size(
    descriptor, hidden=None, activation="silu", network="per_species", direct=False, n_knots=9, blocks=0,
    layer_norm=False, **_
):  # fmt: skip
    """Fewest numbers in the networks of a potential with these arguments."""
    widths = check_widths(network, hidden)
    if network == "spline":
        return widths[0] * int(n_knots)
    seen = direct_features(direct, network, descriptor.feature_names_out())[1]
    n_in = descriptor.n_features if seen is None else len(seen)
    form = check_form(network, widths, activation, blocks, layer_norm, True)
    if form.residual:
        return n_parameters(n_in, 1, form)
    return of_layers([n_in, *widths, 1]) if widths else 0


def _arrays(group):
    """Return all datasets of numbers below a group, by their path in it."""
    found = {}

    def add(name, item):
        if isinstance(item, h5py.Dataset):
            if item.dtype.kind not in "fiu":
                raise ValueError(f"{item.name} holds no numbers")
            found[name] = item[()]

    if group:
        group.visititems(add)
    return found
