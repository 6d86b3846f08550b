"""CUDA kernels of spline filters, emulated, against their Numba twins: scalar types, thread orders, sanitizers."""

from functools import lru_cache, partial

import ase
import numpy as np
import pytest
from cuda_emulator import gcc_status, load
from helpers.emulated import ORDERS
from helpers.structures import ELEMENTS, ZOO

from fastdesc.backend import cuda
from fastdesc.descriptors import kernels
from fastdesc.descriptors.spline_filters import SplineFilters

GCC, NO_GCC = gcc_status()
pytestmark = pytest.mark.skipif(not GCC, reason=NO_GCC)


def crowd():
    """Seventy atoms within one another's reach, in three elements."""
    grid = np.stack(np.meshgrid(*[np.arange(5.0)] * 3), -1).reshape(-1, 3)[:70] * 0.9
    positions = grid + np.random.default_rng(4).uniform(-0.1, 0.1, grid.shape)
    return ase.Atoms(np.resize(["H", "C", "O", "H"], 70), positions=positions)


# keywords, and frames
CASES = {
    "one filter": ({"n_pair": 1, "n_triplet": 1, "n_knots": 3}, ("three_elements", "lone_atom", "self_images")),
    "four": ({"n_pair": 4, "n_triplet": 4, "n_knots": 5}, ("triclinic", "wire")),
    "slabs": ({"n_pair": 11, "n_triplet": 9, "n_knots": 4}, ("three_elements", "slab")),
    "pairs": ({"n_pair": 5, "n_triplet": 0}, ("three_elements", "triclinic")),
    "triplets": ({"n_pair": 0, "n_triplet": 3}, ("three_elements",)),
    "shared": ({"n_pair": 2, "n_triplet": 2, "shared": True, "n_knots": 20}, ("three_elements", "triclinic")),
    "crowd": ({"n_pair": 2, "n_triplet": 4, "cutoff": 9.0, "triplet_cutoff": 2.8}, ("crowd",)),
}


@lru_cache
def case(name):
    """Return a descriptor with random parameters, float64 arguments of its maps with tangents, and cotangents."""
    keywords, frames = CASES[name]
    d = SplineFilters(**{"species": ELEMENTS, "cutoff": 4.5, "triplet_cutoff": 3.9, "r_min": 1.1, **keywords})
    rng = np.random.default_rng(6)
    d.set_parameters(**{k: rng.uniform(-1, 1, x.shape) for k, x in d.parameters.items()})
    rij, pairs, species = d.prepare([crowd() if frame == "crowd" else ZOO[frame]() for frame in frames])
    rij = np.stack([rij, rng.uniform(-1, 1, rij.shape)])
    theta = {k: np.stack([x, rng.uniform(-1, 1, x.shape)]) for k, x in d.theta(float).items()}
    dq = rng.uniform(-1, 1, (2, d.n_features, pairs.n_atoms))
    return d, rij, pairs, species, theta, dq


def run_all(name, dtype, dual):
    """Return the results of the three maps, on the backend that is active."""
    d, rij, pairs, species, theta, dq = case(name)
    chosen = slice(None) if dual else 0
    rij, dq = np.ascontiguousarray(rij[chosen], dtype), np.ascontiguousarray(dq[chosen], dtype)
    theta = {k: np.ascontiguousarray(x[chosen], dtype) for k, x in theta.items()}
    arguments = (rij, pairs, species, theta)
    q, saved = d.forward(*arguments)
    return {
        "q": q,
        "drij": d.pullback(*arguments, saved, dq),
        **d.pullback_parameters(*arguments, saved, dq),
    }


# Sums in another order; in float32 of up to a few thousand terms.
TOLERANCE = {"float64": 1e-12, "float32": 3e-5}


@pytest.mark.parametrize("dual", [False, True], ids=["plain", "dual"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
def test_kernels_equal_their_twins(name, dtype, dual):
    wanted, results = run_all(name, "float64", dual), []
    for order in ORDERS:
        with cuda.executor(partial(load, order=order, seed=5)):
            results.append(run_all(name, dtype, dual))
    for what, expected in wanted.items():
        got = results[0][what]
        assert got.dtype == (dtype if what in ("q", "drij") else np.float64)
        for other in results[1:]:
            np.testing.assert_array_equal(got, other[what], err_msg=f"{what} depends on the order of threads")
        for plane in range(1 + dual):
            one, two = (got[plane], expected[plane]) if dual else (got, expected)
            scale = max(1.0, abs(two).max(initial=0))
            np.testing.assert_allclose(one, two, rtol=0, atol=TOLERANCE[dtype] * scale, err_msg=what)


def test_the_crowd_fills_tiles():
    """The structure is what it is named for: rows of close neighbours on both sides of 32 and of 64."""
    d, rij, pairs, *_ = case("crowd")
    close = np.bincount(pairs.i[(rij[0] ** 2).sum(0) < d.triplet_cutoff**2])
    assert ((close > 32) & (close < 64)).any() and (close > 64).any()


def test_sums_of_many_atoms_per_warp():
    """Atoms that share a partial sum give the same total."""
    wanted = run_all("four", "float64", True)
    with pytest.MonkeyPatch.context() as m, cuda.executor(load):
        m.setattr(kernels, "atoms_per_warp", lambda *_: 2)
        found = run_all("four", "float64", True)
    for name in ("pair", "triplet_radial", "triplet_angular"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=1e-12 * abs(wanted[name]).max())
