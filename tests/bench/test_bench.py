"""The benchmark runs and writes what it promises; no times are asserted."""

import json

import pytest

# The benchmark is not installed: it runs from the checkout.
from bench import sections
from bench.__main__ import arguments, failures, main
from bench.harness import operations, report, systems
from bench.harness.workers import Workers
from fastdesc import GaussianMoments


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """Results of a toy run without peers, as read back from its file."""
    out = tmp_path_factory.mktemp("bench") / "deep" / "results.json"
    main(["--tiny", "--no-peers", "--out", str(out)])
    assert "Energies and forces" in out.with_suffix(".md").read_text()
    return json.loads(out.read_text())


def test_every_section_runs_and_no_entry_fails(record):
    assert set(record["sections"]) == set(sections.SECTIONS)
    assert all(row["results"] for rows in record["sections"].values() for row in rows)
    assert failures(record) == []


def test_every_entry_has_a_time(record):
    found = [r for rows in record["sections"].values() for row in rows for r in row["results"]]
    assert found
    for r in found:
        assert "error" not in r, r
        assert 0 < r["best"] <= r["median"]
        assert r["info"]["n_atoms"] > 0


def test_every_stage_with_arithmetic_says_its_share_of_peak(record):
    shares = {row["row"].split(": ")[1]: row["results"][0].get("of_peak") for row in record["sections"]["stages"]}
    bare = {"pair vectors", "forces", "virials", "blocks of the list"}
    assert len(shares) == 12 and bare < set(shares)
    assert all(0 < share < 1 for name, share in shares.items() if name not in bare)


def test_default_network_is_timed_through_each_door(record):
    small, *_ = record["sections"]["default"]
    whos = [r["who"] for r in small["results"]]
    assert small["row"].startswith("4 atoms")
    assert {"evaluate, list given", "predict", "calculator step, skin 0.5 Å"} <= set(whos)
    assert all(r["info"]["n_atoms"] == 4 for r in small["results"])


def test_first_entry_is_the_unit_of_ratios(record):
    for row in record["sections"]["energy_forces"]:
        assert row["results"][0]["ratio"] == 1
        assert all(r["ratio"] == pytest.approx(r["best"] / row["results"][0]["best"]) for r in row["results"])


def test_share_of_peak_is_below_one(record):
    rows = record["sections"]["energy_forces"] + record["sections"]["training"]
    ours = [r for row in rows for r in row["results"] if not {"iterations", "n_knots"} & set(r["options"])]
    shares = [r["of_peak"] for r in ours]
    assert len(shares) > 5
    assert all(0 < share < 1 for share in shares)


def test_dtypes_agree_on_the_energy(record):
    given = record["sections"]["energy_forces"][0]["results"]
    energies = [r["info"]["energy"] for r in given]
    assert {r["info"]["dtype"] for r in given} == {"float32", "float64"}
    assert max(energies) - min(energies) < 1e-5 * max(map(abs, energies))


def test_memory_is_of_a_fresh_process(record):
    of_energies, of_training = record["sections"]["memory"]
    assert "energies and forces" in of_energies["row"] and "step of training" in of_training["row"]
    assert len(of_energies["results"]) == len(of_training["results"]) == 4
    for r in of_energies["results"] + of_training["results"]:
        # Linux counts pages per thread and adds up late: a peak may read a little below what was resident before.
        assert r["peak_bytes"] > 0.95 * r["info"]["memory_before"] > 1e7


def test_embedded_densities_are_timed_for_several_iterations(record):
    for section, wanted in (("energy_forces", {0, 1, 3}), ("training", {0, 1, 3}), ("recursion", {0, 1, 2, 3})):
        found = [r["options"] for row in record["sections"][section] for r in row["results"]]
        assert {options["iterations"] for options in found if "iterations" in options} == wanted


def test_spline_filters_are_timed_with_few_knots_and_with_many(record):
    (row,) = [row for row in record["sections"]["energy_forces"] if "spline filters" in row["row"]]
    assert {r["options"]["n_knots"] for r in row["results"]} == {7, 100}
    assert {r["options"]["cutoff"] for r in row["results"]} == {6.0}


def test_spline_filters_stand_beside_apax_at_the_same_cutoff():
    rows = sections.energy_forces(sections.Machine(), sections.Sizes())
    (row,) = [row for row in rows if "spline filters" in row.title]
    assert [(e.worker, e.options.get("n_knots")) for e in row.entries] == [("ours", 7), ("ours", 100), ("apax", None)]
    for e in row.entries:
        assert (e.case, e.options["system"], e.options["cutoff"]) == ("energy_forces", "cu256", 6.0)


def test_machine_is_described(record):
    assert record["machine"]["processor"]
    assert record["limits"]["fma"]["float32"] > record["limits"]["fma"]["float64"] > 0
    assert all(g["blas"] for g in record["limits"]["gemm"])


def test_unknown_section_is_refused(capsys):
    with pytest.raises(SystemExit):
        arguments(["--only", "energy_force"])
    assert "unknown section 'energy_force'" in capsys.readouterr().err


def test_a_failing_entry_is_reported_and_does_not_stop_the_rest():
    entry = sections.Entry("x", "ours", "energy_forces")
    bad = report.summarise(entry, [{"error": "ValueError: no"}])
    good = report.summarise(entry, [{"wall": [2.0, 1.0], "cpu": [1.0, 1.0], "info": {"n_atoms": 10}}])
    results = [bad, good]
    report.compare(results, None)
    text = report.table("T", [("row", results)])
    assert "ValueError: no" in text
    assert good["best"] == pytest.approx(1e5)
    assert "ratio" not in bad
    found = failures({"sections": {"training": [{"row": "cu32", "results": results}]}})
    assert found == ["training, cu32, x: ValueError: no"]


def test_systems_are_what_their_names_say():
    assert systems.n_atoms("cu256") == 256
    assert systems.n_atoms("water192") == 192
    assert [len(atoms) for atoms in systems.frames("cu256x4")] == [256] * 4
    assert systems.species("water192") == ["H", "O"]
    assert systems.species("ethanol3") == ["H", "C", "O"]
    assert abs(systems.n_atoms("cu1000") - 1000) < 20
    a, b = systems.frames("cu256x4")[:2]
    assert abs(a.positions - b.positions).max() > 0.01


def test_water_molecules_keep_apart():
    from ase.neighborlist import neighbor_list

    i, j = neighbor_list("ij", systems.frames("water192")[0], 1.55)
    assert (i // 3 == j // 3).all()
    assert len(i) == 192 * 2


def test_counted_operations_of_the_known_model():
    """360 features: the network's 2 x 2 x (360 256 + 256 256 + 256) operations per atom dominate."""
    d = GaussianMoments(species=["Cu"], n_radial=5, n_basis=8, max_rank=3)
    network = operations.network(d, (256, 256), 1)
    assert network == 4 * (360 * 256 + 256 * 256 + 256)
    assert operations.energy_forces(d, (256, 256), 1, 78) > network
    assert operations.training_step(d, (256, 256), 1, 78) > 3 * network
    small = GaussianMoments(species=["Cu"], n_radial=5, n_basis=8, max_rank=1)
    assert operations.descriptor(small, 1, 78) < operations.descriptor(d, 1, 78)


def test_a_peer_that_its_environment_lacks_is_left_out(tmp_path):
    python, modules = tmp_path / "bin" / "python", tmp_path / "lib" / "python3" / "site-packages"
    python.parent.mkdir()
    python.touch()
    workers = Workers(tmp_path)
    assert workers.has("vesin") and not workers.has("nep")
    (modules / "nep_adapters").mkdir(parents=True)
    assert workers.has("nep") and not Workers(None).has("nep")
