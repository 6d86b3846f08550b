"""The benchmark of uncertainties on a small set that goes by the name of water."""

import json

import pytest
from ase.io import write
from helpers.training import alloy, small_potential

import fastdesc as fd
from bench.uncertainty import main


@pytest.mark.filterwarnings("ignore:the energies of the training frames do not tell")
def test_it_tells_of_a_model_and_keeps_other_sets(tmp_path, capsys):
    (tmp_path / "water").mkdir()
    write(tmp_path / "water/train.extxyz", alloy(8))
    write(tmp_path / "water/valid.extxyz", alloy(4, 1))
    p = small_potential()
    fd.train(p, alloy(8), epochs=1, progress=False, uncertainty=False)
    p.save(tmp_path / "m.h5")
    out = tmp_path / "out.json"
    out.write_text('[{"set": "3bpa"}]')
    main([str(tmp_path), "--sets", "water", "--model", str(tmp_path / "m.h5"), "--out", str(out)])
    kept, found = json.loads(out.read_text())
    assert kept == {"set": "3bpa"} and found["set"] == "water" and found["train_cpu_s"] is None
    told = found["tests"]["test"]["uncertainty"]
    assert told["energy"]["n"] == 4 and 0 <= told["forces"]["coverage_90"] <= 1
    assert found["us_per_atom"]["forces, all uncertainties"] > 0
    assert "calib. error" in capsys.readouterr().out
