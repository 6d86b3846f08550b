"""Pairs in blocks of atoms: rows turned in registers give what single pairs give; cells too far away are told."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from fastdesc.pairs import Pairs, blocks
from fastdesc.structures import Structures

RNG = np.random.default_rng(0)
FRAMES = {
    "images of one cell": bulk("Cu", cubic=True),
    "gas": Atoms("H150", RNG.uniform(0, 16, (150, 3)), cell=[16] * 3, pbc=(1, 0, 1)),
    "molecules": [molecule("CH3CH2OH")] * 7,
    "alone": Atoms("H"),
}


@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("name", FRAMES)
def test_tiles_are_what_single_pairs_are(name, lanes, monkeypatch):
    pairs = Pairs.find(Structures.from_ase(FRAMES[name]), 5.0)
    species = np.zeros(pairs.n_atoms, np.int32)
    assert lanes in blocks.KINDS
    found = blocks.made_blocks(pairs, species, 1, lanes)
    monkeypatch.setattr(blocks, "KINDS", {})
    wanted = blocks.made_blocks(pairs, species, 1, lanes)
    for array in ("atom", "element", "first_slot", "starts", "shifted", "neighbour", "shift", "mirror"):
        np.testing.assert_array_equal(getattr(found, array), getattr(wanted, array), array)
    for p in range(pairs.n_pairs):
        slot, lane = divmod(int(found.mirror[p]), 3 * lanes)
        assert found.neighbour[slot, lane] == pairs.j[pairs.mirror[p]]
        np.testing.assert_array_equal(found.shift[slot, :, lane], pairs.shift[pairs.mirror[p]])


@pytest.mark.parametrize("cells", [127, 128, -128])
def test_shifts_that_do_not_fit(cells):
    far = Atoms("H2", [(0, 0, 0), (3.0 * cells, 0, 1.0)], cell=[3.0] * 3, pbc=True)
    pairs = Pairs.find(Structures.from_ase(far), 2.0)
    found = blocks.made_blocks(pairs, np.zeros(2, np.int32), 1, 16)
    assert (found is None) == (abs(cells) > 127)
    if found is not None:
        assert sorted({*found.shift[:, 0].ravel()}) == [-127, 0, 127] and found.shifted.all()
