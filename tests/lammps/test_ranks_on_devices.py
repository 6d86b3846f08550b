"""Pair style fastdesc with `device cuda` in the real LAMMPS, a GPU for each rank; the device is CuPy's double."""

import pytest
from cuda_emulator import gcc_status
from helpers.device_models import potential
from helpers.lammps_ranks import box, mpiexec, start
from helpers.training import alloy

cupy = pytest.importorskip("cupy", reason="CuPy is not installed: the double has its functions and signatures from it")

pytestmark = [
    pytest.mark.skipif(mpiexec() is None, reason="needs the packages lammps and mpich, and a C++ compiler"),
    pytest.mark.skipif(not gcc_status()[0], reason=gcc_status()[1]),
]
FAMILIES = ("gaussian moments", "recursion", "spline filters", "repelled")


def test_two_ranks_on_devices_find_what_they_find_on_the_cpu(tmp_path):
    atoms = alloy(1, 7)[0]
    atoms.set_cell(atoms.cell.standard_form()[0], scale_atoms=True)    # lower triangular, as LAMMPS has it
    cases = []
    for family in FAMILIES:
        model = tmp_path / f"{family.replace(' ', '_')}.h5"
        potential(family).save(model)
        for device in ("cpu", "cuda"):
            cases.append(
                {
                    "box": box(atoms), "positions": atoms.positions.tolist(), "steps": 2, "model": str(model),
                    "types": [1 if symbol == "Cu" else 2 for symbol in atoms.symbols], "elements": ("Cu", "Au"),
                    "style": [f"pair_style fastdesc device {device}", f"pair_coeff * * {model} Cu Au"],
                    "commands": ["velocity all create 900 4928 loop geom", "fix 1 all nve"],
                    "double": device == "cuda",
                }
            )  # fmt: skip
    found = start(2, cases, tmp_path)
    for family, cpu, cuda in zip(FAMILIES, found[::2], found[1::2], strict=True):
        for name in ("thermo", "forces", "energies", "stresses", "centroid", "positions"):
            assert abs(cuda[name] - cpu[name]).max() <= 1e-11 * abs(cpu[name]).max(), (family, name)
