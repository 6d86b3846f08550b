"""The double's streams refuse what CuPy and CUDA refuse, and do nothing while they capture."""

import inspect
from pathlib import Path

import numpy as np
import pytest
from cuda_emulator import gcc_status

real = pytest.importorskip("cupy", reason="CuPy is not installed: the double has its functions and signatures from it")
from doubles.cupy_double import device_double  # noqa: E402

pytestmark = pytest.mark.skipif(not gcc_status()[0], reason=gcc_status()[1])


@pytest.fixture
def device():
    with device_double():
        import cupy

        yield cupy


def captured(cupy, function):
    """The graph of what a function does, and its pool."""
    pool, stream = cupy.cuda.MemoryPool(), cupy.cuda.Stream(non_blocking=True)
    with stream, cupy.cuda.using_allocator(pool.malloc):
        stream.begin_capture()
        try:
            function()
        finally:
            graph = stream.end_capture()
    return graph, pool


def test_work_is_done_when_the_graph_is_launched(device):
    x, out, found = device.asarray(np.arange(4.0)), device.zeros(4), []

    def work():
        y = 2 * x
        y[1:] += 1
        found.append(y)
        out[...] = y[device.arange(3, -1, -1)] + x.sum()

    graph, _pool = captured(device, work)
    assert not out.get().any() and np.isnan(found[0].get()).all()
    for start in (0.0, 3.0):
        x.set(start + np.arange(4.0))
        graph.launch()
        y = 2 * (start + np.arange(4.0)) + [0, 1, 1, 1]
        np.testing.assert_array_equal(out.get(), y[::-1] + x.get().sum())
        np.testing.assert_array_equal(found[0].get(), y)


REFUSED = {
    "get": lambda cupy, x: x.get(),
    "float": lambda cupy, x: float(x[0, 0]),
    "flatnonzero": lambda cupy, x: cupy.flatnonzero(x),
    "boolean index": lambda cupy, x: x[x > 0],
    "list index": lambda cupy, x: x[[0, 1]],
    "asarray": lambda cupy, x: cupy.asarray(np.ones(3)),
    "set": lambda cupy, x: x.set(np.ones((3, 3))),
    "nine arrays": lambda cupy, x: cupy.stack([x] * 9),
    "synchronize": lambda cupy, x: cupy.cuda.get_current_stream().synchronize(),
}


@pytest.mark.parametrize("what", REFUSED)
def test_waits_and_transfers_end_a_capture(what, device):
    x = device.zeros((3, 3))
    with pytest.raises(RuntimeError, match="StreamCaptureInvalidated") as problem:
        captured(device, lambda: REFUSED[what](device, x))
    assert "StreamCaptureUnsupported" in str(problem.value.__context__)
    REFUSED[what](device, x)


CUBLAS = {
    "@": lambda cupy, x: x @ x,
    "matmul": lambda cupy, x: cupy.matmul(x, x),
    "dot": lambda cupy, x: x.dot(x),
    "einsum": lambda cupy, x: cupy.einsum("ij,jk->ik", x, x),
    "tensordot": lambda cupy, x: cupy.tensordot(x, x),
}


@pytest.mark.parametrize("what", CUBLAS)
def test_cublas_is_refused(what, device):
    x = device.zeros((3, 3))
    with pytest.raises(NotImplementedError, match="cuBLAS API during stream capture"):
        captured(device, lambda: CUBLAS[what](device, x))


def test_memory_belongs_to_the_graph(device):
    x, stream = device.zeros(3), device.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        with pytest.raises(RuntimeError, match="not the graph's own"):
            2 * x
        with pytest.raises(RuntimeError, match="Invalidated"):
            stream.end_capture()
    graph, pool = captured(device, lambda: 2 * x)
    graph.launch()
    del pool
    with pytest.raises(AssertionError, match="given back"):
        graph.launch()


def test_only_a_current_stream_that_does_not_block_captures(device):
    with pytest.raises(RuntimeError, match="legacy"):
        device.cuda.Stream().begin_capture()
    with pytest.raises(AssertionError, match="another stream"):
        device.cuda.Stream(non_blocking=True).begin_capture()


def test_nodes_are_launches(device):
    x = device.zeros((2, 3))
    fused = device.fuse(lambda a: 2 * a + 1)

    def work():
        y = x.reshape(3, 2).T[0]
        z = fused(y)
        z += device.zeros(3)
        device.ascontiguousarray(z)
        device.concatenate([z, z])

    assert captured(device, work)[0].nodes == ["fused", "zeros", "add", "concatenate"]


def test_the_doubles_signatures_are_cupys():
    """Cython keeps some; where it does not, the first line of the docstring has them."""
    from doubles.stream_capture import Graph, MemoryPool, Stream

    for ours, theirs in ((Stream, real.cuda.Stream), (Graph, real.cuda.Graph), (MemoryPool, real.cuda.MemoryPool)):
        for name, function in inspect.getmembers(ours, inspect.isfunction):
            if not name.startswith("_"):
                assert hasattr(theirs, name), f"cupy.cuda.{theirs.__name__} has no {name}"
                parameters = list(inspect.signature(function).parameters)[1:]
                said = (getattr(theirs, name).__doc__ or "").split("\n")[0]
                assert all(p in said for p in parameters), (name, said)


def test_cupys_cublas_asks_whether_a_stream_captures():
    """What it answers can only be seen with a GPU; that it asks stands in its library."""
    (library,) = (Path(real.__file__).parents[1] / "cupy_backends" / "cuda" / "libs").glob("cublas.*.so")
    assert b"streamIsCapturing" in library.read_bytes()
