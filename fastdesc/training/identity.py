"""What run a checkpoint is of: potential, elements and data. Resuming something else is refused."""

import hashlib
import json
import warnings

import numpy as np

from fastdesc.errors import FastdescWarning, InputError
from fastdesc.hdf5.files import to_json

ADVICE = "use the same, or another checkpoint file"


def identity(potential, train, valid):
    """Return what a run is of, as a dict of plain values.

    Parameters
    ----------
    potential : Potential
    train, valid : TrainingSet or FeatureSet; `valid` may be None

    Returns
    -------
    dict
        Arguments of descriptor and potential, elements in the order of the networks, and a digest of the frames and of
        the labels of each set.
    """
    descriptor = potential.descriptor
    out = {
        "descriptor": {
            "family": descriptor.family,
            **descriptor.get_params(),
            "species": [int(z) for z in descriptor.species_numbers],
        },
        "potential": potential.arguments,
    }
    for purpose, data in (("training", train), ("validation", valid)):
        frames, labels = ((), ()) if data is None else data.label_arrays()
        out[purpose] = {"frames": _digest(frames), "labels": _digest(labels)}
    return json.loads(to_json(out))


def check_identity(found, own, path):
    """InputError unless the run of a checkpoint is this one; names the first difference."""
    if not found:
        text = f"{path} does not say what run it is of, an older version wrote it; see that the run is the same"
        warnings.warn(text, FastdescWarning, stacklevel=3)
        return
    for part in ("descriptor", "potential"):
        for name, value in own[part].items():
            theirs = found[part].get(name)
            if theirs != value:
                raise InputError(f"{path} was made with a {part} of {name}={theirs!r}, here it is {value!r}; {ADVICE}")
    for purpose in ("training", "validation"):
        for what in ("frames", "labels"):
            if found[purpose][what] != own[purpose][what]:
                raise InputError(f"{path} was made with other {_words(purpose, what)}; {ADVICE}")


def _words(purpose, what):
    return f"{purpose} frames" if what == "frames" else f"labels or weights of the {purpose} frames"


def _digest(arrays):
    """SHA-256 of arrays, in hexadecimal."""
    out = hashlib.sha256()
    digest(arrays, out)
    return out.hexdigest()


def digest(arrays, out):
    """Add arrays to a hash, types and shapes included; every NaN is the same."""
    for array in arrays:
        array = np.ascontiguousarray(array)
        if array.dtype.kind == "f":
            array = np.where(np.isnan(array), np.nan, array) + 0.0    # one NaN, and one zero
        out.update(f"{array.dtype.str}{array.shape}".encode())
        out.update(array.tobytes())
