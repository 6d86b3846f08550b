"""The emulator that runs CUDA C++ on the CPU finds the bugs planted in cuda_emulator/bad.cu."""


import numpy as np
import pytest
from cuda_emulator import EmulatorError, Module, load
from helpers.emulated import GCC, IMPORTABLE, NO_GCC, ORDERS, TESTS, needs_gcc, under_sanitizer

BAD = TESTS / "cuda_emulator" / "bad.cu"


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
sys.path[:0] = {tests!r}
import numpy as np
from cuda_emulator import Module
module = Module({path!r}, [{name!r}], sanitize={sanitizer!r})
module.order_blocks({grid} == 1)
x, y = np.arange(1, 129, dtype=np.float32), np.zeros(128, np.float32)
module.get_function({name!r})(({grid},), (128,), (x, y))
print("finished")
"""


@needs_gcc
@pytest.mark.once
@pytest.mark.parametrize(
    ("sanitizer", "name", "grid", "report"),
    [
        ("address", "past_the_end", 1, "heap-buffer-overflow"),
        ("address", "past_shared", 1, "heap-buffer-overflow"),
        ("address", "right_barrier", 1, None),
        ("thread", "race", 1, "data race"),
        ("thread", "race_between_blocks", 2, "data race"),
        ("thread", "vote_as_barrier", 1, "data race"),
        ("thread", "right_warp_barrier", 1, None),
        ("thread", "no_race", 1, None),
    ],
)
def test_sanitizers_find_planted_bugs(sanitizer, name, grid, report):
    code = SANITIZED.format(tests=IMPORTABLE, path=str(BAD), name=f"{name}<float>", sanitizer=sanitizer, grid=grid)
    status, output = under_sanitizer(sanitizer, code)
    if report is None:
        assert status == 0 and "finished" in output, output
    else:
        assert status != 0 and report in output and "bad.cu" in output, output
