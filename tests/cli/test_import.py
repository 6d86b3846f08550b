"""`import fastdesc` is cheap and touches no CUDA; its public names resolve."""

import json
import subprocess
import sys

import pytest

import fastdesc

HEAVY = {"numpy", "numba", "cupy", "ase", "sklearn", "scipy", "h5py", "matplotlib", "vesin"}


def modules_after(code):
    """Return the top-level modules that a fresh interpreter has loaded after running `code`."""
    code += "\nimport json, sys; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout))


def test_import_loads_nothing_heavy():
    assert not modules_after("import fastdesc") & HEAVY


def test_listing_names_loads_nothing_heavy():
    assert not modules_after("import fastdesc; dir(fastdesc); fastdesc.__version__") & HEAVY


def test_a_descriptor_on_the_cpu_touches_no_cuda():
    assert "cupy" not in modules_after("from fastdesc import GaussianMoments, Pairs, Structures")


@pytest.mark.parametrize("name", fastdesc.__all__)
def test_public_names_resolve(name):
    assert getattr(fastdesc, name) is not None
    assert name in dir(fastdesc)


def test_unknown_name_says_so():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = fastdesc.no_such_name
