"""CUDA kernels of Gaussian moments, emulated, against plain NumPy: every scalar type, every order of threads."""

from functools import lru_cache, partial

import numpy as np
import pytest
from cuda_emulator import gcc_status, load
from helpers.emulated import ORDERS
from references.gaussian_moments_kernels import CUTOFF, Case, pull_moments

from fastdesc.backend import cuda
from fastdesc.descriptors import kernels as descriptors_kernels
from fastdesc.descriptors.gaussian_moments import cuda as gaussian_moments_cuda
from fastdesc.errors import InputError

GCC, NO_GCC = gcc_status()
pytestmark = pytest.mark.skipif(not GCC, reason=NO_GCC)
CASES = {
    "one channel": (1, 1, 0, "gaussian", 1),
    "rank 1": (3, 4, 1, "bessel", 3),
    "default": (5, 8, 3, "bessel", 1),
    "elements": (5, 7, 3, "gaussian", 3),
    "slabs": (9, 18, 2, "gaussian", 3),
    "most basis functions": (6, 32, 3, "bessel", 2),
    "selection": (4, 5, 3, "bessel", 2, (2, 5, 8)),
}


@lru_cache
def case_and_reference(name):
    case = Case(*CASES[name])
    return case, case.wanted


def run_all(case, dtype, dual):
    """Return {kernel: output}; outputs have padding, which must stay untouched."""
    rij, arguments = case.arguments(dtype, dual)
    kernels = gaussian_moments_cuda.Kernels(case.family, rij, case.pairs, case.species)
    found = {}
    for name, (inputs, shape) in arguments.items():
        if shape is None:
            found[name] = getattr(kernels, name)(*inputs)
            continue
        whole = np.full((*shape[:-1], shape[-1] + 3), np.nan, dtype)
        found[name] = whole[..., : shape[-1]]
        getattr(kernels, name)(*inputs, found[name])
        assert np.isnan(whole[..., shape[-1] :]).all(), f"{name} wrote past its rows"
    return found


TOLERANCE = {"float64": 1e-12, "float32": 2e-5}


@pytest.mark.parametrize("dual", [False, True], ids=["plain", "dual"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
def test_kernels_equal_the_reference(name, dtype, dual):
    case, wanted = case_and_reference(name)
    results = []
    for order in ORDERS:
        with cuda.executor(partial(load, order=order, seed=5)):
            results.append(run_all(case, dtype, dual))
    for kernel, (value, tangent) in wanted.items():
        got = results[0][kernel]
        assert got.dtype == (np.float64 if kernel == "gm_beta_pullback" else dtype)
        for other in results[1:]:
            np.testing.assert_array_equal(got, other[kernel], err_msg=f"{kernel} depends on the order of threads")
        for part, expected in zip(got if dual else [got], (value, tangent), strict=False):
            scale = abs(expected).max()
            np.testing.assert_allclose(part, expected, rtol=0, atol=TOLERANCE[dtype] * scale, err_msg=kernel)


@pytest.mark.parametrize("name", CASES)
def test_the_reference_agrees_with_itself(name):
    """Derivatives written out, whose complex steps serve as second derivatives, against complex steps."""
    case, wanted = case_and_reference(name)
    written = pull_moments(case, case.rij, case.beta, case.dM)
    np.testing.assert_allclose(written, wanted["gm_moments_pullback"][0], rtol=0, atol=1e-12 * abs(written).max())


def test_beyond_the_cutoff_is_exactly_nothing():
    case, _ = case_and_reference("elements")
    with cuda.executor(load):
        for dual in (False, True):
            found = run_all(case, "float64", dual)
            beyond = np.sqrt((case.rij**2).sum(0)) >= CUTOFF
            assert beyond[:2].all() and not beyond.all()
            assert (found["gm_moments_pullback"][..., beyond] == 0).all()
            assert (found["gm_moments"][..., [1, 7, 9]] == 0).all()


def test_the_number_of_atoms_bounds_what_is_written():
    case, wanted = case_and_reference("default")
    f, M = case.family, wanted["gm_moments"][0]
    q = np.full(case.dq.shape, np.nan)
    sizes = {"n_radial": f.n_radial, "n_moments": f.n_moments, "n_features": f.n_features}
    offsets = {f"o{k}": offset for k, offset in enumerate(f.offsets.tolist(), 1)}
    given = {"n_atoms": 9, "moments_stride": 11, "q_stride": 11, **sizes, **offsets}
    with cuda.executor(load):
        cuda.launch(gaussian_moments_cuda.FILE, "gm_contract<double>", 9, 16, 256, (M, q), shared_mem=12800, **given)
    assert np.isnan(q[:, 9:]).all()
    np.testing.assert_allclose(q[:, :9], wanted["gm_contract"][0][:, :9], rtol=1e-12, atol=1e-12)


def test_sums_of_many_atoms_per_warp():
    """Atoms that share a partial sum of dbeta give the same total."""
    case, wanted = case_and_reference("elements")
    with pytest.MonkeyPatch.context() as m, cuda.executor(load):
        m.setattr(descriptors_kernels, "atoms_per_warp", lambda *_: 2)
        found = run_all(case, "float64", dual=False)["gm_beta_pullback"]
    np.testing.assert_allclose(found, wanted["gm_beta_pullback"][0], rtol=0, atol=1e-12 * abs(found).max())


def test_too_many_basis_functions_are_refused():
    case = Case(2, 33, 1, "bessel", 1)
    with cuda.executor(load), pytest.raises(InputError, match=r"n_basis is 33.*up to 32"):
        run_all(case, "float64", dual=False)
