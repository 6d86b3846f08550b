"""Arrays that hold what they held are told from others, however they changed."""

import numpy as np

from fastdesc.backend.unchanged import Unchanged


def test_any_change_is_seen():
    arrays = [np.arange(5.0), np.zeros((3, 2)), np.empty(0), np.arange(3, dtype=np.int32)]
    known = Unchanged(arrays)
    assert known.holds(arrays) and known.holds([a.copy() for a in arrays])
    assert not known.holds(arrays[:-1]) and not known.holds([*arrays[:-1], np.arange(3)])
    assert not known.holds([arrays[0], arrays[1].reshape(2, 3), *arrays[2:]])
    for a, where, value in ((arrays[0], 4, 1e-300), (arrays[1], (2, 1), -0.0), (arrays[3], 0, 7)):
        before = a[where]
        a[where] = value
        assert not known.holds(arrays)
        a[where] = before
        assert known.holds(arrays)


def test_arrays_with_gaps():
    a = np.arange(12.0).reshape(3, 4)[:, ::2]
    known = Unchanged([a])
    assert known.holds([a])
    a[1, 1] += 1
    assert not known.holds([a])
