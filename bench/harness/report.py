"""Numbers out of samples, and tables in Markdown out of numbers."""

from statistics import median


def summarise(entry, answers):
    """Best and median over all turns of one entry, in µs per atom; or the error.

    On one core that is processor time, which others on the machine disturb least; on several cores and on a GPU it
    is wall time. Both bests are kept.

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
    wall, cpu = ([t for a in answers for t in a[key]] for key in ("wall", "cpu"))
    info = answers[-1]["info"]
    per_atom = 1e6 / info["n_atoms"]
    times = cpu if entry.threads == 1 and info.get("device") == "cpu" else wall
    return {
        **out,
        "best": min(times) * per_atom,
        "median": median(times) * per_atom,
        "best_wall": min(wall) * per_atom,
        "best_cpu": min(cpu) * per_atom,
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
    same = [x for x in (agreement(results) for _, results in rows) if x is not None]
    if same:
        lines += ["", f"Programs given the same radial coefficients agree on their features to {max(same):.0e} (RMS)."]
    return "\n".join(lines) + "\n"


def agreement(results):
    """Largest relative difference of the root mean square feature among entries that compute the same features.

    None where fewer than two entries of a row do.
    """
    values = [r["info"]["feature_rms"] for r in results if "feature_rms" in r.get("info", {})]
    return (max(values) - min(values)) / max(values) if len(values) > 1 else None


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
    busy = (machine["load_before"] or 0) > 0.25 * machine["cores"]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}; "
        + ", ".join(f"{k} {v}" for k, v in machine["packages"].items() if v)
        + f"; commit {machine['commit']}; load {machine['load_before']:.2f} before"
        + (f" and {machine['load_after']:.2f} after" if "load_after" in machine else ""),
        "",
        *(["The machine was busy before we began: trust ratios of one-core rows at most.", ""] if busy else []),
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
