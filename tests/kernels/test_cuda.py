"""fastdesc.backend.cuda: what is launched is what was meant."""

import subprocess
import sys

import numpy as np
import pytest
from cuda_emulator import load
from helpers.emulated import TESTS, Recorder, needs_gcc
from helpers.layouts import layouts

from fastdesc.backend import cuda, declarations, launch_shapes
from fastdesc.backend.arrays import padded
from fastdesc.errors import DeviceError

SCALARS = ("float", "double", "Dual<float>", "Dual<double>")


class Driver:
    """libcuda.so.1 of a machine with one GPU."""

    def __init__(self, version):
        self.version = version

    def cuInit(self, flags):
        return 0

    def cuDriverGetVersion(self, out):
        out._obj.value = self.version

    def cuDeviceGetCount(self, out):
        out._obj.value = 1


def test_the_cuda_of_cupy_is_known_by_its_name(monkeypatch):
    for names, wanted in ((["cupy-cuda13x"], 13), (["cupy-cuda12x"], 12), (["cupy"], 0)):

        def found(name, names=names):
            if name not in names:
                raise cuda.PackageNotFoundError(name)

        monkeypatch.setattr(cuda, "distribution", found)
        assert cuda._cuda_of_cupy() == wanted


def test_gpu_status_gives_a_reason(monkeypatch):
    usable, reason = cuda.gpu_status()
    assert isinstance(usable, bool) and len(reason) > 10
    ask = cuda.gpu_status.__wrapped__
    with monkeypatch.context() as m:
        m.setattr(cuda.importlib.util, "find_spec", lambda name: None)
        assert ask()[0] is False and "pip install" in ask()[1]
    with monkeypatch.context() as m:
        m.setattr(cuda.importlib.util, "find_spec", lambda name: name)    # as if CuPy were there
        m.setattr(cuda.ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError("none")))
        assert ask()[0] is False and "driver" in ask()[1]
    for knows, needs, wanted in ((12080, 13, False), (13000, 13, True), (12080, 12, True), (11080, 12, False)):
        with monkeypatch.context() as m:
            m.setattr(cuda.importlib.util, "find_spec", lambda name: name)
            m.setattr(cuda.ctypes, "CDLL", lambda name, knows=knows: Driver(knows))
            m.setattr(cuda, "_cuda_of_cupy", lambda needs=needs: needs)
            usable, reason = ask()
            assert usable is wanted, reason
            words = f"knows CUDA {knows // 1000}.8 and CuPy is for {needs} (update it"
            assert wanted or words in reason
    monkeypatch.setenv("FASTDESC_GPU", "0")
    assert ask() == (False, "the GPU is switched off by FASTDESC_GPU=0")


def test_gpu_status_does_not_import_cupy():
    code = "import sys; from fastdesc.backend import cuda; cuda.gpu_status(); sys.exit('cupy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=TESTS.parent).returncode == 0


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
    names = cuda.specialisations(FILE)
    assert "gm_moments_pullback<Dual<double>, 8>" in names and "gm_contract<float>" in names
    assert len(names) == len(set(names))


@needs_gcc
@pytest.mark.once
@pytest.mark.parametrize("scalar", SCALARS)
@pytest.mark.parametrize("file", cuda.all_specialisations())
def test_declared_types_are_the_compiled_ones(file, scalar):
    """What fastdesc.backend.cuda reads in the text of a kernel is what the compiler makes of it."""
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


@needs_gcc
def test_structs_of_scalars_lie_as_gcc_lays_them():
    emulator = TESTS / "cuda_emulator" / "emulator.h"
    command = ["g++", "-std=c++20", "-x", "c++", "-include", emulator, "-fsyntax-only", "-"]
    done = subprocess.run(command, input=layouts(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_scalars_are_packed_as_numpy_lays_them():
    """Also where there are gaps: behind an int before a long long, and at the end."""
    gaps = 0
    for file, names in cuda.all_specialisations().items():
        for name in names:
            dtype = cuda.parameters(file, name)[-1][2]
            values = tuple((k % 2 == 0) if dtype[k].kind == "b" else k + 1 for k in range(len(dtype)))
            packed = declarations.packing(dtype)
            assert packed.size == dtype.itemsize, name
            assert np.frombuffer(packed.pack(*values), dtype).item() == values, name
            gaps += dtype.itemsize > sum(dtype[k].itemsize for k in range(len(dtype)))
    assert gaps > 10


def test_unknown_kernel_is_named():
    with pytest.raises(DeviceError, match=r"gm_momentz.*did you mean 'gm_moments'"):
        cuda.parameters(FILE, "gm_momentz<float, 4>")


FILE, CONTRACT = "gaussian_moments/gaussian_moments.cu", "gm_contract<float>"


SIZES = {"n_atoms": 5, "moments_stride": 8, "q_stride": 9, "n_radial": 2, "n_moments": 1, "n_features": 3}
SCALARS_OF_CONTRACT = SIZES | {f"o{k}": k - 1 for k in range(1, 9)}


def test_launch_converts_numbers_and_rounds_the_grid_up():
    recorder, q = Recorder(), np.zeros((3, 8), np.float32)
    with cuda.executor(recorder):
        for n in (1, 32, 33):
            cuda.launch(FILE, CONTRACT, n, 32, 256, [q, q], y=2, shared_mem=12, **SCALARS_OF_CONTRACT)
    assert recorder.loaded == [(FILE, CONTRACT)], "compiled more than once"
    assert [c[1] for c in recorder.calls] == [(1, 2, 1), (1, 2, 1), (2, 2, 1)]
    _, _, block, args, shared = recorder.calls[0]
    assert block == (256,) and shared == 12
    *arrays, given = args
    assert arrays[0] is arrays[1] is q
    assert isinstance(given, np.ndarray) and given.shape == (), "CuPy takes a struct as an array without axes"
    assert given.dtype.names is None, "CuPy would describe every field, at each launch"
    fields = cuda.parameters(FILE, CONTRACT)[-1][2]
    assert dict(zip(fields.names, given.view(fields).item(), strict=True)) == SCALARS_OF_CONTRACT
    assert fields["n_atoms"] == np.int64 and fields["o8"] == np.int32


def test_nothing_is_launched_on_nothing():
    recorder = Recorder()
    with cuda.executor(recorder):
        cuda.launch(FILE, CONTRACT, 0, 32, 256, [])
    assert recorder.calls == []


def test_real_scalars_take_the_type_of_the_template():
    by_name = {n: d for n, _, d in cuda.parameters(FILE, "gm_moments<Dual<double>, 4>")}
    assert by_name["given"]["cutoff"] == by_name["rij"] == np.float64 and by_name["row"] == np.int64
    by_name = {n: d for n, _, d in cuda.parameters(FILE, "gm_moments<Dual<float>, 4>")}
    assert by_name["given"]["cutoff"] == by_name["rij"] == np.float32 and by_name["j"] == np.int32


@pytest.mark.parametrize(
    ("arrays", "scalars", "message"),
    [
        (lambda q: [q], {}, "takes 2 arrays, and 1 came"),
        (lambda q: [q.astype(np.float64), q], {}, "moments is an array of float32, and one of float64"),
        (lambda q: [1.0, q], {}, "moments is an array, and float came"),
        (lambda q: [q, q], {"n_atoms": np.zeros(2)}, r"n_atoms is int64, and array\(\[0., 0.\]\) came"),
        (lambda q: [q, q], {"n_radial": 2.5}, "n_radial is int32, and 2.5 came"),
        (lambda q: [q, q], {"o8": 2**31}, "o8 is int32, and 2147483648 came"),
        (lambda q: [q, q], {"n_atoms": None}, "the scalar n_atoms is missing"),
        (lambda q: [q, q], {"q_strides": 1}, r"there is no scalar 'q_strides' \(did you mean 'q_stride'\?\)"),
    ],
)
def test_wrong_arguments_are_refused(arrays, scalars, message):
    given = {n: x for n, x in (SCALARS_OF_CONTRACT | scalars).items() if x is not None}
    with cuda.executor(Recorder()), pytest.raises(TypeError, match=message):
        cuda.launch(FILE, CONTRACT, 5, 32, 256, arrays(np.zeros((3, 8), np.float32)), **given)


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("int n, float* x", "must take arrays and, after them, one struct"),
        ("float* x, int n, const Given given", "must take arrays and, after them, one struct"),
        ("float* x, int n", "argument n is of type int; it must be a plain struct"),
        ("float* x, const Wrong given", "Wrong.x is of type char; a scalar is one of bool, int"),
    ],
)
def test_kernels_take_arrays_and_one_struct(monkeypatch, signature, message):
    text = f"struct Given {{ int n; }};\nstruct Wrong {{ char x; }};\n__global__ void k({signature}) {{}}"
    monkeypatch.setattr(cuda, "source", lambda file: text)
    with pytest.raises(DeviceError, match=message):
        cuda.parameters(f"of_a_test/{signature}.cu", "k")


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


def test_rows_of_partial_sums_stay_bounded():
    rows = [-(-100_000 // launch_shapes.atoms_per_warp(100_000, size)) for size in (160, 1 << 20, 1 << 30)]
    assert 1000 < rows[0] <= 2048 and rows[1] <= 256 and rows[2] <= 64
    assert launch_shapes.atoms_per_warp(1, 160) == 1


def test_widths_are_the_fewest_that_suffice():
    names = cuda.specialisations(FILE)
    widths = [int(name.split(", ")[1][:-1]) for name in names if name.startswith("gm_moments<float,")]
    assert len(widths) > 1
    for n in range(1, max(widths) + 9):
        enough = [w for w in widths if w >= n] or [max(widths)]
        assert launch_shapes.slab_width(FILE, "gm_moments", "float", n) == min(enough)


def test_rows_are_copied_where_they_are_not_whole():
    x = np.arange(24.0).reshape(4, 6)
    assert np.shares_memory(launch_shapes.with_whole_rows(np, x[1:, :4]), x)
    np.testing.assert_array_equal(launch_shapes.with_whole_rows(np, x[:, ::2]), x[:, ::2])
    assert launch_shapes.with_whole_rows(np, x.T).flags.c_contiguous
