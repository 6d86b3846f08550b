"""NVRTC compiles every specialisation of every kernel for the oldest architecture and for a recent one; none spills.

No GPU is needed. `python -m bench.gpu.compile_report` does it for all architectures, in minutes.
"""

import inspect

import pytest
from helpers.emulated import Recorder
from helpers.layouts import layouts
from references.gaussian_moments_kernels import Case

# The report is not installed: it runs from the checkout.
from bench.gpu.compile_report import LIMITS, Resources, compile_file, nvrtc_status
from fastdesc.backend import cuda
from fastdesc.descriptors.gaussian_moments import cuda as gaussian_moments_cuda

NVRTC, VERSION = nvrtc_status()
pytestmark = pytest.mark.skipif(not NVRTC, reason=VERSION)
STATIC_SHARED = 48 * 1024


@pytest.fixture(scope="module")
def compiled():
    """Return get(file, arch) -> {name: Resources}, compiled once."""
    known = {}

    def get(file, arch):
        if (file, arch) not in known:
            known[file, arch] = compile_file(file, arch)
        return known[file, arch]

    return get


@pytest.mark.once(VERSION)
@pytest.mark.parametrize("arch", ["sm_75", "sm_90"])
@pytest.mark.parametrize("file", cuda.all_specialisations())
def test_nothing_spills(compiled, file, arch):
    resources = compiled(file, arch)
    assert tuple(resources) == cuda.specialisations(file) and resources
    spilling = {name: r for name, r in resources.items() if r.spills}
    assert not spilling, f"{file} for {arch}"
    for name, r in resources.items():
        assert 0 < r.registers <= 255 and r.shared <= STATIC_SHARED, name
        assert r.warps(arch) > 0, f"{name}: not one block fits a multiprocessor of {arch}"


def test_structs_of_scalars_lie_as_nvrtc_lays_them(monkeypatch):
    for text, fits in ((layouts(), True), (layouts().replace("cutoff) == 64", "cutoff) == 60"), False)):
        monkeypatch.setattr(cuda, "source", lambda file, text=text: text)
        if fits:
            compile_file("layouts.cu", "sm_90", ())
        else:
            with pytest.raises(RuntimeError, match="static assertion failed"):
                compile_file("layouts.cu", "sm_90", ())


def test_every_kernel_is_declared():
    """A kernel without a '// specialise' line would never be compiled here."""
    for file in cuda.all_specialisations():
        declared = {name.partition("<")[0] for name in cuda.specialisations(file)}
        assert declared == set(cuda._declarations(file)), file


@pytest.mark.once(VERSION)
@pytest.mark.parametrize("dual", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_launches_keep_to_the_bounds(compiled, dtype, dual):
    """Blocks are as large as the kernels were compiled for, and are specialisations that tests have seen."""
    recorder, case = Recorder(), Case(7, 8, 3, "bessel", 2)
    rij, arguments = case.arguments(dtype, dual)
    with cuda.executor(recorder):
        kernels = gaussian_moments_cuda.Kernels(case.family, rij, case.pairs, case.species)
        for name, (inputs, shape) in arguments.items():
            getattr(kernels, name)(*inputs, *([] if shape is None else [rij.repeat(100, -1)[..., : shape[-1]]]))
    resources = compiled("gaussian_moments/gaussian_moments.cu", "sm_90")
    assert len(recorder.calls) == 5
    for name, _, block, _, _ in recorder.calls:
        assert block == (resources[name].threads,), name


def test_spills_are_seen(tmp_path, monkeypatch):
    """A kernel with more live values than registers is caught."""
    n = 400
    body = "".join(f"const double a{k} = x[{k}];\n" for k in range(n))
    body += "__syncthreads();\n" + "".join(f"x[{k}] = a{(k * 7) % n} * a{(k + 1) % n};\n" for k in range(n))
    (tmp_path / "wide.cu").write_text(f"// specialise wide\n__global__ void wide(volatile double* x) {{\n{body}}}\n")
    monkeypatch.setattr(cuda, "source", lambda file: (tmp_path / file).read_text())
    resources = compile_file("wide.cu", "sm_80", ("wide",))
    assert resources["wide"].spills > 0 and resources["wide"].threads == 1024


def test_compiler_errors_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(cuda, "source", lambda file: "__global__ void broken() { nonsense(); }")
    with pytest.raises(RuntimeError, match=r'broken.cu for sm_80(.|\n)*"nonsense" is undefined'):
        compile_file("broken.cu", "sm_80", ("broken",))


def test_options_are_those_that_cupy_uses():
    """What CuPy adds to ours is read in its source: it can only run with a GPU."""
    from cupy.cuda import compiler

    text = inspect.getsource(compiler)
    for option in cuda.ADDED_BY_CUPY:
        assert f"'{option}'" in text, f"CuPy no longer adds {option}"


def test_occupancy():
    """Examples worked by hand: registers, then shared memory, then the number of warps are the limit."""
    assert Resources(128, 0, 0, 0, 0, 256).warps("sm_90") == 16
    assert Resources(129, 0, 0, 0, 0, 128).warps("sm_90") == 12
    assert Resources(32, 0, 0, 0, 31 * 1024, 256).warps("sm_90") == 7 * 8
    assert Resources(32, 0, 0, 0, 32 * 1024, 128).warps("sm_75") == 8
    assert Resources(16, 0, 0, 0, 0, 256).warps("sm_120") == LIMITS["sm_120"][0]
