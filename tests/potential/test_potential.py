"""The potential: forces are its exact gradient, files give it back, and bad input says what is wrong."""

import json
from copy import deepcopy
from itertools import pairwise

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from helpers.potentials import cell, potential
from helpers.training import five_point

import fastdesc as fd
from fastdesc.errors import DeviceError, FileFormatError, InputError


@pytest.mark.parametrize("network", ["per_species", "shared"])
def test_forces_and_stress_are_the_gradient(network):
    p, atoms = potential(network), cell()
    out = p.predict(atoms)
    rng = np.random.default_rng(2)
    direction = rng.normal(size=(len(atoms), 3))

    def moved(h):
        a = atoms.copy()
        a.positions += h * direction
        return p.predict(a).energy[0]

    assert -(out.forces * direction).sum() == pytest.approx(five_point(moved), rel=1e-9)
    strain = rng.normal(size=(3, 3))
    strain = strain + strain.T

    def strained(h):
        a = atoms.copy()
        a.set_cell(a.cell @ (np.eye(3) + h * strain), scale_atoms=True)
        return p.predict(a).energy[0]

    s = out.stress[0]
    full = np.array([[s[0], s[5], s[4]], [s[5], s[1], s[3]], [s[4], s[3], s[2]]])
    assert (full * strain).sum() * atoms.get_volume() == pytest.approx(five_point(strained), rel=1e-9)


def test_frames_do_not_see_each_other():
    p = potential()
    frames = [cell(), molecule("CH3CH2OH"), Atoms("H"), molecule("CO2")]
    together = p.predict(frames)
    alone = [p.predict(a) for a in frames]
    np.testing.assert_allclose(together.energy, [a.energy[0] for a in alone], rtol=1e-12)
    np.testing.assert_allclose(together.forces, np.concatenate([a.forces for a in alone]), atol=1e-11)
    assert np.isnan(together.stress[1]).all() and np.isfinite(together.stress[0]).all()
    first = np.cumsum([0, *map(len, frames)])
    sums = [together.energies[a:b].sum() for a, b in pairwise(first)]
    np.testing.assert_allclose(sums, together.energy, rtol=1e-13)


def test_isolated_atom_depends_on_its_element_only():
    p = potential()
    a = p.predict(Atoms("C")).energy[0]
    far = p.predict(Atoms("CH", positions=[[0, 0, 0], [9, 0, 0]])).energies
    assert far[0] == pytest.approx(a, abs=1e-13)


def test_float32_is_near_and_sums_in_float64():
    p, frames = potential(), [cell(), molecule("CH3CH2OH")]
    p.reference = p.reference - 1e5
    exact, quick = p.predict(frames), p.predict(frames, dtype="float32")
    # Only the networks' part is float32: 1e5 eV of reference energy per atom must not drown it.
    np.testing.assert_allclose(quick.energy, exact.energy, atol=2e-4)
    np.testing.assert_allclose(quick.forces, exact.forces, atol=2e-4 * abs(exact.forces).max())


def test_groups_of_frames_change_nothing(monkeypatch):
    p, frames = potential(), [molecule("CH3CH2OH") for _ in range(7)]
    whole = p.predict(frames)
    monkeypatch.setattr("fastdesc.potential.prediction.ATOMS_AT_ONCE", 20)
    np.testing.assert_allclose(p.predict(frames).forces, whole.forces, atol=1e-13)


def test_threads_do_not_change_a_bit():
    from fastdesc.backend.threads import set_threads

    p, atoms = potential(), cell() * (4, 4, 4)
    try:
        results = []
        for n in (1, 2):
            set_threads(n)
            results.append(p.predict(atoms))
    finally:
        set_threads(None)
    np.testing.assert_array_equal(results[0].forces, results[1].forces)
    np.testing.assert_array_equal(results[0].energy, results[1].energy)


@pytest.mark.parametrize("network", ["per_species", "shared"])
def test_a_saved_potential_comes_back(tmp_path, network):
    p, atoms = potential(network), cell()
    p.save(tmp_path / "p.h5")
    q = fd.load(tmp_path / "p.h5")
    np.testing.assert_array_equal(q.predict(atoms).forces, p.predict(atoms).forces)
    assert q.descriptor.get_params()["cutoff"] == 4.0


def test_a_saved_potential_of_embedded_elements_comes_back(tmp_path):
    """And a file from before there were embeddings is one with a table."""
    p = potential(species_mixing="factorised", n_embedding=3)
    p.save(tmp_path / "p.h5")
    q = fd.load(tmp_path / "p.h5")
    assert {"descriptor/centre", "descriptor/neighbour", "descriptor/radial"} <= q.parameters.keys()
    np.testing.assert_array_equal(q.predict(cell()).forces, p.predict(cell()).forces)
    potential().save(tmp_path / "p.h5")
    with h5py.File(tmp_path / "p.h5", "a") as file:
        described = json.loads(file.attrs["descriptor"])
        for name in ("species_mixing", "n_embedding"):
            del described["arguments"][name]
        file.attrs["descriptor"] = json.dumps(described)
    old = fd.load(tmp_path / "p.h5")
    np.testing.assert_array_equal(old.predict(cell()).forces, potential().predict(cell()).forces)


def test_energies_alone():
    p, atoms = potential(), cell()
    out = p.predict(atoms, forces=False, stress=False)
    assert out.forces is None and out.stress is None
    assert out.energy[0] == pytest.approx(p.predict(atoms).energy[0], rel=1e-13)


class TestBadModelFiles:
    def test_missing(self, tmp_path):
        with pytest.raises(InputError, match="does not exist"):
            fd.load(tmp_path / "no.h5")

    def test_truncated(self, tmp_path):
        potential().save(tmp_path / "p.h5")
        data = (tmp_path / "p.h5").read_bytes()
        for fraction in (0.0, 0.1, 0.5, 0.95):
            (tmp_path / "t.h5").write_bytes(data[: int(fraction * len(data))])
            with pytest.raises(FileFormatError, match=r"t\.h5"):
                fd.load(tmp_path / "t.h5")

    def test_newer_version(self, tmp_path):
        potential().save(tmp_path / "p.h5")
        with h5py.File(tmp_path / "p.h5", "a") as file:
            file.attrs["format_version"] = 99
        with pytest.raises(FileFormatError, match="upgrade fastdesc"):
            fd.load(tmp_path / "p.h5")

    def test_foreign(self, tmp_path):
        with h5py.File(tmp_path / "f.h5", "w") as file:
            file["x"] = 1
        with pytest.raises(FileFormatError, match="expected is 'fastdesc-model'"):
            fd.load(tmp_path / "f.h5")

    def test_wrong_shape_and_missing_parameter(self, tmp_path):
        potential().save(tmp_path / "p.h5")
        with h5py.File(tmp_path / "p.h5", "a") as file:
            del file["parameters/network/0/0/weight"]
        with pytest.raises(FileFormatError, match="network/0/0/weight"):
            fd.load(tmp_path / "p.h5")
        with h5py.File(tmp_path / "p.h5", "a") as file:
            file["parameters/network/0/0/weight"] = np.zeros((2, 2))
        with pytest.raises(FileFormatError, match="shape"):
            fd.load(tmp_path / "p.h5")

    def test_unknown_family(self, tmp_path):
        potential().save(tmp_path / "p.h5")
        with h5py.File(tmp_path / "p.h5", "a") as file:
            file.attrs["descriptor"] = '{"family": "gaussian_moment", "arguments": {}}'
        with pytest.raises(FileFormatError, match="did you mean 'gaussian_moments'"):
            fd.load(tmp_path / "p.h5")

    def test_unwritable(self, tmp_path):
        with pytest.raises(InputError, match="no folder"):
            potential().save(tmp_path / "no" / "p.h5")
        assert not list(tmp_path.iterdir())


def test_bad_arguments():
    d = fd.GaussianMoments(species=["C"], cutoff=4.0, n_radial=2)
    for arguments, message in (
        ({"activation": "silo"}, "silu"),
        ({"network": "share"}, "shared"),
        ({"activation": ["silu"]}, "silu"),
        ({"hidden": (0,)}, "hidden"),
        ({"hidden": 64}, "hidden came as 64"),
        ({"hidden": "64"}, "hidden came as '64'"),
        ({"seed": -1}, "seed came as -1"),
        ({"descriptor": "gaussian_moments"}, "descriptor came as 'gaussian_moments'"),
        ({"descriptor": fd.GaussianMoments}, "give an object such as"),
    ):
        with pytest.raises(InputError, match=message):
            fd.Potential(**{"descriptor": d, **arguments})
    p = fd.Potential(d)
    with pytest.raises(InputError, match="did you mean"):
        p.set_parameters({"scales": np.ones(1)})
    with pytest.raises(InputError, match="shape"):
        p.set_parameters({"scale": np.ones(2)})
    with pytest.raises(InputError, match="give a dict"):
        p.set_parameters([np.ones(1)])
    before = p.descriptor.parameters["beta"].copy()
    with pytest.raises(InputError, match="'scale' holds NaN"):
        p.set_parameters({"descriptor/beta": before + 1, "scale": [np.nan]})
    np.testing.assert_array_equal(p.descriptor.parameters["beta"], before)


@pytest.mark.no_gpu
def test_gpu_asked_for_where_there_is_none():
    with pytest.raises(DeviceError, match="use device 'cpu'"):
        potential().predict(cell(), device="cuda")


def test_predictions_follow_parameters_changed_in_place():
    """A model is kept for the next call; what it was made of is compared, whoever changed it."""
    potential = fd.Potential(fd.GaussianMoments(species=["Cu"], n_radial=2, cutoff=4.0), hidden=(4,))
    frame = bulk("Cu", "fcc", a=3.6).repeat((2, 1, 1))
    found = [potential.predict(frame).energy[0]]
    assert potential.predict(frame).energy[0] == found[0]
    arrays = [*potential.parameters.values(), potential.scaler.mean, potential.scaler.scale]
    for array in arrays:
        array += 0.1
        found.append(potential.predict(frame).energy[0])
        fresh = fd.Potential(potential.descriptor, hidden=(4,))
        fresh.set_parameters(potential.parameters)
        fresh.scaler.mean[:], fresh.scaler.scale[:] = potential.scaler.mean, potential.scaler.scale
        assert found[-1] == fresh.predict(frame).energy[0]
    assert len(set(found)) == len(arrays) + 1


def test_copies_of_a_potential_leave_the_kept_model_behind():
    potential = fd.Potential(fd.GaussianMoments(species=["Cu"], n_radial=2, cutoff=4.0), hidden=(4,))
    potential.predict(bulk("Cu"))
    assert "_kept" in vars(potential) and "_kept" not in vars(deepcopy(potential))
