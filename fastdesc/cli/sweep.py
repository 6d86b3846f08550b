"""fastdesc sweep: many short trainings with other settings, and the best of them as a configuration.

    sweep.json           what the sweep is of
    0001/, 0002/ ...     a trial each (fastdesc/cli/sweep_trial.py)
    sweep.csv, sweep.png what the trials came to
    best.toml            configuration of the best, for `fastdesc train`
"""

import csv
import io
import json
import time
from dataclasses import asdict, replace
from importlib.util import find_spec

import numpy as np

from fastdesc.analysis.accuracy import three_digits
from fastdesc.analysis.sweep_plots import plot_sweep
from fastdesc.cli import config as configuration
from fastdesc.cli.sweep_choosers import CHOOSERS
from fastdesc.cli.sweep_trial import PARTS, WORSE
from fastdesc.cli.sweep_workers import workers_for
from fastdesc.errors import InputError
from fastdesc.hdf5.files import as_path, to_json, write_text
from fastdesc.hdf5.locks import WriteLock

POLL = 0.05
"""Seconds between looks at the workers."""
ENOUGH = 4
"""Trials with which pruning begins."""
SHOWN = 10
"""Trials in the table at the end."""


def sweep(plan, out, resume=False, scheduler=None, say=print):
    """Run the trials of a sweep.

    Parameters
    ----------
    plan : Plan
    out : path
        Folder, made if need be.
    resume : bool
        Go on with the sweep in the folder: trials that are done stay, those that were at work go on.
    scheduler : str, optional
        Address of a Dask scheduler, or "local"; processes of this machine by default.
    say : callable
        Takes lines of text.

    Returns
    -------
    dict
        What was written: name -> Path.

    Raises
    ------
    InputError
        For a folder of another sweep, or when no trial came to an end.
    """
    out, s = as_path(out).absolute(), plan.sweep
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name another folder by --out")
    if (out / "sweep.json").exists() and not resume:
        raise InputError(f"{out} holds a sweep; go on with --resume, or name another folder by --out")
    if resume and not (out / "sweep.json").exists():
        raise InputError(f"{out} holds no sweep to resume; leave out --resume")
    chooser = CHOOSERS[s.method](plan.space, s.seed)
    out.mkdir(parents=True, exist_ok=True)
    with WriteLock(out / "sweep"), workers_for(s.workers, scheduler, lambda text: None) as workers:
        _note(out, plan)
        rows, waiting = {}, []
        for number in range(1, s.trials + 1):
            row = _row(out, number)
            if row is None or row["state"] == "begun":
                waiting.append(number)
            else:
                rows[number] = row
                chooser.told(number, row["values"], row)
        if rows:
            say(f"{len(rows)} trials were done before")
        running = set()
        while waiting or running:
            while waiting and workers.free > 0:
                number = waiting.pop(0)
                running.add(number)
                workers.start(_begin(out, number, plan, chooser, rows))
            for folder, reason in workers.ended():
                number = int(folder.name)
                if not (folder / "trial.json").exists():
                    write_text(folder / "trial.json", to_json({"state": "failed", "reason": reason}) + "\n")
                rows[number] = row = _row(out, number)
                running.discard(number)
                chooser.told(number, row["values"], row)
                say(_line(row, plan, rows))
                written = _report(out, rows, plan)
            if running:
                time.sleep(POLL)
        written = _report(out, rows, plan)
    best = _best(rows)
    if best is None:
        raise InputError(f"none of {len(rows)} trials came to an end; the first: {rows[min(rows)].get('reason')}")
    say("\n" + _table(rows, plan))
    say(f"\nbest: trial {best['trial']}; `fastdesc train {out / 'best.toml'}` trains it and tests it")
    return written


def _folder(out, number):
    return out / f"{number:04d}"


def _begin(out, number, plan, chooser, rows):
    """Make the folder of a trial, or of one that was ended; return it."""
    folder = _folder(out, number)
    folder.mkdir(exist_ok=True)
    if (folder / "values.json").exists():
        values = json.loads((folder / "values.json").read_text(encoding="utf-8"))
    else:
        values = chooser.values(number)
        write_text(folder / "values.json", to_json(values) + "\n")
    limits = _limits(rows) if plan.sweep.prune else [None] * PARTS
    write_text(folder / "task.json", to_json({"objective": plan.sweep.objective, "limits": limits}) + "\n")
    config = plan.config_with(values, folder)
    data = replace(config.data, test=None)    # no choice is made by test frames
    training = replace(config.training, uncertainty=False)
    config = replace(config, data=data, training=training, output=replace(config.output, plots=False))
    write_text(folder / "trial.toml", configuration.to_text(config))
    return folder


def _limits(rows):
    """Medians over trials of the best error so far, by fraction of the epochs; None where there are too few."""
    curves = [row["curve"] for row in rows.values() if row.get("curve")]
    found = [[curve[k] for curve in curves if curve[k] is not None] for k in range(PARTS)]
    return [float(np.median(values)) if len(values) >= ENOUGH else None for values in found]


def _row(out, number):
    """What a trial came to; None where it was never begun."""
    folder = _folder(out, number)
    if not (folder / "values.json").exists():
        return None
    values = json.loads((folder / "values.json").read_text(encoding="utf-8"))
    told = {"state": "begun"}
    if (folder / "trial.json").exists():
        told = json.loads((folder / "trial.json").read_text(encoding="utf-8"))
    return {"trial": number, "values": values, **told}


def _best(rows):
    """The row with the smallest error among trials that were not pruned."""
    done = [row for row in rows.values() if row["state"] == "done" and row["value"] < WORSE]
    return min(done, key=lambda row: row["value"]) if done else None


def _note(out, plan):
    """Write what the sweep is of, or compare it; how many trials and workers may change."""
    sweep = {key: value for key, value in asdict(plan.sweep).items() if key not in ("trials", "workers")}
    c = plan.config
    told = {
        "sweep": sweep, "searched": {name: asdict(dimension) for name, dimension in plan.space.items()},
        "data": asdict(c.data), "descriptor": {"family": c.family, **c.descriptor}, "potential": c.potential,
        "training": c.training.as_dict(),
    }  # fmt: skip
    told, path = json.loads(to_json(told)), out / "sweep.json"
    if not path.exists():
        write_text(path, json.dumps(told, indent=1, ensure_ascii=False) + "\n")
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    for section, table in told.items():
        known = before.get(section, {})
        for key in {**table, **known}:
            if known.get(key) != table.get(key):
                raise InputError(
                    f"{out} holds a sweep with [{section}] {key} = {known.get(key)!r} and now it is "
                    f"{table.get(key)!r}; name another folder by --out"
                )


def _line(row, plan, rows):
    """A trial in a line."""
    words = ", ".join(f"{name.split('.')[1]} {_shown(value)}" for name, value in row["values"].items())
    if row["state"] == "failed":
        return f"trial {row['trial']} failed ({words}): {row.get('reason')}"
    mark = " (best so far)" if row is _best(rows) else ""
    return f"trial {row['trial']} {row['state']}: {plan.sweep.objective} {row['value']:.4g}{mark}; {words}"


def _shown(value):
    return three_digits(value) if isinstance(value, float) else configuration.toml_value(value)


def _report(out, rows, plan):
    """Write table, picture and best configuration; return name -> Path."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["trial", "state", plan.sweep.objective, "epoch", "seconds", *plan.space])
    for number in sorted(rows):
        row = rows[number]
        values = [configuration.toml_value(row["values"][name]) for name in plan.space]
        table.writerow([number, row["state"], *(row.get(key, "") for key in ("value", "epoch", "seconds")), *values])
    write_text(out / "sweep.csv", text.getvalue())
    written, best = {"table": out / "sweep.csv"}, _best(rows)
    if best is None:
        return written
    written["best configuration"] = out / "best.toml"
    write_text(out / "best.toml", configuration.to_text(plan.config_with(best["values"], out / "best")))
    if find_spec("matplotlib") is not None:
        written["picture"] = plot_sweep([rows[k] for k in sorted(rows)], plan.sweep.objective, out / "sweep.png")
    return written


def _table(rows, plan):
    """The best trials as text."""
    done = sorted((row for row in rows.values() if row["state"] == "done"), key=lambda row: row["value"])
    names = [name.split(".")[1] for name in plan.space]
    lines = [[*("trial", plan.sweep.objective, "epoch", "s"), *names]]
    for row in done[:SHOWN]:
        own = [str(row["trial"]), f"{row['value']:.4g}", f"{row['epoch']:g}", f"{row.get('seconds', 0):.0f}"]
        lines.append([*own, *(_shown(row["values"][name]) for name in plan.space)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    counts = {state: sum(row["state"] == state for row in rows.values()) for state in ("pruned", "failed")}
    told = [f"{n} {state}" for state, n in counts.items() if n]
    text = ["  ".join(word.rjust(width) for word, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join(text + ([", ".join(told)] if told else []))
