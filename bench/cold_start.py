"""How long the first call of a fresh installation takes: `python -m bench.cold_start [--cases ..] [--out FILE]`.

Every case is a process with an empty cache of kernels, and then one that finds them compiled. Told are seconds of the
processor, which others on the machine disturb little, and of the clock, from the start of Python to its end.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PREPARE = """
import fastdesc as fd
from ase.build import bulk
from ase.calculators.emt import EMT
frame = bulk("Cu", cubic=True) * (2, 2, 2)
frame.rattle(0.1)
"""
CASES = {
    "import": "",
    "compute": "fd.GaussianMoments(species=['Cu']).compute(frame)",
    "jacobian": "fd.GaussianMoments(species=['Cu']).compute(frame, jacobian=True)",
    "predict": "fd.Potential(fd.GaussianMoments(species=['Cu'])).predict(frame)",
    "dynamics": """
frame.calc = fd.FastdescCalculator(fd.Potential(fd.GaussianMoments(species=['Cu'])), dtype="float32")
frame.get_forces()
""",
    "training": """
frames = [frame.copy() for _ in range(8)]
for seed, atoms in enumerate(frames):
    atoms.rattle(0.05, seed=seed)
    atoms.calc = EMT()
    atoms.get_stress()
fd.train(fd.Potential(fd.GaussianMoments(species=['Cu'])), frames[:6], frames[6:], steps=2, progress=False)
""",
    "embedded density": "fd.Potential(fd.EmbeddedDensity(species=['Cu'])).predict(frame)",
    "recursion": "fd.Potential(fd.EmbeddedDensity(species=['Cu'], iterations=1)).predict(frame)",
    "spline filters": "fd.Potential(fd.SplineFilters(species=['Cu'])).predict(frame)",
}
TELL = """
from fastdesc.backend.compilation import compilation
import json, time
print(json.dumps({"cpu_s": time.process_time(), "kernels": compilation.kernels}))
"""


def measure(case, cache):
    """One process; return seconds and the kernels that it compiled, the slowest first."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PREPARE + CASES[case] + "\n" + TELL],
        env={**os.environ, "FASTDESC_CACHE": cache}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{case}: {done.stderr.strip()}")
    found = json.loads(done.stdout.splitlines()[-1])
    found["kernels"] = sorted(found["kernels"], key=lambda k: -k[1])
    return {"wall_s": time.perf_counter() - start, **found}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args(argv)
    results = {}
    print(f"{'case':18}{'cold, cpu s':>12}{'wall s':>8}{'warm, cpu s':>12}{'wall s':>8}  slowest kernels")
    for case in options.cases:
        with tempfile.TemporaryDirectory() as cache:
            cold, warm = measure(case, cache), measure(case, cache)
        results[case] = {"cold": cold, "warm": warm}
        slowest = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in cold["kernels"][:3])
        figures = f"{cold['cpu_s']:12.1f}{cold['wall_s']:8.1f}{warm['cpu_s']:12.1f}{warm['wall_s']:8.1f}"
        print(f"{case:18}{figures}  {slowest}", flush=True)
        if warm["kernels"]:
            sys.exit(f"{case} compiles {warm['kernels'][0][0]} again in the next process")
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
