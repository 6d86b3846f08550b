"""Which tests go to one worker of pytest-xdist, and which begin first.

A file's tests stay together, so that what they share (files, models, records of programs) is made once and not once a
worker. So do the tests of a family of descriptors in all of tests/descriptors: they share kernels and numbers of the
textbook. Families come first, for they compile the kernels that other tests use, so that programs that tests start find
them compiled; then files by their time, longest first, so that at the end no worker has long to go alone.
"""

import re

FAMILY = re.compile(r"tests/descriptors/.*(embedded_density|gaussian_moments|spline_filters)")
FAMILIES = ("embedded_density", "gaussian_moments", "spline_filters")
LONGEST = (
    "device/test_cuda_graph", "device/test_device", "kernels/test_cuda", "pairs/test_pairs", "simd/test_simd",
    "bench/test_bench", "lammps/test_refusals", "features/test_dask_kill", "learn/test_labelling",
    "training/test_from_features", "lammps/test_ranks", "bench/test_bench_gpu", "hdf5/test_fuzz",
    "training/test_team_ranks", "features/test_dask", "backend/test_workspace", "cli/test_sweep",
    "features/test_reading_while_written", "learn/test_loop", "lammps/test_program", "cli/test_option_sweep",
    "io/test_extxyz_damage", "kernels/test_cuda_emulator", "docs/test_snippets", "hdf5/test_files", "cli/test_signals",
    "lammps/test_grades", "lammps/test_ranks_on_devices",
)
"""Files that take more than ten seconds, in the order in which they begin; the rest follows."""


def unit(nodeid):
    """The family whose test this is, else its file."""
    file = nodeid.partition("::")[0]
    found = FAMILY.match(nodeid)
    return found[1] if found else file


def rank(name):
    """When a unit begins: the families, the long files, all others."""
    order = (*FAMILIES, *(f"tests/{file}.py" for file in LONGEST))
    return order.index(name) if name in order else len(order)
