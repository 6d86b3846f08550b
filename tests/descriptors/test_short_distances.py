"""Distances below the first knot are counted, and told once at the end of whatever ran."""

import re
import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from helpers.training import alloy, small_potential

import fastdesc as fd
from fastdesc.analysis.accuracy import compare
from fastdesc.cli import main
from fastdesc.descriptors.short_distances import ShortDistances
from fastdesc.errors import FastdescWarning

MESSAGE = r"1 of 4 distances \(25 %\) in {} are below r_min = 2 Å"


def dimers():
    """Four dimers; the third is shorter than 2 Å."""
    frames = []
    for x in (2.1, 2.5, 1.9, 3.0):
        atoms = Atoms("Cu2", positions=[(0, 0, 0), (x, 0, 0)])
        atoms.calc = SinglePointCalculator(atoms, energy=-x, forces=np.zeros((2, 3)))
        frames.append(atoms)
    return frames


def filters():
    return fd.SplineFilters(species=["Cu"], cutoff=4.5, triplet_cutoff=3.5, r_min=2.0, n_pair=1, n_triplet=1)


def told(call):
    """Return what warnings of ours a call made."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(w.message) for w in caught if issubclass(w.category, FastdescWarning)]


@pytest.mark.parametrize("chunk_atoms", [2, 100])
def test_featurize_tells_once_at_the_end(tmp_path, chunk_atoms):
    messages = told(
        lambda: fd.featurize(dimers(), tmp_path / "f.h5", filters(), chunk_atoms=chunk_atoms, progress=False)
    )
    assert len(messages) == 1 and re.match(MESSAGE.format("the frames"), messages[0])


def test_families_without_knots_say_nothing(tmp_path):
    d = fd.GaussianMoments(species=["Cu"], cutoff=4.0)
    assert told(lambda: fd.featurize(dimers(), tmp_path / "f.h5", d, progress=False)) == []
    assert told(lambda: compare(fd.Potential(d, hidden=(4,)), dimers())) == []
    said = told(lambda: fd.train(small_potential(), alloy(2), epochs=1, progress=False))
    assert not [message for message in said if "distance" in message]


def test_evaluate_and_train_tell():
    potential = fd.Potential(filters(), hidden=(4,))
    (message,) = told(lambda: compare(potential, dimers()))
    assert re.match(MESSAGE.format("the frames"), message)
    (message,) = told(lambda: fd.train(potential, dimers(), dimers()[:2], epochs=3, progress=False))
    assert re.match(MESSAGE.format("the training frames"), message)
    assert told(lambda: fd.train(potential, dimers()[:2], valid_fraction=0, epochs=1, progress=False)) == []


def test_counts_of_many_small_groups_add_up():
    from fastdesc.descriptors.short_distances import of_structures

    structures = fd.Structures.from_ase(dimers())
    for at_once in (1, 3, 100):
        found = of_structures(filters(), structures, at_once)
        assert (found.n_short, found.n_all) == (2, 8)
    assert (found + ShortDistances(1, 2)).n_all == 10


def test_command_line_says_it_in_one_sentence(tmp_path, capsys):
    fd.Potential(filters(), hidden=(4,)).save(tmp_path / "m.h5")
    for k, atoms in enumerate(dimers()):
        atoms.write(tmp_path / "d.extxyz", append=k > 0)
    assert main(["evaluate", str(tmp_path / "m.h5"), str(tmp_path / "d.extxyz")]) == 0
    error = capsys.readouterr().err
    assert re.fullmatch("fastdesc: warning: " + MESSAGE.format("the frames") + "[^\n]*\n", error)
    assert main(["featurize", str(tmp_path / "d.extxyz"), str(tmp_path / "f.h5"), "--family", "spline_filters",
                 "--cutoff", "4.5", "--set", "r_min=2.0", "--quiet"]) == 0  # fmt: skip
    assert capsys.readouterr().err == error


def test_workers_of_a_cluster_count_too(tmp_path):
    pytest.importorskip("distributed", reason="needs dask.distributed")
    out = tmp_path / "f.h5"
    (message,) = told(
        lambda: fd.featurize(dimers(), out, filters(), scheduler="local", workers=1, chunk_atoms=2, progress=False)
    )
    assert re.match(MESSAGE.format("the frames"), message)
