"""Repulsion of nuclei: the reference, LAMMPS' own, exact derivatives, everywhere a potential is evaluated."""

import numpy as np
import pytest
from ase import Atoms
from ase.data import covalent_radii
from helpers.backends import BACKENDS, HERE
from helpers.lammps_run import lammps_status
from helpers.training import alloy, five_point, small_potential
from references import zbl as reference

import fastdesc as fd
from fastdesc.backend.arrays import to_device, to_host
from fastdesc.errors import InputError
from fastdesc.geometry import stress_voigt
from fastdesc.hdf5.attributes import attribute
from fastdesc.hdf5.files import open_hdf5
from fastdesc.pairs import Pairs
from fastdesc.potential.repulsion import Repulsion
from fastdesc.structures import Structures
from fastdesc.training import trainer_for


def squeezed(seed=0, size=1.7):
    """Copper and gold far closer than they ever are, in a skewed cell that is smaller than the reach."""
    rng = np.random.default_rng(seed)
    cell = size * np.array([[1.0, 0.1, 0.0], [0.4, 1.3, 0.2], [0.0, -0.3, 1.6]])
    fractions = (np.arange(3)[:, None] + 0.1 * rng.normal(size=(3, 3))) / 3
    return Atoms([29, 79, 29], cell=cell, pbc=True, scaled_positions=fractions)


RADII = 0.75 * covalent_radii[[29, 79, 29]]


def energy(atoms, positions=None, cell=None):
    given = atoms.positions if positions is None else positions, atoms.cell.array if cell is None else cell
    return reference.energy([29, 79, 29], *given, (3, 2, 2), RADII, 4.5)


@pytest.fixture(params=HERE)
def device(request):
    context, name = BACKENDS[request.param]
    with context():
        yield name


def test_every_backend_is_the_reference_and_its_derivatives(device):
    atoms = squeezed()
    found = Repulsion([29, 79], 4.5)
    assert found.reach == 1.5 * covalent_radii[79] and np.allclose(found.table[0, 1], found.table[1, 0])
    both = Structures.from_ase([atoms, squeezed(1)])
    pairs = Pairs.find(both, 4.5)
    given = (to_device(x, device) for x in (both.positions, both.cells))
    species = to_device(both.species([29, 79]), device)
    energies, forces, virials = map(to_host, found.evaluate(*given, pairs.to_device(device), species))
    assert energies[:3].sum() == pytest.approx(energy(atoms), rel=1e-10)
    assert energies[3:].sum() == pytest.approx(energy(squeezed(1)), rel=1e-10)
    h, exact = 1e-30, np.zeros((3, 3))
    for i in range(3):
        for c in range(3):
            moved = atoms.positions.astype(complex)
            moved[i, c] += 1j * h
            exact[i, c] = -energy(atoms, moved).imag / h
    np.testing.assert_allclose(forces[:3], exact, rtol=0, atol=1e-10 * abs(exact).max())
    for a, b in ((0, 0), (1, 1), (0, 2), (2, 1)):
        strain = np.eye(3, dtype=complex)
        strain[a, b] += 1j * h
        w = energy(atoms, atoms.positions @ strain, atoms.cell.array @ strain).imag / h
        assert virials[0, a, b] == pytest.approx(w, rel=1e-9, abs=1e-9 * abs(virials[0]).max())
    again = to_host(found.evaluate(to_device(both.positions, device), to_device(both.cells, device),
                                   pairs.to_device(device), species)[1])    # fmt: skip
    np.testing.assert_array_equal(again, forces)


def test_it_is_smooth_where_it_ends_and_where_it_is_joined():
    found = Repulsion([1, 8], 5.0)
    inner, outer = found.table[0, 1, 2:4]
    assert outer == pytest.approx(0.75 * (covalent_radii[1] + covalent_radii[8])) and inner == outer / 2

    def phi(d):
        s = Structures.from_ase(Atoms("HO", positions=[[0, 0, 0], [d, 0, 0]]))
        energies, forces, _ = found.evaluate(s.positions, s.cells, Pairs.find(s, 5.0), s.species([1, 8]))
        return energies.sum(), forces[1, 0]

    def slope(d):
        return five_point(lambda h: phi(d + h)[1], 1e-6)

    assert phi(outer) == (0, 0) and phi(outer + 1) == (0, 0)
    eps = 1e-5    # the third derivative, some 1e3 eV/Å^3, is the first that is not zero
    assert phi(outer - eps)[0] < 1e-11 and phi(outer - eps)[1] < 1e-6 and abs(slope(outer - eps)) < 0.1
    assert slope(inner - eps) == pytest.approx(slope(inner + eps), rel=1e-3)
    values = np.array([phi(d)[0] for d in np.linspace(0.05, outer, 60)])
    assert (np.diff(values) < 0).all() and values[0] > 1000


def test_elements_are_cut_off_at_the_cutoff():
    assert Repulsion([55, 79], 3.0).table[..., 3].max() == 3.0 < 1.5 * covalent_radii[55]


@pytest.mark.skipif(not lammps_status()[0], reason=lammps_status()[1] or "needs lammps")
def test_it_is_that_of_lammps():
    import lammps

    program = lammps.lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
    atoms = squeezed(size=6.0)
    atoms.set_cell(np.diag([8.0, 8.0, 8.0]))
    atoms.positions *= 0.4
    program.commands_list(
        [
            "units metal", "atom_style atomic", "atom_modify map array sort 0 0", "boundary p p p",
            "region box block 0 8 0 8 0 8", "create_box 2 box",
        ]
    )  # fmt: skip
    atoms.wrap()
    program.create_atoms(3, None, [1, 2, 1], atoms.positions.ravel().tolist())
    program.commands_list(
        [
            "mass * 1.0", "pair_style zbl 1.2 2.4", "pair_coeff 1 1 29 29", "pair_coeff 1 2 29 79",
            "pair_coeff 2 2 79 79", "thermo_style custom pe pxx pyz", "run 0",
        ]
    )  # fmt: skip
    pe = program.get_thermo("pe")
    order = np.argsort(program.numpy.extract_atom("id")[:3])
    forces = np.array(program.numpy.extract_atom("f")[:3])[order]
    program.close()
    s = Structures.from_ase(atoms)
    found = Repulsion([29, 79], 4.5, radii=[1.2, 1.2])
    energies, ours, _ = found.evaluate(s.positions, s.cells, Pairs.find(s, 4.5), s.species([29, 79]))
    assert pe > 1
    assert energies.sum() == pytest.approx(pe, rel=1e-12)
    np.testing.assert_allclose(ours, forces, rtol=1e-11, atol=1e-11)


def pair(**more):
    """The same networks with and without."""
    plain, repelled = small_potential(), small_potential()
    d = plain.descriptor
    repelled = fd.Potential(d, hidden=(12, 8), seed=3, repulsion="zbl", **more)
    repelled.set_parameters(plain.parameters)
    return plain, repelled


@pytest.mark.parametrize("network", ["one pass", "in stages"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predictions_and_dynamics_have_it(network, dtype, monkeypatch):
    if network == "in stages":
        monkeypatch.setattr("fastdesc.potential.evaluation.suits", lambda model: False)
        monkeypatch.setattr("fastdesc.potential.recorded.suits", lambda model: False)
    plain, repelled = pair()
    frames = [*alloy(2), squeezed()]
    s = Structures.from_ase(frames)
    energies, forces, virials = repelled.repulsion.of_structures(s, s.species([29, 79]))
    one, other = (p.predict(frames, dtype=dtype) for p in (plain, repelled))
    np.testing.assert_allclose(other.energies, one.energies + energies, rtol=1e-13)
    np.testing.assert_allclose(other.energy, one.energy + np.add.reduceat(energies, s.first[:-1]), rtol=1e-13)
    np.testing.assert_allclose(other.forces, one.forces + forces, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(other.stress, one.stress + stress_voigt(virials, s.volumes), rtol=1e-12, atol=1e-12)
    alone = repelled.predict(frames, dtype=dtype, forces=False, stress=False)
    np.testing.assert_allclose(alone.energy, other.energy, rtol=1e-12 if dtype == "float64" else 1e-6)
    atoms = squeezed()
    atoms.calc = fd.FastdescCalculator(repelled, dtype=dtype)
    near = 1e-12 if dtype == "float64" else 1e-6    # sums over a list of other pairs
    for _ in range(2):
        expected = repelled.predict(atoms, dtype=dtype)
        np.testing.assert_allclose(atoms.get_forces(), expected.forces, atol=near * abs(expected.forces).max())
        np.testing.assert_allclose(atoms.get_stress(), expected.stress[0], atol=near * abs(expected.stress).max())
        assert atoms.get_potential_energy() == pytest.approx(expected.energy[0], rel=near)
        atoms.positions[0] += 0.01


def test_second_derivatives_have_it():
    _, repelled = pair()
    atoms = squeezed(size=2.2)
    found = repelled.hessian(atoms)

    def gradient(h):
        moved = atoms.copy()
        moved.positions[1, 2] += h
        return -repelled.predict(moved).forces

    np.testing.assert_allclose(found[:, :, 1, 2], five_point(gradient), rtol=1e-7, atol=1e-6 * abs(found).max())
    np.testing.assert_allclose(found.reshape(9, 9), found.reshape(9, 9).T, atol=1e-11 * abs(found).max())


def test_training_learns_the_rest():
    """The labels less the repulsion, in place of it: the same errors, the same steps."""
    plain, repelled = pair()
    frames = alloy(5)
    frames[0].positions[1] = frames[0].positions[0] + [1.2, 0.3, 0.1]
    frames[0].calc = type(frames[0].calc)(frames[0], **frames[0].calc.results)    # labels of what it is now
    s = Structures.from_ase(frames)
    energies, forces, virials = repelled.repulsion.of_structures(s, s.species([29, 79]))
    assert abs(forces).max() > 3
    rest = []
    for k, atoms in enumerate(frames):
        own, labels = slice(s.first[k], s.first[k + 1]), dict(atoms.calc.results)
        labels["energy"] -= energies[own].sum()
        labels["forces"] = labels["forces"] - forces[own]
        labels["stress"] = labels["stress"] - stress_voigt(virials, s.volumes)[k]
        rest.append(atoms.copy())
        rest[-1].calc = type(atoms.calc)(rest[-1], **labels)
    settings = {"epochs": 2, "batch_size": 2, "dtype": "float64", "progress": False, "uncertainty": False}
    with pytest.warns(match="tell Cu and Au apart"):
        one = fd.train(plain, rest[:4], rest[4:], **settings)
    with pytest.warns(match="tell Cu and Au apart"):
        other = fd.train(repelled, frames[:4], frames[4:], **settings)
    for name in one.columns():
        if name != "seconds":
            np.testing.assert_allclose(other[name], one[name], rtol=1e-9, err_msg=name)
    errors = frames[4].get_forces() - repelled.predict(frames[4]).forces
    assert abs(errors).mean() == pytest.approx(other["valid_forces_mae"][other["epoch"].index(
        other.best()["epoch"])], rel=1e-6)    # fmt: skip


def test_uncertainties_keep_it():
    _, repelled = pair()
    frames = alloy(6)
    repelled.scaler = small_potential().scaler
    with pytest.warns(match="tell Cu and Au apart"):
        fd.train(repelled, frames[:4], frames[4:], epochs=1, batch_size=4, progress=False)
    plain, sure = repelled.predict(squeezed()), repelled.predict(squeezed(), uncertainty=True)
    assert sure.energy[0] == pytest.approx(plain.energy[0], rel=1e-12)
    np.testing.assert_allclose(sure.forces, plain.forces, rtol=1e-11, atol=1e-9)


def test_files_and_copies_keep_it(tmp_path):
    plain, repelled = pair()
    repelled.save(tmp_path / "r.h5")
    plain.save(tmp_path / "p.h5")
    loaded = fd.load(tmp_path / "r.h5")
    assert loaded.arguments["repulsion"] == "zbl" and "repulsion='zbl'" in repr(loaded)
    np.testing.assert_array_equal(loaded.predict(squeezed()).forces, repelled.predict(squeezed()).forces)
    with open_hdf5(tmp_path / "r.h5") as r, open_hdf5(tmp_path / "p.h5") as p:
        assert (int(r.attrs["format_version"]), int(p.attrs["format_version"])) == (4, 3)
        assert "repulsion" not in attribute(p, "potential")
    wider = fd.add_elements(repelled, ["Ag"])
    assert wider.repulsion.table.shape[0] == 3
    with pytest.raises(InputError, match="repulsion came as 'zlb'"):
        fd.Potential(plain.descriptor, repulsion="zlb")


def test_features_do_not_tell_distances(tmp_path):
    _, repelled = pair()
    fd.featurize(alloy(3), tmp_path / "q.h5", repelled.descriptor, progress=False)
    with pytest.raises(InputError, match="features, which do not tell distances"):
        trainer_for(repelled, tmp_path / "q.h5")


def test_a_file_for_lammps_cannot_hold_it(tmp_path):
    filters = fd.SplineFilters(species=["Cu"], cutoff=4.0, triplet_cutoff=3.5, n_pair=2, n_triplet=1)
    potential = fd.Potential(filters, network="spline", direct=["pair_0"], bias=False, repulsion="zbl")
    with pytest.raises(InputError, match="repulsion of nuclei, which meam/spline cannot hold"):
        fd.write_meam_spline(tmp_path / "x.spline", potential)
