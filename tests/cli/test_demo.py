"""The demo: every file it promises is there, and what it says of energies is true of EMT."""

import numpy as np
from ase.calculators.emt import EMT

import fastdesc as fd
from fastdesc.cli.demo import crystals, demo
from fastdesc.features.reader import read_features


def test_small_demo(tmp_path):
    said = []
    written = demo(tmp_path / "demo", progress=False, say=said.append, n_train=8, epochs=2, md_steps=4)
    assert all(path.is_file() for path in written.values())
    assert {"features", "model", "history", "errors", "learning curve", "parity plot"} <= set(written)
    assert set((tmp_path / "demo" / "run").iterdir()) <= set(written.values())
    text = "\n".join(said)
    assert all(str(path) in text for path in written.values())
    assert "errors on test" in text and "drift" in text
    assert fd.load(written["model"]).descriptor.species_numbers == (29, 79)
    assert len(read_features(written["features"]).energies) == 8
    demo(tmp_path / "demo", progress=False, say=said.append, n_train=6, epochs=1, md_steps=2)
    assert len(read_features(written["features"]).energies) == 6, "an earlier demo is replaced"


def test_crystals_are_labelled_and_repeatable():
    frames, again = crystals(6, 0), crystals(6, 0)
    for a, b in zip(frames, again, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
        forces, stress = a.get_forces(), a.get_stress()
        fresh = a.copy()
        fresh.calc = EMT()
        np.testing.assert_allclose(forces, fresh.get_forces())
        np.testing.assert_allclose(stress, fresh.get_stress())
    assert {len(set(a.symbols)) for a in frames} == {1, 2}
