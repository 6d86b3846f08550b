"""The descriptor families: the one list."""

from importlib import import_module

from fastdesc.descriptors.sizes import check_held, of_family
from fastdesc.errors import FileFormatError, InputError, nearest

FAMILIES = {
    "gaussian_moments": ("fastdesc.descriptors.gaussian_moments", "GaussianMoments"),
    "embedded_density": ("fastdesc.descriptors.embedded_density", "EmbeddedDensity"),
    "spline_filters": ("fastdesc.descriptors.spline_filters", "SplineFilters"),
}


def family_class(name):
    """Return the class of a family by its name, as files and configurations write it.

    Raises
    ------
    InputError
        For a name that is not in FAMILIES.
    """
    if not isinstance(name, str) or name not in FAMILIES:
        raise InputError(f"family {name!r} is not known{nearest(name, FAMILIES)}; use one of {', '.join(FAMILIES)}")
    module, cls = FAMILIES[name]
    return getattr(import_module(module), cls)


def descriptor_from(family, arguments, parameters, path, held):
    """Rebuild a descriptor that a file describes.

    Parameters
    ----------
    family : str
    arguments : dict
        Of the constructor.
    parameters : dict
        Name: array, what to set.
    path : Path
    held : int
        Numbers the file holds for parameters: a description that asks for more is refused before it is followed.

    Raises
    ------
    FileFormatError
        When the file's description does not fit this version; names the file.
    """
    try:
        check_held(path, held, of_family(family, dict(arguments)))
        descriptor = family_class(family)(**arguments)
        descriptor.set_parameters(**parameters)
    except (InputError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path} describes a descriptor that cannot be built: {error}") from error
    return descriptor
