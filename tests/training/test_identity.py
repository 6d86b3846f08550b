"""A checkpoint knows what run it is of; resuming something else is refused, and the difference named."""

import numpy as np
import pytest
from helpers.training import alloy, small_potential

import fastdesc as fd
from fastdesc.errors import FastdescWarning, InputError
from fastdesc.training.checkpoint import read_checkpoint, write_checkpoint

QUICK = {"epochs": 1, "progress": False}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("identity") / "c.h5"
    fd.train(small_potential(), alloy(4), alloy(2, seed=7), checkpoint=path, **QUICK)
    return path


def potential(**changes):
    descriptor = {"species": ("Cu", "Au"), "cutoff": 4.5, "n_radial": 3, "n_basis": 5}
    descriptor |= {k: v for k, v in changes.items() if k in {*descriptor, "basis"}}
    rest = {"hidden": (12, 8), "seed": 3} | {k: v for k, v in changes.items() if k not in descriptor}
    return fd.Potential(fd.GaussianMoments(**descriptor), **rest)


OTHER = {    # arguments of another potential of the same shapes, what is said
    "species": ({"species": ("Cu", "Ag", "Au")}, r"a descriptor of species=\[29, 79\], here it is \[29, 47, 79\]"),
    "cutoff": ({"cutoff": 4.6}, r"a descriptor of cutoff=4.5, here it is 4.6"),
    "basis": ({"basis": "gaussian"}, "a descriptor of basis='bessel', here it is 'gaussian'"),
    "activation": ({"activation": "tanh"}, "a potential of activation='silu', here it is 'tanh'"),
    "seed": ({"seed": 4}, "a potential of seed=3, here it is 4"),
    "bias": ({"bias": False}, "a potential of bias=True, here it is False"),
    "widths": ({"hidden": (8, 8)}, r"a potential of hidden=\[12, 8\], here it is \[8, 8\]"),
}


@pytest.mark.parametrize("what", OTHER)
def test_another_potential_is_refused(checkpoint, what):
    changes, message = OTHER[what]
    with pytest.raises(InputError, match=f"c.h5 was made with {message}; use the same, or another checkpoint file"):
        fd.train(potential(**changes), alloy(4), alloy(2, seed=7), checkpoint=checkpoint, resume=True, **QUICK)


def moved(frames):
    results = dict(frames[1].calc.results)
    frames[1].positions[2, 0] += 1e-9
    frames[1].calc.atoms, frames[1].calc.results = frames[1].copy(), results
    return frames


def relabelled(frames, name):
    frames[0].calc.results[name] = np.nextafter(frames[0].calc.results[name], 99)
    return frames


def weighed(frames):
    frames[1].info["weight"] = 2
    return frames


CHANGED = {
    "a position": (moved, "frames"),
    "a frame less": (lambda frames: frames[:-1], "frames"),
    "another order": (lambda frames: frames[::-1], "frames"),
    "an energy": (lambda frames: relabelled(frames, "energy"), "labels or weights of the"),
    "forces": (lambda frames: relabelled(frames, "forces"), "labels or weights of the"),
    "a stress": (lambda frames: relabelled(frames, "stress"), "labels or weights of the"),
    "a weight": (weighed, "labels or weights of the"),
}


@pytest.mark.parametrize("purpose", ["training", "validation"])
@pytest.mark.parametrize("what", CHANGED)
def test_other_data_are_refused(checkpoint, what, purpose):
    """To the last bit, the validation frames as well: they decide which epoch is kept."""
    change, words = CHANGED[what]
    sets = {"training": alloy(4), "validation": alloy(2, seed=7)}
    sets[purpose] = change(sets[purpose])
    words = f"{purpose} frames" if words == "frames" else f"{words} {purpose} frames"
    with pytest.raises(InputError, match=f"c.h5 was made with other {words}; use the same"):
        fd.train(small_potential(), *sets.values(), checkpoint=checkpoint, resume=True, **QUICK)


def test_the_same_goes_on(checkpoint):
    """Also where species are named in another order: networks stand in that of atomic numbers."""
    state = read_checkpoint(checkpoint)
    for species in (("Cu", "Au"), ("Au", "Cu")):
        same = potential(species=species)
        history = fd.train(same, alloy(4), alloy(2, seed=7), checkpoint=checkpoint, resume=True, **QUICK)
        assert len(history) == 1
        for name, array in same.parameters.items():
            np.testing.assert_array_equal(array, state["best"][name], err_msg=name)


def test_a_checkpoint_of_before_is_read_with_a_word(checkpoint, tmp_path):
    state = read_checkpoint(checkpoint)
    del state["run"], state["judged"]
    write_checkpoint(tmp_path / "old.h5", state)
    with pytest.warns(FastdescWarning, match=r"old.h5 does not say what run it is of"):
        fd.train(
            small_potential(), alloy(4), alloy(2, seed=7), checkpoint=tmp_path / "old.h5", resume=True, **QUICK
        )  # fmt: skip


def test_other_features_are_refused(stored, tmp_path):
    frames, features = stored
    settings = {**QUICK, "checkpoint": tmp_path / "c.h5"}
    fd.train(small_potential(), features, **settings)
    frames = [atoms.copy() for atoms in frames]
    for atoms, labelled in zip(frames, stored[0], strict=True):
        atoms.calc = type(labelled.calc)(atoms, **labelled.calc.results)
    frames[0].calc.results["energy"] += 1e-3
    other = fd.featurize(frames, tmp_path / "f.h5", small_potential().descriptor, progress=False)
    with pytest.raises(InputError, match="other labels or weights of the training frames"):
        fd.train(small_potential(), other, resume=True, **settings)
