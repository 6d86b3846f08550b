"""Instructions that kernels issue, counted from their machine code: no GPU is needed.

    python -m bench.gpu.sass [--kernel gm_moments] [--loops]

NVRTC compiles a kernel with line numbers, nvdisasm (pip install nvidia-cuda-nvdisasm) writes its machine code, and
every loop in it is found with the line of the source it came from. bench/gpu/trips.py says how often each loop of the
source runs. Instructions times trips, over all loops around them, is what a warp issues. Branches that depend on the
data count as taken, but for those that a model never takes. What waits for memory or for another warp is not in it: the
time that issuing takes is one more floor, not a prediction of the whole.
"""

import argparse
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.gpu.carry import compile_cubin
from bench.gpu.compile_report import nvrtc_status
from bench.gpu.trips import trips_of, unused_functions
from fastdesc.backend import cuda

ARCH = "sm_90"
ISSUED_PER_SECOND = 132 * 4 * 1.75e9
"""Warp instructions of an H200: multiprocessors, schedulers of each, clock."""
REST = 0.75
"""A loop is what is left of an unrolled one if it is shorter than this part of it; else it is another version."""


# ---------------------------------------------------------------------------------------------------- the listing


@dataclass(frozen=True)
class Instruction:
    """`chain` is where it comes from: (file, line) of the text itself, then of what it was inlined into."""

    text: str
    chain: tuple

    @property
    def opcode(self):
        return re.sub(r"^@!?U?P\w+\s+", "", self.text).split()[0]


@dataclass
class Loop:
    """Instructions begin .. end of a kernel, the last a branch back to the first."""

    begin: int
    end: int
    chain: tuple
    step: int

    @property
    def line(self):
        return self.chain[0]

    def __len__(self):
        return self.end - self.begin + 1


def disassembler():
    """Path of nvdisasm: on the PATH, or of the package from PyPI; None where there is none."""
    found = shutil.which("nvdisasm")
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec and not found else []:
        found = next((str(path) for path in sorted(Path(folder).glob("cu*/bin/nvdisasm"))), found)
    return found


def status():
    """Return (usable, reason)."""
    if disassembler() is None:
        return False, "nvdisasm was not found (pip install nvidia-cuda-nvdisasm)"
    return nvrtc_status()


def listing(cubin):
    """What nvdisasm says of a cubin, with the lines of the source."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [disassembler(), "-c", "-gi", file.name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def parse(text):
    """Return {symbol: (instructions, {label: index})} of a listing."""
    found, code, labels, chain, fresh = {}, None, None, [], True
    for line in text.splitlines():
        if section := re.match(r"\s*\.section\s+\.text\.([\w$]+)", line):
            code, labels, chain = [], {}, []
            found[section[1]] = code, labels
        elif code is None:
            continue
        elif place := re.match(r'\s*//## File "([^"]*)", line (\d+)', line):
            chain = [] if fresh else chain
            fresh = False
            chain.append((_below_kernels(place[1]), int(place[2])))
        elif label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label[1]] = len(code)
        elif instruction := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;", line):
            code.append(Instruction(instruction[1], tuple(chain)))
            fresh = True
    return found


@cache
def _below_kernels(path):
    """The path below kernels/ of a file that #line named, which NVRTC puts into the working directory."""
    parts = Path(path).parts
    names = ("/".join(parts[k:]) for k in range(len(parts)))
    return next((name for name in names if (cuda.kernels_folder() / name).is_file()), path)


def loops(code, labels):
    """All loops: conditional branches back, outer ones before those inside."""
    found = []
    for k, x in enumerate(code):
        target = re.search(r"(\.L_x_\d+)", x.text) if x.opcode == "BRA" and x.text.startswith("@") else None
        if target and labels[target[1]] < k:
            begin = labels[target[1]]
            found.append(Loop(begin, k, x.chain, _step(code, begin, k)))
    return sorted(found, key=lambda loop: (loop.begin, -loop.end))


def straight_code(code, found):
    """Instructions up to the exit behind which no loop begins: what follows are subroutines and rare paths."""
    last = max((loop.begin for loop in found), default=0)
    exits = [k for k, x in enumerate(code) if x.text == "EXIT" and k > last]
    return code[: exits[0] + 1] if exits else code


def _step(code, begin, end):
    """What a turn adds to the loop's counter: the least that its line of the source adds to a register; 0 if none."""
    found = []
    for x in code[begin:end]:
        added = re.match(r"(?:@\S+ )?(?:U?IADD3|VIADD) (U?R\d+)(?:, U?P\d+)?, \1(?:\.reuse)?, (0x[0-9a-f]+)", x.text)
        if added and x.chain[:1] == code[end].chain[:1]:
            value = int(added[2], 16)
            found.append(abs(value - (1 << 32) if value >> 31 else value))
    return min(found, default=0)


# ------------------------------------------------------------------------------------------------------- counting


@cache
def lines_of(file):
    return (cuda.kernels_folder() / file).read_text().splitlines()


@cache
def header(place):
    """Text of the loop that stands at (file, line); None if there is none."""
    file, line = place
    if not (cuda.kernels_folder() / file).is_file():
        return None
    text = lines_of(file)[line - 1].strip()
    start = re.match(r"(?:for|while) \(.*", text)
    if not start:
        return None
    depth = 0
    for k, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == ")" and not depth:
            return text[: k + 1]
    return text


@cache
def body_of(place):
    """First and last line of what a loop at (file, line) repeats."""
    file, line = place
    text, depth = lines_of(file), 0
    for k in range(line - 1, len(text)):
        code = text[k].split("//")[0]
        depth += code.count("{") - code.count("}")
        if depth <= 0 and code.rstrip().endswith((";", "}")):
            return line, k + 1
    return line, len(text)


@cache
def function_of(place):
    """Name of the device function or kernel in which (file, line) stands."""
    file, line = place
    text = lines_of(file) if (cuda.kernels_folder() / file).is_file() else []
    for k in range(min(line, len(text)) - 1, -1, -1):
        if "__device__" in text[k] or "__global__" in text[k]:
            named = re.search(r"(\w+)\(", re.sub(r"__\w+__(\([^)]*\))?", "", " ".join(text[k : k + 2])))
            if named:
                return named[1]
    return None


def unroll(loop, model):
    """How many turns of the source's loop one turn of the machine code's loop makes."""
    text, (file, line) = header(loop.line), loop.line
    asked = re.fullmatch(r"#pragma unroll (\S+)", lines_of(file)[line - 2].strip())
    if asked:
        return 16 // model.item if asked[1] == "UNROLLED<S>" else int(asked[1])
    added = re.search(r"\+= (.+)\)$", text)
    known = {
        "GROUPS": 8, "DEPTH": 64, "PARTS": 8, "NR": model.width, "NB": model.width, "FEATURES": 4, "AT_ONCE": 4,
        "ATOM_THREADS": 32 * model.warps, "PAIR_THREADS<S>": 32 * model.warps,
        "CONTRACT_WARPS": 8, "OWNERS": 2 * model.item,
        "OWNERS<S> * FEATURES": 8 * model.item, "SLAB": 4 if model.item > 8 else 8, "LONE_STEP": 7,
        "blockDim.x / ATOMS<S>": 32 * model.warps * model.item // 128,
    }  # fmt: skip
    step = known.get(added[1], int(added[1]) if added[1].isdigit() else 0) if added else 1
    return max(1, loop.step // step) if step else 1


def counted(code, labels, model):
    """Instructions that a warp issues, and {loop: its trips each time it is reached}.

    Parameters
    ----------
    code, labels
        Of `parse`.
    model : bench.gpu.trips.Model

    Raises
    ------
    LookupError
        For a loop of which nobody knows how often it runs.
    """
    found = [loop for loop in loops(code, labels) if header(loop.line)]
    code = straight_code(code, found)
    found = [loop for loop in found if loop.end < len(code)]    # others lead back from a rare path
    weight = [1.0] * len(code)
    unused = unused_functions(model)
    for k, x in enumerate(code):
        if unused and any(function_of(place) in unused for place in x.chain):
            weight[k] = 0.0
    trips = {}
    for copies in _of_one_loop(found):
        runs = trips_of(header(copies[0].line), function_of(copies[0].line), _caller(copies[0]), model)
        main, rest = copies[0], copies[1:]
        many = unroll(main, model)
        whole, left = sum(n // many for n in runs) / len(runs), sum(n % many for n in runs) / len(runs)
        others = [loop for loop in rest if many > 1 and len(loop) < REST * len(main)]
        trips[id(main)] = main, (whole if many > 1 else sum(runs) / len(runs))
        for loop in rest:
            trips[id(loop)] = loop, (left / len(others) if loop in others else 0.0)
        if many > 1 and not others:
            _weigh_remainder(code, weight, main, left / (many - 1))
    for loop, times in trips.values():
        for k in range(loop.begin, loop.end + 1):
            weight[k] *= times
    return sum(weight), list(trips.values())


def _caller(loop):
    """Text of the line that called the function in which a loop stands; empty for a loop of the kernel itself."""
    if len(loop.chain) < 2:
        return ""
    file, line = loop.chain[1]
    return " ".join(lines_of(file)[line - 1 : line + 1])


def _of_one_loop(found):
    """Loops of the machine code that come from one loop of the source, in one place of it; the largest first.

    The compiler makes several of a loop that it unrolls (what is left goes in turns of one) or of which it moved a
    condition outside.
    """
    groups = defaultdict(list)
    for loop in found:
        around = [x for x in found if x.begin <= loop.begin and x.end >= loop.end and x is not loop]
        parent = min(around, key=len, default=None)
        groups[loop.chain, id(parent)].append(loop)
    return [sorted(group, key=len, reverse=True) for group in groups.values()]


def _weigh_remainder(code, weight, main, turns):
    """What is left of an unrolled loop stands behind it as straight code: weigh it by how often it runs."""
    (file, _), (first, last) = main.line, body_of(main.line)
    depth = len(main.chain)
    for k, x in enumerate(code):
        if main.begin <= k <= main.end or len(x.chain) < depth:
            continue
        same = x.chain[len(x.chain) - depth + 1 :] == main.chain[1:]
        at = x.chain[len(x.chain) - depth]
        if same and at[0] == file and first < at[1] <= last:
            weight[k] *= turns


# --------------------------------------------------------------------------------------------------------- kernels


@cache
def machine_code(file, name, arch=ARCH):
    """Return (instructions, labels) of one kernel."""
    cubin, lowered = compile_cubin(file, arch, (name,), ("-lineinfo",))
    return parse(listing(cubin))[lowered[name]]


def issue(launch, model):
    """Warp instructions of one launch, and those of one warp.

    Parameters
    ----------
    launch : bench.gpu.launches.Launch
    model : bench.gpu.trips.Model
    """
    a_warp, _ = counted(*machine_code(launch.kernel.file, launch.name), model)
    blocks = launch.grid[0] * launch.grid[1] * launch.grid[2]
    return a_warp * blocks * -(-launch.block[0] // 32), a_warp


def main(argv=None):
    """Print what every kernel issues, and with --loops where."""
    from bench.gpu import prediction

    parser = argparse.ArgumentParser(prog="python -m bench.gpu.sass", description=__doc__.splitlines()[0])
    parser.add_argument("--kernel", default="", help="only names that contain this")
    parser.add_argument("--loops", action="store_true", help="every loop: instructions, turns, line of the source")
    options = parser.parse_args(argv)
    usable, reason = status()
    if not usable:
        parser.error(reason)
    for launch, model, *_ in prediction.every_launch("cu4000"):
        if options.kernel not in launch.name:
            continue
        total, a_warp = issue(launch, model)
        size = len(machine_code(launch.kernel.file, launch.name)[0])
        each = total / model.n_atoms
        print(f"{launch.name:50} {size:6} instructions, {a_warp:9.0f} a warp, {each:8.0f} an atom", flush=True)
        if options.loops:
            for loop, times in counted(*machine_code(launch.kernel.file, launch.name), model)[1]:
                print(f"    {len(loop):6} x {times:6.2f}  {loop.line[0]}:{loop.line[1]}  {header(loop.line)}")


if __name__ == "__main__":
    main()
