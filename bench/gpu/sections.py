"""What `python -m bench.gpu` finds out of a device: name and rates, kernels one by one, right and how fast; tests.

Every section takes a Session and returns plain data for the file. One that fails says so there; the others run.
"""

import importlib.util
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

import numpy as np

import fastdesc as fd
from bench.gpu import launches
from bench.gpu.launches import H200
from bench.harness import models, systems
from bench.harness.workers import ROOT
from fastdesc.backend.arrays import to_device, to_host

PACKAGES = ("fastdesc", "numpy", "numba", "cupy-cuda13x", "cupy-cuda12x", "vesin", "ase", "h5py")


@dataclass
class Session:
    """Sizes, budget and clock of a run; `chip` has the rates that floors are taken from."""

    sizes: object
    chip: object = H200
    stop: float = float("inf")
    results: dict = field(default_factory=dict)

    def left(self):
        """Seconds until the section has to end."""
        return self.stop - time.monotonic()


@dataclass(frozen=True)
class Sizes:
    """Systems of each section (bench/harness/systems.py), and seconds that one figure is measured for."""

    kernels: str = "cu30000"
    checks: str = "cu4000"
    scaling: tuple = ("cu100", "cu1000", "cu10000", "cu100000", "cu1000000", "cu2000000")
    batches: tuple = ("cu256x4", "cu256x32")
    frames: int = 20000
    seconds: float = 0.2
    copy_bytes: int = 1 << 31
    matrix: int = 4096
    tests: tuple = ("-k", "(cuda or gpu or cupy) and not test_cuda_ and not test_bench and not emulated")


TINY = Sizes("cu32", "cu32", ("cu32",), ("cu32x2",), 4, 0.0, 1 << 12, 16, ("-k", "nothing_is_called_so"))


def seconds_of(call, seconds, most=200):
    """Median time of a call on the device, by events; the first calls, which compile, are not counted."""
    import cupy

    for _ in range(2):
        call()
    begin, end, times = cupy.cuda.Event(), cupy.cuda.Event(), []
    stop = time.monotonic() + seconds
    while not times or (time.monotonic() < stop and len(times) < most):
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(1e-3 * cupy.cuda.get_elapsed_time(begin, end))
    return float(np.median(times))


def wall_of(call, seconds, most=200):
    """Median time of a call by the clock, the wait for the device included."""
    import cupy

    wait = cupy.cuda.get_current_stream().synchronize
    for _ in range(2):
        call()
    wait()
    times, stop = [], time.monotonic() + seconds
    while not times or (time.monotonic() < stop and len(times) < most):
        start = time.monotonic()
        call()
        wait()
        times.append(time.monotonic() - start)
    return float(np.median(times))


def environment(session):
    """Name, versions, and the measured rates of the chip, from which floors are taken from here on."""
    import cupy

    found = {"packages": {}, "python": sys.version.split()[0], "cores": len(os.sched_getaffinity(0))}
    for name in PACKAGES:
        try:
            found["packages"][name] = version(name)
        except PackageNotFoundError:
            found["packages"][name] = None
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    found |= {
        "device": properties["name"].decode(), "multiprocessors": properties["multiProcessorCount"],
        "memory": properties["totalGlobalMem"], "driver": cupy.cuda.runtime.driverGetVersion(),
        "runtime": cupy.cuda.runtime.runtimeGetVersion(), "nvrtc": list(cupy.cuda.nvrtc.getVersion()),
    }  # fmt: skip
    x = cupy.arange(session.sizes.copy_bytes // 4, dtype=np.float32)
    y = cupy.empty_like(x)
    copy = 2 * x.nbytes / seconds_of(lambda: cupy.copyto(y, x), session.sizes.seconds)
    n, rates = session.sizes.matrix, {}
    for dtype in ("float32", "float64"):
        a = cupy.asarray(np.random.default_rng(0).normal(size=(n, n)).astype(dtype))
        rates[dtype] = 2 * n**3 / seconds_of(lambda a=a: a @ a, session.sizes.seconds)
    small = cupy.zeros(32, np.float32)
    found["launch_s"] = wall_of(lambda: small.fill(0), session.sizes.seconds)
    found["copy_bytes_per_s"], found["matrix_product_per_s"] = copy, rates
    session.chip = launches.Chip(found["device"], copy, session.chip.rates)
    return found


def pytest_command(*chosen):
    """How tests are run, on several processes where pytest-xdist is there."""
    command = [sys.executable, "-m", "pytest", "tests", "-q", "-p", "no:cacheprovider", *chosen]
    if importlib.util.find_spec("xdist") is not None:
        command += ["-n", str(min(12, len(os.sched_getaffinity(0))))]
    return command


def battery(session):
    """The tests that have a device to run on, in processes of their own."""
    command = pytest_command(*session.sizes.tests)
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=max(1.0, session.left()))
        return {"command": command[1:], "code": done.returncode, "output": done.stdout[-6000:] + done.stderr[-2000:]}
    except subprocess.TimeoutExpired as late:
        text = late.stdout.decode(errors="replace") if isinstance(late.stdout, bytes) else late.stdout or ""
        raise TimeoutError(f"the battery was not done in time; it had printed {text[-3000:]}") from late


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
    found = []
    for name in models.EVERY:
        exact = on_the_cpu(name, session.sizes.checks)
        for dtype, bound in (("float64", 1e-10), ("float32", 1e-3)):
            try:
                with launches.recorded() as used:
                    got = _maps(*_prepared(name, session.sizes.checks, dtype))
            except Exception as problem:    # one family that fails must not hide the others
                found.append({"model": name, "dtype": dtype, "right": False, "error": repr(problem)[:500]})
                continue
            errors = {}
            for what, x in exact.items():
                for plane in range(2):
                    size = np.linalg.norm(x[plane])
                    errors[f"{what}[{plane}]"] = float(np.linalg.norm(got[what][plane] - x[plane]) / (size or 1.0))
            worst = max(errors.values())
            found.append({
                "model": name, "dtype": dtype, "right": bool(worst < bound), "worst": worst, "errors": errors,
                "kernels": sorted({launch.name for launch in used}),
            })  # fmt: skip
    return found


def start_compiling():
    """Start processes that compile the CPU's kernels, which `checks` compares with, while a device is timed."""
    code = "import sys; from bench import gpu_sections as g; g.on_the_cpu(sys.argv[1], 'cu32')"
    few = list(models.EVERY)[: max(1, len(os.sched_getaffinity(0)) - 4)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return [subprocess.Popen([sys.executable, "-c", code, name], cwd=ROOT, **quiet) for name in few]


def kernels(session):
    """Every kernel in every width, scalar and dtype: time by events, beside its floors."""
    found, seen = [], set()
    system = session.sizes.kernels
    structures = fd.Structures.from_ase(systems.frames(system))
    for dtype in ("float32", "float64"):
        for name in models.EVERY:
            d, rij, pairs, species, theta = _prepared(name, system, dtype)
            with launches.recorded() as used:
                launches.every_map(d, rij, pairs, species, theta)
                if name == next(iter(models.EVERY)):
                    launches.every_geometry(structures.to_device("cuda"), pairs, dtype)
                    launches.every_layer(rij, pairs)
            new = [launch for launch in used if launch.name not in seen]
            seen |= {launch.name for launch in new}
            host = pairs.to_device("cpu")
            # Of a kernel that is launched several times, every launch does the same amount of work.
            for row in launches.rows(new, d, to_host(rij), host, session.chip, lambda x: seconds_of(x, 0.1, 20)):
                found.append({"model": name, "dtype": dtype, **row})
            if session.left() < 0:
                return {"rows": found, "stopped": f"out of time at {name}, {dtype}"}
    return {"rows": found, "stopped": None}


def free_memory():
    """Give unused blocks of CuPy's pool back."""
    import cupy

    cupy.get_default_memory_pool().free_all_blocks()
