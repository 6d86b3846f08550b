"""Model files: one HDF5 file holds a potential, readable without us.

    /                attributes format, format_version, fastdesc_version, descriptor, potential and training (JSON)
    /parameters/...  one float64 dataset per trainable parameter, named as in Potential.parameters
    /buffers/...     likewise what training does not change: the grids of spline networks
    /scaler/mean, /scaler/scale, /reference

Version 2 came with spline networks, direct terms and networks without bias; files of version 1 have none of these.
"""


import h5py

from fastdesc.hdf5.files import new_hdf5, to_json

FORMAT, VERSION = "fastdesc-model", 2

AXES = {
    "weight": "(outputs, inputs)",
    "bias": "(outputs, 1)",
    "splines": "(embeddings, knot values and two end slopes)",
    "grid": "(embeddings, first knot, last knot, number of knots)",
}


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
        file.attrs["potential"] = to_json(potential.arguments)
        if potential.training:
            file.attrs["training"] = to_json(potential.training)
        for kind, arrays in (("parameters", potential.parameters), ("buffers", potential.buffers)):
            for name, array in arrays.items():
                file[f"{kind}/{name}"] = array
        file["scaler/mean"], file["scaler/scale"] = potential.scaler.mean, potential.scaler.scale
        file["reference"] = potential.reference
        elements = f"({len(descriptor.species_numbers)} elements,)"
        for name in ("reference", "parameters/scale"):
            if name in file:    # without a network there is no scale
                file[name].attrs.update(unit="eV", shape=elements)
        if "parameters/direct" in file:
            file["parameters/direct"].attrs.update(unit="eV / unit of the feature", shape="(elements, direct features)")
        for name in ("scaler/mean", "scaler/scale"):
            file[name].attrs.update(unit="that of the features", shape="(features,)")
        file.visititems(_describe)


def _describe(name, item):
    """Give a parameter or buffer the attributes `unit` and `shape` that every dataset of ours has."""
    if isinstance(item, h5py.Dataset) and "unit" not in item.attrs:
        axes = AXES.get(name.rsplit("/", 1)[-1], str(item.shape))
        item.attrs.update(unit="1", shape=axes)


