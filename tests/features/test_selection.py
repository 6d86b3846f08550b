"""Selection: the same choice as by the plain algorithm, in blocks, from files, and with the right probabilities."""

import numpy as np
import pytest
from test_transformer import crystals, plain_farthest

import fastdesc as fd
from fastdesc.errors import InputError
from fastdesc.features import duplicates, rows, selection


@pytest.fixture
def small(monkeypatch):
    """Blocks and sets of a few rows, and nothing kept in memory."""
    monkeypatch.setattr(selection, "POOL", 16)
    monkeypatch.setattr(selection, "AT_ONCE", 256)
    monkeypatch.setattr(rows, "IN_MEMORY", 0)
    monkeypatch.setattr(rows.Rows._raw, "__defaults__", (32,))
    monkeypatch.setattr(rows.Rows.blocks, "__defaults__", (32,))
    monkeypatch.setattr(duplicates, "BLOCK", 20)


def table(n=300, seed=0):
    """Clusters of several sizes, and a few outliers."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(12, 6)) * [5, 3, 2, 1, 1, 1]
    return centres[rng.integers(0, 12, n) // rng.integers(1, 4, n)] + rng.normal(scale=0.3, size=(n, 6))


def test_farthest_points_are_those_of_the_plain_algorithm(small):
    x = table()
    first = int(np.linalg.norm(x - x.mean(0), axis=1).argmax())
    chosen, distances = fd.select_diverse(x, 120, scale=False)
    assert chosen.tolist() == plain_farthest(x, 120, first)
    for k in (1, 40, 119):
        to_others = np.linalg.norm(x[chosen[:k]] - x[chosen[k]], axis=1)
        assert distances[k] == pytest.approx(to_others.min(), rel=1e-12)
    all_of_them, _ = fd.select_diverse(np.concatenate([x[:40], x[:40]]), 80)
    assert sorted(all_of_them) == list(range(80)), "also among equals, none twice"


def test_distances_of_near_rows_keep_their_digits(small):
    """Far from the origin, rows a hair apart: a product of matrices alone would lose the hair."""
    x = np.repeat(table(30), 2, axis=0) + 1e4
    x[1::2, 0] += np.linspace(1e-6, 2e-6, 30)
    _, distances = fd.select_diverse(x, 60, scale=False)
    np.testing.assert_allclose(np.sort(distances[30:]), np.sort(x[1::2, 0] - x[::2, 0]), rtol=1e-8)


def test_uncertain_rows_are_those_of_the_plain_algorithm(small):
    x, noise = table(150), 0.05
    noise_variance = noise * (x**2).sum(1).mean()
    covariance, expected, widths = x @ x.T, [], []
    for _ in range(60):
        left = np.diag(covariance).copy()
        left[expected] = -1
        k = int(left.argmax())
        expected.append(k)
        widths.append(np.sqrt(left[k]))
        covariance = covariance - np.outer(covariance[k], covariance[k]) / (covariance[k, k] + noise_variance)
    chosen, deviations = fd.select_uncertain(x, 60, noise=noise)
    assert chosen.tolist() == expected
    np.testing.assert_allclose(deviations, widths, rtol=1e-9)


def test_typical_rows_have_the_probabilities_of_k_means(small):
    """The third of three choices, compared with sums over what the second can be."""
    x = np.array([[0.0], [1.0], [3.0], [7.0], [7.5], [12.0]])
    squares = (x - x.T) ** 2
    expected = np.zeros(6)
    for first in range(6):
        for second in range(6):
            p = squares[first, second] / squares[first].sum() / 6
            left = np.minimum(squares[first], squares[second])
            expected += p * left / max(left.sum(), 1e-300)
    drawn = [fd.select_typical(x, 3, scale=False, seed=seed)[2] for seed in range(4000)]
    found = np.bincount(drawn, minlength=6) / 4000
    assert abs(found - expected).max() < 5 * np.sqrt(0.25 / 4000), (found, expected)
    chosen = fd.select_typical(table(), 250, seed=3)
    assert len(set(chosen.tolist())) == 250
    np.testing.assert_array_equal(chosen[:40], fd.select_typical(table(), 250, seed=3)[:40])
    assert sorted(fd.select_typical(np.ones((5, 2)), 5)) == list(range(5))


def test_files_give_what_arrays_give(tmp_path, small):
    d = fd.GaussianMoments(species=["Cu"], cutoff=3.5, n_radial=2, n_basis=4, max_rank=1)
    frames = crystals(40)
    for pool in (None, "mean"):
        out = fd.featurize(frames, tmp_path / f"{pool}.h5", d, pool=pool, progress=False)
        x = fd.StructureFeatures(d).transform(frames)
        with fd.open_features(out) as f:
            assert fd.select_diverse(f, 12)[0].tolist() == fd.select_diverse(x, 12)[0].tolist()
            assert fd.select_uncertain(f, 9)[0].tolist() == fd.select_uncertain(x, 9)[0].tolist()
            assert fd.select_typical(f, 9).tolist() == fd.select_typical(x, 9).tolist()
            assert fd.find_duplicates(f, 0.1).tolist() == fd.find_duplicates(x, 0.1).tolist()


@pytest.mark.parametrize("tolerance", [0.0, 0.4, 1.5])
def test_duplicates(small, tolerance):
    x = np.concatenate([table(150), table(150)[::3], table(20, seed=1)])
    x[150:180] += 1e-12
    found = fd.find_duplicates(x, tolerance, scale=False)
    kept = np.unique(found)
    assert (found[kept] == kept).all()
    assert (np.linalg.norm(x - x[found], axis=1) <= tolerance + 1e-14).all()
    apart = np.linalg.norm(x[kept][:, None] - x[kept], axis=2)
    assert (apart[np.triu_indices(len(kept), 1)] > tolerance).all()
    assert len(kept) == 200 if tolerance == 0 else len(kept) < 170


def test_duplicates_are_checked():
    for wrong in (-1, np.nan, True, "x", None):
        with pytest.raises(InputError, match="tolerance came as"):
            fd.find_duplicates(np.eye(3), wrong)
    with pytest.raises(InputError, match="noise came as"):
        fd.select_uncertain(np.eye(3), 2, noise=0)
    with pytest.raises(InputError, match="NaN or infinite"):
        fd.find_duplicates(np.full((2, 2), np.nan), 1.0)
