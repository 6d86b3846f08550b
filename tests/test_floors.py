"""The house has floors: modules import downward or on their own floor; and what no module may do."""

import ast
import re
from pathlib import Path

import pytest
from helpers.families import FAMILIES

from fastdesc.backend import cuda

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "fastdesc"
KERNELS = REPOSITORY / "kernels"

TABLE = re.compile(r"^\| (\d) \| (.+) \|$", re.MULTILINE)
FLOORS = {
    folder: int(floor)
    for floor, folders in TABLE.findall((REPOSITORY / "CONTRIBUTING.md").read_text())
    for folder in re.findall(r"`(\w+)`", folders.split("|")[0])
}
"""Folder or module directly below fastdesc/ -> floor, from the table of CONTRIBUTING.md."""
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


SOURCES = sorted(
    path.relative_to(REPOSITORY)
    for folder in ("fastdesc", "kernels", "tests", "bench", "examples")
    for path in (REPOSITORY / folder).rglob("*")
    if path.suffix in (".py", ".cu", ".cuh")
)

MODULES = modules()


def floor_of(name):
    """Return the floor of a module of ours: that of its folder; -1 for one that the table does not list."""
    return FLOORS.get(name.split(".")[0], -1)


def imports(tree):
    """Return the dotted names of all imports, those inside functions included."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            for alias in node.names:    # a submodule, or a name in the module
                full = f"{node.module}.{alias.name}"
                names.add(full if full.removeprefix("fastdesc.") in MODULES else node.module)
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


def circles(arrows):
    """Return the sets of nodes of a graph {node: set of nodes} that reach each other."""
    reach = {node: set() for node in arrows}
    for node in arrows:
        todo = list(arrows[node])
        while todo:
            other = todo.pop()
            if other not in reach[node]:
                reach[node].add(other)
                todo += arrows.get(other, ())
    return {frozenset(b for b in reach[a] if a in reach[b]) for a in reach if a in reach[a]}


NAMES = [family.name for family in FAMILIES]
FOLDER_OF_FAMILY = re.compile(rf"descriptors\.({'|'.join(NAMES)})(\.|$)")


def family_of(name):
    """Return the family whose folder holds a module; None for what families share."""
    found = FOLDER_OF_FAMILY.match(name)
    return found and found[1]


def test_every_folder_has_a_floor_and_every_floor_its_folders():
    folders = {name.split(".")[0] for name in MODULES}
    assert folders == set(FLOORS), "CONTRIBUTING.md lists each folder and module directly below fastdesc/ once"


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down(name):
    own = floor_of(name)
    up = {other for other in imports_of_ours(MODULES[name]) if floor_of(other) > own}
    assert not up, f"fastdesc.{name} on floor {own} imports upward: {sorted(up)}"


def test_no_circles():
    """Modules import each other in one direction only, imports inside functions included."""
    arrows = {name: imports_of_ours(tree) - {name} for name, tree in MODULES.items()}
    assert not {tuple(sorted(circle)) for circle in circles(arrows)}


@pytest.mark.parametrize("name", [name for name in MODULES if family_of(name)])
def test_families_do_not_know_each_other(name):
    for other in imports_of_ours(MODULES[name]):
        assert family_of(other) in (None, family_of(name)), f"fastdesc.{name} imports {other}, another family"


@pytest.mark.parametrize("name", MODULES)
def test_cupy_is_judged_in_one_place(name):
    if not name.startswith("backend."):
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
    assert imports_of_ours(planted) == {"descriptors.family"}
    assert floor_of("descriptors.family") > floor_of("backend.arrays")
    assert "pickle" in imports(planted)
    assert floor_of("no_such_module") == -1
    assert family_of("descriptors.spline_filters.features") == "spline_filters"
    assert family_of("descriptors.family") is None
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == {frozenset("abc")}


PATHS = re.compile(r"(?<![\w/.-])(?:fastdesc|tests|bench|kernels|docs|examples)/[\w/*.-]*\w")


@pytest.mark.parametrize("path", [*SOURCES, *REPOSITORY.glob("*.md"), *REPOSITORY.glob("*/*.md")], ids=str)
def test_paths_in_texts_exist(path):
    """Comments, docstrings and documents name files by their paths."""
    for name in PATHS.findall(path.read_text()):
        assert list(REPOSITORY.glob(name)) or "results/" in name, f"{path} speaks of {name}"


# Twins: a kernel has one name in CUDA and in Python, and the same arrays in one order.

BUNDLED = {"kind", "pair_lanes", "triplet_lanes", "offsets", "grids", "by_element", "family", "activation"}
"""What a Numba kernel takes in one argument and its twin as template arguments and numbers."""


def cuda_kernels(file):
    """Return kernel name -> [(argument, is an array, is written)] of a file below kernels/, scalars first."""
    found = {}
    for name in cuda.specialisations(file):
        bare = name.partition("<")[0]
        text = cuda._declarations(file)[bare][1].split(",")
        written = ["*" in argument and "const" not in argument.split() for argument in text]
        *arrays, (_, _, scalars) = cuda.parameters(file, name)
        found[bare] = [(field, False, False) for field in scalars.names]
        found[bare] += [(n, p, w) for (n, p, _), w in zip(arrays, written[:-1], strict=True)]
    return found


def python_functions(folder):
    """Return function name -> argument names of the modules below fastdesc/<folder>, cpu.py and cuda.py left out."""
    return {
        node.name: [a.arg for a in node.args.args]
        for name, tree in MODULES.items()
        if f"{name}.".startswith(f"{folder}.") and name.split(".")[-1] not in ("cpu", "cuda")
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }


FILES = cuda.all_specialisations()


def folder_of_twins(file):
    """Return the folder or module below fastdesc that holds the twins of a CUDA file."""
    family = file.partition("/")[0]
    return f"descriptors.{family}" if family in NAMES else file.removesuffix(".cu").replace("/", ".")


def mismatch(ours, theirs):
    """Return what two signatures do not share: the arrays of a Numba kernel and of a CUDA kernel, in order."""
    numbers = {n for n, is_array, _ in theirs if not is_array}
    chunk = ["first", "last"] if "last" in ours else []    # of Numba's; in CUDA the grid
    arrays = [a for a in ours if a not in numbers | BUNDLED | set(chunk)]
    wanted = [n for n, is_array, _ in theirs if is_array]
    return None if arrays == wanted else (arrays, wanted)


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith("networks/")])
def test_twins_take_the_same_arrays(file):
    """All arrays, in one order; `kind, first, last` of a Numba chunk is a type and a grid in CUDA."""
    ours, theirs = python_functions(folder_of_twins(file)), cuda_kernels(file)
    assert theirs, f"kernels/{file} has no kernel that this test can read"
    for name, arguments in theirs.items():
        assert name in ours, f"{name} of kernels/{file} has no Numba twin"
        other = mismatch(ours[name], arguments)
        assert other is None, f"{name}: arrays (Numba, CUDA) {other}"
        assert "last" not in ours[name] or arguments[0][0] == "n_atoms", f"{name} begins with {arguments[0][0]}"


def test_networks_take_the_same_arrays():
    """The twins of these kernels are NumPy functions, which return what kernels write."""
    ours, theirs = python_functions("networks.feed_forward"), cuda_kernels("networks/feed_forward.cu")
    for name, arguments in theirs.items():
        function = name.removeprefix("network_")
        given = ours.get(function) or ours[f"_{function}"]
        read = [n for n, is_array, written in arguments if is_array and not written]
        assert [a for a in given if a != "activation"] == read, f"{name}: {read} against {given}"


def test_twins_that_differ_are_found():
    theirs = [("n_atoms", False, False), ("row", True, False), ("rij", True, False), ("q", True, True)]
    assert mismatch(["kind", "first", "last", "row", "rij", "q"], theirs) is None
    assert mismatch(["kind", "first", "last", "row", "q"], theirs), "an array that one of them lacks"
    assert mismatch(["kind", "first", "last", "row", "rij", "q", "dq"], theirs), "an array that the other lacks"
    assert mismatch(["kind", "first", "last", "rij", "row", "q"], theirs), "another order"


DEVICE = re.compile(r"__device__ __forceinline__ (?:[\w<>:, ]+?)\s(\w+)\(([^)]*)\)", re.S)


def test_shared_helpers_take_the_same_arguments():
    """Functions on a device with the name of one in Numba take its arguments, but for the type."""
    ours = python_functions("numerics")
    for family in NAMES:
        ours |= python_functions(f"descriptors.{family}")
    found = set()
    for path in KERNELS.rglob("*.cuh"):
        for name, given in DEVICE.findall(re.sub(r"//[^\n]*", "", path.read_text())):
            if name in ours:
                arguments = [re.split(r"[\s&*]+", a.strip())[-1] for a in given.split(",")]
                assert arguments == [a for a in ours[name] if a != "kind"], f"{path.name}: {name}({given})"
                found.add(name)
    assert {"monomials_3", "matrices_product"} <= found
