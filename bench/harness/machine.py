"""What is written down about the machine, and its measured speed limits."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.harness.workers import ROOT, cores
from bench.sections import AVX512_BLAS

GEMM_SHAPES = {"network layer, 256 atoms": (256, 360, 256), "large": (1024, 1024, 1024)}


def describe():
    """Names, versions, load: plain data that the results file carries."""
    return {
        "processor": _processor(),
        "cores": len(cores()),
        "avx512": has_avx512(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in ("fastdesc", "numpy", "numba", "llvmlite", "vesin", "cupy")},
        "commit": _commit(),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def gpu():
    """(True, name of the device) or (False, why not)."""
    try:
        from fastdesc.backend.cuda import gpu_status
    except ImportError:
        return False, "this version of fastdesc has no CUDA side"
    usable, reason = gpu_status()
    if not usable:
        return False, reason
    import cupy

    return True, cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()


def has_avx512():
    try:
        return "avx512f" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def limits(workers, seconds):
    """Measured peak of multiply-adds and speed of matrix products on one core, in GFlop/s by dtype."""
    found = {"fma": {}, "gemm": []}
    for dtype in ("float32", "float64"):
        rates = [_rate(workers, "fma", (), {"dtype": dtype, "chains": chains}, seconds)[0] for chains in (10, 5)]
        found["fma"][dtype] = max(rates)
        for environment in ((), AVX512_BLAS) if has_avx512() else ((),):
            for name, (m, k, n) in GEMM_SHAPES.items():
                options = {"m": m, "k": k, "n": n, "dtype": dtype}
                rate, info = _rate(workers, "gemm", environment, options, seconds)
                setting = ", ".join(f"{a}={b}" for a, b in environment) or "default"
                found["gemm"].append(
                    {"shape": name, "dtype": dtype, "setting": setting, "blas": info["blas"], "gflops": rate}
                )
    return found


def _rate(workers, case, environment, options, seconds):
    answer = workers.ask("ours", 1, environment, case, options, seconds)
    if "error" in answer:
        raise RuntimeError(f"the machine's {case} could not be measured: {answer['error']}; try --verbose")
    return answer["info"]["operations"] / min(answer["wall"]) / 1e9, answer["info"]


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit():
    try:
        out = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
        return out.stdout.strip() or None
    except OSError:
        return None
