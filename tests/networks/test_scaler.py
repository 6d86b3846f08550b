"""Feature statistics against NumPy's, folding against explicit scaling, reference energies where they are known."""

import numpy as np
import pytest

from fastdesc.errors import InputError
from fastdesc.networks.feed_forward import backward, forward, initial, pullback
from fastdesc.networks.scaler import FeatureScaler, fold, reference_energies, unfold_gradients

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def features(n=1000, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(6, n)) * 10.0 ** np.arange(-3, 3)[:, None] + np.arange(6)[:, None] * 7


# statistics


@pytest.mark.parametrize("cuts", [(), (1,), (3, 500, 501), (1, 2, 3)])
def test_blocks_give_the_statistics_of_the_whole(cuts):
    q = features()
    scaler = FeatureScaler.identity(6)
    for block in np.split(q, cuts, axis=1):
        assert scaler.partial_fit(block) is scaler
    np.testing.assert_allclose(scaler.mean, q.mean(axis=1), **EXACT)
    np.testing.assert_allclose(scaler.scale, q.std(axis=1), **EXACT)
    assert scaler.n_seen == 1000


def test_large_mean_keeps_the_spread():
    rng = np.random.default_rng(1)
    q = 1e8 + rng.integers(-512, 512, (1, 20000)) / 1024 * 1e4
    scaler = FeatureScaler.identity(1)
    for block in np.array_split(q, 7, axis=1):
        scaler.partial_fit(block)
    # a difference of squares, 1e16 against 1e7, would keep seven digits
    np.testing.assert_allclose(scaler.scale, (q - 1e8).std(), rtol=1e-11)


def test_float32_features_and_column_slices():
    q = features(n=9000).astype("float32")
    scaler = FeatureScaler.identity(6).partial_fit(q[:, 100:8900])
    np.testing.assert_allclose(scaler.scale, q[:, 100:8900].astype("float64").std(axis=1), **EXACT)
    assert scaler.mean.dtype == scaler.scale.dtype == np.float64


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("constant", [0.0, 0.1, -1234.567])
def test_constant_features_get_scale_one(constant, dtype):
    rng = np.random.default_rng(2)
    noise = 1 + rng.choice([-1, 0, 1], 500) * np.finfo(dtype).eps
    q = np.stack([constant * noise, rng.normal(size=500)]).astype(dtype)
    scaler = FeatureScaler.identity(2)
    for block in np.array_split(q, 3, axis=1):
        scaler.partial_fit(block)
    assert scaler.scale[0] == 1
    assert scaler.scale[1] != 1


def test_vanishing_tails_are_not_blown_up():
    scaler = FeatureScaler.identity(3).partial_fit(features()[:3] * np.array([[1e3], [1e-40], [1e-6]]))
    assert scaler.scale[1] == 1
    assert scaler.scale[0] > 0.5 and scaler.scale[2] < 1e-5


def test_one_atom_alone():
    scaler = FeatureScaler.identity(3).partial_fit(np.array([[1.0], [2.0], [-5.0]]))
    np.testing.assert_array_equal(scaler.scale, 1)
    np.testing.assert_array_equal(scaler.mean, [1, 2, -5])
    scaler.partial_fit(np.zeros((3, 0)))
    assert scaler.n_seen == 1


def test_transform_standardises_and_keeps_the_dtype():
    q = features()
    scaler = FeatureScaler.identity(6).partial_fit(q)
    scaled = scaler.transform(q)
    np.testing.assert_allclose(scaled.mean(axis=1), 0, atol=1e-10)
    np.testing.assert_allclose(scaled.std(axis=1), 1, rtol=1e-10)
    assert scaler.transform(q.astype("float32")).dtype == np.float32


def test_scaler_from_numbers():
    scaler = FeatureScaler.identity(6).partial_fit(features())
    again = FeatureScaler(scaler.mean, scaler.scale)
    np.testing.assert_array_equal(again.transform(features()), scaler.transform(features()))
    for mean, scale in (([0, 0], [1]), ([[0]], [[1]]), ([0], [0]), ([0], [np.nan]), ([np.inf], [1])):
        with pytest.raises(InputError, match="mean"):
            FeatureScaler(mean, scale)


def test_unusable_features_are_named():
    scaler = FeatureScaler.identity(2).partial_fit(np.ones((2, 3)))
    with pytest.raises(InputError, match=r"shape \(3, 4\).*needs \(2, n_atoms\)"):
        scaler.partial_fit(np.ones((3, 4)))
    bad = np.ones((2, 5))
    bad[1, 3] = np.nan
    with pytest.raises(InputError, match="feature 1 of atom 3 is nan"):
        scaler.partial_fit(bad)
    assert scaler.n_seen == 3


# folding


@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)])
def test_folded_layers_act_on_features(hidden):
    q, rng = features(40), np.random.default_rng(3)
    scaler = FeatureScaler.identity(6).partial_fit(q)
    layers = initial(6, hidden, 2, "silu", rng)
    expected, saved = forward(layers, "silu", scaler.transform(q))
    slope, _ = pullback(layers, "silu", saved, np.ones_like(expected))
    y, saved = forward(fold(layers, scaler), "silu", q)
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-11)
    folded_slope, _ = pullback(fold(layers, scaler), "silu", saved, np.ones_like(y))
    np.testing.assert_allclose(folded_slope, slope / scaler.scale[:, None], rtol=1e-10)
    for (w, b), (w2, b2) in zip(layers[1:], fold(layers, scaler)[1:], strict=True):
        assert w is w2 and b is b2


@pytest.mark.parametrize("bias", [True, False])
def test_unfolded_gradients_are_those_of_the_layers(bias):
    q, rng = features(40), np.random.default_rng(4)
    scaler = FeatureScaler.identity(6).partial_fit(q)
    layers = initial(6, (5, 4), 1, "tanh", rng, bias=bias)
    dy = rng.normal(size=(1, 40))
    scaled = scaler.transform(q) if bias else q / scaler.scale[:, None]
    _, saved = forward(layers, "tanh", scaled)
    expected, _ = backward(layers, "tanh", saved, dy)
    folded = fold(layers, scaler)
    _, saved = forward(folded, "tanh", q)
    found, _ = backward(folded, "tanh", saved, dy)
    for (dw, db), (w, b) in zip(unfold_gradients(found, scaler), expected, strict=True):
        np.testing.assert_allclose(dw, w, rtol=1e-8, atol=1e-10)  # features of mean 35, scale 1e-2: three digits less
        assert (db is None) == (not bias)
        if bias:
            np.testing.assert_allclose(db, b, rtol=1e-10, atol=1e-11)


def test_without_bias_zero_stays_zero():
    scaler = FeatureScaler.identity(6).partial_fit(features())
    y, _ = forward(
        fold(initial(6, (5,), 1, "silu", np.random.default_rng(5), bias=False), scaler), "silu", np.zeros((6, 3))
    )
    np.testing.assert_array_equal(y, 0)


# reference energies


def test_exact_energies_are_found():
    rng = np.random.default_rng(6)
    counts, expected = rng.integers(1, 9, (50, 4)), np.array([-13.6, 3.0, -1030.0, 0.0])
    np.testing.assert_allclose(reference_energies(counts, counts @ expected), expected, rtol=1e-12, atol=1e-10)


def test_all_electron_energies_keep_their_digits():
    expected = np.array([-13.605693, -2041.34, -528_000.25, -761_012.875])  # H O Au U, eV
    counts = np.random.default_rng(7).integers(0, 40, (200, 4)) + 1
    found = reference_energies(counts, counts @ expected)
    assert abs(counts @ found - counts @ expected).max() < 1e-9 * abs(counts @ expected).max()
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_one_antisite_in_a_large_cell_tells_elements_apart():
    """Nearly collinear compositions carry information; only round-off is cut."""
    expected, counts = np.array([-57000.5, -61000.25]), np.array([[500, 500], [499, 501], [501, 499], [500, 500]])
    np.testing.assert_allclose(reference_energies(counts, counts @ expected), expected, rtol=1e-9)


@pytest.mark.parametrize("cell", [[2, 1], [64, 32], [1, 7]])
def test_one_composition_gives_one_energy_per_atom(cell):
    counts = np.array([cell] * 5)
    energies = -14.5 * counts.sum(axis=1) + np.array([-0.3, 0.1, 0.2, 0, 0])
    np.testing.assert_allclose(reference_energies(counts, energies), [-14.5, -14.5], rtol=1e-12)


def test_elements_in_fixed_proportion_share_an_energy():
    """Water with varying argon: H and O cannot be told apart, argon can."""
    counts = np.array([[2, 1, 0], [4, 2, 3], [8, 4, 1], [0, 0, 2], [64, 32, 5]])
    found = reference_energies(counts, counts @ np.array([-5.0, -5.0, -0.1]))
    np.testing.assert_allclose(found, [-5.0, -5.0, -0.1], rtol=1e-12)
    found = reference_energies(counts, counts @ np.array([-2.0, -8.0, -0.1]))
    np.testing.assert_allclose(found, [-4.0, -4.0, -0.1], rtol=1e-11)


def test_salts_that_share_nothing():
    counts = np.array([[4, 4, 0, 0], [0, 0, 2, 2]])
    found = reference_energies(counts, np.array([-8.0 * 3, -4.0 * 500]))
    np.testing.assert_allclose(found, [-3, -3, -500, -500], rtol=1e-12)


def test_frames_without_energy_are_left_out():
    counts = np.array([[1, 0, 0], [1, 1, 0], [5, 1, 3], [2, 2, 0]])
    energies = np.array([-1.0, -4.0, np.nan, -8.0])
    np.testing.assert_allclose(reference_energies(counts, energies), [-1, -3, 0], atol=1e-12)
    energies[[0, 1, 3]] = np.inf, -np.inf, np.nan
    np.testing.assert_array_equal(reference_energies(counts, energies), [0, 0, 0])


def test_errors_count_per_atom():
    counts, energies = np.array([[1], [3]]), np.array([1.0, 6.0])
    np.testing.assert_allclose(reference_energies(counts, energies), 1.5, rtol=1e-14)
    np.testing.assert_allclose(reference_energies(counts, energies, np.ones(2)), (1 * 1 + 3 * 6) / 10, rtol=1e-14)
    np.testing.assert_allclose(reference_energies(counts, energies, [0, 1]), 2, rtol=1e-14)


def test_repeats_and_order_do_not_matter():
    rng = np.random.default_rng(8)
    counts = rng.integers(0, 3, (300, 3)) + 1
    energies = counts @ np.array([-1.0, -2.0, -30.0]) + rng.normal(size=300)
    weighted = np.linalg.lstsq(counts / counts.sum(1, keepdims=True), energies / counts.sum(1), rcond=None)[0]
    np.testing.assert_allclose(reference_energies(counts, energies), weighted, rtol=1e-11)
    order = rng.permutation(300)
    np.testing.assert_allclose(reference_energies(counts[order], energies[order]), weighted, rtol=1e-11)


def test_unusable_compositions_are_named():
    good = np.array([[1, 2], [2, 1]])
    with pytest.raises(InputError, match=r"\(2, 2\) and energies \(3,\)"):
        reference_energies(good, np.zeros(3))
    for bad in ([1, -1], [0, 0], [np.nan, 1]):
        with pytest.raises(InputError, match="frame 1 has composition"):
            reference_energies(np.array([[1, 2], bad]), np.zeros(2))
    for weights in ([1], [1, -1], [1, np.nan]):
        with pytest.raises(InputError, match="weights"):
            reference_energies(good, np.zeros(2), weights)
