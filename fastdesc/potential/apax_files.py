"""Directories of apax: config.yaml, and the newest step of `best`, which Orbax wrote as arrays of Zarr.

They are read by tensorstore, without JAX. Sizes are held against the configuration before memory is taken, and an array
of which a chunk is missing is refused: tensorstore would read zeros there.
"""

from math import prod

import numpy as np

from fastdesc.errors import FileFormatError, InputError
from fastdesc.hdf5.files import as_path

CONFIG = "config.yaml"
PREFIX = "model.params.params."
MOST_NUMBERS = 10**8
"""Of an array; that of the radial coefficients has 119 x 119 rows."""
EXTRA = 'pip install "fastdesc[apax]"'
DTYPES = ("float32", "float64")


def is_apax(path):
    """Whether a path is a directory of a model of apax."""
    return (as_path(path) / CONFIG).is_file()


def read_config(path):
    """Return config.yaml as a dict.

    Raises
    ------
    InputError
        When there is no such directory, or PyYAML is missing.
    FileFormatError
        When it is no YAML mapping with a `model`.
    """
    try:
        import yaml
    except ImportError as error:
        raise InputError(f"models of apax are read by PyYAML and tensorstore; {EXTRA}") from error
    file = as_path(path) / CONFIG
    if not file.is_file():
        raise InputError(f"{path} holds no {CONFIG}; give the directory of an experiment of apax, which has one")
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise FileFormatError(f"{file} is no YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        raise FileFormatError(f"{file} describes no model; give one that apax wrote")
    return config


def newest_step(path):
    """Directory of the arrays of the best model: the highest step below `best`."""
    best = as_path(path) / "best"
    steps = [step for step in best.iterdir() if step.name.isdecimal()] if best.is_dir() else []
    if not steps:
        raise FileFormatError(f"{best} holds no step; a training of apax that reached its first validation leaves one")
    step = max(steps, key=lambda step: int(step.name)) / "default"
    if not step.is_dir():
        raise FileFormatError(f"{step} is missing; the checkpoint is not whole")
    return step


def read_arrays(step):
    """Parameters of a step by name, float64, without what all names begin with.

    Raises
    ------
    InputError
        When tensorstore is missing.
    FileFormatError
        When the checkpoint is damaged or not whole, or holds no parameters.
    """
    try:
        import tensorstore
    except ImportError as error:
        raise InputError(f"models of apax are read by tensorstore; {EXTRA}") from error
    base = {"driver": "file", "path": f"{step.resolve()}/"}
    store = {"driver": "ocdbt", "base": base} if (step / "manifest.ocdbt").exists() else base
    try:
        keys = [key.decode() for key in tensorstore.KvStore.open(store).result().list().result()]
        names = [key.removesuffix("/.zarray") for key in keys if key.startswith(PREFIX) and key.endswith("/.zarray")]
        found = {name.removeprefix(PREFIX): _read(tensorstore, store, step, name, keys) for name in names}
    except (ValueError, OSError, UnicodeDecodeError) as error:    # what tensorstore raises for damage
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{step} cannot be read: {str(error).splitlines()[0][:200]}") from error
    if not found:
        raise FileFormatError(f"{step} holds no parameters of a model of apax")
    return {name.removeprefix("energy_model."): array for name, array in found.items()}


def _read(tensorstore, store, step, name, keys):
    """One array, float64."""
    place = {**store, "path": f"{store.get('path', '')}{name}/"}
    array = tensorstore.open({"driver": "zarr", "kvstore": place}, read=True, open=True).result()
    short = name.removeprefix(PREFIX)
    if array.dtype.name not in DTYPES or prod(array.shape) > MOST_NUMBERS:
        raise FileFormatError(
            f"{short} in {step} is {array.dtype.name} {array.shape}; float32 and float64 of up to {MOST_NUMBERS:.0e} "
            "numbers are read"
        )
    chunks = array.chunk_layout.read_chunk.shape
    wanted = prod(-(-n // max(c, 1)) for n, c in zip(array.shape, chunks, strict=True))
    there = sum(key.startswith(f"{name}/") and not key.endswith("/.zarray") for key in keys)
    if there < wanted:
        raise FileFormatError(f"{short} in {step} has {there} of {wanted} chunks; the checkpoint is not whole")
    return np.asarray(array.read().result(), np.float64)
