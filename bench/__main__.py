"""`python -m bench`: time fastdesc and its peers in turns, write JSON, print tables (see bench/README.md)."""

import argparse
import json
import os
import platform
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench import sections
from bench.harness import machine, report
from bench.harness.workers import ROOT, Workers


def arguments(argv):
    parser = argparse.ArgumentParser(prog="python -m bench", description="Time fastdesc against its peers.")
    parser.add_argument("--only", default=",".join(sections.SECTIONS), help="sections, separated by commas")
    parser.add_argument("--rows", default="", help="only rows with this in their title, such as 'embedded'")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller: rough figures in a few minutes")
    parser.add_argument("--tiny", action="store_true", help="toy sizes that only show that everything runs")
    parser.add_argument("--peers", default=os.environ.get("FASTDESC_PEERS", str(ROOT / ".bench-env")),
                        help="folder of the peers' environment (bench/peers/make_env.py makes it)")  # fmt: skip
    parser.add_argument("--no-peers", action="store_true", help="fastdesc alone")
    parser.add_argument("--rounds", type=int, help="turns of each entry of a row")
    parser.add_argument("--seconds", type=float, help="seconds per turn")
    parser.add_argument("--no-limits", action="store_true", help="do not measure the machine's peak first")
    parser.add_argument("--out", help="JSON file (default: bench/results/<machine>-<date>.json)")
    parser.add_argument("--verbose", action="store_true", help="show what workers print")
    options = parser.parse_args(argv)
    options.only = [name for name in options.only.split(",") if name]
    unknown = [name for name in options.only if name not in sections.SECTIONS]
    if unknown:
        parser.error(f"unknown section {unknown[0]!r}; there are {', '.join(sections.SECTIONS)}")
    return options


def choose(options, kind, sizes):
    """Rows to measure, by section; SystemExit with the titles there are when none fits."""
    all_rows = {name: sections.SECTIONS[name][0](kind, sizes) for name in options.only}
    chosen = {name: [row for row in rows if options.rows in row.title] for name, rows in all_rows.items()}
    if not any(chosen.values()):
        titles = "\n  ".join(row.title for rows in all_rows.values() for row in rows)
        raise SystemExit(f"no row has {options.rows!r} in its title; there are\n  {titles}")
    return {name: rows for name, rows in chosen.items() if rows}


def run_row(row, workers, rounds, seconds):
    """Results of all entries of a row, which took turns."""
    entries = [e for e in row.entries if workers.has(e.worker) and e.threads <= len(workers.cores)]
    answers = [[] for _ in entries]
    for _ in range(1 if row.alone else rounds):
        for entry, own in zip(entries, answers, strict=True):
            if own and "error" in own[-1]:
                continue
            own.append(_alone(entry, workers) if row.alone else _turn(entry, workers, seconds))
    results = [report.summarise(entry, own) for entry, own in zip(entries, answers, strict=True)]
    for r in results:
        if row.alone and "info" in r:
            info = r["info"]
            r["peak_bytes"] = info["peak_memory"]
            r["bytes_per_atom"] = (info["peak_memory"] - info["memory_before"]) / info["n_atoms"]
    return results


def _turn(entry, workers, seconds):
    return workers.ask(entry.worker, entry.threads, entry.environment, entry.case, entry.options, seconds)


def _alone(entry, workers):
    """One answer of a process of its own, whose memory nothing else has touched."""
    worker = workers.start(entry.worker, entry.threads, entry.environment)
    try:
        return worker.ask(entry.case, entry.options, 0.0)
    finally:
        worker.close()


def main(argv=None):
    options = arguments(argv)
    small = options.quick or options.tiny
    sizes = sections.TINY if options.tiny else sections.QUICK if options.quick else sections.Sizes()
    rounds = options.rounds or (1 if options.tiny else 3 if options.quick else 7)
    seconds = options.seconds or (0.01 if options.tiny else 0.2 if options.quick else 1.0)
    workers = Workers(None if options.no_peers else options.peers, options.verbose)
    about = machine.describe()
    has_gpu, gpu_text = machine.gpu()
    gpu_line = f"GPU: {gpu_text}." if has_gpu else f"No GPU figures: {gpu_text}."
    if not options.no_peers and workers.peers_python is None:
        print(f"No peers: {options.peers} is not there; python bench/peers/make_env.py makes it.", file=sys.stderr)
    kind = sections.Machine(has_gpu, about["avx512"], platform.libc_ver()[0] == "glibc", about["cores"])
    chosen = choose(options, kind, sizes)
    try:
        limits = None if options.no_limits else machine.limits(workers, 0.1 if small else 0.5)
        texts = [report.machine_text(about, limits, gpu_line)]
        print(texts[0], flush=True)
        measured = {}
        for name, rows in chosen.items():
            title, measured[name] = sections.SECTIONS[name][1], []
            for row in rows:
                results = run_row(row, workers, rounds, seconds)
                if results:
                    report.compare(results, limits and limits["fma"])
                    measured[name].append({"row": row.title, "results": results})
            texts.append(report.table(title, [(r["row"], r["results"]) for r in measured[name]]))
            print(texts[-1], flush=True)
    finally:
        workers.close()
    about["load_after"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    date = datetime.now(UTC)
    name = re.sub(r"[^a-z0-9]+", "-", f"{about['processor']} {platform.machine()}".lower()).strip("-")
    out = Path(options.out) if options.out else ROOT / "bench" / "results" / f"{name}-{date:%Y-%m-%d}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {"date": date.isoformat(timespec="seconds"), "machine": about, "limits": limits, "gpu": gpu_line,
              "rounds": rounds, "seconds": seconds, "sections": measured}  # fmt: skip
    out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    out.with_suffix(".md").write_text("\n".join(texts))
    print(f"written to {out} and {out.with_suffix('.md').name}")
    return record


def failures(record):
    """One line for every entry that has an error instead of a time."""
    return [
        f"{section}, {row['row']}, {r['who']}: {r['error'].splitlines()[0]}"
        for section, rows in record["sections"].items()
        for row in rows
        for r in row["results"]
        if "error" in r
    ]


if __name__ == "__main__":
    failed = failures(main())
    if failed:
        sys.exit("\n".join([f"{len(failed)} entries failed; --verbose shows what their workers said", *failed]))
