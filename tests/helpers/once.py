"""Checks that a state of the sources needs once: what a sanitizer, a compiler or an emulator says of the same text.

A test that is marked `once` is left out where tests/checked.json says that it passed on the same sources: the kernels,
what of fastdesc prepares and launches them, and the tests of the kernels with what they stand on. `pytest --record`
makes all of these checks anew and writes down which passed.
"""

import hashlib
import json
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
KEPT = REPOSITORY / "tests" / "checked.json"
FOLDERS = ("backend", "descriptors", "networks", "numerics", "pairs", "simd")
"""Of fastdesc: what prepares and launches kernels."""
SOURCES = (
    *(f"fastdesc/{folder}/**/*.py" for folder in FOLDERS), "fastdesc/geometry.py", "fastdesc/structures.py",
    "fastdesc/potential/repulsion.py", "fastdesc/potential/large_network.py", "kernels/**/*.cu", "kernels/**/*.cuh",
    "tests/kernels/*.py", "tests/descriptors/test_family_battery.py", "tests/cuda_emulator/*.*", "tests/doubles/*.py",
    "tests/helpers/*.py", "tests/references/*.py", "bench/gpu/compile_report.py",
)  # fmt: skip


@cache
def of_sources():
    """Digest of the names and texts of all sources."""
    found = hashlib.sha256()
    for path in sorted(path for pattern in SOURCES for path in REPOSITORY.glob(pattern)):
        text = path.read_bytes()
        found.update(f"{path.relative_to(REPOSITORY).as_posix()} {len(text)}\n".encode())
        found.update(text)
    return found.hexdigest()


def digest(item):
    """What a check depends on: the sources, and what its marker names besides."""
    words = [of_sources(), *(str(word) for mark in item.iter_markers("once") for word in mark.args)]
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:16]


def passed_before(items):
    """Those of some tests that passed on the same sources."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    marked = [item for item in items if item.get_closest_marker("once")]
    return [item for item in marked if kept.get(item.nodeid) == digest(item)]


def write_down(passed):
    """Keep digests by the names of tests."""
    KEPT.write_text(json.dumps(dict(sorted(passed.items())), indent=0) + "\n")
