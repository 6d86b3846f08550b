"""Selection: the same choice as by the plain algorithm, in blocks, from files, and with the right probabilities."""

import h5py
import numpy as np
import pytest
from test_transformer import crystals, plain_farthest

import fastdesc as fd
from fastdesc.backend.threads import n_threads, set_threads
from fastdesc.errors import InputError
from fastdesc.features import duplicates, greedy, kept_choice, rows, selection


@pytest.fixture
def small(monkeypatch):
    """Blocks and sets of a few rows, and nothing kept in memory."""
    monkeypatch.setattr(greedy, "POOL", 16)
    monkeypatch.setattr(greedy, "AT_ONCE", 256)
    monkeypatch.setattr(rows, "IN_MEMORY", 0)
    monkeypatch.setattr(rows, "BLOCK", 32)
    monkeypatch.setattr(rows.Rows._blocks, "__defaults__", (32,))
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


def test_scales_are_those_of_the_whole_table(small):
    """Sums are taken from the mean of the first rows, which here lie elsewhere and do not change."""
    x = np.concatenate([np.full((40, 6), 1e5), table(90) + 1e5])
    x[:, 3] = 7.0
    x[40:, 4] += 1e3
    y = rows.Rows(x, True).take(np.arange(130))
    assert (y[:, 3] == 0).all()
    kept = np.delete(x, 3, axis=1)
    np.testing.assert_allclose(np.delete(y, 3, axis=1), (kept - kept.mean(0)) / kept.std(0), rtol=0, atol=1e-9)


def test_threads_choose_the_same(small):
    x, before = table(200), n_threads()
    try:
        found = []
        for threads in (1, 3):
            set_threads(threads)
            found.append([fd.select_diverse(x, 60), fd.select_uncertain(x, 60), [fd.select_spanning(x, 6)]])
    finally:
        set_threads(before)
    for one, other in zip(*found, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


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


@pytest.mark.parametrize("anew", [1, 7, 10**6])
def test_variances_are_the_same_however_often_they_are_found_anew(small, monkeypatch, anew):
    x = table(400, seed=7) @ np.random.default_rng(1).normal(size=(6, 40))
    x += np.random.default_rng(2).normal(scale=0.2, size=x.shape)
    expected = fd.select_uncertain(x, 90)
    monkeypatch.setattr(selection, "ANEW", anew)
    chosen, deviations = fd.select_uncertain(x, 90)
    np.testing.assert_array_equal(chosen, expected[0])
    np.testing.assert_allclose(deviations, expected[1], rtol=1e-10)


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
    for rule in (fd.select_diverse, fd.select_typical, fd.select_uncertain, fd.select_spanning, fd.rarity):
        with pytest.raises(InputError, match="squares are infinite"):
            rule(np.array([[1e200], [2e200], [3e200]]), *([1] if rule is not fd.rarity else []))
    with pytest.raises(InputError, match="NaN or infinite"):
        fd.find_duplicates(np.full((2, 2), np.nan), 1.0)


def test_weights_change_the_choice_as_in_the_plain_algorithm(small):
    x, w = table(120), np.random.default_rng(2).uniform(0.1, 5.0, 120)
    left, expected = np.full(120, np.inf), [int((w * np.linalg.norm(x - x.mean(0), axis=1)).argmax())]
    for _ in range(29):
        left = np.minimum(left, w * np.linalg.norm(x - x[expected[-1]], axis=1))
        left[expected] = -1
        expected.append(int(left.argmax()))
    chosen, distances = fd.select_diverse(x, 30, scale=False, weights=w)
    assert chosen.tolist() == expected
    assert distances[7] == pytest.approx(np.linalg.norm(x[chosen[:7]] - x[chosen[7]], axis=1).min(), rel=1e-12)
    chosen, deviations = fd.select_uncertain(x, 30, weights=w)
    covariance, noise = x @ x.T, 0.1 * (x**2).sum(1).mean()
    for k, width in zip(chosen, deviations, strict=True):
        left = w * np.sqrt(np.diag(covariance))
        left[chosen[: list(chosen).index(k)]] = -1
        assert left.argmax() == k and width == pytest.approx(np.sqrt(covariance[k, k]), rel=1e-9)
        covariance = covariance - np.outer(covariance[k], covariance[k]) / (covariance[k, k] + noise)
    heavy = np.where(np.arange(120) == 5, 1e9, 1.0)
    assert 5 in fd.select_typical(x, 2, weights=heavy, seed=1)
    with pytest.raises(InputError, match="weights came from 1e-200 to 1"):
        fd.select_diverse(x, 3, weights=np.where(np.arange(120) == 5, 1.0, 1e-200))
    for wrong in (w[1:], -w, np.full(120, np.nan), "x", [[1]], [1, [2]], np.zeros(120)):
        with pytest.raises(InputError, match="weights came as"):
            fd.select_diverse(x, 3, weights=wrong)


@pytest.mark.parametrize("n", [4, 6, 9])
def test_spanning_rows_are_beaten_by_no_single_exchange(small, n):
    """Fewer than features, as many (MaxVol), and more."""
    x, noise, tolerance = table(70, seed=4), 1e-4, 0.01
    own_noise = noise * (x**2).sum(1).mean()

    def volume(rows):
        return np.linalg.slogdet(own_noise * np.eye(6) + x[rows].T @ x[rows])[1]

    chosen = fd.select_spanning(x, n, noise=noise, tolerance=tolerance)
    assert len(set(chosen.tolist())) == n and (np.diff(chosen) > 0).all()
    others = np.setdiff1d(np.arange(70), chosen)
    best = max(volume([*np.delete(chosen, j), i]) for j in range(n) for i in others)
    assert best <= volume(chosen) + 2 * np.log1p(tolerance) + 1e-9
    assert volume(chosen) >= volume(fd.select_uncertain(x, n, noise=noise)[0]) - 1e-9
    if n == 6:    # what MaxVol promises
        assert abs(x @ np.linalg.inv(x[chosen])).max() < 1.02


def test_spanning_rows_are_often_better_than_greedy_ones_and_never_worse():
    gains = []
    for seed in range(10):
        x = np.random.default_rng(seed).normal(size=(40, 5))
        first, last = fd.select_uncertain(x, 5, noise=1e-6)[0], fd.select_spanning(x, 5, tolerance=1e-6)
        gains.append(abs(np.linalg.det(x[last]) / np.linalg.det(x[first])))
    assert min(gains) > 1 - 1e-9 and sum(g > 1.01 for g in gains) >= 3, gains


def test_rarity_is_the_leverage(small):
    x = table(90)
    z = (x - x.mean(0)) / x.std(0)
    inverse = np.linalg.inv(z.T @ z / 90 + 0.01 * (z**2).mean() * np.eye(6))
    expected = np.array([row @ inverse @ row for row in z])
    found = fd.rarity(x, ridge=0.01)
    np.testing.assert_allclose(found, expected / expected.mean(), rtol=1e-9)
    assert (fd.rarity(np.ones((4, 3))) == 1).all()
    x[:3] += [0, 0, 0, 0, 40, 0]
    assert set(fd.rarity(x).argsort()[-3:]) == {0, 1, 2}


def test_environments_of_a_file(tmp_path, small):
    d = fd.GaussianMoments(species=["Cu"], cutoff=3.5, n_radial=2, n_basis=4, max_rank=1)
    out = fd.featurize(crystals(12), tmp_path / "f.h5", d, progress=False)
    with fd.open_features(out) as f:
        x = f.atoms[:]
        for rule in (fd.select_diverse, fd.select_uncertain, fd.select_typical, fd.select_spanning):
            found, expected = rule(f, 9, environments=True), rule(x, 9)
            assert np.array_equal(found[0] if isinstance(found, tuple) else found,
                                  expected[0] if isinstance(expected, tuple) else expected), rule.__name__
        np.testing.assert_allclose(fd.rarity(f, environments=True), fd.rarity(x), rtol=1e-9)
    with pytest.raises(InputError, match="features that are no file"):
        fd.select_diverse(x, 3, environments=True)
    with pytest.raises(InputError, match="workers of a cluster read a file"):
        fd.select_diverse(x, 3, scheduler="local")


@pytest.mark.parametrize("rule", ["select_diverse", "select_typical", "select_uncertain"])
def test_an_interrupted_choice_goes_on_as_if_it_had_not_been(small, tmp_path, monkeypatch, rule):
    monkeypatch.setattr(kept_choice, "EVERY", 0.0)
    x, choose, path = table(), getattr(fd, rule), tmp_path / "choice.h5"
    expected, passes, refresh = choose(x, 80), [0], greedy._refresh

    def interrupted(*given):
        passes[0] += 1
        if passes[0] == 3:
            raise KeyboardInterrupt
        return refresh(*given)

    monkeypatch.setattr(greedy, "_refresh", interrupted)
    with pytest.raises(KeyboardInterrupt):
        choose(x, 80, checkpoint=path)
    found, again = choose(x, 80, checkpoint=path), choose(x, 20, checkpoint=path)
    if rule == "select_typical":
        found, expected, again = (found,), (expected,), (again,)
    for a, b, c in zip(found, expected, again, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(c, b[:20])
    other = x.copy()
    other[7, 2] += 1e-3    # neither the first row nor the last nor that between
    for changed in (x + 1e-9, other):
        with pytest.raises(InputError, match="was begun with other features, weights or scales"):
            choose(changed, 80, checkpoint=path)
    whole = path.read_bytes()
    for name, wrong, told in (
        ("chosen", np.zeros(0, int), "no choice"), ("chosen", 300, "not there"), ("chosen", 0, "twice"),
        ("values", np.nan, "values that are none"), ("values", np.zeros(3), "values that are none"),
    ):  # fmt: skip
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            array = np.full_like(file[name], wrong) if np.ndim(wrong) == 0 else wrong
            del file[name]
            file[name] = array
        with pytest.raises(fd.FastdescError, match=told):
            choose(x, 80, checkpoint=path)
    path.write_bytes(whole)
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(fd.FastdescError, match=r"choice\.h5"):
        choose(x, 80, checkpoint=path)
    with pytest.raises(InputError, match="no folder"):
        choose(x, 80, checkpoint=tmp_path / "not there" / "c.h5")
