"""Numbers out of samples, and tables in Markdown out of numbers."""

from statistics import median


def summarise(entry, answers):
    """Best and median over all turns of one entry, in µs per atom; or the error.

    Parameters
    ----------
    entry : sections.Entry
    answers : list of answers of its worker, one per turn
    """
    out = {"who": entry.who, "worker": entry.worker, "case": entry.case, "options": entry.options,
           "threads": entry.threads, "environment": dict(entry.environment)}  # fmt: skip
    errors = [a["error"] for a in answers if "error" in a]
    if errors or not answers:
        return {**out, "error": errors[0] if errors else "not run"}
    wall, cpu = (sorted(t for a in answers for t in a[key]) for key in ("wall", "cpu"))
    info = answers[-1]["info"]
    per_atom = 1e6 / info["n_atoms"]
    return {
        **out,
        "best": wall[0] * per_atom,
        "median": median(wall) * per_atom,
        "best_cpu": cpu[0] * per_atom,
        "calls": len(wall),
        "first_call_s": answers[0].get("first_call"),
        "build_s": answers[0].get("build"),
        "info": info,
    }


def compare(results, fma):
    """Add `ratio` (to the first entry's best) and `of_peak` (share of the cores' multiply-add peak) in place."""
    reference = results[0].get("best")
    for r in results:
        if "best" not in r:
            continue
        r["ratio"] = r["best"] / reference if reference else None
        info = r["info"]
        if info.get("operations") and info.get("device") == "cpu" and fma:
            rate = info["operations"] / info["n_atoms"] / r["best"] / 1e3  # GFlop/s, as best is in µs per atom
            r["of_peak"] = rate / (fma[info["dtype"]] * r["threads"])


def table(title, rows):
    """Markdown of one section.

    Parameters
    ----------
    rows : list of (title of the row, list of results)
    """
    memory = any("peak_bytes" in r for _, results in rows for r in results)
    lines = [f"### {title}", ""]
    head = ["system", "program", "type", "threads", "µs/atom", "median", "ratio", "of peak"]
    head = ["system", "program", "type", "peak, MB", "kB/atom"] if memory else head
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, results in rows:
        for r in results:
            lines.append("| " + " | ".join([name, r["who"], *(_memory(r) if memory else _times(r))]) + " |")
    return "\n".join(lines) + "\n"


def _dtype(r):
    return {"float32": "f32", "float64": "f64"}.get(r.get("info", {}).get("dtype"), "")


def _times(r):
    if "error" in r:
        return ["", str(r["threads"]), "-", "", "", r["error"].splitlines()[0][:80]]
    peak = f"{100 * r['of_peak']:.0f} %" if "of_peak" in r else ""
    ratio = f"{r['ratio']:.2f}" if r.get("ratio") else ""
    return [_dtype(r), str(r["threads"]), _short(r["best"]), _short(r["median"]), ratio, peak]


def _memory(r):
    if "error" in r:
        return ["", "-", r["error"].splitlines()[0][:80]]
    return [_dtype(r), f"{r['peak_bytes'] / 1e6:.0f}", f"{r['bytes_per_atom'] / 1e3:.1f}"]


def _short(x):
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def machine_text(machine, limits, gpu_line):
    """A few lines on the machine, before the tables."""
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}; "
        + ", ".join(f"{k} {v}" for k, v in machine["packages"].items() if v)
        + f"; commit {machine['commit']}; load {machine['load_before']:.2f} before"
        + (f" and {machine['load_after']:.2f} after" if "load_after" in machine else ""),
        "",
        gpu_line,
        "",
    ]
    if limits:
        fma = limits["fma"]
        lines += [f"Multiply-add peak of one core: {fma['float32']:.0f} GFlop/s f32, {fma['float64']:.0f} f64.", ""]
        lines += ["| matrix product | type | setting | kernels | GFlop/s | of peak |", "|---|---|---|---|---|---|"]
        for g in limits["gemm"]:
            share = g["gflops"] / fma[g["dtype"]]
            cells = [
                g["shape"],
                _dtype({"info": g}),
                g["setting"],
                g["blas"],
                f"{g['gflops']:.0f}",
                f"{100 * share:.0f} %",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
