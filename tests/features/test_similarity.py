"""Similarity kernels against loops over pairs of atoms, and inside scikit-learn."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn.base import clone
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from test_transformer import crystals

import fastdesc as fd
from fastdesc.errors import FastdescError, InputError


@pytest.fixture(scope="module")
def d():
    return fd.GaussianMoments(species=["Cu", "Au"], cutoff=3.5, n_radial=2, n_basis=4, max_rank=1)


def alloys(n=5):
    frames = crystals(n)
    for k, atoms in enumerate(frames):
        atoms.numbers[: k % 3] = 79
        if k == 1:
            del atoms[0]
    return frames


def plain(d, a, b, settings, scale):
    """K of two structures by loops; the match by matrices that are scaled in turns."""
    x, y = (d.compute(atoms) * scale for atoms in (a, b))
    k = np.zeros((len(x), len(y)))
    for i in range(len(x)):
        for j in range(len(y)):
            if a.numbers[i] == b.numbers[j]:
                if settings.similarity == "cosine":
                    k[i, j] = (x[i] @ y[j] / np.linalg.norm(x[i]) / np.linalg.norm(y[j])) ** settings.power
                else:
                    k[i, j] = np.exp(-((x[i] - y[j]) ** 2).mean() / 2 / settings.width**2)
    if settings.kernel == "average":
        return k.mean()
    q, v = np.exp(k / settings.entropy), np.ones(len(y))
    for _ in range(300):
        u = 1 / len(x) / (q @ v)
        v = 1 / len(y) / (u @ q)
    return float((u[:, None] * q * v * k).sum())


@pytest.mark.parametrize("kernel, similarity", [("average", "cosine"), ("rematch", "cosine"), ("rematch", "gaussian")])
def test_kernels_are_those_of_loops(d, kernel, similarity):
    frames = alloys()
    model = fd.SimilarityKernel(d, kernel, similarity, width=0.4, entropy=0.5)
    found = model.fit_transform(frames)
    scale = 1 / np.sqrt((np.concatenate([d.compute(a) for a in frames]) ** 2).mean(0))
    own = [plain(d, a, a, model, scale) for a in frames]
    for i, a in enumerate(frames):
        for j, b in enumerate(frames):
            expected = plain(d, a, b, model, scale) / np.sqrt(own[i] * own[j])
            assert found[i, j] == pytest.approx(expected, rel=1e-7)
    np.testing.assert_allclose(np.diag(found), 1.0, rtol=1e-12)
    assert np.linalg.eigvalsh(found).min() > -1e-9 or kernel == "rematch"
    np.testing.assert_allclose(model.transform(frames[2:4]), found[2:4], rtol=1e-9)


def test_the_match_lies_between_the_best_one_and_the_average(d):
    from fastdesc.features.similarity import _matched

    k = np.random.default_rng(0).uniform(size=(6, 6))
    best = k[linear_sum_assignment(-k)].mean()
    assert _matched(k, np.array([6]), 0.02)[0] == pytest.approx(best, abs=0.01)
    assert _matched(k, np.array([6]), 1e3)[0] == pytest.approx(k.mean(), rel=1e-3)
    several = _matched(np.hstack([k, k[:, :4], k[:, :1]]), np.array([6, 4, 1]), 0.1)
    assert several[0] == pytest.approx(_matched(k, np.array([6]), 0.1)[0], rel=1e-9)
    assert several[2] == pytest.approx(k[:, 0].mean(), rel=1e-9)


def test_in_a_pipeline(d):
    frames = alloys(12)
    energies = [len(a) * 0.1 + a.numbers.sum() / 100 for a in frames]
    model = make_pipeline(fd.SimilarityKernel(d), KernelRidge(1e-8, kernel="precomputed"))
    found = model.fit(frames[:9], energies[:9]).predict(frames[:9])
    # The ridge of 1e-8 keeps the fit from its energies by 6e-6.
    np.testing.assert_allclose(found, energies[:9], rtol=0, atol=5e-5)
    search = GridSearchCV(model, {"similaritykernel__power": [1, 2]}, cv=2).fit(frames, energies)
    assert search.best_params_["similaritykernel__power"] in (1, 2)
    again = clone(fd.SimilarityKernel(d, "rematch", entropy=0.3))
    assert again.entropy == 0.3 and again.descriptor is not d


def test_bad_input(d):
    frames = alloys(2)
    for name, value, told in (
        ("kernel", "sum", "kernel 'sum' arrived"), ("similarity", 3, "similarity 3 arrived"),
        ("power", 0.5, "power came"), ("width", 0.0, "width came"), ("entropy", 1e-9, "entropy came"),
        ("entropy", np.nan, "entropy came"), ("scale", "x", "scale came"),
        ("descriptor", 3, "descriptor came as a int"), ("device", "tpu", "tpu"),
    ):  # fmt: skip
        with pytest.raises(FastdescError, match=told):
            fd.SimilarityKernel(**{"descriptor": d, name: value}).fit(frames)
    with pytest.raises(InputError, match="call fit first"):
        fd.SimilarityKernel(d).transform(frames)
    alone = frames[0][:1]
    alone.pbc = False
    with pytest.raises(InputError, match="all features of atom 0"):
        fd.SimilarityKernel(d).fit([alone])
    for nothing in ([], "not-there.xyz", [None]):
        with pytest.raises(FastdescError):
            fd.SimilarityKernel(d).fit(nothing)
