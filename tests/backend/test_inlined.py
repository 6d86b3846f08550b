"""Functions that only kernels call: one version for each type, without machine code of their own."""

import numba
import numpy as np
import pytest

from fastdesc.backend import jit


@jit.inner
def element(x, k):
    return x[k] if k < len(x) else 0.0


def ends(x):
    return element(x, 0) + 10 * element(x, 1) + 100 * element(x, len(x) - 1)


@pytest.fixture
def called(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTDESC_CACHE", str(tmp_path))    # compiled anew
    assert jit.kernel(ends)(np.array([1.0, 2.0, 3.0])) == 321
    return element


def test_literal_arguments_are_numbers_like_others(called):
    """Numba compiles a version for each literal, and LLVM knows the value anyway once the function is inlined."""
    (types,) = called.overloads
    assert types == (numba.float64[::1], numba.int64)


def test_there_is_no_machine_code(called):
    """Neither wrapper, and no engine holds the module."""
    (found,) = called.overloads.values()
    name = found.fndesc.llvm_func_name
    assert [function.name for function in found.library.get_defined_functions()] == [name]
    assert not found.library.codegen._engine.is_symbol_defined(name)


def test_python_is_told_what_to_call(called):
    with pytest.raises(TypeError, match="from Python call its py_func"):
        called(np.ones(1), 0)
    assert called.py_func(np.ones(1), 0) == 1
