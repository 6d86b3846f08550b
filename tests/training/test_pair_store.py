"""Pairs that are kept and pairs that are found anew for every batch: the same numbers, and less memory."""

import numpy as np
import pytest
from ase import Atoms
from helpers.training import alloy, small_potential

import fastdesc as fd
from fastdesc.errors import InputError
from fastdesc.structures import Structures
from fastdesc.training import pair_store
from fastdesc.training.pair_store import PairStore

FRAMES = [*alloy(5), alloy(1, 3, (1, 1, 1))[0], *alloy(2, 4, (2, 2, 1))]
QUICK = {"epochs": 3, "batch_atoms": 20, "progress": False, "seed": 1}


def store(most, frames=FRAMES):
    return PairStore(Structures.from_ase(frames), 4.5, np.float32, "cpu", most)


def arrays(found):
    pairs, rij = found
    return [pairs.row, pairs.j, pairs.shift, pairs.mirror, pairs.first, pairs.i, rij]


@pytest.mark.parametrize("frames", [[0], [5, 1], [7, 0, 3, 2], range(8)])
def test_both_ways_give_the_same_bits(frames):
    kept, anew = store(1e9), store(0)
    assert kept.kept and not anew.kept
    np.testing.assert_array_equal(kept.n_pairs, anew.n_pairs)
    for a, b in zip(arrays(kept.take(frames)), arrays(anew.take(frames)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_pairs_found_piece_by_piece_are_the_same(monkeypatch):
    whole = store(1e9)
    monkeypatch.setattr(pair_store, "AT_ONCE", 20)
    pieces = store(1e9)
    for a, b in zip(arrays(whole.take(range(8))), arrays(pieces.take(range(8))), strict=True):
        np.testing.assert_array_equal(a, b)
    assert whole.n_bytes == pieces.n_bytes == whole.n_pairs.sum() * 32
    assert not store(whole.n_bytes - 1).kept and store(whole.n_bytes).kept, "the bound is a bound"


def test_atoms_at_one_place_are_named_by_their_number_among_all(monkeypatch):
    monkeypatch.setattr(pair_store, "AT_ONCE", 20)
    twice = Atoms("Cu3", [(0, 0, 0), (2, 0, 0), (2, 0, 0)])
    with pytest.raises(InputError, match="frame 8, atom 1 and atom 2"):
        store(1e9, [*FRAMES, twice])


def test_short_distances_are_counted_either_way():
    d = fd.SplineFilters(species=["Cu", "Au"], cutoff=4.5, triplet_cutoff=4.0, r_min=2.6)
    one, other = store(1e9).short_distances(d), store(0).short_distances(d)
    assert one.n_short > 0 and (one.n_short, one.n_all) == (other.n_short, other.n_all)


def test_training_is_the_same(tmp_path, capsys):
    made = {}
    for memory in (4.0, 0.0):
        p = small_potential()
        settings = {**QUICK, "progress": True, "pair_memory": memory}
        history = fd.train(p, FRAMES[:6], FRAMES[6:], checkpoint=tmp_path / f"{memory}.h5", **settings)
        made[memory] = history["valid_loss"], p.parameters, "".join(capsys.readouterr())
    assert made[4.0][0] == made[0.0][0]
    for name, a in made[4.0][1].items():
        np.testing.assert_array_equal(a, made[0.0][1][name], err_msg=name)
    assert "pairs are found anew" in made[0.0][2] and "pairs are found anew" not in made[4.0][2]
    p = small_potential()    # a checkpoint goes on with another amount
    settings = {**QUICK, "epochs": 4, "pair_memory": 0.0}
    history = fd.train(p, FRAMES[:6], FRAMES[6:], checkpoint=tmp_path / "4.0.h5", resume=True, **settings)
    assert len(history) == 4


def test_batches_come_ahead_in_order_and_problems_where_they_are():
    anew, made = store(0), []
    for k in anew.ahead(lambda x: made.append(x) or x, range(5)):
        assert k <= len(made) - 1, "made before it is handed out"
    assert made == list(range(5))
    ahead = anew.ahead(lambda x: 1 / (2 - x), range(5))
    assert [next(ahead), next(ahead)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(ahead)
