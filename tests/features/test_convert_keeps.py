"""What frames carry comes through `convert`, and labels under names of their own through every command."""

import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian
from ase.io import read, write
from helpers.featurizing import Fake, frames

from fastdesc.cli import main
from fastdesc.errors import FastdescWarning, InputError
from fastdesc.features import convert, featurize, labels, open_features, read_frames


def rich(k):
    """A frame with everything that frames carry."""
    rng = np.random.default_rng(k)
    n = 2 + k % 3
    atoms = Atoms("Cu" * n, positions=rng.normal(size=(n, 3)) + 3 * np.arange(n)[:, None], cell=[9, 9, 9], pbc=True)
    atoms.set_momenta(rng.normal(size=(n, 3)))
    atoms.set_tags(np.arange(n))
    atoms.set_initial_charges(rng.normal(size=n))
    atoms.set_masses(60 + rng.random(n))
    atoms.set_array("residue", np.array(["ALA", "Å"] * n)[:n])
    atoms.set_array("REF_forces", rng.normal(size=(n, 3)))
    atoms.set_constraint([FixAtoms([0]), FixCartesian(1, mask=[True, False, True])])
    atoms.info["REF_energy"] = -1.5 * k
    atoms.info["REF_stress"] = rng.normal(size=6)
    atoms.calc = SinglePointCalculator(
        atoms, energy=-2.5, free_energy=-2.6, forces=rng.normal(size=(n, 3)), dipole=rng.normal(size=3),
        charges=rng.normal(size=n), magmoms=rng.normal(size=n), magmom=1.5,
    )  # fmt: skip
    return atoms


def same_frame(a, b):
    assert a == b and set(a.arrays) == set(b.arrays) and set(a.info) == set(b.info)
    for name in b.arrays:
        assert a.arrays[name].dtype.kind == b.arrays[name].dtype.kind
        np.testing.assert_array_equal(a.arrays[name], b.arrays[name], err_msg=name)
    assert [c.todict() for c in a.constraints] == [c.todict() for c in b.constraints]
    theirs = {} if b.calc is None else b.calc.results
    ours = {} if a.calc is None else a.calc.results
    assert set(ours) == set(theirs)
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_convert_keeps_all_of_it(tmp_path):
    """Byte for byte, from memory and from a frames file; frames without come between those with."""
    plain = [a for a in frames(4) if a.calc is None or a.calc.results.pop("stress", None) is not None]
    data = [plain[0], rich(1), plain[1], rich(2), rich(3), plain[2]]
    out = convert(data, tmp_path / "f.h5", progress=False)
    again = convert(out, tmp_path / "g.h5", progress=False)
    for path in (out, again):
        back = read_frames(path)
        assert len(back) == len(data)
        for a, b in zip(back, data, strict=True):
            same_frame(a, b)
    one = [convert([a], tmp_path / f"{k}.h5", progress=False) for k, a in enumerate(data)]
    for a, b in zip(read_frames(convert(one, tmp_path / "h.h5", progress=False)), data, strict=True):
        same_frame(a, b)


def test_what_changes_its_form_is_told(tmp_path):
    data = [rich(1), rich(2), rich(3)]
    data[1].set_array("REF_forces", None)
    data[1].set_array("REF_forces", np.ones(len(data[1])))
    with pytest.warns(FastdescWarning, match="'REF_forces' of 1 frame was left out: it is not of one type and shape"):
        out = convert(data, tmp_path / "f.h5", progress=False)
    back = read_frames(out)
    assert ["REF_forces" in a.arrays for a in back] == [True, False, True]


@pytest.mark.parametrize("columns", [1, 3])
def test_atoms_that_stay_where_they_are(tmp_path, columns):
    """The column move_mask, as ASE reads it; labels are raw forces all the same."""
    atoms = frames(3)[1]
    atoms.set_constraint(FixAtoms([0, 2]) if columns == 1 else [FixCartesian(1, mask=[True, False, True])])
    write(tmp_path / "x.extxyz", atoms)
    (got,), (want,) = read_frames(tmp_path / "x.extxyz"), [read(tmp_path / "x.extxyz")]
    assert [c.todict() for c in got.constraints] == [c.todict() for c in want.constraints] != []
    assert "move_mask" not in got.arrays
    np.testing.assert_allclose(labels([got]).forces, atoms.calc.results["forces"], atol=1e-8)
    (kept,) = read_frames(convert(tmp_path / "x.extxyz", tmp_path / "f.h5", progress=False))
    assert [c.todict() for c in kept.constraints] == [c.todict() for c in want.constraints]


# --- labels under names of their own

KEYS = {"energy_key": "REF_energy", "forces_key": "REF_forces", "stress_key": "REF_stress"}


@pytest.mark.parametrize("kind", ["memory", "extxyz", "h5"])
def test_the_same_keys_everywhere(tmp_path, kind):
    data = [rich(k) for k in range(3)]
    source = data
    if kind == "extxyz":
        for a in data:
            del a.arrays["residue"]
            a.set_constraint()
        write(tmp_path / "x.extxyz", data)
        source = tmp_path / "x.extxyz"
    elif kind == "h5":
        source = convert(data, tmp_path / "x.h5", progress=False)
    want = labels(read_frames(source, **KEYS))
    np.testing.assert_allclose(want.energies, [0, -1.5, -3.0])
    with open_features(featurize(source, tmp_path / "q.h5", Fake(), progress=False, **KEYS)) as f:
        np.testing.assert_array_equal(f.energies, want.energies)
        np.testing.assert_array_equal(np.concatenate([f.forces(k) for k in range(3)]), want.forces)
        np.testing.assert_array_equal(f.rows(0, 3).stress, want.stress)
    got = labels(read_frames(convert(source, tmp_path / "y.h5", progress=False, **KEYS)))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("REF_energy", "n/a", r"frame 1 has 'n/a' under 'REF_energy' for the energy; it must be one number \(eV\)"),
        ("REF_energy", np.array([1.0, 2.0]), "frame 1 has an array of float64 and shape .2,. under 'REF_energy' for"),
        ("REF_energy", True, "frame 1 has True under 'REF_energy' for the energy"),
        ("REF_stress", np.ones(5), "shape .5,. under 'REF_stress' for the stress; it must be 6 numbers"),
        ("REF_stress", 0.1, "frame 1 has 0.1 under 'REF_stress' for the stress; it must be 6 numbers"),
        ("REF_stress", "none", "frame 1 has 'none' under 'REF_stress' for the stress; it must be 6 numbers"),
        ("REF_forces", np.array([["a"] * 3] * 3), "under 'REF_forces' for the forces; it must be a row of three"),
        ("REF_forces", np.ones((3, 2)), "shape .3, 2. under 'REF_forces' for the forces; it must be a row of three"),
    ],
)
def test_what_is_no_label_is_named(tmp_path, key, value, message):
    data = [rich(k) for k in range(3)]
    if key == "REF_forces":
        data[1].set_array(key, None)
        data[1].set_array(key, value)
    else:
        data[1].info[key] = value
    with pytest.raises(InputError, match=message):
        read_frames(data, **KEYS)
    for run in (convert, lambda a, b, **c: featurize(a, b, Fake(), **c)):
        with pytest.raises(InputError, match=message):
            run(data, tmp_path / "f.h5", progress=False, **KEYS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastdescWarning)
        out = convert(data, tmp_path / "f.h5", progress=False, on_error="skip", **KEYS)
    assert labels(read_frames(out)).energies.tolist() == [0.0, -3.0]


def test_names_that_look_like_labels_are_pointed_at(tmp_path):
    data = [rich(1)]
    data[0].calc = None
    advice = "give energy_key='REF_energy', stress_key='REF_stress', forces_key='REF_forces'"
    for run in (convert, lambda a, b, **c: featurize(a, b, Fake(), **c)):
        with pytest.warns(FastdescWarning, match=f"no frame has a label of a standard name; .*: {advice}"):
            run(data, tmp_path / "f.h5", progress=False)
        with pytest.warns(FastdescWarning, match="no frame has 'REF_enrgy' for the energy; there are names like it"):
            run(data, tmp_path / "f.h5", progress=False, energy_key="REF_enrgy")
        with warnings.catch_warnings():
            warnings.simplefilter("error", FastdescWarning)
            run(data, tmp_path / "f.h5", progress=False, energy_key="REF_energy")
        with pytest.raises(InputError, match="energy_key came as 3; it must be the name of a label, such as 'REF_e"):
            run(data, tmp_path / "f.h5", progress=False, energy_key=3)
        (tmp_path / "f.h5").unlink()


def test_the_commands_take_the_keys(tmp_path, capsys):
    data = [rich(k) for k in range(3)]
    for a in data:
        a.calc = None
        a.set_constraint()
        del a.arrays["residue"]
    write(tmp_path / "x.extxyz", data)
    words = [x for name in ("energy", "forces", "stress") for x in (f"--{name}-key", f"REF_{name}")]
    for command, more in (("convert", []), ("featurize", ["--cutoff", "3"])):
        out = str(tmp_path / f"{command}.h5")
        assert main([command, str(tmp_path / "x.extxyz"), out, "--quiet", *more, *words]) == 0
        assert "(3 with energy, 3 with forces, 3 with stress)" in capsys.readouterr().out
