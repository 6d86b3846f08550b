"""What the trials of a sweep came to: the best so far, and the error against each value that was searched."""

import numpy as np

from fastdesc.analysis.plots import LINE, TRAIN, VALID, new_figure, save_figure, tidy
from fastdesc.errors import InputError

COLUMNS = 4
"""Panels in a row."""


def plot_sweep(rows, objective, out):
    """Draw the errors of trials in order, and against each searched key.

    Parameters
    ----------
    rows : list of dict
        "values" ("section.key" -> value) and, of trials that came to an end, "state" and "value".
    objective : str
        What the error is.
    out : str or Path
        A .png, .pdf or .svg file.

    Raises
    ------
    InputError
        Without matplotlib or a trial with an error, or for an output that cannot be written.
    """
    ended = [(k, row) for k, row in enumerate(rows, 1) if _finite(row)]
    if not ended:
        raise InputError("no trial of the sweep has an error to draw")
    names = list(rows[0]["values"])
    n = 1 + len(names)
    n_rows = -(-n // COLUMNS)
    fig = new_figure(2.6 * min(n, COLUMNS) + 0.4, 2.6 * n_rows)
    axes = np.atleast_1d(fig.subplots(n_rows, min(n, COLUMNS), squeeze=False)).reshape(-1)
    _points(axes[0], [k for k, _ in ended], ended)
    done = [(k, row["value"]) for k, row in ended if row["state"] == "done"]
    if done:
        x, y = np.array(done).T
        axes[0].step(x, np.minimum.accumulate(y), where="post", color=LINE, lw=1.0, label="best so far")
        axes[0].legend(frameon=False, fontsize=7)
    axes[0].set_xlabel("trial", fontsize=9)
    for ax, name in zip(axes[1:], names, strict=False):
        values = [row["values"][name] for _, row in ended]
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        words = sorted({str(v) for v in values})
        x = values if numbers else [words.index(str(v)) for v in values]
        _points(ax, x, ended)
        if not numbers:
            ax.set_xticks(range(len(words)), words, rotation=20)
        elif min(x) > 0 and max(x) >= 20 * min(x):
            ax.set_xscale("log")
        ax.set_xlabel(name, fontsize=9)
    for ax in axes[n:]:
        ax.set_visible(False)
    for ax in axes[:n]:
        ax.set_yscale("log")
        ax.grid(True, lw=0.3, color="#dddddd")
        tidy(ax)
    axes[0].set_ylabel(f"valid {objective}", fontsize=9)
    return save_figure(fig, out)


def _finite(row):
    return row.get("value") is not None and 0 < row["value"] < np.inf


def _points(ax, x, ended):
    """Filled circles of trials that ran to their end, crosses of those that were pruned."""
    y = [row["value"] for _, row in ended]
    for state, marker, colour in (("done", "o", VALID), ("pruned", "x", TRAIN)):
        chosen = [k for k, (_, row) in enumerate(ended) if row["state"] == state]
        if chosen:
            ax.plot([x[k] for k in chosen], [y[k] for k in chosen], marker, color=colour, ms=4, ls="")
