"""fastdesc import: which kind of published potential a file is."""

from fastdesc.errors import InputError


def read_published(path, element, activation, recursion_activation):
    """Read a published potential of either kind; arguments that the other kind has are refused."""
    from fastdesc.hdf5.files import as_path, check_there, is_hdf5
    from fastdesc.potential.meam import read_meam_spline
    from fastdesc.potential.reann import read_reann
    from fastdesc.torch_files import is_archive

    check_there(as_path(path))
    if is_hdf5(path):
        raise InputError(f"{path} is an HDF5 file; `fastdesc info` says what is in it, and a model needs no import")
    of_torch = is_archive(path) or as_path(path).suffix in (".pt", ".pth")
    for word, given, right in (
        ("--element", element, not of_torch),
        ("--activation", activation, of_torch),
        ("--recursion-activation", recursion_activation, of_torch),
    ):
        if given is not None and not right:
            kind = "the REANN package" if of_torch else "an s-MEAM potential"
            raise InputError(f"{word} came with {path}, a file of {kind}; leave it out")
    if of_torch:
        return read_reann(path, activation, recursion_activation)
    return read_meam_spline(path, element)
