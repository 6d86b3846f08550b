"""Time our neighbour search against vesin in one process: `python -m bench.neighbours [--out FILE]`.

Both return the full list, sorted by centre, with shifts; ours also rows and mirrors, and checks its input. They take
turns, so that what else the machine does hits both; the best call of all turns counts. CPU time is what matters on a
busy machine; it adds up over threads.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np

from bench.harness import systems
from fastdesc.backend import threads as parallel
from fastdesc.pairs import Pairs
from fastdesc.structures import Structures, complete_cells

SYSTEMS = ("cu256", "cu4000", "cu32000", "water192", "ethanol1000")


def programs(name, cutoff, threads):
    """Return {program: call} of one system; a call finds the neighbours of all its frames."""
    from vesin import NeighborList

    structures = Structures.from_ase(systems.frames(name))
    cells = complete_cells(structures.cells, structures.pbc)
    search = NeighborList(cutoff=cutoff, full_list=True, sorted=True, n_threads=threads)
    bounds = list(zip(structures.first[:-1], structures.first[1:], strict=True))

    def ours():
        return Pairs.find(structures, cutoff).n_pairs

    def vesin():
        n_pairs = 0
        for f, (a, b) in enumerate(bounds):
            i, _j, _shift = search.compute(structures.positions[a:b], cells[f], structures.pbc[f], "ijS")
            n_pairs += len(i)
        return n_pairs

    return {"fastdesc": ours, "vesin": vesin}


def time_system(name, cutoff, threads, rounds, seconds):
    """Return a result per program: best and median µs per atom of calls made in turns."""
    parallel.set_threads(threads)
    calls = programs(name, cutoff, threads)
    pairs = {program: call() for program, call in calls.items()}
    if len(set(pairs.values())) != 1:
        raise AssertionError(f"{name}: the programs disagree on the number of pairs, {pairs}")
    n_atoms = systems.n_atoms(name)
    times, cpu = {program: [] for program in calls}, {program: [] for program in calls}
    for _ in range(rounds):
        for program, call in calls.items():
            end = time.perf_counter() + seconds
            while True:
                busy, start = time.process_time(), time.perf_counter()
                call()
                now = time.perf_counter()
                cpu[program].append((time.process_time() - busy) / n_atoms * 1e6)
                times[program].append((now - start) / n_atoms * 1e6)
                if now > end:
                    break
    return [
        {
            "system": name,
            "cutoff": cutoff,
            "threads": threads,
            "program": program,
            "n_atoms": n_atoms,
            "pairs_per_atom": pairs[program] / n_atoms,
            "best_us_per_atom": min(own),
            "median_us_per_atom": statistics.median(own),
            "best_cpu_us_per_atom": min(cpu[program]),
            "calls": len(own),
        }
        for program, own in times.items()
    ]


def table(results):
    """Markdown table of results, a row per system and number of threads."""
    lines = [
        "| system | pairs/atom | threads | fastdesc, µs/atom: best, median, CPU | vesin | times faster, by CPU time |",
        "|---|---|---|---|---|---|",
    ]
    for ours, theirs in zip(results[::2], results[1::2], strict=True):
        keys = "best_us_per_atom", "median_us_per_atom", "best_cpu_us_per_atom"
        entries = [", ".join(f"{r[k]:.2f}" for k in keys) for r in (ours, theirs)]
        gains = ", ".join(f"{theirs[k] / ours[k]:.1f}" for k in keys[::2])
        row = ours["system"], f"{ours['pairs_per_atom']:.0f}", str(ours["threads"]), *entries, gains
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m bench.neighbours", description="Time neighbour searches.")
    parser.add_argument("--systems", default=",".join(SYSTEMS),
                        help="names of bench/harness/systems.py, separated by commas")  # fmt: skip
    parser.add_argument("--cutoff", type=float, default=6.0, help="Å")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, separated by commas")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each program")
    parser.add_argument("--seconds", type=float, default=0.3, help="seconds per turn")
    parser.add_argument("--out", help="JSON file")
    options = parser.parse_args(argv)
    load, results = [os.getloadavg()[0]], []
    for name in options.systems.split(","):
        for threads in map(int, options.threads.split(",")):
            results += time_system(name, options.cutoff, threads, options.rounds, options.seconds)
    load.append(os.getloadavg()[0])
    print(table(results))
    print(f"\nload before and after: {load[0]:.1f}, {load[1]:.1f} on {os.cpu_count()} cores; NumPy {np.__version__}")
    if options.out:
        Path(options.out).write_text(json.dumps({"load": load, "cores": os.cpu_count(), "results": results}, indent=1))


if __name__ == "__main__":
    main()
