"""Model files: one HDF5 file holds a potential, readable without us.

    /                attributes format, format_version, fastdesc_version, descriptor, potential and training (JSON)
    /parameters/...  one float64 dataset per trainable parameter, named as in Potential.parameters
    /buffers/...     likewise what training does not change: the grids of spline networks
    /scaler/mean, /scaler/scale, /reference
    /uncertainty     factor and largest of fastdesc/potential/uncertainty.py, where it was fitted; by_element, local,
                     local_forces, least and reach, which earlier files have not; attributes factors and told (JSON)

Version 2 came with spline networks, direct terms and networks without bias, version 3 with residual blocks; files of
earlier versions have none of these. Later versions are written only for what earlier readers must not leave out or do
not know: version 4 for potentials with a repulsion of nuclei, version 5 for shallow ensembles, whose factor has fewer
columns than rows.
"""


import h5py

from fastdesc.hdf5.attributes import set_attributes
from fastdesc.hdf5.files import new_hdf5, to_json
from fastdesc.hdf5.tables import describe, store

FORMAT, VERSION = "fastdesc-model", 5
PLAIN, WITH_REPULSION = 3, 4
"""Versions of files without what came later."""

AXES = {
    "weight": "(outputs, inputs)",
    "bias": "(outputs, 1)",
    **dict.fromkeys(("alpha", "beta", "gain", "shift"), "(hidden values, 1)"),
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
    with new_hdf5(path, FORMAT, _version(potential)) as file:
        description = to_json({"family": descriptor.family, "arguments": descriptor.get_params()})
        set_attributes(file, {"descriptor": description, "potential": to_json(potential.arguments)})
        if potential.training:
            set_attributes(file, {"training": to_json(potential.training)})
        for kind, arrays in (("parameters", potential.parameters), ("buffers", potential.buffers)):
            for name, array in arrays.items():
                store(file, f"{kind}/{name}", array)
        store(file, "scaler/mean", potential.scaler.mean)
        store(file, "scaler/scale", potential.scaler.scale)
        store(file, "reference", potential.reference)
        if potential.uncertainty is not None:
            _store_uncertainty(file, potential.uncertainty)
        elements = f"({len(descriptor.species_numbers)} elements,)"
        for name in ("reference", "parameters/scale"):
            if name in file:    # without a network there is no scale
                describe(file[name], "eV", elements)
        if "parameters/direct" in file:
            describe(file["parameters/direct"], "eV / unit of the feature", "(elements, direct features)")
        for name in ("scaler/mean", "scaler/scale"):
            describe(file[name], "that of the features", "(features,)")
        file.visititems(_describe)


def _version(potential):
    """The earliest version that can hold it."""
    found = potential.uncertainty
    if found is not None and found.factor.shape[0] != found.factor.shape[1]:
        return VERSION
    return PLAIN if potential.repulsion is None else WITH_REPULSION


def _store_uncertainty(file, found):
    (n, columns), n_species = found.factor.shape, len(found.largest)
    group = file.create_group("uncertainty")
    describe(store(group, "factor", found.factor), "1 / eV and the like", f"({n} weights of the last layer, {columns})")
    describe(store(group, "largest", found.largest), "1", f"({n_species} elements,)")
    for name, unit in (("by_element", "1"), ("local_forces", "eV/Å"), ("least", "1/Å"), ("reach", "1")):
        if getattr(found, name) is not None:
            describe(store(group, name, getattr(found, name)), unit, f"({n_species} elements,)")
    if found.local is not None:
        rows = f"({n_species} elements, {found.local.shape[1]}, entries of an atom)"
        describe(store(group, "local", found.local), "1 / eV and the like", rows)
    factors = {"energy_factor": found.energy_factor, "forces_factor": found.forces_factor}
    set_attributes(group, {"told": to_json(found.told), "factors": to_json(factors)})


def _describe(name, item):
    """Give a parameter or buffer the attributes `unit` and `shape` that every dataset of ours has."""
    if isinstance(item, h5py.Dataset) and "unit" not in item.attrs:
        axes = AXES.get(name.rsplit("/", 1)[-1], str(item.shape))
        describe(item, "1", axes)


