"""Compiled kernels on disk: found again, never mixed up, and a disk that fails costs time, not the run."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastdesc.backend import jit


def doubled(x):
    return 2 * x.sum()


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """Return a function that makes the kernel anew, as another process would."""
    monkeypatch.setenv("FASTDESC_CACHE", str(tmp_path))
    return lambda: jit.kernel(doubled)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def hits(dispatcher):
    return sum(dispatcher.stats.cache_hits.values())


def test_each_signature_has_its_own_file(tmp_path, compiled):
    """Two processes that knew nothing of each other compiled one signature each; a third finds both."""
    one, two, three = compiled(), compiled(), compiled()
    assert one(np.ones(3)) == 6 and two(np.ones(5, np.float32)) == 10
    assert len(files(tmp_path)) == 2
    assert three(np.ones(3)) == 6 and three(np.ones(5, np.float32)) == 10
    assert hits(one) == hits(two) == 0 and hits(three) == 2
    assert len(files(tmp_path)) == 2


IMPORTS = {
    "b.py": [
        "from fastdesc.b import x", "import fastdesc.b", "from fastdesc import b as c",
        "from fastdesc import (\nc, b\n)",
        "    from fastdesc import (\n        c,  # (why)\n        b as d,\n    )",
    ],
    "p/__init__.py": [
        "from fastdesc.p import x", "import fastdesc.p", "from fastdesc import p", "from fastdesc.p import x, q",
    ],
    "p/q.py": [
        "from fastdesc.p.q import x", "import fastdesc.p.q", "from fastdesc.p import q",
        "from fastdesc.p import q as r", "from fastdesc.p import (\n    x,\n    q,\n)",
    ],
    "p/r/__init__.py": ["from fastdesc.p import r", "from fastdesc.p.r import x", "import fastdesc.p.r as z"],
}  # fmt: skip


def forget():
    """Look at the sources anew, as the next process does."""
    for asked in (jit._imported, jit._hash_of, jit._hash_of_all):
        asked.cache_clear()


@pytest.mark.parametrize("imported, text", [(path, text) for path, texts in IMPORTS.items() for text in texts])
def test_a_change_beneath_begins_a_new_folder(tmp_path, monkeypatch, imported, text):
    """Numba looks at the kernel's own file alone. Modules, packages and submodules are all seen."""
    monkeypatch.setattr(jit, "_PACKAGE", tmp_path)
    names = ["b.py", "p/__init__.py", "p/q.py", "p/r/__init__.py", "d.py", "e.py", "p/e.py"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("from fastdesc.d import y" if name == imported else "")
    (tmp_path / "a.py").write_text(f"import numpy\n{text}\n")
    forget()
    seen = {jit.cache_folder(tmp_path / "a.py")}
    for changed in ("a.py", imported, "d.py"):
        with open(tmp_path / changed, "a") as f:
            f.write("\n# more\n")
        forget()
        seen.add(before := jit.cache_folder(tmp_path / "a.py"))
    assert len(seen) == 4
    for other in ("e.py", "p/e.py"):
        (tmp_path / other).write_text("x = 1")
    forget()
    assert jit.cache_folder(tmp_path / "a.py") == before


def test_damaged_files_are_compiled_anew(tmp_path, compiled):
    compiled()(np.ones(3))
    for content in (b"", b"words", files(tmp_path)[0].read_bytes()[:100]):
        files(tmp_path)[0].write_bytes(content)
        again = compiled()
        assert again(np.ones(3)) == 6 and hits(again) == 0
        found = compiled()
        assert found(np.ones(3)) == 6 and hits(found) == 1, "the damaged file was replaced"


def test_a_full_disk_costs_the_file_only(tmp_path, compiled, monkeypatch):
    def no_room(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    kernel = compiled()
    monkeypatch.setattr(os, "replace", no_room)
    assert kernel(np.ones(3)) == 6
    assert files(tmp_path) == []


@jit.inner
def lengthy(x):
    """Long enough that LLVM by itself would call it."""
    total = 0.0
    for i in range(len(x)):
        for j in range(len(x)):
            total += x[i] / (1 + x[j]) if i % 3 else np.sqrt(x[i]) * np.log(1 + x[j]) ** (j % 5)
    for i in range(len(x)):
        total = total / 2 if x[i] > total else np.cos(total) * x[i]
    return total


def three_times(x):
    return lengthy(x) + lengthy(x[1:]) + lengthy(x[2:])


def test_nothing_is_left_out_of_line(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTDESC_CACHE", str(tmp_path))    # code from a cache cannot be looked into
    compiled = jit.kernel(three_times)
    assert compiled(np.ones(4)) == sum(lengthy.py_func(np.ones(n)) for n in (4, 3, 2))
    code = compiled.inspect_llvm(compiled.signatures[0])
    assert "three_times" in code
    assert not [line for line in code.splitlines() if line.startswith("define") and "lengthy" in line]


@pytest.mark.parametrize("home", ["/proc/nobody", "/dev/null"])
def test_a_home_that_takes_no_files(home):
    code = (
        "import numpy as np; from fastdesc.geometry import geometry_sum_frames as kernel; out = np.empty((1, 1)); "
        "kernel(np.ones((1, 3)), np.array([0, 3]), out); print(out[0, 0])"
    )
    env = {k: v for k, v in os.environ.items() if k not in ("FASTDESC_CACHE", "XDG_CACHE_HOME")} | {"HOME": home}
    folder = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, cwd=folder)
    assert done.stdout == "3.0\n", done.stderr
