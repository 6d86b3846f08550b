"""Whatever frames carry, what `predict` and `md` write is read again, and what is left out is told."""

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms, FixBondLength
from ase.io import write
from helpers.training import small_potential

import fastdesc as fd
from fastdesc.cli import main
from fastdesc.errors import FastdescWarning
from fastdesc.features import convert

# Key and value; whether extended XYZ holds them.
INFO = [
    ("a", 1, True), ("a", "é ü", True), ("a b", 1, True), ("a", True, True), ("a", 'x"y', True),
    ("a", {"b": [1]}, True),
    ("a", np.eye(3), True), ("a", 2**70, True), ("lattice", "fcc", False), ("", 2, False),
    ("=", 1, False),
    ("a", "b\nc", False), ("a", "_JSON {", False), ("a", [1, [2]], False), ("Lattice", "x", False),
    ("Properties", "x", False), ("energy", 5.0, False), ("energy", "text", False), ("stress", 1, False),
    ("virial", [1, 2], False), ("forces", "x", False),
]  # fmt: skip
ARRAYS = [
    ("a", np.arange(3), True), ("a", np.ones((3, 2)), True), ("a", np.array(["é", "b", "c"]), True),
    ("a", np.array([True, False, True]), True), ("a", np.array(["a b", "c", ""]), False), ("x y", np.ones(3), False),
    ("q:r", np.ones(3), False), ("pos", np.ones(3), False), ("forces", np.ones((3, 3)), False),
    ("a", np.ones((3, 2, 2)), False),
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.h5"
    small_potential(n_radial=1, n_basis=2, max_rank=0).save(path)
    return str(path)


def frame():
    return Atoms("CuAuCu", [[0, 0, 0], [2, 0, 0], [0, 2, 0]], cell=[6, 6, 6], pbc=[True, True, False])


def check(model, tmp_path, capsys, atoms, name, held):
    convert([frame(), atoms], tmp_path / "in.h5", progress=False)
    out = tmp_path / "out.extxyz"
    assert main(["predict", model, str(tmp_path / "in.h5"), str(out), "--quiet"]) == 0
    told = capsys.readouterr().err
    assert (f"{name!r} of 1 frame is not kept in" in told) is not held
    found = fd.read_frames(out)[1]
    np.testing.assert_allclose(found.positions, atoms.positions, atol=1e-7)
    np.testing.assert_array_equal(found.cell, atoms.cell)
    assert found.pbc.tolist() == [True, True, False] and str(found.symbols) == "CuAuCu"
    np.testing.assert_allclose(found.get_forces(), fd.load(model).predict(atoms).forces, atol=1e-7)
    return found


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("key, value, held", INFO)
def test_info(model, tmp_path, capsys, key, value, held):
    atoms = frame()
    atoms.info[key] = value
    found = check(model, tmp_path, capsys, atoms, key, held)
    assert list(found.info) == ([key] if held else [])
    if held:
        np.testing.assert_array_equal(found.info[key], value)


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("name, array, held", ARRAYS)
def test_arrays(model, tmp_path, capsys, name, array, held):
    atoms = frame()
    atoms.arrays[name] = array
    found = check(model, tmp_path, capsys, atoms, name, held)
    if held:
        np.testing.assert_array_equal(found.arrays[name], array)


def test_dynamics_of_such_a_frame(model, tmp_path, capsys):
    atoms = frame()
    atoms.info.update({"a": "b\nc", "Lattice": "x", "kept": 3})
    convert([atoms], tmp_path / "in.h5", progress=False)
    words = ["md", model, str(tmp_path / "in.h5"), "--steps", "2", "--every", "1", "--quiet"]
    assert main([*words, "--out", str(tmp_path / "md")]) == 0
    assert capsys.readouterr().err.count("of 1 frame is not kept in") == 2
    found = fd.read_frames(tmp_path / "md" / "trajectory.extxyz")
    assert [one.info["step"] for one in found] == [0, 1, 2] and {one.info["kept"] for one in found} == {3}


def test_constraints_that_cannot_be_repeated(model, tmp_path, capsys):
    atoms = frame()
    atoms.set_constraint([FixAtoms([0]), FixBondLength(1, 2)])
    write(tmp_path / "in.traj", atoms)
    words = ["md", model, str(tmp_path / "in.traj"), "--steps", "1", "--quiet", "--out"]
    assert main([*words, str(tmp_path / "a")]) == 0
    assert main([*words, str(tmp_path / "b"), "--repeat", "2", "1", "1"]) == 2
    assert "constraints that ASE cannot repeat (FixAtoms, FixBondLength" in capsys.readouterr().err


@pytest.mark.parametrize("shape", [(0,), (2, 0), (65,), (5, 13)])
def test_arrays_that_no_file_of_ours_holds_are_left_out(tmp_path, shape):
    """A file with 65 texts in a row would be taken for a damaged one."""
    atoms = frame()
    atoms.arrays["a"] = np.full((3, *shape), "x")
    atoms.arrays["b"] = np.full((3, 64), "x")
    with pytest.warns(FastdescWarning, match=r"'a' of 1 frame was left out"):
        out = convert([atoms], tmp_path / "x.h5", progress=False)
    found = fd.read_frames(out)[0]
    assert set(found.arrays) == {"numbers", "positions", "b"} and (found.arrays["b"] == "x").all()
