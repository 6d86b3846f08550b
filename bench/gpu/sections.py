"""What `python -m bench.gpu` finds out of a device: name and rates, kernels one by one, right and how fast; tests.

Every step takes a Session (bench/gpu/runner.py) and emits plain rows.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np

import fastdesc as fd
from bench.gpu import launches
from bench.gpu.large import KERNELS, Copper
from bench.gpu.launches import H200
from bench.gpu.timing import seconds_of, wall_of
from bench.harness import models, systems
from bench.harness.workers import ROOT
from fastdesc.backend import cuda
from fastdesc.backend.arrays import to_device, to_host

PACKAGES = ("fastdesc", "numpy", "numba", "cupy-cuda13x", "cupy-cuda12x", "vesin", "ase", "h5py")
HEAVIEST = "gm_moments|gm_contract|gm_moments_pullback|gm_contract_pullback|ed_contract"
"""Kernels that the profiler looks at."""
SMOKE_CELLS = 4
"""Of copper along each edge: the fewest that are thicker than twice the cutoff."""


@dataclass(frozen=True)
class Sizes:
    """Systems of each step (bench/harness/systems.py; numbers are cells of bench/gpu/crystal.py), and seconds that one
    figure is measured for."""

    smoke: str = "cu32"
    kernels: str = "cu250000"
    checks: str = "cu4000"
    first: tuple = (63, 29, 14)
    scaling: tuple = ("cu100", "cu1000", "cu10000", "cu100000", "cu2000000")
    batches: tuple = ("cu256x32", "cu256x256")
    pairs: str = "cu100000"
    frames: int = 20000
    seconds: float = 0.2
    copy_bytes: int = 1 << 31
    matrix: int = 4096
    layers: tuple = (64, 360, 1_000_000)
    tests: tuple = ("-k", "(cuda or gpu or cupy) and not test_cuda_ and not test_bench and not emulated")


TINY = Sizes("cu32", "cu32", "cu32", (4,), ("cu32",), ("cu32x2",), "cu32", 4, 0.0, 1 << 12, 16, (4, 6, 10),
             ("-k", "nothing_is_called_so"))  # fmt: skip


def chip_of(session):
    """The chip whose rates floors are taken from: the measured one where `rates` has run."""
    for row in session.found("rates"):
        if "copy_bytes_per_s" in row:
            return launches.Chip(row["device"], row["copy_bytes_per_s"], H200.rates)
    return H200


def environment(session):
    """Name, driver and versions."""
    import cupy

    found = {"packages": {}, "python": sys.version.split()[0], "cores": len(os.sched_getaffinity(0))}
    for name in PACKAGES:
        try:
            found["packages"][name] = version(name)
        except PackageNotFoundError:
            found["packages"][name] = None
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    session.emit(
        **found, device=properties["name"].decode(), multiprocessors=properties["multiProcessorCount"],
        memory=properties["totalGlobalMem"], driver=cupy.cuda.runtime.driverGetVersion(),
        runtime=cupy.cuda.runtime.runtimeGetVersion(), nvrtc=list(cupy.cuda.nvrtc.getVersion()),
        carried_cubins=cuda.carried_cubins() is not None, load=os.getloadavg()[0],
    )  # fmt: skip


@contextmanager
def poisoned():
    """Context in which fresh memory of the device is NaN: a kernel that leaves something out is seen."""
    import cupy

    if not hasattr(cupy.cuda, "set_allocator"):    # the tests' double of a device
        yield
        return
    pool = cupy.get_default_memory_pool()

    def allocate(size):
        found = pool.malloc(size)
        cupy.cuda.runtime.memset(found.ptr, 0xFF, size)
        return found

    cupy.cuda.set_allocator(allocate)
    try:
        yield
    finally:
        cupy.cuda.set_allocator(pool.malloc)


def smoke(session):
    """Every map of every model on a few atoms: everything is written, nothing is NaN, duals of zero change nothing."""
    wrong = []
    for name in models.EVERY:
        for dtype in ("float32", "float64"):
            row = {"model": name, "dtype": dtype}
            try:
                with poisoned():
                    found = _maps(*_prepared(name, session.sizes.smoke, dtype))
                row["finite"] = all(bool(np.isfinite(x).all()) for x in found.values())
            except Exception as problem:    # the other models are to be tried too
                row |= {"finite": False, "error": repr(problem)[:500]}
            session.emit(**row)
            wrong += [] if row["finite"] else [f"{name} in {dtype}"]
    try:
        with poisoned():
            found = Copper(SMOKE_CELLS).evaluated("a thread an atom", "float32", searched=True)
        row = {"finite": all(bool(np.isfinite(x).all()) for x in found.values())}
    except Exception as problem:
        row = {"finite": False, "error": repr(problem)[:500]}
    session.emit(model="gaussian_moments, large system", dtype="float32", **row)
    wrong += [] if row["finite"] else ["large system"]
    if wrong:
        raise RuntimeError(f"not finite: {', '.join(wrong)}")


def rates(session):
    """Rates of the chip, from which floors are taken: copies, matrix products, and how long a launch takes."""
    import cupy

    sizes = session.sizes
    x = cupy.arange(sizes.copy_bytes // 4, dtype=np.float32)
    y = cupy.empty_like(x)
    device = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    copy = 2 * x.nbytes / seconds_of(lambda: cupy.copyto(y, x), sizes.seconds)
    session.emit(device=device, copy_bytes_per_s=copy)
    n, rng = sizes.matrix, np.random.default_rng(0)
    for dtype in ("float32", "float64"):
        a = cupy.asarray(rng.normal(size=(n, n)).astype(dtype))
        rate = 2 * n**3 / seconds_of(lambda a=a: a @ a, sizes.seconds)
        session.emit(matrix=n, dtype=dtype, operations_per_s=rate)
    k, m, many = sizes.layers
    w, q = cupy.ones((k, m), np.float32), cupy.ones((m, many), np.float32)
    session.emit(layer=[k, m, many], operations_per_s=2 * k * m * many / seconds_of(lambda: w @ q, sizes.seconds))
    small = cupy.zeros(32, np.float32)
    session.emit(launch_s=wall_of(lambda: small.fill(0), sizes.seconds))


def pytest_command(*chosen):
    """How tests are run, on several processes where pytest-xdist is there."""
    command = [sys.executable, "-m", "pytest", "tests", "-q", "-p", "no:cacheprovider", *chosen]
    if importlib.util.find_spec("xdist") is not None:
        command += ["-n", str(min(12, len(os.sched_getaffinity(0))))]
    return command


def battery(session):
    """The tests that have a device to run on, in processes of their own."""
    command = pytest_command(*session.sizes.tests)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    session.emit(command=command[1:], code=done.returncode, output=done.stdout[-6000:] + done.stderr[-2000:])


def _prepared(name, system, dtype, device="cuda"):
    d = models.descriptor(name, system)
    rij, pairs, species = d.prepare(systems.frames(system), dtype, device)
    return d, rij, pairs, species, d.theta(dtype, device)


def _maps(d, rij, pairs, species, theta):
    """Results of all maps on dual pairs and plain parameters, on the host in float64; directions from the shapes."""
    put = (lambda x: x) if isinstance(rij, np.ndarray) else (lambda x: to_device(x, "cuda"))
    rng = np.random.default_rng(3)
    trij = rng.normal(size=rij.shape).astype(rij.dtype)
    duals = put(np.stack([to_host(rij), trij]))
    q, saved = d.forward(duals, pairs, species, theta)
    dq = put(rng.normal(size=q.shape).astype(rij.dtype))
    drij = d.pullback(duals, pairs, species, theta, saved, dq)
    dtheta = d.pullback_parameters(duals, pairs, species, theta, saved, dq)
    found = {"q": q, "drij": drij, **dtheta}
    return {name: np.asarray(to_host(x), np.float64) for name, x in found.items()}


def on_the_cpu(name, system):
    """What `checks` compares with: Numba in float64."""
    return _maps(*_prepared(name, system, "float64", "cpu"))


def checks(session):
    """Every kernel, by the maps that use it, against Numba in float64 on a system that fills the device."""
    wrong = []
    for name in models.EVERY:
        exact = on_the_cpu(name, session.sizes.checks)
        for dtype, bound in (("float64", 1e-10), ("float32", 1e-3)):
            try:
                with launches.recorded() as used:
                    got = _maps(*_prepared(name, session.sizes.checks, dtype))
            except Exception as problem:    # one family that fails must not hide the others
                session.emit(model=name, dtype=dtype, right=False, error=repr(problem)[:500])
                wrong.append(f"{name} in {dtype}")
                continue
            errors = {}
            for what, x in exact.items():
                for plane in range(2):
                    size = np.linalg.norm(x[plane])
                    errors[f"{what}[{plane}]"] = float(np.linalg.norm(got[what][plane] - x[plane]) / (size or 1.0))
            worst = max(errors.values())
            used = sorted({launch.name for launch in used})
            session.emit(model=name, dtype=dtype, right=bool(worst < bound), worst=worst, errors=errors, kernels=used)
            wrong += [] if worst < bound else [f"{name} in {dtype}"]
    if wrong:
        raise RuntimeError(f"wrong: {', '.join(wrong)}")


def kernels(session):
    """Every kernel in every width, scalar and dtype: time by events, beside its floors."""
    chip, seen, system = chip_of(session), set(), session.sizes.kernels
    structures = fd.Structures.from_ase(systems.frames(system))
    for dtype in ("float32", "float64"):
        for name in models.EVERY:
            d, rij, pairs, species, theta = _prepared(name, system, dtype)
            with launches.recorded() as used:
                launches.every_map(d, rij, pairs, species, theta)
                placed = structures.to_device("cuda")
                launches.every_large_system(d, placed, pairs, species, theta)
                if name == next(iter(models.EVERY)):
                    launches.every_geometry(placed, pairs, dtype)
                    launches.every_repulsion(d, placed, pairs, species)
                    launches.every_layer(rij, pairs)
            new = [launch for launch in used if launch.name not in seen]
            seen |= {launch.name for launch in new}
            host = pairs.to_device("cpu")
            # Of a kernel that is launched several times, every launch does the same amount of work.
            for row in launches.rows(new, d, to_host(rij), host, chip, lambda x: seconds_of(x, 0.1, 20)):
                session.emit(model=name, dtype=dtype, **row)


def _tool(name, *words, step="smoke"):
    """Run a tool of the CUDA toolkit on a step; returns (exit status, output), or None without the tool."""
    if shutil.which(name) is None:
        return None
    command = [name, *words, sys.executable, "-m", "bench.gpu", "--step", step]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace")
    return done.returncode, done.stdout + done.stderr


def profile(session):
    """What Nsight Compute says of one launch of each of the heaviest kernels, and of those of large systems."""
    for step, names in (("smoke", HEAVIEST), ("large_systems", KERNELS)):
        found = _tool("ncu", "--set", "full", "--clock-control", "none", "--kernel-name", f"regex:{names}",
                      "--launch-count", "6", step=step)  # fmt: skip
        said = {"missing": True} if found is None else {"code": found[0], "output": found[1][-60000:]}
        session.emit(tool="ncu", of=step, **said)


def sanitizer(session):
    """compute-sanitizer on every map: accesses outside arrays, then races within blocks."""
    for tool in ("memcheck", "racecheck"):
        found = _tool("compute-sanitizer", "--tool", tool, "--error-exitcode", "9")
        if found is None:
            session.emit(tool=tool, missing=True)
            continue
        session.emit(tool=tool, code=found[0], output=found[1][-6000:])
        if found[0]:
            raise RuntimeError(f"{tool} ended with status {found[0]}: {found[1][-500:]}")
