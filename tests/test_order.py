"""Tests that share something are one unit, and the order of units names files that exist."""

from pathlib import Path

from helpers.order import FAMILIES, LONGEST, rank, unit

REPOSITORY = Path(__file__).parents[1]


def test_a_family_is_one_unit_and_any_other_file_is_one():
    found = {
        unit(f"tests/descriptors/{test}")
        for test in (
            "test_family_battery.py::test_forward_equals_textbook[numba-spline_filters-many-all_together]",
            "test_family_door.py::test_jacobian[spline_filters-clamped-wire]", "test_spline_filters.py::test_x",
        )
    }  # fmt: skip
    assert found == {"spline_filters"}
    assert unit("tests/bench/test_bench.py::test_x[spline_filters]") == "tests/bench/test_bench.py"


def test_families_come_first_and_long_files_exist():
    assert all((REPOSITORY / file).exists() for file in LONGEST)
    files = LONGEST[0], LONGEST[-1], "tests/test_ipi.py"
    order = [rank(name) for name in (*FAMILIES, *files)]
    assert order == sorted(set(order))
