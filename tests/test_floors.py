"""The house has floors: modules import downward or on their own floor; and what no module may do."""

import ast
import re
from pathlib import Path

import pytest
from helpers.families import FAMILIES

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "fastdesc"
KERNELS = REPOSITORY / "kernels"

FLOORS = {
    0: "errors arrays parallel blas heap cuda cuda_shapes nccl jit simd simd_code simd_math simd_tuples monomials "
    "elementary blocks radial splines files journal overlay room growing tables meam_spline number_table network_cuda",
    1: "structures pairs device_pairs cell_grid cell_list geometry extxyz xyz_blocks frames frames_file sources "
    "reading batch unlabelled network activations",
    2: "descriptors.*",
    3: "team scaler optimizer schedules heads spline_network parts",
    4: "potential evaluation graph loss_gradient model_file prediction",
    5: "training trainer training_set feature_set stored gradient ways loss settings rates history checkpoint "
    "accuracy config config_sections config_text info dataset features features_file features_opened "
    "features_rows features_layout structure_features pipeline shards shards_joined distributed selection "
    "filter_data transfer shares short_distances linear_start meam_potential team_processes",
    6: "cli cli_options cli_commands interruption calculator experiment plots filter_plots demo __main__",
}
# The recursion of the embedded density has a small network in each iteration. It alone of the families uses these;
# they in turn stand on floor 0 alone, so that no circle can close.
BORROWED = {"network", "activations"}
BORROWER = "descriptors.embedded_density"
RUNS_CODE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def modules():
    """Return dotted name below fastdesc -> parsed source; packages go by their own name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:  # fastdesc/__init__.py resolves public names of every floor, lazily
            found[name] = ast.parse(path.read_text(), str(path))
    return found


MODULES = modules()
SIBLINGS = sorted(name for name in MODULES if name.startswith("descriptors."))


def floor_of(name):
    """Return the floor of a module of ours; -1 for one that FLOORS does not list."""
    for floor, names in FLOORS.items():
        for pattern in names.split():
            if name == pattern or (pattern.endswith(".*") and f"{name}.".startswith(pattern[:-1])):
                return floor
    return -1


def imports(tree):
    """Return the dotted names of all imports, those inside functions included."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
            "import_module",
            "__import__",
        ):
            names |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return names


def imports_of_ours(tree):
    """Return the modules of ours, below fastdesc, that a module imports."""
    below = {name.removeprefix("fastdesc.") for name in imports(tree) if name.startswith("fastdesc.")}
    return {name for name in below if name in MODULES}


NAMES = [family.name for family in FAMILIES]


def family_of(name, families=NAMES):
    """Return the family a file of descriptors/ belongs to: descriptors.gaussian_moments_x -> gaussian_moments."""
    stem = name.removeprefix("descriptors.")
    return max((f for f in families if stem == f or stem.startswith(f + "_")), key=len, default=None)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_stands_on_a_floor(name):
    assert floor_of(name) >= 0, f"fastdesc.{name} is new: give it a floor in FLOORS"


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down(name):
    own = floor_of(name)
    up = {other for other in imports_of_ours(MODULES[name]) if floor_of(other) > own >= 0}
    if name.startswith(BORROWER):
        up -= BORROWED
    assert not up, f"fastdesc.{name} on floor {own} imports upward: {sorted(up)}"


@pytest.mark.parametrize("name", sorted(BORROWED))
def test_what_a_family_borrows_knows_no_atoms(name):
    above = {other for other in imports_of_ours(MODULES[name]) if floor_of(other) > 0}
    assert above <= BORROWED


@pytest.mark.parametrize("name", SIBLINGS)
def test_families_do_not_know_each_other(name):
    for other in imports_of_ours(MODULES[name]) & set(SIBLINGS):
        assert family_of(other) in (None, family_of(name)), f"fastdesc.{name} imports {other}, another family"


@pytest.mark.parametrize("name", MODULES)
def test_cupy_is_judged_in_one_place(name):
    if name not in ("arrays", "cuda", "nccl"):
        assert not {n for n in imports(MODULES[name]) if n.split(".")[0] == "cupy"}


@pytest.mark.parametrize("name", MODULES)
def test_nothing_can_run_code_from_a_file(name):
    tree = MODULES[name]
    assert not {n.split(".")[0] for n in imports(tree)} & RUNS_CODE
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else None
            assert called not in ("eval", "exec"), f"line {node.lineno}: {called}"
            allowed = [k for k in node.keywords if k.arg == "allow_pickle"]
            assert all(isinstance(k.value, ast.Constant) and k.value.value is False for k in allowed), node.lineno


@pytest.mark.parametrize("name", MODULES)
def test_no_gpu_flags(name):
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.FunctionDef):
            args = node.args.args + node.args.kwonlyargs
            flags = [a.arg for a in args if re.match(r"(use_|on_)?(gpu|cuda)$", a.arg)]
            assert not flags, f"{node.name}({', '.join(flags)}): the device follows the array"


def test_rules_bite():
    """Planted violations are found."""
    planted = ast.parse("def f():\n    from fastdesc.descriptors import family\n    import pickle\n")
    assert "descriptors" in imports_of_ours(planted) and floor_of("descriptors.family") > floor_of("arrays")
    assert "pickle" in imports(planted)
    assert floor_of("no_such_module") == -1
    assert family_of("descriptors.spline_filters_kernels", ["spline", "spline_filters"]) == "spline_filters"


# Twins: a kernel has one name in CUDA and in Numba, and its arguments one order.

KERNEL = re.compile(r"__global__\s+(?:void\s+)?(?:__launch_bounds__\([^)]*\)\s+)?(?:void\s+)?(\w+)\s*\(([^)]*)\)", re.S)


def without_comments(text):
    """Return C++ source without its comments."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)


def cuda_kernels(family):
    """Return kernel name -> argument names of kernels/<family>*.cu."""
    text = without_comments("".join(path.read_text() for path in sorted(KERNELS.glob(f"{family}*.cu"))))
    return {
        name: [a.split("=")[0].replace("*", " ").replace("&", " ").split()[-1] for a in args.split(",")]
        for name, args in KERNEL.findall(text)
    }


def numba_kernels(family):
    """Return function name -> argument names of descriptors/<family>*.py."""
    own = [n for n in SIBLINGS if family_of(n) == family]
    return {
        node.name: [a.arg for a in node.args.args]
        for name in own
        for node in ast.walk(MODULES[name])
        if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize("family", NAMES)
def test_twins_share_name_and_order(family):
    """`first, last` of a Numba chunk is a grid in CUDA; the arrays that follow are the same, in one order."""
    ours, theirs = numba_kernels(family), cuda_kernels(family)
    assert theirs, f"kernels/{family}*.cu has no kernel that this test can read"
    for name, args in theirs.items():
        assert name in ours, f"{name} of kernels/{family}*.cu has no Numba twin"
        arrays = [a for a in ours[name] if a not in ("kind", "first", "last")]
        shared = [a for a in args if a in arrays]
        assert shared == [a for a in arrays if a in args], f"{name}: {args} against {ours[name]}"
        assert args[0] == arrays[0] or args[:2] == ["first", "last"], f"{name} begins with {args[0]}"
