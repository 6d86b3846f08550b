"""The benchmark of a GPU: sections run on the double of a device, predictions anywhere; no times are asserted."""

import json
import time

import numpy as np
import pytest
from cuda_emulator import gcc_status

# The benchmark is not installed: it runs from the checkout.
from bench import gpu
from bench.gpu import launches
from bench.gpu import sections as gpu_sections
from bench.gpu.sections import TINY, Session
from bench.harness import models, systems
from fastdesc.backend import cuda

pytest.importorskip("cupy", reason="CuPy is not installed: the double of a device has its functions from it")
from doubles.cupy_double import device_double

needs_gcc = pytest.mark.skipif(not gcc_status()[0], reason=gcc_status()[1])
needs_no_gpu = pytest.mark.skipif(cuda.gpu_status()[0], reason="there is a GPU")


@pytest.fixture(scope="module")
def prediction():
    return gpu.predicted("cu32")


def test_every_kernel_is_predicted(prediction):
    """All that kernels/ declare for float32: nothing is timed on a GPU that was not counted before."""
    known = {row["kernel"] for row in prediction["kernels"]}
    declared = {name for names in cuda.all_specialisations().values() for name in names if "double" not in name}
    assert known == declared
    for row in prediction["kernels"]:
        assert row["bytes"] > 0 and row["operations"] is not None, row["kernel"]
        assert row["floor_s"] == max(row["bytes_s"], row["operations_s"]) > 0
    assert prediction["measured"] is False


def test_bytes_and_operations_by_hand():
    """78 pairs an atom: vectors and neighbours once, 100 moments, one row pointer; formulas of kernels/README.md."""
    d = models.descriptor("gaussian_moments", "cu256")
    rij, pairs, species = d.prepare(systems.frames("cu256"), "float32")
    with launches.nothing_runs(), launches.recorded() as used:
        launches.every_map(d, rij, pairs, species, d.theta("float32"))
    rows = {r["kernel"]: r for r in launches.rows(used, d, rij, pairs, launches.H200)}
    n, p = pairs.n_atoms, pairs.n_pairs
    moments = rows["gm_moments<float, 5>"]
    assert moments["bytes"] == p * (4 + 3 * 4) + n * (100 * 4 + 4) + (n + 1) * 8 + d.parameters["beta"].size * 4
    assert moments["operations"] == p * (10 + 19 + 34 + 32 + 2 * 5 * 8 + 2 * 5 * 20)
    assert rows["gm_moments<Dual<float>, 5>"]["operations"] == 3 * moments["operations"]
    assert moments["bytes_s"] == moments["bytes"] / 4.3e12


def test_without_a_gpu_it_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cuda, "gpu_status", lambda: (False, "there is none"))
    assert gpu.main(["--quick", "--out", str(tmp_path / "p.json")]) == 0
    out = capsys.readouterr().out
    assert "No GPU: there is none" in out and "gm_moments" in out
    assert json.loads((tmp_path / "p.json").read_text())["measured"] is False


@needs_gcc
@needs_no_gpu
def test_every_section_runs_on_the_double(tmp_path, capsys, monkeypatch):
    out = tmp_path / "double.json"
    few = {name: models.EVERY[name] for name in ("gaussian_moments", "spline_filters, 4 and 4")}
    monkeypatch.setattr(models, "EVERY", few)
    monkeypatch.setattr(models, "DESCRIPTORS", {"gaussian_moments": few["gaussian_moments"]})
    monkeypatch.setattr(gpu_sections, "start_compiling", list)
    monkeypatch.setattr(gpu, "SECTIONS", {name: (f, 1000) for name, (f, _) in gpu.SECTIONS.items()})
    names = [name for name in gpu.SECTIONS if name != "battery"]
    with device_double():
        status = gpu.main(["--out", str(out), "--sections", ",".join(names), "--budget", "1000"], TINY)
    record = json.loads(out.read_text())
    sections = record["sections"]
    assert status == 0 and list(sections) == names, {n: s.get("error") for n, s in sections.items()}
    assert all(check["right"] for check in sections["checks"]["result"]), sections["checks"]
    used = {name for check in sections["checks"]["result"] for name in check["kernels"]}
    timed = {row["kernel"] for row in sections["kernels"]["result"]["rows"]}
    assert used < timed and {"gm_moments<Dual<double>, 5>", "geometry_forces<float>"} < timed
    for name in ("scaling", "training"):
        assert not [row for row in sections[name]["result"]["rows"] if "error" in row]
    captured, launched, host = sections["dynamics"]["result"]
    assert "replay_s" in captured and captured["difference"] < 1e-3
    assert launched["kernels"] > 10 and launched["not_captured"] is None and host["device"] == "cpu"
    assert "Test Double" in record["device"] and "with the list given" in capsys.readouterr().out


def test_sections_that_fail_are_recorded_and_the_rest_runs(monkeypatch):
    saved = []

    def broken(session):
        raise ValueError("no such luck")

    def late(session):
        return session.left()

    monkeypatch.setattr(gpu, "SECTIONS", {"broken": (broken, 5), "late": (late, 5), "never": (late, 5)})
    session = Session(TINY)
    gpu.run_sections(["broken", "late"], session, 100, lambda: saved.append(dict(session.results)))
    gpu.run_sections(["never"], session, -1, lambda: saved.append(dict(session.results)))
    assert "ValueError: no such luck" in session.results["broken"]["error"]
    assert "broken" in session.results["broken"]["traceback"]
    assert 0 < session.results["late"]["result"] <= 5
    assert "not run" in session.results["never"]["error"]
    assert [len(s) for s in saved] == [1, 2, 3]


def test_unknown_sections_are_refused():
    with pytest.raises(SystemExit):
        gpu.arguments(["--sections", "kernel"])


def test_wrong_numbers_are_seen(monkeypatch):
    """A kernel that is off by a thousandth in float64 is not right."""
    exact = {"q": np.ones((2, 3))}
    monkeypatch.setattr(models, "EVERY", {"one": None})
    monkeypatch.setattr(gpu_sections, "_prepared", lambda name, system, dtype, device="cuda": (device, dtype))
    monkeypatch.setattr(
        gpu_sections, "_maps", lambda device, dtype: exact if device == "cpu" else {"q": exact["q"] * 1.0001}
    )
    found = gpu_sections.checks(Session(TINY, stop=time.monotonic() + 9))
    assert [c["right"] for c in found] == [False, True]
