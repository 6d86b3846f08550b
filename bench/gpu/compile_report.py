"""What NVRTC makes of the CUDA kernels, without a GPU: registers, stack, spills, shared memory, occupancy.

    python -m bench.gpu.compile_report [sm_90 ...] [--kernel gm_moments]

Every specialisation that kernels/ declare is compiled with the options that CuPy uses at run time. `warps` is how
many of them a multiprocessor can hold at a time, by registers, shared memory and block size; a limit, not a speed.
"""

import argparse
import re
import struct
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat

from fastdesc.backend import cuda
from fastdesc.backend.threads import n_threads

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")

# Per multiprocessor: warps, blocks, bytes of shared memory (CUDA C++ Programming Guide, table of compute capabilities);
# 65536 registers, given to warps in units of 256; from sm_80 on, a block takes 1 KiB of shared memory for itself.
LIMITS = {
    "sm_75": (32, 16, 64 << 10),
    "sm_80": (64, 32, 164 << 10),
    "sm_90": (64, 32, 228 << 10),
    "sm_100": (64, 32, 228 << 10),
    "sm_120": (48, 24, 100 << 10),
}
REGISTERS = 65536

_USED = re.compile(
    r"Compiling entry function '(\S+)' for '\S+'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
    r"(\d+) bytes spill loads.*?Used (\d+) registers([^\n]*)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Resources:
    """What one thread (registers, stack and spills in bytes) and one block (shared bytes, threads) of a kernel take."""

    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int
    threads: int

    @property
    def spills(self):
        return self.spill_stores + self.spill_loads

    def warps(self, arch):
        """Warps that a multiprocessor holds at a time."""
        max_warps, max_blocks, shared = LIMITS[arch]
        each = -(-self.threads // 32)
        by_registers = REGISTERS // (-(-self.registers * 32 // 256) * 256) // each
        reserved = self.shared + (1024 if arch != "sm_75" else 0)
        by_shared = shared // reserved if reserved else max_blocks
        return each * min(max_blocks, max_warps // each, by_registers, by_shared)


def nvrtc_status():
    """Return (usable, reason)."""
    try:
        from cupy.cuda import nvrtc

        return True, f"NVRTC {'.'.join(map(str, nvrtc.getVersion()))}"
    except (ImportError, OSError, RuntimeError) as problem:
        return False, f"CuPy with NVRTC is not installed ({problem})"


def compile_file(file, arch, names=None):
    """Compile specialisations of kernels/<file>; all of them by default.

    Returns
    -------
    dict of str to Resources

    Raises
    ------
    RuntimeError
        With the compiler's log, if it refuses.
    """
    from cupy.cuda import nvrtc

    names = cuda.specialisations(file) if names is None else names
    program = nvrtc.createProgram(cuda.source(file), file, (), ())
    try:
        for name in names:
            nvrtc.addNameExpression(program, name)
        options = (*cuda.OPTIONS, *cuda.ADDED_BY_CUPY, f"-arch={arch}", "--ptxas-options=-v")
        try:
            nvrtc.compileProgram(program, options)
        except nvrtc.NVRTCError as problem:
            raise RuntimeError(f"{file} for {arch}: {problem}\n{nvrtc.getProgramLog(program)}") from None
        used = {m[1]: m for m in _USED.finditer(nvrtc.getProgramLog(program))}
        threads = launch_bounds(nvrtc.getCUBIN(program))
        lowered = {name: nvrtc.getLoweredName(program, name) for name in names}
    finally:
        nvrtc.destroyProgram(program)
    resources = {}
    for name, symbol in lowered.items():
        m = used[symbol]
        shared = re.search(r"(\d+) bytes smem", m[6])
        resources[name] = Resources(
            int(m[5]), int(m[2]), int(m[3]), int(m[4]), int(shared[1]) if shared else 0, threads.get(symbol, 1024)
        )
    return resources


def launch_bounds(cubin):
    """Return {symbol: most threads of a block} of the kernels in a cubin (an ELF file) that declare it."""
    max_threads = 0x05  # EIATTR_MAX_THREADS in a section .nv.info.<symbol>, followed by x, y, z
    at, size, count, names_at = struct.unpack_from("<Q", cubin, 40) + struct.unpack_from("<HHH", cubin, 58)
    sections = [struct.unpack_from("<IIQQQQ", cubin, at + k * size) for k in range(count)]
    names = sections[names_at][4]
    found = {}
    for name, _, _, _, offset, length in sections:
        label = cubin[names + name : cubin.index(b"\0", names + name)].decode()
        if not label.startswith(".nv.info."):
            continue
        k = offset
        while k < offset + length:
            form, attribute, payload = struct.unpack_from("<BBH", cubin, k)
            k += 4
            if form == 0x04:  # with a payload
                if attribute == max_threads:
                    x, y, z = struct.unpack_from("<III", cubin, k)
                    found[label.removeprefix(".nv.info.")] = x * y * z
                k += payload
    return found


def main():
    """Print one table for each architecture; what spills is an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architectures", nargs="*", default=ARCHITECTURES, metavar="sm_XX")
    parser.add_argument("--kernel", default="", help="only names that contain this")
    wanted = parser.parse_args()
    spilling = []
    with ProcessPoolExecutor(n_threads()) as pool:
        for table, names in pool.map(_table, wanted.architectures, repeat(wanted.kernel)):
            print(table, flush=True)
            spilling += names
    if spilling:
        raise SystemExit("these spill registers: " + ", ".join(spilling))


def _table(arch, part):
    """Return the table of the kernels whose names contain `part`, and the names of those that spill."""
    lines = [f"### {arch}", "", "| kernel | registers | stack | spills | shared | threads | warps |"]
    lines.append("|---" + "|--:" * 6 + "|")
    spilling = []
    for file, names in cuda.all_specialisations().items():
        names = tuple(n for n in names if part in n)
        for name, r in compile_file(file, arch, names).items() if names else ():
            warps = f"{r.warps(arch)} of {LIMITS[arch][0]}"
            lines.append(f"| {name} | {r.registers} | {r.stack} | {r.spills} | {r.shared} | {r.threads} | {warps} |")
            spilling += [f"{name} for {arch}"] if r.spills else []
    return "\n".join([*lines, ""]), spilling


if __name__ == "__main__":
    main()
