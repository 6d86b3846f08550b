"""Pair style fastdesc: the numbers of ASE's side, whatever the number of ranks, at the first step and after many."""

import numpy as np
import pytest
from ase.build import bulk
from helpers.lammps_ranks import box, mpiexec, start

import fastdesc as fd
from fastdesc.lammps.virials import atom_virials
from fastdesc.potential.evaluation import energies_and_gradient

pytestmark = pytest.mark.skipif(mpiexec() is None, reason="needs the packages lammps and mpich, and a C++ compiler")
BAR = 1.6021765e6
"""bar per eV/Å^3, LAMMPS' own factor in metal units."""
STEPS = 100
RANKS = (*(pytest.param(n, marks=pytest.mark.thorough) for n in (2, 3)), 4)


def crystal(name=""):
    """A triclinic crystal of two elements, half of which is thinner than the cutoff; atoms nearly touch if repelled."""
    atoms = bulk("Cu", "fcc", a=2.6 if name == "repelled" else 3.7, cubic=True).repeat((3, 2, 2))
    cell = atoms.cell.array.copy()
    cell[1, 0], cell[2, 0], cell[2, 1] = 0.6, -0.4, 0.5
    atoms.set_cell(cell, scale_atoms=True)
    rng = np.random.default_rng(3)
    atoms.positions += rng.normal(0, 0.08, atoms.positions.shape)
    atoms.numbers[rng.permutation(len(atoms))[:15]] = 79
    return atoms


def cluster():
    """A few atoms in a corner of a large box: ranks without any."""
    atoms = crystal()[:9]
    atoms.set_cell(np.diag([60.0, 60.0, 60.0]))
    atoms.positions += 3.0 - atoms.positions.min(0)
    return atoms


def potential(descriptor, seed=0, **head):
    rng = np.random.default_rng(seed)
    new = {name: x + 0.1 * rng.normal(size=x.shape) for name, x in descriptor.parameters.items()}
    descriptor.set_parameters(**new)
    out = fd.Potential(descriptor, hidden=(8,), seed=seed, **head)
    out.reference, out.scale = np.array([-0.5, -0.2]), np.array([0.004, 0.006])
    return out


def recursion(T):
    return fd.EmbeddedDensity(
        species=["Cu", "Au"], cutoff=4.0, n_radial=4, l_max=2, iterations=T, n_features=6, hidden=(6,)
    )


RESIDUAL = {"activation": "trained_silu", "blocks": 1, "layer_norm": True}
"""Networks as published REANN models have them."""
DESCRIPTORS = {
    "T=0": lambda: recursion(0),
    "T=1": lambda: recursion(1),
    "T=3": lambda: recursion(3),
    "residual": lambda: fd.EmbeddedDensity(
        species=["Cu", "Au"], cutoff=4.0, n_radial=4, l_max=2, iterations=2, n_features=6, exponents="any",
        contraction="hyper_by_iteration", hidden=(6, 5), **RESIDUAL,
    ),
    "moments": lambda: fd.GaussianMoments(species=["Cu", "Au"], cutoff=4.0, n_radial=2, n_basis=5),
    "recursive": lambda: fd.GaussianMoments(
        species=["Cu", "Au"], cutoff=4.0, n_radial=2, n_basis=5, iterations=1, hidden=(6,)
    ),
    "splines": lambda: fd.SplineFilters(species=["Cu", "Au"], cutoff=4.2, triplet_cutoff=3.6, n_pair=2, n_triplet=2),
    "repelled": lambda: fd.GaussianMoments(species=["Cu", "Au"], cutoff=4.0, n_radial=2, n_basis=5),
}
HEADS = {"residual": RESIDUAL, "repelled": {"repulsion": "zbl"}}


def case(atoms, model, steps, commands=(), elements=("Cu", "Au"), **more):
    return {
        "box": box(atoms), "positions": atoms.positions.tolist(), "model": str(model), "steps": steps,
        "types": [1 + elements.index(symbol) for symbol in atoms.get_chemical_symbols()], "elements": elements,
        "commands": ["neighbor 0.4 bin", *commands], **more,
    }  # fmt: skip


NVE = ("velocity all create 900 4928 loop geom", "fix 1 all nve", "timestep 0.001")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lammps")


@pytest.fixture(scope="module")
def models(folder):
    made = {name: potential(make(), **HEADS.get(name, {})) for name, make in DESCRIPTORS.items()}
    for name, one in made.items():
        one.save(folder / f"{name}.h5")
    return made


@pytest.fixture(scope="module")
def cases(folder, models):
    """Name -> case; "first" ones are single points."""
    atoms, some = crystal(), cluster()
    out = {f"first {name}": case(crystal(name), folder / f"{name}.h5", 0) for name in models}
    out |= {f"{name}": case(atoms, folder / f"{name}.h5", STEPS, NVE) for name in ("T=0", "T=1", "T=3")}
    out["large skin"] = case(atoms, folder / "T=0.h5", STEPS, ["neighbor 2.0 bin", *NVE])
    out["cluster"] = case(some, folder / "T=1.h5", 0)
    out["short ghosts"] = case(atoms, folder / "T=1.h5", 0, ["comm_modify cutoff 1.0"])
    out["float32"] = case(atoms, folder / "T=1.h5", 0)
    out["float32"]["style"] = ["pair_style fastdesc dtype float32", f"pair_coeff * * {folder}/T=1.h5 Cu Au"]
    style = f"pair_coeff * * fastdesc {folder}/T=1.h5 Cu NULL"
    out["overlay"] = case(atoms, folder / "T=1.h5", 0)
    out["overlay"]["style"] = ["pair_style hybrid/overlay fastdesc lj/cut 4.0", style, "pair_coeff 1 2 lj/cut 0.0 1.0",
                               "pair_coeff 2 2 lj/cut 0.0 1.0"]    # fmt: skip
    return out


@pytest.fixture(scope="module")
def one(folder, cases):
    return dict(zip(cases, start(1, list(cases.values()), folder), strict=True))


def agree(got, wanted, tolerance):
    assert abs(got - wanted).max() <= tolerance * abs(wanted).max()


def pressures(stress):
    """LAMMPS' pxx, pyy, pzz, pxy, pxz, pyz of ASE's stress."""
    return -stress[[0, 1, 2, 5, 4, 3]] * BAR


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_one_rank_finds_what_predict_finds(name, one, models):
    expected, found = models[name].predict(crystal(name)), one[f"first {name}"]
    agree(found["thermo"][0], expected.energy[0], 1e-12)
    agree(found["forces"], expected.forces, 1e-11)
    agree(found["energies"][:, 0], expected.energies, 1e-12)
    agree(found["thermo"][1:], pressures(expected.stress[0]), 1e-10)


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_virials_of_atoms_sum_to_the_whole(name, one):
    found = one[f"first {name}"]
    volume = crystal(name).get_volume()
    agree(-found["stresses"].sum(0) / volume, found["thermo"][1:], 1e-11)
    w = found["centroid"].sum(0)
    agree(-w[:6] / volume, found["thermo"][1:], 1e-11)
    agree(w[6:], w[3:6], 1e-10)


@pytest.mark.parametrize("name", ["T=0", "moments", "splines"])
def test_centroid_virials_are_those_of_energies_of_atoms(name, one, models):
    """W_k = -sum_i (x_k - x_i) dE_i/dx_k, with dE_i/dx_k by differences of atomic energies: what heat flux needs."""
    atoms, k, h = cluster(), 4, 1e-4
    wanted = np.zeros((3, 3))
    for b in range(3):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[k, b] += sign * h
            energies.append(models[name].predict(moved).energies)
        slope = (energies[0] - energies[1]) / (2 * h)
        wanted[:, b] -= (atoms.positions[k] - atoms.positions).T @ slope
    rij, pairs, species = models[name].descriptor.prepare(atoms)
    _, drij, _ = energies_and_gradient(models[name].model(), rij, pairs, species)
    found = atom_virials(rij, drij, pairs)[k]
    order = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2), (1, 0), (2, 0), (2, 1)]
    agree(found, np.array([wanted[ab] for ab in order]), 1e-6)


def test_other_boxes_and_ghost_cutoffs(one, models):
    expected = models["T=1"].predict(cluster())
    agree(one["cluster"]["forces"], expected.forces, 1e-11)
    agree(one["cluster"]["thermo"][0], expected.energy[0], 1e-12)
    for name in ("thermo", "forces"):
        assert np.array_equal(one["short ghosts"][name], one["first T=1"][name])


def test_a_large_skin_is_looked_through_again_as_atoms_move(one, models):
    """What is near is taken from LAMMPS' list whenever atoms have moved by half of our own skin."""
    atoms = crystal()
    atoms.positions = one["large skin"]["positions"]
    assert abs(atoms.positions - crystal().positions).max() > 0.5
    agree(one["large skin"]["forces"], models["T=0"].predict(atoms).forces, 1e-10)


def test_float32_is_near(one):
    agree(one["float32"]["forces"], one["first T=1"]["forces"], 1e-4)
    assert not np.array_equal(one["float32"]["forces"], one["first T=1"]["forces"])


def test_types_named_null_are_left_out(one, models):
    atoms, found = crystal(), one["overlay"]
    copper = atoms.numbers == 29
    expected = models["T=1"].predict(atoms[copper])
    agree(found["thermo"][0], expected.energy[0], 1e-12)
    agree(found["forces"][copper], expected.forces, 1e-11)
    assert (found["forces"][~copper] == 0).all() and (found["energies"][~copper] == 0).all()


@pytest.fixture(scope="module", params=RANKS)
def many(request, folder, cases):
    return dict(zip(cases, start(request.param, list(cases.values()), folder), strict=True))


def test_ranks_agree(many, one):
    """Energy, pressure, forces, positions to 1e-12 after many steps with new lists; virials of atoms, heat flux too."""
    for name, found in many.items():
        tolerance = 1e-5 if name == "float32" else 1e-12
        agree(found["thermo"][:1], one[name]["thermo"][:1], tolerance)
        for what in ("thermo", "forces", "positions", "energies", "centroid", "stresses"):
            wanted = one[name][what]
            difference = abs(found[what] - wanted).max()
            assert difference <= tolerance * abs(wanted).max(), (name, what, difference)
        if name in ("T=0", "T=1", "T=3"):
            agree(found["flux"], one[name]["flux"], 1e-11)
            assert abs(found["positions"] - one[f"first {name}"]["positions"]).max() > 0.1
