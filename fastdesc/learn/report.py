"""What a loop came to, round by round: a page of text, a table and a picture."""

import csv
import io
from importlib.util import find_spec

from fastdesc.analysis.accuracy import three_digits
from fastdesc.analysis.plots import TRAIN, VALID, new_figure, plain_ticks, save_figure, tidy
from fastdesc.hdf5.files import write_text

COLUMNS = (    # name in rounds.csv, heading in report.md, where it is in a row, factor
    ("labels", "labels", ("labels",), 1),
    ("largest_grade", "largest grade", ("explored", "largest_grade"), 1),
    ("force_uncertainty", "uncertainty meV/Å", ("explored", "force_uncertainty"), 1000),
    ("forces_mae_of_new", "forces of new ones meV/Å", ("before", "forces", "mae"), 1000),
    ("energy_mae", "energy MAE meV/atom", ("errors", "energy", "mae"), 1000),
    ("forces_mae", "forces MAE meV/Å", ("errors", "forces", "mae"), 1000),
    ("failed", "failed", ("failed",), 1),
)
TEXT = """\
# Learning loop

{words}

{table}

Largest grade and uncertainty are those of the structures a round looked at, by the model it began with, and so are the
errors of the forces of new ones; errors at the right are those of the model it ended with, on the {judged} frames.
"""


def write_report(folder, rows, plots=True):
    """Write report.md, rounds.csv and, with matplotlib, rounds.png into a folder.

    Parameters
    ----------
    folder : Path
    rows : list of dict
        Contents of round.json.
    plots : bool
    """
    labels = 0
    for row in rows:
        row["known"] = labels    # by the model that a round begins with
        labels = row.get("n_train", 0) + row.get("n_valid", 0) or labels
        row["labels"] = labels
    lines = ["| round | " + " | ".join(heading for _, heading, *_ in COLUMNS) + " |"]
    lines.append("|---" * (len(COLUMNS) + 1) + "|")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["round", *(name for name, *_ in COLUMNS)])
    for row in rows:
        values = [_value(row, where) for *_, where, _ in COLUMNS]
        table.writerow([row["round"], *("" if v is None else repr(v) for v in values)])
        shown = [_shown(v, factor) for v, (*_, factor) in zip(values, COLUMNS, strict=True)]
        lines.append(f"| {row['round']} | " + " | ".join(shown) + " |")
    write_text(folder / "rounds.csv", text.getvalue())
    ended = rows[-1]["ended"]
    n = len(rows) - 1
    words = f"{n} round{'s'[: n != 1]} after the first training, {labels} labels" + (f": {ended}." if ended else ".")
    judged = next((row["judged_on"] for row in rows if "judged_on" in row), "validation")
    judged = {"valid": "validation"}.get(judged, judged)
    write_text(folder / "report.md", TEXT.format(words=words, table="\n".join(lines), judged=judged))
    if plots and find_spec("matplotlib") is not None:
        plot_rounds(rows, folder / "rounds.png")


def plot_rounds(rows, out):
    """Draw errors and uncertainties against labels, and grades."""
    fig = new_figure(9.6, 3.2)
    axes = fig.subplots(1, 3)
    panels = (
        ("forces (meV/Å)", 1000, ((("errors", "forces", "mae"), "MAE", VALID, "o-"),
                                  (("before", "forces", "mae"), "MAE of new ones, before", TRAIN, "s--"),
                                  (("explored", "force_uncertainty"), "mean uncertainty", "#009E73", "^:"))),
        ("energy MAE (meV/atom)", 1000, ((("errors", "energy", "mae"), "MAE", VALID, "o-"),)),
        ("largest grade", 1, ((("explored", "largest_grade"), "largest grade", TRAIN, "o-"),)),
    )  # fmt: skip
    for ax, (title, factor, curves) in zip(axes, panels, strict=True):
        for where, name, colour, style in curves:
            known = [row["known" if where[0] != "errors" else "labels"] for row in rows]
            points = [(n, factor * v) for n, row in zip(known, rows, strict=True)
                      if (v := _value(row, where)) is not None]    # fmt: skip
            if points:
                ax.plot(*zip(*points, strict=True), style, color=colour, label=name, ms=4, lw=1.3)
        drawn = [y for line in ax.lines for y in line.get_ydata() if y > 0]
        if drawn:
            ax.set_yscale("log")
            plain_ticks(ax, min(drawn), max(drawn))
        ax.set_xlabel("labels", fontsize=9)
        ax.set_ylabel(title, fontsize=9)
        ax.grid(True, which="both", lw=0.3, color="#dddddd")
        tidy(ax)
    axes[0].legend(frameon=False, fontsize=7)
    return save_figure(fig, out)


def _value(row, where):
    """What stands at a place of a row, None where nothing does."""
    for key in where:
        row = row.get(key) if isinstance(row, dict) else None
    return row


def _shown(value, factor):
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else three_digits(factor * value)
