"""Labels of shear in another order are found by a potential that learnt from energies and forces; others are not."""

import warnings

import numpy as np
import pytest
from helpers.training import alloy, small_potential

import fastdesc as fd
from fastdesc.errors import FastdescWarning
from fastdesc.training.order_of_shear import other_order


def labels(n, seed=0, error=0.05):
    rng = np.random.default_rng(seed)
    wanted = rng.normal(size=(n, 3))
    return wanted + error * rng.normal(size=(n, 3)), wanted


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 0, 1)])
def test_the_order_is_found_where_some_frames_have_it(order):
    found, wanted = labels(200)
    wanted[:40] = wanted[:40][:, order]
    wanted[100] = np.nan
    inferred, frames = other_order(found, wanted)
    assert inferred == order and 30 < frames <= 40


def test_right_labels_and_those_that_nothing_fits_are_not_told_of():
    assert other_order(*labels(200)) == (None, 0)
    assert other_order(*labels(200, error=3.0))[0] is None
    found, wanted = labels(200)
    assert other_order(found, wanted + 2.0) == (None, 0)
    assert other_order(found, 0 * wanted) == other_order(found, np.nan * wanted) == (None, 0)


def test_training_tells_of_it_at_its_end():
    """Of labels in the order of VASP, and not of ours."""
    frames, settings = alloy(24, size=(1, 1, 1)), {"epochs": 60, "batch_atoms": 40, "progress": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error", FastdescWarning)
        warnings.filterwarnings("ignore", "the energies of the training frames")
        fd.train(small_potential(), frames, **settings)
    for atoms in frames:
        atoms.calc.results["stress"] = atoms.calc.results["stress"][[0, 1, 2, 5, 3, 4]]
    with pytest.warns(FastdescWarning, match="their numbers for yz xz xy are those of xy yz xz; put the labels right"):
        fd.train(small_potential(), frames, **settings)
