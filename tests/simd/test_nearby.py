"""Candidates near a point, with and without the processor's own instruction: in order, none lost."""

import numba
import numpy as np
import pytest

from fastdesc.simd import nearby, splat


@pytest.mark.parametrize("compresses", [False, pytest.param(True, marks=pytest.mark.skipif(
    not nearby.COMPRESSES, reason="the processor has no AVX-512"))])    # fmt: skip
def test_those_within_the_limit_stay_in_order(compresses, monkeypatch):
    monkeypatch.setattr(nearby, "COMPRESSES", compresses)

    @numba.njit
    def search(points, tags, first, n, limit, kept):
        least, m = splat(0.0, np.inf), 0
        for k in range(first, n, nearby.AT_ONCE):
            least, m = nearby.keep_near(points, tags, k, 0.1, 0.2, 0.3, limit, least, kept, m)
        return m, nearby.least_of(least)

    rng = np.random.default_rng(3)
    for n, first in ((1, 0), (16, 0), (37, 0), (200, 5), (3, 3)):
        points = rng.uniform(-1, 1, (3, n + nearby.AT_ONCE))
        points[0, n:], points[1:, n:] = np.inf, np.nan
        tags = rng.integers(0, 2**32, (2, n + nearby.AT_ONCE), np.uint32)
        d2 = ((points[:, first:n] - np.array([[0.1], [0.2], [0.3]])) ** 2).sum(0)
        for limit in (0.0, 0.5, 100.0):
            kept = np.zeros((2, n + nearby.AT_ONCE), np.uint32)
            m, least = search(points, tags, first, n, limit, kept)
            near = first + np.flatnonzero(d2 < limit)
            assert m == len(near)
            np.testing.assert_array_equal(kept[:, :m], tags[:, near])
            np.testing.assert_allclose(least, d2.min(initial=np.inf), rtol=1e-15)
