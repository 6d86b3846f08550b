"""What the package says of itself is the same everywhere."""

import re
import tomllib
from pathlib import Path

import fastdesc as fd

REPOSITORY = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def test_one_version():
    citation = (REPOSITORY / "CITATION.cff").read_text()
    assert PYPROJECT["project"]["version"] == fd.__version__
    assert re.search(r"^version: (.+)$", citation, re.M)[1] == fd.__version__


def test_every_package_is_installed():
    folders = {p.parent for p in (REPOSITORY / "fastdesc").rglob("*.py")}
    expected = {".".join(p.relative_to(REPOSITORY).parts) for p in folders}
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == expected | {"fastdesc.kernels"}


def test_types_are_shipped():
    assert (REPOSITORY / "fastdesc" / "py.typed").exists()
    assert "py.typed" in PYPROJECT["tool"]["setuptools"]["package-data"]["fastdesc"]
    assert "Typing :: Typed" in PYPROJECT["project"]["classifiers"]
