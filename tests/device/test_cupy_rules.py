"""The device that is not there refuses what CuPy 14 and CUDA refuse, each rule fired once."""

import sys
import types

import numpy as np
import pytest

real = pytest.importorskip("cupy", reason="CuPy is not installed: the double has its functions and signatures from it")
from cupy.cuda import function as cupy_function  # noqa: E402
from doubles.cupy_double import device_double  # noqa: E402
from doubles.cupy_rules import MOST_SHARED, Launchable, check_ufunc, is_by_value, method_signature  # noqa: E402

from fastdesc.backend import cuda  # noqa: E402
from fastdesc.backend.arrays import pinned  # noqa: E402
from fastdesc.errors import DeviceError  # noqa: E402


@pytest.fixture
def cupy():
    with device_double():
        yield sys.modules["cupy"]


def test_signatures_of_compiled_methods_are_read():
    assert list(method_signature("sum").parameters) == ["self", "axis", "dtype", "out", "keepdims"]
    assert list(method_signature("swapaxes").parameters) == ["self", "axis1", "axis2"]
    assert list(method_signature("dot").parameters) == ["self", "b", "out"]
    method_signature("reshape").bind(None, 2, 3, order="F")
    with pytest.raises(TypeError):
        method_signature("mdspan").bind(None, 1)
    callable_ones = [n for n in dir(real.ndarray) if not n.startswith("_") and callable(getattr(real.ndarray, n))]
    assert len(callable_ones) > 40 and all(method_signature(name) is not None for name in callable_ones)


NUMPY_ALONE = {
    "max(initial=)": lambda cupy, x: x.max(initial=0.0),
    "sum(where=)": lambda cupy, x: x.sum(where=x > 0),
    "mean(where=)": lambda cupy, x: x.mean(where=x > 0),
    "item(0)": lambda cupy, x: x.item(0),
    "ufunc where=": lambda cupy, x: cupy.add(x, x, where=x > 0),
    "numpy's ufunc where=": lambda cupy, x: np.add(x, x, where=x > 0),
    "function initial=": lambda cupy, x: cupy.max(x, initial=0.0),
}


@pytest.mark.parametrize("what", NUMPY_ALONE)
def test_arguments_that_only_numpy_takes(what, cupy):
    with pytest.raises(TypeError):
        NUMPY_ALONE[what](cupy, cupy.ones((2, 3)))


def test_ufuncs_take_what_cupys_take(cupy):
    x = cupy.ones(3)
    check_ufunc("add", {"out": x, "dtype": np.float64})
    assert cupy.add(x, 1, out=x) is not None and np.sqrt(x).get().tolist() == [2**0.5] * 3


def test_get_writes_to_arrays_of_its_kind(cupy):
    x = cupy.ones((2, 3))
    with pytest.raises(TypeError, match="float32 array cannot be obtained from float64 array"):
        x.get(out=np.empty((2, 3), np.float32))
    with pytest.raises(ValueError, match="Shape mismatch"):
        x.get(out=np.empty((1, 3)))
    np.testing.assert_array_equal(x.get(out=np.empty((2, 3))), 1)


def test_page_locked_memory_stays_until_somebody_waits(cupy):
    x, sent, plain = cupy.zeros(4), pinned(4, np.float64), np.ones(4)
    sent[:] = np.nan
    x.set(sent)
    x.get()
    sent[:] = 1    # after a wait
    x.set(sent[:4])
    sent[0] = 2
    with pytest.raises(AssertionError, match="page-locked memory changed"):
        x.get()
    x.set(plain)
    plain[0] = 2    # CUDA has copied it when it returns
    assert x.get()[0] == 1


CONTRACT = "gm_contract<float>"


def test_shared_memory_is_asked_for_and_has_an_end():
    launched, q = [], np.zeros((3, 8), np.float32)

    class Loader:
        def get_function(self, name):
            return Launchable(lambda *given: launched.append(given[-1]))

    def launch(shared):
        fields = cuda.parameters("gaussian_moments/gaussian_moments.cu", CONTRACT)[-1][2].names
        given = dict.fromkeys(fields, 1)
        cuda.launch("gaussian_moments/gaussian_moments.cu", CONTRACT, 5, 32, 256, [q, q], shared_mem=shared, **given)

    with cuda.executor(lambda path, names: Loader()):
        for shared in (0, cuda.UNASKED_SHARED, MOST_SHARED):
            launch(shared)
        with pytest.raises(DeviceError, match=rf"{CONTRACT} needs {MOST_SHARED + 1} bytes of shared memory .* fewer"):
            launch(MOST_SHARED + 1)
    assert launched == [0, cuda.UNASKED_SHARED, MOST_SHARED]


def test_unasked_shared_memory_and_lists_are_refused():
    kernel = Launchable(lambda *given: None)
    with pytest.raises(RuntimeError, match="allowed 49152"):
        kernel((1,), (32,), (), shared_mem=cuda.UNASKED_SHARED + 1)
    with pytest.raises(TypeError, match="tuples"):
        kernel([1], (32,), ())


def test_structs_go_by_value_as_bytes_of_one_element():
    """As CuPy has it: an array of the host is refused as an argument unless it has one element."""
    assert is_by_value(np.ndarray((), "V24", bytes(24)))
    assert not is_by_value(np.zeros(2, "V24")) and not is_by_value(np.zeros(1)) and not is_by_value(np.void(bytes(24)))
    if not cuda.gpu_status()[0]:
        function, stream = cupy_function.Function.__new__(cupy_function.Function), types.SimpleNamespace(ptr=0)
        for argument, refusal in ((np.ndarray((), "V24", bytes(24)), RuntimeError), (np.zeros(2, "V24"), TypeError)):
            with pytest.raises(refusal):    # RuntimeError: that there is no driver, after the arguments were taken
                function((1,), (1,), (argument,), 0, stream)
