"""Pictures: learning curves and parity. matplotlib is optional and never touches a screen."""

import os
import time
from contextlib import suppress

import numpy as np

from fastdesc.analysis.accuracy import Comparison, three_digits
from fastdesc.errors import FileFormatError, InputError
from fastdesc.hdf5.files import check_target, whole_or_nothing
from fastdesc.training.history import History

# Okabe and Ito's colours can be told apart with any colour vision; the line styles help in print.
TRAIN, VALID, LINE = "#0072B2", "#D55E00", "#555555"
CURVES = (    # column, label, factor, unit
    ("loss", "loss", 1, "eV² per atom"),
    ("energy_mae", "energy MAE", 1000, "meV/atom"),
    ("forces_mae", "force MAE", 1000, "meV/Å"),
    ("stress_mae", "virial MAE", 1000, "meV/atom"),
)
PARITY = (    # quantity, unit of the axes, unit of errors, errors' factor
    ("energy", "eV/atom", "meV/atom", 1000),
    ("forces", "eV/Å", "meV/Å", 1000),
    ("stress", "eV/Å³", "meV/Å³", 1000),
)
MANY = 3000
"""Points from which a parity plot shows densities instead of points."""
SUFFIXES = (".png", ".pdf", ".svg")


def plot_learning(history, out):
    """Draw the errors on training and validation frames against the epoch.

    Parameters
    ----------
    history : History, str or Path
        Or the CSV or JSON file it was saved to.
    out : str or Path
        A .png, .pdf or .svg file.

    Raises
    ------
    InputError
        Without matplotlib, for a history without rows, or for an output that cannot be written.
    FileFormatError
        When the file is not a history.
    """
    if not isinstance(history, History):
        history = load_history(history)
    curves = [c for c in CURVES if any(_points(history, f"{kind}_{c[0]}")[0] for kind in ("train", "valid"))]
    if not curves:
        raise InputError("the history has no row with a loss or an error; train for at least one epoch")
    fig = new_figure(3.0 * len(curves) + 0.4, 3.0)
    for ax, (column, label, factor, unit) in zip(_axes(fig, len(curves)), curves, strict=True):
        for kind, colour, style in (("train", TRAIN, "--"), ("valid", VALID, "-")):
            x, y = _points(history, f"{kind}_{column}")
            if x:
                marker = "o" if len(x) < 25 else None
                ax.plot(x, factor * np.array(y), style, color=colour, label=kind, marker=marker, markersize=3, lw=1.4)
        _mark_best(ax, history, column, factor)
        positive = [v for kind in ("train", "valid") for v in _points(history, f"{kind}_{column}")[1] if v > 0]
        if positive:
            ax.set_yscale("log")
            plain_ticks(ax, min(positive) * factor, max(positive) * factor)
        ax.set_xlabel("epoch", fontsize=9)
        ax.set_ylabel(f"{label} ({unit})", fontsize=9)
        ax.grid(True, which="both", lw=0.3, color="#dddddd")
    fig.axes[0].legend(frameon=False, fontsize=9)
    return save_figure(fig, out)


def follow_learning(path, out, interval=5.0, until=None):
    """Draw the learning curve anew whenever a run has written to its history file.

    Parameters
    ----------
    path : str or Path
        The CSV file; it may not be there yet.
    out : str or Path
        A .png, .pdf or .svg file.
    interval : float
        Seconds between looks at the file.
    until : callable, optional
        Asked after every look whether to end; None goes on until the user interrupts.

    Raises
    ------
    InputError
        Without matplotlib, or for an output that cannot be written.
    FileFormatError
        For a file that is no history, and does not become one until the next look.
    """
    check_picture(out)
    drawn = failed = None
    while True:
        with suppress(FileNotFoundError):
            now = os.stat(path)
            now = now.st_mtime_ns, now.st_size
            if now != drawn:
                try:
                    plot_learning(path, out)
                    drawn = now
                except FileFormatError:
                    if now == failed:
                        raise
                    failed = now    # the last line may be half written
        if until is not None and until():
            return
        time.sleep(interval)


def plot_parity(comparison, out):
    """Draw predictions against references, one panel for each quantity the frames carry.

    Parameters
    ----------
    comparison : Comparison, str or Path
        Or the file it was saved to.
    out : str or Path
        A .png, .pdf or .svg file.

    Raises
    ------
    InputError
        Without matplotlib, without references, or for an output that cannot be written.
    FileFormatError
        When the file does not hold predictions.
    """
    if not isinstance(comparison, Comparison):
        comparison = Comparison.load(comparison)
    errors = comparison.errors()
    panels = [p for p in PARITY if p[0] in errors]
    if not panels:
        raise InputError("no frame carries a reference to compare with; give frames with energies, forces or stresses")
    fig = new_figure(3.2 * len(panels) + 0.4, 3.2)
    for ax, (name, unit, error_unit, factor) in zip(_axes(fig, len(panels)), panels, strict=True):
        reference, predicted = comparison.pairs(name)
        finite = np.isfinite(predicted)    # what is not counts in the errors, and has no place in the plane
        x, y = reference[finite], predicted[finite]
        low, high = (extreme(np.concatenate([reference, y])) for extreme in (np.min, np.max))
        margin = 0.04 * (high - low) or 0.1
        low, high = low - margin, high + margin
        ax.plot([low, high], [low, high], color=LINE, lw=0.8, zorder=0)
        if len(reference) > MANY:
            box = (low, high, low, high)
            ax.hexbin(x, y, gridsize=80, extent=box, bins="log", mincnt=1, cmap="cividis_r", lw=0.1)
        else:
            ax.scatter(x, y, s=9, color=TRAIN, alpha=max(0.15, min(0.7, 60 / len(reference))), lw=0)
        e = errors[name]
        text = "\n".join(f"{k.upper()} {three_digits(factor * e[k])} {error_unit}" for k in ("mae", "rmse"))
        ax.text(0.04, 0.96, text, transform=ax.transAxes, va="top", fontsize=8)
        ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        ax.locator_params(nbins=5)
        word = {"forces": "force"}.get(name, name)
        ax.set_xlabel(f"reference {word} ({unit})", fontsize=9)
        ax.set_ylabel(f"predicted {word} ({unit})", fontsize=9)
    return save_figure(fig, out)


def load_history(path):
    """Read a history file; InputError or FileFormatError in one sentence when it is none."""
    try:
        history = History.load(path)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; check the name and the folder") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder; name the history.csv in it") from error
    except (ValueError, TypeError, AttributeError) as error:
        reason = str(error)[:80]
        raise FileFormatError(f"{path} is not a history (.csv or .json) that fastdesc wrote: {reason}") from error
    if not history.rows or any(row.get("epoch") is None for row in history.rows):
        raise FileFormatError(f"{path} is not a history that fastdesc wrote: it has no column 'epoch'")
    return history


def _points(history, column):
    """Epochs and values of a column where it has a value."""
    rows = [row for row in history.rows if row.get(column) is not None and np.isfinite(row[column])]
    return [row["epoch"] for row in rows], [row[column] for row in rows]


def _mark_best(ax, history, column, factor):
    best = history.best()
    if best is not None and best.get(f"valid_{column}") is not None:
        ax.plot(best["epoch"], factor * best[f"valid_{column}"], "*", color="black", ms=8, label="kept", zorder=3)


def plain_ticks(ax, low, high):
    """Numbers such as 3 and 0.02 instead of powers of ten, where the range is small enough for them."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    if low >= 1e-3 and high < 1e5:
        few = high / low < 100
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())


def new_figure(width, height):
    """Return an empty matplotlib figure, in inches; InputError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("plots need matplotlib, which is not installed; run: pip install 'fastdesc[plot]'") from error
    fig = Figure(figsize=(width, height), layout="constrained", dpi=160)
    fig.get_layout_engine().set(wspace=0.04)
    return fig


def tidy(ax, labelsize=8):
    """Small numbers, and no frame where there is no axis."""
    ax.tick_params(labelsize=labelsize)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def save_figure(fig, out):
    """Write a figure, whole or not at all; return `out`."""
    suffix = check_picture(out)
    with whole_or_nothing(out) as part:
        fig.savefig(part, format=suffix[1:])
    return out


def _axes(fig, n):
    axes = np.atleast_1d(fig.subplots(1, n))
    for ax in axes:
        tidy(ax)
    return axes


def check_picture(out):
    """Return the suffix of a picture's name; InputError when it cannot be drawn or written."""
    suffix = "." + str(out).rsplit(".", 1)[-1].lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{out} is no name for a picture; use one that ends in {', '.join(SUFFIXES)}")
    check_target(out)
    return suffix
