"""Labels of frames: energies, forces and stresses that are there, missing, stale, or under other names."""

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import write
from helpers.labelled_frames import labelled

from fastdesc.errors import InputError
from fastdesc.io.frames import read_frames
from fastdesc.io.labels import is_virial, labels


def test_labels_and_missing_ones():
    frames = labelled(n=4)
    frames[1].calc = SinglePointCalculator(frames[1], energy=-2.0)
    frames[2].calc = None
    got = labels(frames)
    energies, forces, stress = got
    assert energies.shape == (4,) and forces.shape == (sum(map(len, frames)), 3) and stress.shape == (4, 3, 3)
    assert energies[1] == -2.0 and np.isnan(energies[2])
    np.testing.assert_array_equal(forces[: len(frames[0])], frames[0].get_forces())
    assert np.isnan(forces[len(frames[0]) : -len(frames[3])]).all() and np.isfinite(forces[-len(frames[3]) :]).all()
    s = frames[0].get_stress(voigt=False)
    np.testing.assert_array_equal(stress[0], s)
    assert np.abs(s - np.diag(np.diag(s))).max() > 1e-4    # a shear that a wrong Voigt order would misplace
    assert got.counts(frames) == {"energy": 3, "forces": 2, "stress": 2}
    assert got.report(frames) == "4 frames (24 atoms), 1 without energy, 2 without forces, 2 without stress"
    report = labels(frames[:1]).report(frames[:1])
    assert report == "1 frame (4 atoms), all with energy, all with forces, all with stress"


def test_labels_ignore_constraints_and_never_compute():
    atoms = labelled(n=1)[0]
    forces = atoms.calc.results["forces"].copy()
    atoms.set_constraint(FixAtoms([0, 1]))
    np.testing.assert_array_equal(labels([atoms]).forces, forces)
    atoms.calc = EMT()
    assert np.isnan(labels([atoms]).energies).all() and not atoms.calc.results


def test_labels_of_a_moved_frame_are_stale():
    atoms = labelled(n=1)[0]
    assert np.isfinite(labels([atoms]).energies).all()
    atoms.positions[0, 0] += 0.1
    got = labels([atoms])
    assert np.isnan(got.energies).all() and np.isnan(got.forces).all() and np.isnan(got.stress).all()


def test_labels_of_the_wrong_shape():
    frames = labelled(n=2)
    frames[1].calc.results["forces"] = np.zeros((2, 3))
    with pytest.raises(InputError, match="frame 1 has a label of the wrong shape"):
        labels(frames)


def test_labels_under_other_names(tmp_path):
    frames = labelled(n=2)
    for k, atoms in enumerate(frames):
        atoms.calc = None
        atoms.info["REF_energy"] = -1.0 - k
        atoms.info["REF_stress"] = np.arange(9.0).reshape(3, 3) + np.arange(9.0).reshape(3, 3).T
        atoms.set_array("REF_forces", np.full((len(atoms), 3), 0.5))
    path = tmp_path / "ref.extxyz"
    write(path, frames)
    keys = {"energy_key": "REF_energy", "forces_key": "REF_forces", "stress_key": "REF_stress"}
    for source in (path, frames):
        got = labels(read_frames(source, **keys))
        np.testing.assert_array_equal(got.energies, [-1.0, -2.0])
        assert (got.forces == 0.5).all()
        np.testing.assert_array_equal(got.stress[0], frames[0].info["REF_stress"])
    with pytest.raises(InputError, match=r"no frame of .*ref.extxyz has 'DFT_energy' for the energy.*REF_energy"):
        read_frames(path, energy_key="DFT_energy")


@pytest.mark.parametrize("name, means", [("virial", True), ("dft_virials", True), ("Virial_ref", True), (None, False),
                                         ("virial_stress", False), ("REF_stress", False)])  # fmt: skip
def test_names_of_virials(name, means):
    assert is_virial(name) is means
