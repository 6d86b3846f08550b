"""Time and memory of choosing environments from a features file that does not fit into memory.

    python -m bench.selection --environments 1000000 --number 1000

Copper crystals of several lattice constants and temperatures are featurized (360 features, float32) into a temporary
file; then each rule chooses from its rows of atoms. Prints processor seconds, and the peak of resident memory of the
whole process so far; --out writes them as JSON.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from ase.build import bulk

import fastdesc as fd
from fastdesc.backend.threads import n_threads


def crystals(n_atoms):
    """Frames of 256 atoms, so many atoms in all or somewhat more."""
    rng = np.random.default_rng(0)
    for _ in range(-(-n_atoms // 256)):
        atoms = bulk("Cu", cubic=True, a=rng.uniform(3.4, 3.9)) * 4
        atoms.positions += rng.normal(scale=rng.uniform(0.02, 0.4), size=(256, 3))
        yield atoms


def main(words=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--environments", type=int, default=1_000_000)
    p.add_argument("--number", type=int, default=1000, help="to choose (default: %(default)s)")
    p.add_argument("--folder", help="of the temporary file")
    p.add_argument("--out", help="JSON file")
    args = p.parse_args(words)
    d = fd.GaussianMoments(species=["Cu"], cutoff=5.0)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        start = time.process_time()
        out = Path(folder) / "f.h5"
        path = fd.featurize(list(crystals(args.environments)), out, d, dtype="float32", progress=False)
        record = {"features": d.n_features, "number": args.number, "threads": n_threads(),
                  "featurize_cpu_s": time.process_time() - start, "rules": {}}    # fmt: skip
        rules = {
            "rarity": lambda f: fd.rarity(f, environments=True),
            **{name: lambda f, name=name: getattr(fd, name)(f, args.number, environments=True)
               for name in ("select_diverse", "select_typical", "select_uncertain", "select_spanning")},
        }  # fmt: skip
        with fd.open_features(path) as f:
            record["environments"] = f.n_atoms
            size = path.stat().st_size / 1e9
            print(f"{f.n_atoms} environments of {d.n_features} features, {size:.2f} GB", flush=True)
            for name, rule in rules.items():
                start = time.process_time()
                rule(f)
                seconds = time.process_time() - start
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                record["rules"][name] = {"cpu_s": seconds, "peak_mb": peak}
                print(f"{name:18} {seconds:8.1f} s of processor, peak {peak:.0f} MB", flush=True)
    if args.out:
        Path(args.out).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
