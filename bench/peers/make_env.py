"""Make the separate virtual environment that holds the peers: `python bench/peers/make_env.py [FOLDER]`.

Peers pin and pull in much (JAX, TensorFlow), so they never share an environment with fastdesc.
"""

import argparse
import subprocess
import sys
import venv
from pathlib import Path

NEEDED = ("ase>=3.23", "vesin>=0.3", "apax>=0.14,<0.15", "dscribe>=2.1")
WANTED = (("featomic>=0.6",), ("nep-adapters>=1.0",), ("--no-deps", "mdescriptor>=0.3"))
"""Left out where it does not install: the first is built from Rust where there is no wheel, the others have wheels for
Linux alone; of the last only the model file that it holds is used."""


def main(argv=None):
    default = Path(__file__).resolve().parents[2] / ".bench-env"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=default, type=Path, help="default: .bench-env in the checkout")
    parser.add_argument("--cuda", action="store_true", help="JAX with CUDA, to time apax on the GPU too")
    options = parser.parse_args(argv)
    windows = sys.platform == "win32"
    python = options.folder / ("Scripts/python.exe" if windows else "bin/python")
    if not python.exists():
        venv.create(options.folder, with_pip=True, symlinks=not windows)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--upgrade", "pip"], check=True)
    subprocess.run([*pip, *NEEDED, *(["jax[cuda13]"] if options.cuda else [])], check=True)
    for package in WANTED:
        if subprocess.run([*pip, *package]).returncode:
            print(f"{package[-1]} does not install here; the benchmark runs without it", file=sys.stderr)
    shown = subprocess.run([*pip[:3], "list", "--format=freeze"], capture_output=True, text=True).stdout.splitlines()
    names = {x.split(">")[0] for x in (*NEEDED, *(package[-1] for package in WANTED))} | {"jax", "jaxlib", "numpy"}
    print(f"{options.folder}: " + ", ".join(x for x in shown if x.split("==")[0] in names))


if __name__ == "__main__":
    main()
