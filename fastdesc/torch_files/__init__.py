"""Files that PyTorch wrote, read without PyTorch and without running anything: plain containers and arrays come out.

This is the one reader of pickles here, and it is no unpickler: see fastdesc/torch_files/machine.py.
"""

from fastdesc.hdf5.files import as_path, check_there
from fastdesc.torch_files.archive import Archive
from fastdesc.torch_files.machine import run
from fastdesc.torch_files.tensors import Storages
from fastdesc.types import FilePath

MAGIC = b"PK\x03\x04"


def is_archive(path: FilePath) -> bool:
    """Whether a file begins as a zip archive does."""
    with open(as_path(path), "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_torch(path: FilePath) -> object:
    """Read what `torch.save` or `torch.jit.save` wrote.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    object
        Built of dict, list, tuple, str, int, float, bool, None, read-only NumPy arrays for tensors, and Module
        (fastdesc.torch_files.machine) for the modules of TorchScript.

    Raises
    ------
    InputError
        When there is no such file.
    FileFormatError
        When it is another kind of file, damaged, truncated, larger inside than outside, or its pickle asks for
        anything but containers and tensors; nothing was built of it then.
    """
    path = as_path(path)
    check_there(path)
    with Archive(path) as archive:
        return run(archive.read("data.pkl"), Storages(archive), path)
