"""The benchmark of a GPU: sections run on the double of a device, predictions anywhere; no times are asserted."""

import json
import struct
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from cuda_emulator import gcc_status
from helpers.pair_lists import assert_same_set, check_form

import fastdesc as fd

# The benchmark is not installed: it runs from the checkout.
from bench import gpu
from bench.gpu import crystal, launches, sass
from bench.gpu import sections as gpu_sections
from bench.gpu.carry import carry_cubins
from bench.gpu.compile_report import nvrtc_status
from bench.gpu.prediction import predicted
from bench.gpu.runner import Session, append, read, run_all, run_one
from bench.gpu.sections import TINY
from bench.harness import models, systems
from fastdesc.backend import cuda

pytest.importorskip("cupy", reason="CuPy is not installed: the double of a device has its functions from it")
from doubles.cupy_double import device_double

needs_gcc = pytest.mark.skipif(not gcc_status()[0], reason=gcc_status()[1])
needs_no_gpu = pytest.mark.skipif(cuda.gpu_status()[0], reason="there is a GPU")


@pytest.fixture(scope="module")
def prediction():
    return predicted("cu32", issued=False)


def test_every_kernel_is_predicted(prediction):
    """All that kernels/ declare for float32: nothing is timed on a GPU that was not counted before."""
    known = {row["kernel"] for row in prediction["kernels"]}
    declared = {name for names in cuda.all_specialisations().values() for name in names if "double" not in name}
    assert known == declared
    for row in prediction["kernels"]:
        assert row["bytes"] > 0 and row["operations"] is not None, row["kernel"]
        assert row["floor_s"] == max(row["bytes_s"], row["operations_s"]) > 0
    assert prediction["measured"] is False
    seconds = {(row["model"], row["n_atoms"], row.get("way")): row["predicted_s"] for row in prediction["steps"]}
    large = seconds["gaussian_moments", 1_000_000, "a thread an atom"]
    assert 0 < large < seconds["gaussian_moments", 1_000_000, None]
    assert ("gaussian_moments", 1000, "a thread an atom") not in seconds


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
    monkeypatch.setattr(sass, "status", lambda: (False, "not counted here: it takes minutes"))
    assert gpu.main(["--quick", "--out", str(tmp_path / "p.json")]) == 0
    out = capsys.readouterr().out
    assert "No GPU: there is none" in out and "gm_moments" in out
    assert json.loads((tmp_path / "p.json").read_text())["measured"] is False


@needs_gcc
@needs_no_gpu
def test_every_step_runs_on_the_double(tmp_path, capsys, monkeypatch):
    """In this process, all but the tests and the tools of the toolkit."""
    few = {name: models.EVERY[name] for name in ("gaussian_moments", "spline_filters, 4 and 4")}
    monkeypatch.setattr(models, "EVERY", few)
    monkeypatch.setattr(models, "DESCRIPTORS", {"gaussian_moments": few["gaussian_moments"]})
    out, rows = tmp_path / "double.jsonl", {}
    with device_double():
        for step in gpu.STEPS:
            if step.name != "battery":
                session = Session(TINY, out, step.name)
                assert run_one(step, session) == 0, (step.name, capsys.readouterr().out)
                rows[step.name] = session.rows
    assert [line["row"] for line in read(out)] == json.loads(
        json.dumps([row for found in rows.values() for row in found], default=float)
    )
    assert all(row["finite"] for row in rows["smoke"]) and len(rows["smoke"]) == 5
    assert all(check["right"] for check in rows["checks"])
    used = {name for check in rows["checks"] for name in check["kernels"]}
    timed = {row["kernel"] for row in rows["kernels"]}
    assert used < timed and {"gm_moments<Dual<double>, 5>", "geometry_forces<float>"} < timed
    searched, given = rows["large_systems"]
    assert searched["right"] and given["right"] and searched["searched"] and not given["searched"]
    assert {"gm_large_search", "gm_large_forces"} < set(searched["kernels"]) and "gm_large_list" in given["kernels"]
    assert [row["way"] for row in rows["energies_and_forces"]] == ["a thread an atom", "a warp an atom"]
    assert {"gm_large_moments", "gm_large_gradients", "gm_large_forces"} < timed
    for name in ("energies_and_forces", "scaling", "training"):
        assert rows[name] and not [row for row in rows[name] if "error" in row], rows[name]
    captured, launched, host = rows["dynamics"]
    assert "replay_s" in captured and captured["difference"] < 1e-3
    assert launched["kernels"] > 10 and launched["not_captured"] is None and host["device"] == "cpu"
    gpu.show(out)
    assert "given" in capsys.readouterr().out


@needs_gcc
@needs_no_gpu
@pytest.mark.parametrize(("fault", "status"), [
    pytest.param("exception", "failed", marks=pytest.mark.thorough), ("crash", "failed"), ("hang", "timed out"),
])  # fmt: skip
def test_a_fault_costs_one_step(tmp_path, capsys, monkeypatch, fault, status):
    """The rehearsal: processes, on the double; and the run goes on where it ended."""
    out = tmp_path / "r.jsonl"
    short = {"profile": 6.0} if fault == "hang" else {}
    monkeypatch.setattr(gpu, "STEPS", [replace(s, seconds=short.get(s.name, 60.0)) for s in gpu.STEPS])
    words = ["--rehearse", "--steps", "environment,profile,rates", "--out", str(out)]
    assert gpu.main([*words, "--fault", f"profile={fault}"]) == 1
    found = {line["step"]: line["status"] for line in read(out) if "status" in line}
    assert found == {"environment": "done", "profile": status, "rates": "done"}
    assert "not done: profile" in capsys.readouterr().out
    before = len(read(out))
    assert gpu.main([*words, "--budget", "0"]) == 1
    again = read(out)[before:]
    assert [(line["step"], line["status"]) for line in again] == [("profile", "not run")], "the others were done"


def test_nothing_runs_after_a_vital_step_that_failed(tmp_path):
    steps = [gpu.Step("first", None, 60, vital=True), gpu.Step("second", None, 60)]
    failing = [sys.executable, "-c", "raise SystemExit(3)"]
    status = run_all(steps, tmp_path / "x.jsonl", 100, lambda name, seconds: failing)
    assert status == {"first": "failed", "second": "not run"}
    first, second = read(tmp_path / "x.jsonl")
    assert "exit status 3" in first["log"] and second["log"] == "first failed"


def test_a_line_cut_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "x.jsonl"
    append(path, {"step": "a", "row": {"x": np.float32(1)}})
    with open(path, "a") as file:
        file.write('{"step": "b", "ro')
    assert read(path) == [{"step": "a", "row": {"x": 1.0}}]


@pytest.mark.parametrize(
    "words", [["--steps", "kernel"], ["--step", "x"], ["--fault", "rates"], ["--fault", "rates=fire"]]
)
def test_unknown_steps_and_faults_are_refused(words):
    with pytest.raises(SystemExit):
        gpu.arguments(words)


def test_copper_in_closed_form():
    """The pairs are those that the search finds, mirrors included."""
    frame, pairs = crystal.copper(4)
    found = fd.Pairs.find(fd.Structures.from_ase([frame]), 6.0)
    assert pairs.n_pairs == found.n_pairs == 78 * len(frame)
    check_form(pairs)
    i, k = (np.repeat(np.arange(p.n_atoms), np.diff(p.row)) for p in (pairs, found))
    assert_same_set((i, pairs.j, pairs.shift), (k, found.j, found.shift))
    with pytest.raises(ValueError, match="twice the cutoff"):
        crystal.copper(3)


def test_carried_cubins_are_used_while_their_sources_are_the_same(tmp_path, monkeypatch):
    """Compiled here, loaded there: by the names of the instances; other sources are compiled anew."""
    usable, reason = nvrtc_status()
    if not usable:
        pytest.skip(reason)
    loaded = []

    class Module:
        def __init__(self, **given):
            self.given = given

        def get_function(self, name):
            loaded.append((self.given, name))
            return name

    fake = SimpleNamespace(
        RawModule=Module, cuda=SimpleNamespace(Device=lambda: SimpleNamespace(compute_capability="90"))
    )
    entries = carry_cubins(tmp_path, files=["geometry.cu"])["geometry.cu"]
    lowered = entries["kernels"]["geometry_forces<float>"]
    cubin = (tmp_path / entries["cubin"]).read_bytes()
    headers, size, count = *struct.unpack_from("<Q", cubin, 32), *struct.unpack_from("<HH", cubin, 54)
    assert lowered.encode() in cubin and len(cubin) == headers + size * count, "not cut: program headers come last"
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setenv("FASTDESC_CUBINS", str(tmp_path))
    for source, wanted in ((cuda.source_hash, lowered), (lambda file: "other", "geometry_forces<float>")):
        cuda.carried_cubins.cache_clear()
        monkeypatch.setattr(cuda, "source_hash", source)
        cuda._load_with_cupy(cuda.kernels_folder() / "geometry.cu", ("geometry_forces<float>",)).get_function(
            "geometry_forces<float>"
        )
        assert loaded[-1][1] == wanted
    assert "path" in loaded[0][0] and "code" in loaded[1][0]
    cuda.carried_cubins.cache_clear()


def test_wrong_numbers_are_seen(monkeypatch):
    """A kernel that is off by a thousandth in float64 is not right."""
    exact = {"q": np.ones((2, 3))}
    monkeypatch.setattr(models, "EVERY", {"one": None})
    monkeypatch.setattr(gpu_sections, "_prepared", lambda name, system, dtype, device="cuda": (device, dtype))
    monkeypatch.setattr(
        gpu_sections, "_maps", lambda device, dtype: exact if device == "cpu" else {"q": exact["q"] * 1.0001}
    )
    session = Session(TINY)
    with pytest.raises(RuntimeError, match="wrong: one in float64"):
        gpu_sections.checks(session)
    assert [c["right"] for c in session.rows] == [False, True]
