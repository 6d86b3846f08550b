"""The benchmark of uncertainties outside of what was trained on, on a small set that goes by the name of Si."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from helpers.training import alloy

from bench.extrapolation import fifths, main


def test_fifths_are_by_energy_above_the_composition():
    frames, above = [], np.random.default_rng(0).permutation(20)
    for k, more in enumerate(above):
        atoms = Atoms(f"Cu{k % 5}Au{1 + k % 3}")
        atoms.calc = SinglePointCalculator(atoms, energy=-100.0 * (k % 5) + 0.001 * more * len(atoms))
        frames.append(atoms)
    gold = np.array([np.mean(a.numbers == 79) for a in frames])
    left = np.array([a.get_potential_energy() / len(a) for a in frames])
    left -= np.polyval(np.polyfit(gold, left, 1), gold)
    of_frame = dict(zip(map(id, frames), left, strict=True))
    parts = [[of_frame[id(a)] for a in part] for part in fifths(frames)]
    assert [len(part) for part in parts] == [12, 4, 4]
    assert max(parts[0]) < min(parts[1]) and max(parts[1]) < min(parts[2])


@pytest.mark.filterwarnings("ignore:the energies of the training frames do not tell")
def test_it_tells_with_and_without_growth(tmp_path):
    (tmp_path / "mlearn").mkdir()
    write(tmp_path / "mlearn/Si_train.extxyz", alloy(20))
    out = tmp_path / "out.json"
    main([str(tmp_path), "--sets", "Si", "--seeds", "1", "--steps", "4", "--out", str(out)])
    (found,) = json.loads(out.read_text())
    assert found["trained_on"] == 10 and found["seed"] == 1
    for kind in ("as_told", "without_growth"):
        assert {"energy", "forces"} <= set(found[kind]["high"]["uncertainty"])
        assert 0 <= found[kind]["middle"]["local"]["coverage_90"] <= 1
