"""What every list of pairs promises."""

import numpy as np


def assert_same_set(found, expected, where=""):
    """Two (i, j, S) hold the same pairs, none of them twice, in any order."""
    found, expected = (np.column_stack(x) for x in (found, expected))
    found, expected = (x[np.lexsort(x.T)] for x in (found, expected))
    np.testing.assert_array_equal(found, expected, where)
    assert len(found) < 2 or (found[1:] != found[:-1]).any(1).all()


def check_form(pairs):
    """Dtypes, rows, mirrors: what every list promises."""
    i = np.repeat(np.arange(pairs.n_atoms), np.diff(pairs.row))
    assert pairs.row[0] == 0 and pairs.row[-1] == pairs.n_pairs == len(pairs.mirror) == len(pairs.shift)
    assert [x.dtype for x in (pairs.row, pairs.j, pairs.shift, pairs.mirror)] == [np.int64] + [np.int32] * 3
    np.testing.assert_array_equal(pairs.i, i)
    np.testing.assert_array_equal(pairs.i[pairs.mirror], pairs.j)
    np.testing.assert_array_equal(pairs.j[pairs.mirror], pairs.i)
    np.testing.assert_array_equal(pairs.shift[pairs.mirror], -pairs.shift)
    np.testing.assert_array_equal(pairs.mirror[pairs.mirror], np.arange(pairs.n_pairs))
