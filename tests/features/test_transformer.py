"""A descriptor in scikit-learn's pipelines and searches, and the choice of diverse structures."""

import pickle

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks as checks

import fastdesc as fd
from fastdesc.errors import InputError
from fastdesc.features.stream import pooled


def crystals(n=12):
    frames = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True) * (1, 1, k % 2 + 1)
        atoms.set_cell(atoms.cell.array * (1 + 0.005 * k), scale_atoms=True)
        atoms.rattle(0.02 + 0.01 * k, seed=k)
        frames.append(atoms)
    return frames


@pytest.fixture
def d():
    return fd.GaussianMoments(species=["Cu"], cutoff=3.5, n_radial=2, n_basis=4, max_rank=2)


@pytest.mark.parametrize("pool", ["mean", "sum"])
def test_one_row_for_each_structure(tmp_path, d, pool):
    frames = crystals()
    want = np.stack([getattr(d.compute(a), pool)(0) for a in frames])
    f = fd.StructureFeatures(d, pool=pool)
    np.testing.assert_allclose(f.fit_transform(frames), want, rtol=1e-12)
    objects = np.empty(len(frames), object)
    objects[:] = frames
    np.testing.assert_array_equal(f.transform(objects), f.transform(frames))
    write(tmp_path / "x.traj", frames)
    np.testing.assert_allclose(f.transform(str(tmp_path / "x.traj")), want, rtol=1e-12)
    assert list(f.get_feature_names_out()) == [f"{pool} {name}" for name in d.feature_names_out()]
    assert f.set_output(transform="default") is f
    single = fd.StructureFeatures(d, pool, dtype="float32").transform(frames)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, want, rtol=1e-3, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize("pool", ["sum", "mean"])
def test_pooling_adds_up_in_double_precision(pool):
    """Large numbers that cancel, quarters beside them: in float32 the quarters are lost, in whatever order."""
    rng = np.random.default_rng(0)
    large = (1e6 * rng.normal(size=1000)).astype(np.float32)
    q = rng.permutation(np.concatenate([large, -large, np.full(48, 0.25, np.float32)]))[None]
    found = pooled(q, np.array([0, 2048]), pool)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[12.0 / 2048 if pool == "mean" else 12.0]])


def test_clones_and_pickles_keep_trained_parameters(d):
    d.set_parameters(beta=np.random.default_rng(0).normal(size=d.parameters["beta"].shape))
    frames, f = crystals(3), fd.StructureFeatures(d, pool="sum")
    want = f.transform(frames)
    for other in (clone(f), pickle.loads(pickle.dumps(f)), clone(make_pipeline(f)).steps[0][1]):
        assert other.descriptor is not d and other.pool == "sum"
        np.testing.assert_array_equal(other.transform(frames), want)
    clone(f).set_params(descriptor__cutoff=3.0, pool="mean")
    assert d.cutoff == 3.5 and f.pool == "sum"


def test_pipeline_and_grid_search(d):
    frames = crystals()
    y = np.array([a.get_volume() / len(a) for a in frames])
    model = make_pipeline(fd.StructureFeatures(d), StandardScaler(), Ridge(1e-3))
    assert model.fit(frames, y).score(frames, y) > 0.9
    assert cross_val_score(model, frames, y, cv=3).shape == (3,)
    grid = {"structurefeatures__descriptor__cutoff": [2.9, 3.5], "ridge__alpha": [0.1, 1e-3]}
    search = GridSearchCV(model, grid, cv=3)
    search.fit(frames, y)
    assert len(search.cv_results_["params"]) == 4 and np.isfinite(search.best_score_)
    assert search.predict(frames[:2]).shape == (2,)
    assert d.cutoff == 3.5


@pytest.mark.parametrize(
    "name",
    [
        "check_estimator_cloneable", "check_no_attributes_set_in_init", "check_get_params_invariance",
        "check_set_params", "check_estimator_repr", "check_valid_tag_types", "check_estimator_tags_renamed",
        "check_mixin_order",
    ],
)  # fmt: skip
def test_checks_of_scikit_learn(d, name):
    """Those that hand over no arrays of numbers."""
    check = getattr(checks, name, None)
    if check is None:
        pytest.skip(f"this scikit-learn has no {name}")
    check("StructureFeatures", fd.StructureFeatures(d))


def test_arguments_are_checked(d):
    with pytest.raises(InputError, match="pool 'max' arrived"):
        fd.StructureFeatures(d, pool="max").fit(crystals(1))
    for pool in (None, ["mean"], np.array(["mean", "sum"])):
        with pytest.raises(InputError, match="arrived; it must be 'mean' or 'sum'"):
            fd.StructureFeatures(d, pool=pool).transform(crystals(1))
    uses = [lambda f: f.fit(crystals(1)), lambda f: f.transform(crystals(1)), lambda f: f.get_feature_names_out()]
    for other in ("soap", None, fd.GaussianMoments, fd.Potential(d)):
        for use in uses:
            with pytest.raises(InputError, match=f"descriptor came as a {type(other).__name__}; give a descriptor"):
                use(fd.StructureFeatures(other))
    with pytest.raises(InputError, match="device 'gpu' is not known"):
        fd.StructureFeatures(d, device="gpu").fit(crystals(1))
    with pytest.raises(InputError, match="dtype 'float16' is not supported"):
        fd.StructureFeatures(d, dtype="float16").fit(crystals(1))
    with pytest.raises(InputError, match="frame 1, atom 0 is Au"):
        fd.StructureFeatures(d).transform([bulk("Cu"), Atoms("Au")])
    with pytest.raises(InputError, match=r"frames must be an ase\.Atoms"):
        fd.StructureFeatures(d).transform(np.ones((3, 4)))


# --- diverse structures


def plain_farthest(x, n, first):
    chosen = [first]
    while len(chosen) < n:
        chosen.append(int(np.min(np.linalg.norm(x[:, None] - x[chosen], axis=2), axis=1).argmax()))
    return chosen


def test_farthest_points_against_the_obvious_loop():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(200, 5)) * [1, 10, 0.1, 3, 0]
    scaled = x / np.where(x.std(0) > 0, x.std(0), 1)
    first = int(np.linalg.norm(scaled - scaled.mean(0), axis=1).argmax())
    chosen, distances = fd.select_diverse(x, 20)
    assert chosen.tolist() == plain_farthest(scaled, 20, first)
    assert (np.diff(distances[1:]) <= 1e-12).all()
    assert fd.select_diverse(x, 7)[0].tolist() == chosen[:7].tolist()
    assert fd.select_diverse(x, 9, scale=False, first=4)[0].tolist() == plain_farthest(x, 9, 4)
    assert sorted(fd.select_diverse(np.ones((5, 2)), 5)[0]) == list(range(5)), "also among equals, none twice"


def test_diverse_structures_of_a_file(tmp_path, d):
    frames = crystals()
    out = fd.featurize(frames, tmp_path / "f.h5", d)
    rows = fd.StructureFeatures(d).transform(frames)
    with fd.open_features(out) as f:
        assert fd.select_diverse(f, 5)[0].tolist() == fd.select_diverse(rows, 5)[0].tolist()


def test_selection_is_checked():
    x = np.ones((4, 2))
    for wrong in (0, 5, 2.5, True):
        with pytest.raises(InputError, match="structures were asked for"):
            fd.select_diverse(x, wrong)
    for wrong in (np.ones(3), np.full((2, 2), np.nan), np.ones((2, 2), int)):
        with pytest.raises(InputError, match="give finite rows"):
            fd.select_diverse(wrong, 1)
    with pytest.raises(InputError, match="first came as 9"):
        fd.select_diverse(x, 2, first=9)
