"""The spline head atom by atom in compiled code: what its products and passes give, wherever the atoms are."""

import numpy as np
import pytest

from fastdesc.networks import spline
from fastdesc.networks.spline import Embeddings


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", [True, False])
def test_atom_by_atom_is_what_whole_arrays_give(dtype, bias, monkeypatch):
    rng = np.random.default_rng(2)
    w, shift, c = rng.normal(size=(3, 4)), rng.normal(size=(3, 1)), rng.normal(size=(4, 3, 8))
    head = Embeddings.made(w.astype(dtype), shift.astype(dtype), c.astype(dtype), bias)
    wide = (4 * rng.normal(size=(4, 60))).astype(dtype)
    x, dy = wide[:, 3:53], rng.normal(size=(1, 60)).astype(dtype)[:, 3:53]    # far outside of the knots, too
    x[:, 0], x[1, 1] = 0, np.nan
    found, wanted = np.empty_like(wide)[:, 3:53], np.empty(x.shape, dtype)
    y = head.value_and_gradient(x, dy, found)
    monkeypatch.setattr(spline, "SMALL", 0)
    y_wanted = head.value_and_gradient(x, dy, wanted)
    close = {"rtol": 50 * np.finfo(dtype).eps, "atol": 500 * np.finfo(dtype).eps}
    np.testing.assert_allclose(y, y_wanted, **close)
    np.testing.assert_allclose(found, wanted, **close)
    assert np.isnan(y[0, 1]) and not np.isnan(y[0, 2:]).any()
    if not bias:
        assert y[0, 0] == 0    # to the last bit
