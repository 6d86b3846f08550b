"""The picture of fastdesc/analysis/reliability.py: coverage, and errors against uncertainties."""

import numpy as np

from fastdesc.analysis.accuracy import Comparison
from fastdesc.analysis.plots import LINE, TRAIN, VALID, new_figure, save_figure, tidy
from fastdesc.analysis.reliability import LEVELS
from fastdesc.errors import InputError

MANY = 2000
"""Points that are drawn of each quantity, spread over all."""
UNITS = {"energy": ("meV/atom", 1000), "forces": ("meV/Å", 1000)}


def plot_reliability(comparison, out):
    """Draw for each quantity how many errors lie within the predicted intervals, and errors against uncertainties.

    Parameters
    ----------
    comparison : Comparison, str or Path
        Or the file it was saved to.
    out : str or Path
        A .png, .pdf or .svg file.

    Raises
    ------
    InputError
        Without matplotlib, for predictions without uncertainties, or for an output that cannot be written.
    FileFormatError
        When the file does not hold predictions.
    """
    if not isinstance(comparison, Comparison):
        comparison = Comparison.load(comparison)
    found = comparison.reliability()
    if not found:
        raise InputError(
            "the predictions carry no uncertainties beside references; evaluate a model that has them, on labelled "
            "frames"
        )
    fig = new_figure(3.3 * len(found) + 0.4, 6.2)
    axes = fig.subplots(2, len(found), squeeze=False)
    for (above, below), (name, one) in zip(axes.T, found.items(), strict=True):
        tidy(above)
        tidy(below)
        _coverage(above, name, one)
        _errors(below, name, one)
    return save_figure(fig, out)


def _coverage(ax, name, one):
    ax.plot([0, 100], [0, 100], color=LINE, lw=0.8)
    ax.plot(100 * LEVELS, 100 * one.coverage, color=TRAIN, lw=1.6)
    s = one.summary()
    rank = "" if s["rank_correlation"] is None else f"\nrank correlation {s['rank_correlation']:.2f}"
    text = f"calibration error {100 * s['calibration_error']:.1f} %{rank}"
    ax.text(0.04, 0.96, text, transform=ax.transAxes, va="top", fontsize=8)
    ax.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    ax.set_title({"forces": "force components"}.get(name, name), fontsize=9)
    ax.set_xlabel("predicted interval (%)", fontsize=9)
    ax.set_ylabel("errors within it (%)", fontsize=9)


def _errors(ax, name, one):
    unit, factor = UNITS[name]
    some = np.unique(np.linspace(0, len(one.error) - 1, min(len(one.error), MANY)).astype(int))
    width, error = factor * one.width[some], factor * abs(one.error[some])
    seen = (width > 0) & (error > 0)
    alpha = max(0.1, min(0.7, 60 / len(some)))
    ax.scatter(width[seen], error[seen], s=8, color=TRAIN, alpha=alpha, lw=0)
    x, y = (factor * v for v in one.binned())
    ax.plot(x, y, "o-", color=VALID, ms=4, lw=1.2, label="root mean squares, binned")
    ends = np.array([x[x > 0].min(initial=np.inf), x.max(initial=0)])
    if np.isfinite(ends).all() and ends[1] > 0:
        ends = ends * [0.7, 1.4]
        ax.plot(ends, ends, color=LINE, lw=0.8, zorder=0)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel(f"uncertainty ({unit})", fontsize=9)
    ax.set_ylabel(f"|error| ({unit})", fontsize=9)
    ax.legend(frameon=False, fontsize=8, loc="lower right")
