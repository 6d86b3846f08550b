"""fastdesc import: which kind of published potential a file is."""

from fastdesc.errors import InputError


def read_published(path, element, activation, recursion_activation, species, member):
    """Read a published potential of any kind; arguments of other kinds are refused."""
    from fastdesc.hdf5.files import as_path, check_there, is_hdf5
    from fastdesc.potential.apax import read_apax
    from fastdesc.potential.meam import read_meam_spline
    from fastdesc.potential.reann import read_reann
    from fastdesc.torch_files import is_archive

    of_apax = as_path(path).is_dir()
    if not of_apax:
        check_there(as_path(path))
    if not of_apax and is_hdf5(path):
        raise InputError(f"{path} is an HDF5 file; `fastdesc info` says what is in it, and a model needs no import")
    of_torch = not of_apax and (is_archive(path) or as_path(path).suffix in (".pt", ".pth"))
    for word, given, right in (
        ("--element", element, not of_torch and not of_apax),
        ("--activation", activation, of_torch),
        ("--recursion-activation", recursion_activation, of_torch),
        ("--species", species, of_apax),
        ("--member", member, of_apax),
    ):
        if given is not None and not right:
            kind = "a file of the REANN package" if of_torch else "a file of an s-MEAM potential"
            raise InputError(f"{word} came with {path}, {'a directory of apax' if of_apax else kind}; leave it out")
    if of_apax:
        return read_apax(path, species, member)
    if of_torch:
        return read_reann(path, activation, recursion_activation)
    return read_meam_spline(path, element)
