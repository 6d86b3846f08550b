"""Everything that has to travel to a machine with a GPU and no network, in one folder.

    python -m bench.gpu.carry FOLDER [--arch sm_90] [--no-wheels]

Compiled kernels (cubins) of all CUDA sources with the hash of these sources, and the wheels of what is pure Python or
small. On the other machine:

    pip install --no-index --no-deps --target site FOLDER/wheels/*.whl
    FASTDESC_CUBINS=FOLDER/cubins PYTHONPATH=site python -m bench.gpu

Cubins whose sources have changed since are not used; kernels are then compiled there.
"""

import argparse
import json
import struct
import subprocess
import sys
from pathlib import Path

from bench.gpu.compile_report import nvrtc_status
from fastdesc.backend import cuda

WHEELS = ("ase", "vesin", "tqdm", "threadpoolctl")
MOST_BYTES = 60 << 20


def compile_cubin(file, arch, names=None, options=()):
    """Return (cubin, {name expression: lowered name}) of specialisations of kernels/<file>; all of them by default."""
    from cupy.cuda import nvrtc

    names = cuda.specialisations(file) if names is None else names
    program = nvrtc.createProgram(cuda.source(file), file, (), ())
    try:
        for name in names:
            nvrtc.addNameExpression(program, name)
        try:
            nvrtc.compileProgram(program, (*cuda.OPTIONS, *cuda.ADDED_BY_CUPY, f"-arch={arch}", *options))
        except nvrtc.NVRTCError as problem:
            raise RuntimeError(f"{file} for {arch}: {problem}\n{nvrtc.getProgramLog(program)}") from None
        return _whole(nvrtc.getCUBIN(program)), {name: nvrtc.getLoweredName(program, name) for name in names}
    finally:
        nvrtc.destroyProgram(program)


def _whole(cubin):
    """The ELF file as its headers describe it: CuPy cuts the last byte, a zero, as if it ended a text."""
    at, size, count = struct.unpack_from("<Q", cubin, 32) + struct.unpack_from("<HH", cubin, 54)
    return cubin.ljust(at + size * count, b"\0")


def carry_cubins(folder, arch="sm_90", files=None):
    """Write the cubins of all files of kernels, and cubins.json, which `cuda.carried_cubins` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = {}
    for file in files or cuda.all_specialisations():
        cubin, lowered = compile_cubin(file, arch)
        name = file.replace("/", "-").removesuffix(".cu") + f".{arch}.cubin"
        (folder / name).write_bytes(cubin)
        entries[file] = {"cubin": name, "source": cuda.source_hash(file), "kernels": lowered}
    (folder / "cubins.json").write_text(json.dumps({"arch": arch, "files": entries}, indent=1) + "\n")
    return entries


def carry_wheels(folder):
    """Download the wheels of WHEELS for this version of Python."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "-d", folder]
    subprocess.run([*map(str, command), *WHEELS], check=True)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.carry", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arch", default="sm_90", help="architecture of the GPU, such as sm_90 for an H100 or H200")
    parser.add_argument("--no-wheels", action="store_true", help="cubins alone")
    options = parser.parse_args(argv)
    usable, reason = nvrtc_status()
    if not usable:
        parser.error(reason)
    entries = carry_cubins(options.folder / "cubins", options.arch)
    if not options.no_wheels:
        carry_wheels(options.folder / "wheels")
    size = sum(path.stat().st_size for path in options.folder.rglob("*") if path.is_file())
    n = sum(len(entry["kernels"]) for entry in entries.values())
    print(f"{options.folder}: {n} kernels for {options.arch}, {size / 2**20:.1f} MB")
    if size > MOST_BYTES:
        print(f"more than the {MOST_BYTES >> 20} MB that may travel")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
