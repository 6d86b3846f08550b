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
    "tests/device/test_cuda_graph.py", "tests/device/test_device.py", "tests/kernels/test_cuda.py",
    "tests/pairs/test_pairs.py", "tests/simd/test_simd.py", "tests/bench/test_bench.py",
    "tests/lammps/test_refusals.py", "tests/features/test_dask_kill.py", "tests/learn/test_labelling.py",
    "tests/training/test_from_features.py", "tests/lammps/test_ranks.py", "tests/bench/test_bench_gpu.py",
    "tests/hdf5/test_fuzz.py", "tests/training/test_team_ranks.py", "tests/features/test_dask.py",
    "tests/backend/test_workspace.py", "tests/cli/test_sweep.py", "tests/features/test_reading_while_written.py",
    "tests/learn/test_loop.py", "tests/lammps/test_program.py", "tests/cli/test_option_sweep.py",
    "tests/io/test_extxyz_damage.py", "tests/kernels/test_cuda_emulator.py", "tests/docs/test_snippets.py",
    "tests/hdf5/test_files.py", "tests/cli/test_signals.py", "tests/lammps/test_grades.py",
    "tests/lammps/test_ranks_on_devices.py",
)
"""Files that take more than ten seconds, in the order in which they begin; the rest follows."""


def unit(nodeid):
    """The family whose test this is, else its file."""
    file = nodeid.partition("::")[0]
    found = FAMILY.match(nodeid)
    return found[1] if found else file


def rank(name):
    """When a unit begins: the families, the long files, all others."""
    order = (*FAMILIES, *LONGEST)
    return order.index(name) if name in order else len(order)
