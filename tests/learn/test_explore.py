"""Exploration: what is looked at, and why it ends."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk

import fastdesc as fd
from fastdesc.learn.choose import Scores, choose
from fastdesc.learn.explore import too_close, trajectory
from fastdesc.learn.settings import Explore
from fastdesc.potential.uncertainty import Uncertainty

PLAIN = Explore(steps=20, every=5, timestep=2.0)


@pytest.fixture(scope="module")
def potential():
    """A stiff crystal: a repulsive pair potential of one spline, with a covariance."""
    d = fd.SplineFilters(species=["Cu"], cutoff=4.5, r_min=1.0, n_pair=1, n_triplet=0, n_knots=8)
    d.set_parameters(pair=np.array([[[4.0, 2.2, 1.1, 0.45, 0.15, 0.03, 0, 0, -5.0, 0]]]))
    p = fd.Potential(d, network="none", direct=True)
    p.uncertainty = Uncertainty(np.array([[0.01]]), np.array([1.0]))
    return p


def steps(frames):
    return [atoms.info["step"] for atoms in frames]


def test_structures_are_looked_at_as_they_move(potential):
    start = bulk("Cu", cubic=True)
    found = trajectory(potential, start, 600.0, replace(PLAIN, repeat=(2, 1, 1), steps=12), [0, 1])
    assert steps(found) == [0, 5, 10, 12] and all(len(a) == 8 and "ended" not in a.info for a in found)
    for atoms in found:
        expected = potential.predict(atoms, uncertainty="energy").grade
        assert atoms.info["grade"] == pytest.approx(expected.max(), rel=1e-9)
        assert expected[atoms.info["farthest"]] == expected.max()
    np.testing.assert_array_equal(found[0].positions, start.repeat((2, 1, 1)).positions)
    assert (np.diff([a.positions for a in found], axis=0) != 0).any(axis=(1, 2)).all()
    again = trajectory(potential, start, 600.0, replace(PLAIN, repeat=(2, 1, 1), steps=12), [0, 1])
    assert all((a.positions == b.positions).all() for a, b in zip(found, again, strict=True))
    assert len(start.info) == 0 and start.calc is None, "what it starts from stays as it is"


def test_deformation_and_pressure(potential):
    start = bulk("Cu", cubic=True)
    (found,) = trajectory(potential, start, 300.0, replace(PLAIN, steps=0, strain=0.02, rattle=0.05), 3)
    strain = found.cell.array @ np.linalg.inv(start.cell.array) - np.eye(3)
    assert 0.001 < abs(strain).max() < 0.1 and abs(strain - strain.T).max() < 1e-12
    moved = found.positions - start.get_scaled_positions() @ found.cell.array
    assert 0.02 < np.std(moved) < 0.1
    slab = start.copy()
    slab.pbc = True, True, False
    (found,) = trajectory(potential, slab, 300.0, replace(PLAIN, steps=0, strain=0.02), 3)
    np.testing.assert_array_equal(found.cell.array[2], slab.cell.array[2])
    pressed = trajectory(potential, start.repeat(2), 300.0, replace(PLAIN, pressure=200.0, steps=100), 0)
    assert pressed[-1].get_volume() < 0.999 * pressed[0].get_volume()
    assert trajectory(potential, start, 300.0, PLAIN, 0)[-1].get_volume() == pytest.approx(start.get_volume())


def test_why_it_ends(potential):
    start = bulk("Cu", cubic=True)
    rest = potential.predict(start, uncertainty="energy").grade.max()
    found = trajectory(potential, start.repeat(2), 3000.0, replace(PLAIN, stop_above=1.05 * rest, every=1), 0)
    assert found[-1].info["ended"] == "grade" and found[-1].info["grade"] > 1.05 * rest and len(found) > 1
    assert all(atoms.info["grade"] <= 1.05 * rest for atoms in found[:-1])
    found = trajectory(potential, start.repeat(2), 1e5, replace(PLAIN, closest=0.8, stop_above=1e9, every=1), 0)
    assert found[-1].info["ended"] == "closest" and not any(too_close(a, 0.8) for a in found)
    found = trajectory(potential, start, 300.0, replace(PLAIN, timestep=1e200, stop_above=1e9), 0)
    assert found[-1].info["ended"] == "unstable" and steps(found) == [0]
    near = start.copy()
    near.positions[1] = near.positions[0] + [0.5, 0, 0]
    assert trajectory(potential, near, 300.0, PLAIN, 0) == []


def test_methods_choose_what_they_say():
    rows = np.array([[3.0, 0.0], [2.9, 0.0], [0.0, 1.0], [0.5, 0.5], [9.0, 9.0]])
    scores = Scores(np.ones(5), np.array([2.0, 1.9, 1.5, 0.1, 9.0]), rows)
    allowed = np.arange(4)
    assert choose(scores, allowed, 2, "uncertain", 0).tolist() == [0, 2], "the second is known with the first"
    assert set(choose(scores, allowed, 2, "diverse", 0)) <= {0, 1, 2} and 2 in choose(scores, allowed, 2, "diverse", 0)
    for method in ("typical", "random"):
        found = choose(scores, allowed, 3, method, 5)
        assert len(set(found.tolist())) == 3 and found.max() < 4
        assert found.tolist() == choose(scores, allowed, 3, method, 5).tolist()
    assert sorted(choose(scores, allowed, 9, "uncertain", 0)) == [0, 1, 2, 3]
    assert len(choose(scores, allowed[:0], 2, "uncertain", 0)) == 0
    unknown = Scores(np.ones(5), np.full(5, np.nan), rows)
    assert choose(unknown, allowed, 1, "uncertain", 0).tolist() == [0], "without forces the rows alone count"
