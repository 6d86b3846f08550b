"""fastdesc.cuda and the emulator: what is launched is what was meant, and planted bugs are found."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cuda_emulator import EmulatorError, Module, gcc_status, load

from fastdesc import cuda
from fastdesc.arrays import padded
from fastdesc.errors import DeviceError

HERE = Path(__file__).resolve().parent
BAD = HERE / "cuda_emulator" / "bad.cu"
GCC, NO_GCC = gcc_status()
needs_gcc = pytest.mark.skipif(not GCC, reason=NO_GCC)
SCALARS = ("float", "double", "Dual<float>", "Dual<double>")


# --------------------------------------------------------------------------------------------------- fastdesc.cuda


def test_gpu_status_gives_a_reason(monkeypatch):
    usable, reason = cuda.gpu_status()
    assert isinstance(usable, bool) and len(reason) > 10
    ask = cuda.gpu_status.__wrapped__
    with monkeypatch.context() as m:
        m.setattr(cuda.importlib.util, "find_spec", lambda name: None)
        assert ask()[0] is False and "pip install" in ask()[1]
    with monkeypatch.context() as m:
        m.setattr(cuda.ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError("none")))
        assert ask()[0] is False and "driver" in ask()[1]
    monkeypatch.setenv("FASTDESC_GPU", "0")
    assert ask() == (False, "the GPU is switched off by FASTDESC_GPU=0")


def test_gpu_status_does_not_import_cupy():
    code = "import sys; from fastdesc import cuda; cuda.gpu_status(); sys.exit('cupy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=HERE.parent).returncode == 0


def test_active_for_follows_the_array_or_the_executor():
    x = np.zeros(3)
    assert not cuda.active_for(x)
    with cuda.executor(load):
        assert cuda.active_for(x)
    assert not cuda.active_for(x)


def test_sources_are_self_contained():
    for file in cuda.all_specialisations():
        text = cuda.source(file)
        assert '#include "' not in text and "#pragma once" not in text
        assert text.startswith(f'#line 1 "{file}"')
        assert text.count('#line 1 "common.cuh"') == 1


def test_line_numbers_survive_inlining():
    """Every #line tells the truth about the line that follows it."""
    folder = cuda.kernels_folder()
    for file in cuda.all_specialisations():
        where, line = None, 0
        for text in cuda.source(file).splitlines():
            if text.startswith("#line"):
                _, number, name = text.split(maxsplit=2)
                where, line = (folder / name.strip('"')).read_text().splitlines(), int(number) - 1
                continue
            assert where[line] == text or (text == "" and where[line].startswith(("#pragma once", '#include "')))
            line += 1


def test_specialisations_are_products():
    names = cuda.specialisations("gaussian_moments.cu")
    assert "gm_moments_pullback<Dual<double>, 8>" in names and "gm_contract<float>" in names
    assert len(names) == len(set(names))


@needs_gcc
@pytest.mark.parametrize("scalar", SCALARS)
@pytest.mark.parametrize("file", cuda.all_specialisations())
def test_declared_types_are_the_compiled_ones(file, scalar):
    """What fastdesc.cuda reads in the text of a kernel is what the compiler makes of it."""
    names = {}
    for name in cuda.specialisations(file):
        if scalar in name.partition("<")[2].removesuffix(">").split(", ") or "<" not in name:
            names[name.partition("<")[0]] = name
    if not names:
        pytest.skip(f"{file} has no kernels of {scalar}")
    module = load(cuda.kernels_folder() / file, sorted(names.values()))
    for name in names.values():
        compiled = [s.removeprefix("c") for s in module.get_function(name).signature]
        declared = [("*" if p else "") + d.kind + str(d.itemsize) for _, p, d in cuda.parameters(file, name)]
        assert declared == compiled


def test_unknown_kernel_is_named():
    with pytest.raises(DeviceError, match=r"gm_momentz.*did you mean 'gm_moments'"):
        cuda.parameters("gaussian_moments.cu", "gm_momentz<float, 4>")


class Recorder:
    """A loader whose kernels write down how they were called."""

    def __init__(self):
        self.calls, self.loaded = [], []

    def __call__(self, path, names):
        self.loaded += [(path.name, n) for n in names]
        return self

    def get_function(self, name):
        return lambda grid, block, args, shared_mem=0: self.calls.append((name, grid, block, args, shared_mem))


CONTRACT = "gm_contract<float>"


def contract_arguments(q):
    return [0, 5, q, q, 8, 8, 2, 1, 3, *range(8)]


def test_launch_converts_numbers_and_rounds_the_grid_up():
    recorder, q = Recorder(), np.zeros((3, 8), np.float32)
    with cuda.executor(recorder):
        for n in (1, 32, 33):
            cuda.launch("gaussian_moments.cu", CONTRACT, n, 32, 256, contract_arguments(q), y=2, shared_mem=12)
    assert recorder.loaded == [("gaussian_moments.cu", CONTRACT)], "compiled more than once"
    assert [c[1] for c in recorder.calls] == [(1, 2, 1), (1, 2, 1), (2, 2, 1)]
    _, _, block, args, shared = recorder.calls[0]
    assert block == (256,) and shared == 12
    assert [type(a) for a in args[:2]] == [np.int64, np.int64] and args[2] is q
    assert {type(a) for a in args[6:]} == {np.int32}


def test_nothing_is_launched_on_nothing():
    recorder = Recorder()
    with cuda.executor(recorder):
        cuda.launch("gaussian_moments.cu", CONTRACT, 0, 32, 256, [])
    assert recorder.calls == []


def test_real_scalars_take_the_type_of_the_template():
    by_name = {n: d for n, _, d in cuda.parameters("gaussian_moments.cu", "gm_moments<Dual<double>, 4>")}
    assert by_name["cutoff"] == by_name["rij"] == np.float64 and by_name["row"] == np.int64
    by_name = {n: d for n, _, d in cuda.parameters("gaussian_moments.cu", "gm_moments<Dual<float>, 4>")}
    assert by_name["cutoff"] == by_name["rij"] == np.float32 and by_name["j"] == np.int32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a[:-1], "takes 17 arguments, and 16 came"),
        (lambda a: [*a[:2], a[2].astype(np.float64), *a[3:]], "moments is an array of float32, and one of float64"),
        (lambda a: [*a[:2], 1.0, *a[3:]], "moments is an array, and float came"),
        (lambda a: [np.zeros(2), *a[1:]], "first is int64, and an array came"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    with cuda.executor(Recorder()), pytest.raises(TypeError, match=message):
        args = change(contract_arguments(np.zeros((3, 8), np.float32)))
        cuda.launch("gaussian_moments.cu", CONTRACT, 5, 32, 256, args)


def test_row_stride():
    x = np.zeros((2, 3, 4, 10))
    assert cuda.row_stride(x) == 10
    assert cuda.row_stride(x[..., :7]) == 10
    assert cuda.row_stride(x[:, :1, :1, :7]) == 120
    assert cuda.row_stride(np.zeros((1, 1, 5))) == 5
    assert cuda.row_stride(padded((3, 20), np.float32)) % 16 == 0
    for bad in (x[..., ::2], x[:, ::2], x.transpose(0, 1, 3, 2), x[:, :2, :3]):
        with pytest.raises(TypeError, match=r"strides"):
            cuda.row_stride(bad)


# ---------------------------------------------------------------------------------------------------- the emulator


@pytest.fixture(scope="module")
def bad():
    """Return run(kernel, order) -> y, 128 threads on x = 1 .. 128."""
    if not GCC:
        pytest.skip(NO_GCC)
    names = ("right_barrier", "missing_barrier", "divergent_barriers", "half_a_warp", "wrong_mask",
             "missing_warp_barrier", "uninitialised", "no_race")  # fmt: skip
    module = Module(BAD, [f"{n}<float>" for n in names])

    def run(name, order):
        module.run_threads(order, seed=3)
        x, y = np.arange(1, 129, dtype=np.float32), np.zeros(128, np.float32)
        module.get_function(f"{name}<float>")((1,), (128,), (x, y))
        return y

    return run


ORDERS = ("forward", "reverse", "random")


def test_right_kernels_are_right_in_every_order(bad):
    for order in ORDERS:
        np.testing.assert_array_equal(bad("right_barrier", order), np.roll(np.arange(1, 129), -1))
        assert bad("no_race", order)[0] == 128 * 129 / 2


@pytest.mark.parametrize("name", ["missing_barrier", "missing_warp_barrier"])
def test_missing_barriers_change_results(bad, name):
    results = [bad(name, order) for order in ORDERS]
    assert any(np.isnan(y).any() for y in results)
    assert not np.array_equal(results[0], results[1], equal_nan=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("divergent_barriers", "divergent barriers: __syncthreads line"),
        ("half_a_warp", "deadlock: .* waits in __shfl_down_sync"),
        ("wrong_mask", "is not in mask 0x0000ffff"),
    ],
)
def test_impossible_rendezvous_are_reported(bad, name, message):
    for order in ORDERS:
        with pytest.raises(EmulatorError, match=message):
            bad(name, order)
    np.testing.assert_array_equal(bad("right_barrier", "forward")[:3], [2, 3, 4])  # and it works on


def test_unwritten_shared_memory_is_nan(bad):
    assert np.isnan(bad("uninitialised", "forward")[127])


@needs_gcc
def test_argument_types_are_checked():
    kernel = Module(BAD, ["right_barrier<float>"]).get_function("right_barrier<float>")
    x, y = np.zeros(128, np.float32), np.zeros(128, np.float32)
    frozen = y.copy()
    frozen.flags.writeable = False
    for args, message in [
        ((x.astype(np.float64), y), "argument 0: an array of f8 came, the kernel takes c.f4"),
        ((x, frozen), "argument 1: a read-only array"),
        ((x, 1), "argument 1: a int came; CuPy would send int as int64"),
        ((x, np.int32(1)), "argument 1: i4 came"),
        ((x,), "1 arguments came, the kernel takes 2"),
    ]:
        with pytest.raises(TypeError, match=message):
            kernel((1,), (128,), args)


@needs_gcc
@pytest.mark.parametrize(("grid", "block", "shared"), [((1,), (1025,), 0), ((0,), (32,), 0), ((1,), (32,), 300_000)])
def test_impossible_launches_are_refused(grid, block, shared):
    kernel = Module(BAD, ["right_barrier<float>"]).get_function("right_barrier<float>")
    x = np.zeros(128, np.float32)
    with pytest.raises(EmulatorError, match="not launchable"):
        kernel(grid, block, (x, x), shared_mem=shared)


@needs_gcc
def test_syntax_errors_show_the_compiler_log(tmp_path):
    (tmp_path / "broken.cu").write_text("__global__ void broken(int n) { n = nonsense; }")
    with pytest.raises(EmulatorError, match=r"nonsense.*not declared"):
        load(tmp_path / "broken.cu", ["broken"])


SANITIZED = """
import sys
sys.path.insert(0, {tests!r})
import numpy as np
from cuda_emulator import Module
module = Module({path!r}, [{name!r}], sanitize={sanitizer!r})
module.order_blocks({grid} == 1)
x, y = np.arange(1, 129, dtype=np.float32), np.zeros(128, np.float32)
module.get_function({name!r})(({grid},), (128,), (x, y))
print("finished")
"""


def under_sanitizer(sanitizer, code):
    """Run Python with a sanitizer's library loaded; return exit status and all output."""
    found = subprocess.run(
        ["g++", f"-print-file-name=lib{sanitizer[0]}san.so"], capture_output=True, text=True
    ).stdout.strip()
    if not os.path.isabs(found):
        pytest.skip(f"g++ comes without its {sanitizer} sanitizer")
    options = {"LD_PRELOAD": found, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=HERE.parent, env={**os.environ, **options}
    )
    return done.returncode, done.stdout + done.stderr


@needs_gcc
@pytest.mark.parametrize(
    ("sanitizer", "name", "grid", "report"),
    [
        ("address", "past_the_end", 1, "heap-buffer-overflow"),
        ("address", "past_shared", 1, "heap-buffer-overflow"),
        ("address", "right_barrier", 1, None),
        ("thread", "race", 1, "data race"),
        ("thread", "race_between_blocks", 2, "data race"),
        ("thread", "no_race", 1, None),
    ],
)
def test_sanitizers_find_planted_bugs(sanitizer, name, grid, report):
    code = SANITIZED.format(tests=str(HERE), path=str(BAD), name=f"{name}<float>", sanitizer=sanitizer, grid=grid)
    status, output = under_sanitizer(sanitizer, code)
    if report is None:
        assert status == 0 and "finished" in output, output
    else:
        assert status != 0 and report in output and "bad.cu" in output, output
