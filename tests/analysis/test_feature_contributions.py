"""Contributions of features to energies and forces: sums and definitions, for every family."""

import json

import numpy as np
import pytest
from helpers.families import FAMILIES
from helpers.training import alloy

import fastdesc as fd
from fastdesc.analysis import feature_contributions as module
from fastdesc.analysis.feature_contributions import contributions_table, feature_contributions
from fastdesc.cli import main


def rms(x):
    return float(np.sqrt((np.asarray(x) ** 2).mean()))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_shares_of_a_linear_model_are_what_its_weights_say(family, monkeypatch):
    """E_i = w q_i: contributions are w (q - mean), and the forces of w with all other weights zero."""
    monkeypatch.setattr(module, "AT_ONCE", 9)
    frames = alloy(3)
    d = family.make(next(iter(family.variants)), ["Cu", "Au"])
    potential = fd.Potential(d, hidden=(), network="shared")
    rng = np.random.default_rng(0)
    name = "network/0/0/weight"
    w = rng.standard_normal(potential.parameters[name].shape)
    potential.set_parameters({name: w})
    found = feature_contributions(potential, frames)
    assert list(found) == list(d.feature_names_out())
    q = d.compute(frames)
    numbers = np.concatenate([a.numbers for a in frames])
    for z in np.unique(numbers):
        q[numbers == z] -= q[numbers == z].mean(0)
    for f, feature in enumerate(found):
        only = np.zeros_like(w)
        only[:, f] = w[:, f]
        potential.set_parameters({name: only})
        forces = potential.predict(frames).forces
        assert found[feature]["energy"] == pytest.approx(rms(w[0, f] * q[:, f]), rel=1e-9, abs=1e-12)
        assert found[feature]["forces"] == pytest.approx(rms(forces), rel=1e-9, abs=1e-12)
    for what in ("energy_share", "forces_share"):
        assert sum(s[what] for s in found.values()) == pytest.approx(1, rel=1e-12)


def test_contributions_to_forces_add_up():
    """Of the networks of a trained potential too: with one feature, its contribution is the whole force."""
    d = fd.SplineFilters(species=["Cu", "Au"], cutoff=4.5, triplet_cutoff=3.5, n_pair=1, n_triplet=0)
    potential = fd.Potential(d, hidden=(4,))
    frames = alloy(4)
    fd.train(potential, frames, epochs=2, progress=False)
    (only,) = feature_contributions(potential, frames).values()
    assert only["forces"] == pytest.approx(rms(potential.predict(frames).forces), rel=1e-9)
    assert only["forces_share"] == 1


def test_table_and_command_line(tmp_path, capsys):
    d = fd.SplineFilters(species=["Cu", "Au"], cutoff=4.5, triplet_cutoff=3.5, n_pair=2, n_triplet=1)
    fd.Potential(d, hidden=(4,), seed=1).save(tmp_path / "m.h5")
    for k, atoms in enumerate(alloy(2)):
        atoms.write(tmp_path / "a.extxyz", append=k > 0)
    arguments = ["evaluate", str(tmp_path / "m.h5"), str(tmp_path / "a.extxyz"), "--shares"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert {line.split()[0] for line in lines[1:4]} == {"pair_0", "pair_1", "triplet_0"}
    assert main([*arguments, "--json"]) == 0
    features = json.loads(capsys.readouterr().out)["features"]
    forces = [features[line.split()[0]]["forces"] for line in lines[1:4]]
    assert forces == sorted(forces, reverse=True)
    assert set(features["pair_0"]) == {"energy", "forces", "energy_share", "forces_share"}


def test_long_tables_are_cut():
    shares = {f"f{k}": {"energy": 1.0, "forces": 1.0 + k, "energy_share": 0.1, "forces_share": 0.1} for k in range(10)}
    text = contributions_table(shares, most=3)
    assert "f9" in text and "f6" not in text and "7 more features, together 70.0% of the forces" in text
