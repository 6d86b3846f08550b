"""`fastdesc md`: conserved energy, temperature and pressure where they are asked for, and an exact way on."""

import csv

import ase.io
import numpy as np
import pytest
from ase.build import bulk

import fastdesc as fd
from fastdesc.cli import main
from fastdesc.potential.uncertainty import Uncertainty


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A stiff crystal: a repulsive pair potential of one spline."""
    path = tmp_path_factory.mktemp("md")
    d = fd.SplineFilters(species=["Cu"], cutoff=4.5, r_min=1.0, n_pair=1, n_triplet=0, n_knots=8)
    d.set_parameters(pair=np.array([[[4.0, 2.2, 1.1, 0.45, 0.15, 0.03, 0, 0, -5.0, 0]]]))
    fd.Potential(d, network="none", direct=True).save(path / "model.h5")
    ase.io.write(path / "cu.extxyz", bulk("Cu", cubic=True) * (2, 2, 2))
    return path


def run(source, out, *words):
    return main(["md", str(source / "model.h5"), str(source / "cu.extxyz"), "--out", str(out), "--quiet", *words])


def table(out):
    with open(out / "md.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def test_energy_is_conserved(source, tmp_path, capsys):
    assert run(source, tmp_path / "md", "--steps", "200", "--every", "20", "--repeat", "1", "1", "2") == 0
    told = capsys.readouterr().out
    found, frames = table(tmp_path / "md"), ase.io.read(tmp_path / "md" / "trajectory.extxyz", ":")
    assert len(frames) == len(found["step"]) == 11 and len(frames[0]) == 64
    assert list(found["step"]) == list(range(0, 201, 20)) and found["time_ps"][-1] == pytest.approx(0.2)
    assert 250 < found["temperature_K"][0] < 350
    assert np.ptp(found["total_eV"]) < 0.05 * np.ptp(found["potential_eV"])
    for name in ("trajectory.extxyz", "md.csv", "restart.h5", "md.png"):
        assert name in told and (tmp_path / "md" / name).stat().st_size > 0
    last = frames[-1]
    expected = fd.load(source / "model.h5").predict(last)
    assert last.get_potential_energy() == pytest.approx(expected.energy[0], abs=1e-4)


@pytest.mark.parametrize("ensemble", ["nve", "nvt", "npt"])
def test_resumed_is_as_if_uninterrupted(source, tmp_path, ensemble):
    words = ("--ensemble", ensemble, "--every", "5", "--temperature", "400", "--pressure", "5")
    assert run(source, tmp_path / "whole", "--steps", "40", *words) == 0
    assert run(source, tmp_path / "parts", "--steps", "20", *words) == 0
    with open(tmp_path / "parts" / "trajectory.extxyz", "a", encoding="utf-8") as file:
        file.write("what came after the restart was written")
    assert run(source, tmp_path / "parts", "--steps", "40", "--resume", *words) == 0
    whole, parts = table(tmp_path / "whole"), table(tmp_path / "parts")
    for name, values in whole.items():
        assert abs(values - parts[name]).max() <= 1e-7 * abs(values).max(), name
    assert len(ase.io.read(tmp_path / "parts" / "trajectory.extxyz", ":")) == 9
    if ensemble == "npt":
        assert np.ptp(whole["volume_A3"]) > 0
    else:
        assert np.ptp(whole["volume_A3"]) == 0


def test_thermostat_and_barostat_find_their_values(source, tmp_path):
    words = ("--ensemble", "npt", "--temperature", "900", "--pressure", "20", "--temperature-time", "20")
    assert run(source, tmp_path / "md", "--steps", "1500", "--pressure-time", "200", *words) == 0
    found = table(tmp_path / "md")
    half = len(found["step"]) // 2
    assert 700 < found["temperature_K"][half:].mean() < 1100
    assert 14 < found["pressure_GPa"][half:].mean() < 26


def test_one_sentence_for_what_cannot_be(source, tmp_path, capsys):
    cases = (
        (["--steps", "0"], "steps came as 0"),
        (["--timestep", "-1"], "timestep came as -1"),
        (["--resume"], "no run to go on with"),
        (["--pressure", "nan"], "pressure came as nan"),
        (["--timestep", "1000000", "--steps", "50"], "unstable"),
    )
    for k, (words, told) in enumerate(cases):
        assert run(source, tmp_path / f"bad{k}", *words) == 2
        err = capsys.readouterr().err
        assert told in err and err.count("\n") == 1, err
    assert run(source, tmp_path / "md", "--steps", "5") == 0
    assert run(source, tmp_path / "md", "--steps", "5") == 2 and "--resume" in capsys.readouterr().err
    assert run(source, tmp_path / "md", "--steps", "9", "--resume", "--timestep", "2") == 2
    assert "the run began with 1.0" in capsys.readouterr().err
    atoms = bulk("Cu", cubic=True)
    atoms.pbc = True, True, False
    ase.io.write(tmp_path / "slab.extxyz", atoms)
    words = ["md", str(source / "model.h5"), str(tmp_path / "slab.extxyz"), "--ensemble", "npt", "--out"]
    assert main([*words, str(tmp_path / "slab")]) == 2 and "periodic in all" in capsys.readouterr().err


def sure_model(path, largest=1.0):
    """A model with a covariance that is not zero, and a frame for it."""
    p = fd.load(path / "model.h5")
    p.uncertainty = Uncertainty(np.array([[0.01]]), np.array([largest]))
    return p


def test_dynamics_end_where_the_model_does_not_know(source, tmp_path, capsys):
    at_rest = bulk("Cu", cubic=True) * (2, 2, 2)
    p = sure_model(source)
    start = p.predict(at_rest, uncertainty="energy").grade.max()
    (tmp_path / "in").mkdir()
    ase.io.write(tmp_path / "in" / "cu.extxyz", at_rest)
    sure_model(source, start).save(tmp_path / "in" / "model.h5")    # a perfect crystal has grade 1
    words = ("--steps", "200", "--every", "5", "--temperature", "1500")
    assert run(tmp_path / "in", tmp_path / "md", *words, "--stop-above", "1.05") == 0
    told = capsys.readouterr().out
    found, frames = table(tmp_path / "md"), ase.io.read(tmp_path / "md" / "trajectory.extxyz", ":")
    assert len(frames) == len(found["step"]) and found["step"][-1] < 200
    last = fd.load(tmp_path / "in" / "model.h5").predict(frames[-1], uncertainty="energy")
    k = int(np.argmax(last.grade))
    assert f"stopped at step {found['step'][-1]:.0f}: atom {k} (Cu) has grade" in told
    assert found["grade"][-1] > 1.05 >= found["grade"][:-1].max()
    # The trajectory has eight digits of the positions, from which these are predicted again; the table six of a number.
    np.testing.assert_allclose(found["grade"][-1], last.grade[k], rtol=1e-5)
    np.testing.assert_allclose(frames[-1].arrays["grade"], last.grade, rtol=1e-5)
    assert found["energy_uncertainty_eV"][-1] == pytest.approx(last.energy_uncertainty[0], rel=1e-5)
    # Out of reach, it goes on to the end, in parts as in one piece.
    for words in (("--steps", "10"), ("--steps", "20", "--resume")):
        assert run(tmp_path / "in", tmp_path / "far", *words, "--every", "5", "--stop-above", "1e6") == 0
    assert "stopped" not in capsys.readouterr().out and table(tmp_path / "far")["step"][-1] == 20


def test_a_model_without_uncertainty_and_wrong_limits_are_refused(source, tmp_path, capsys):
    assert run(source, tmp_path / "md", "--stop-above", "2") == 2
    assert "fd.fit_uncertainty" in capsys.readouterr().err
    assert run(source, tmp_path / "md", "--stop-above", "0") == 2
    assert "stop-above came as 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--repeat", "-1", "1", "1"), "a number in repeat came as -1; it must be an integer from 1 to 10000"),
        (("--repeat", "1", "0", "1"), "a number in repeat came as 0"),
        (("--repeat", "1", "1", "99999999999999999999"), "a number in repeat came as 99999999999999999999"),
        (("--seed", "-1"), "seed came as -1; it must be an integer of at least 0"),
        (("--timestep", "1e300"), "the dynamics became unstable after step 0; take a smaller --timestep"),
    ],
)
def test_numbers_out_of_range(source, tmp_path, capsys, words, message):
    assert run(source, tmp_path / "md", *words) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert message in told


@pytest.mark.parametrize("name", ["trajectory.extxyz", "md.csv"])
def test_a_file_that_lost_its_end_is_not_continued(source, tmp_path, capsys, name):
    """The missing part would be zeros."""
    out = tmp_path / "md"
    assert run(source, out, "--steps", "4", "--every", "2") == 0
    length = (out / name).stat().st_size
    with open(out / name, "r+b") as file:
        file.truncate(length - 7)
    capsys.readouterr()
    assert run(source, out, "--steps", "6", "--every", "2", "--resume") == 2
    told = capsys.readouterr().err
    assert f"{name} has {length - 7} bytes and had {length}" in told and told.count("\n") == 1
    assert (out / name).stat().st_size == length - 7


def test_frames_that_cannot_move_leave_no_folder(source, tmp_path, capsys):
    for k, (change, sentence) in enumerate((
        (lambda a: a.set_masses([0.0, *a.get_masses()[1:]]), "atom 0 (Cu) has the mass 0"),
        (lambda a: a.set_momenta(np.full((len(a), 3), np.nan)), "velocity of atom 0 is not finite"),
        (lambda a: a.set_chemical_symbols(["Au"] * len(a)), "frame 0, atom 0 is Au"),
    )):    # fmt: skip
        atoms = ase.io.read(source / "cu.extxyz")
        change(atoms)
        ase.io.write(tmp_path / f"{k}.extxyz", atoms)
        words = ["md", str(source / "model.h5"), str(tmp_path / f"{k}.extxyz"), "--out", str(tmp_path / "out")]
        assert main([*words, "--quiet"]) == 2
        told = capsys.readouterr().err
        assert sentence in told and told.count("\n") == 1 and not (tmp_path / "out").exists()
    (tmp_path / "out").write_text("")
    assert main([*words, "--quiet"]) == 2 and "is a file; name another folder" in capsys.readouterr().err
