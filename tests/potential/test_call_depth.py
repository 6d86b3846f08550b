"""From `Potential.predict` to the kernels of a family: few calls, through few files, for who reads or steps there."""

import sys
from importlib import import_module

import numpy as np
import pytest
from ase import Atoms
from helpers.families import FAMILIES
from numba.core.dispatcher import Dispatcher

import fastdesc as fd
from fastdesc import potential as where_it_begins

MOST_CALLS, MOST_FILES = 8, 5
MODELS = {
    "gaussian_moments": ("bessel", "fastdesc.potential.one_pass", {"gm_one_pass", "forces_of_blocks"}),
    "embedded_density": (
        "hyper", "fastdesc.descriptors.embedded_density.cpu",
        {"ed_density", "ed_contract", "ed_contract_pullback", "ed_density_pullback"},
    ),
    "spline_filters": ("clamped", "fastdesc.descriptors.spline_filters.cpu", {"sf_features", "sf_pullback"}),
}  # fmt: skip
"""A variant without iterations, the module that names its kernels, and those that a prediction runs."""


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_from_predict_to_the_kernels(monkeypatch, name, dtype):
    variant, module, kernels = MODELS[name]
    family = next(f for f in FAMILIES if f.name == name)
    p = fd.Potential(family.make(variant, ["H", "O"]), hidden=(8,))
    water = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    want, found = p.predict(water, dtype=dtype), {}

    def spied(kernel):
        def run(*arguments):
            found[kernel.__name__] = path_from_predict(sys._getframe(1))
            return kernel(*arguments)

        return run

    for key, kernel in vars(import_module(module)).copy().items():
        if isinstance(kernel, Dispatcher):
            monkeypatch.setattr(f"{module}.{key}", spied(kernel))
    np.testing.assert_array_equal(p.predict(water, dtype=dtype).forces, want.forces)
    assert set(found) == kernels
    for kernel, path in found.items():
        files = {code.co_filename for code in path} - {where_it_begins.__file__}
        told = "\n".join(f"{code.co_filename}: {code.co_qualname}" for code in path)
        assert len(path) <= MOST_CALLS and len(files) <= MOST_FILES, f"{kernel}\n{told}"


def path_from_predict(frame):
    """Code of the functions at work from `predict` to a frame: as many as calls from there to what the frame calls."""
    path = []
    while frame.f_code is not fd.Potential.predict.__code__:
        path.append(frame.f_code)
        frame = frame.f_back
    return [frame.f_code, *reversed(path)]
