"""Errors against the number of training structures, on logarithmic axes."""

import numpy as np

from fastdesc.analysis.plots import VALID, new_figure, plain_ticks, save_figure, tidy
from fastdesc.errors import InputError

PANELS = (    # quantity, label, unit
    ("energy", "energy", "meV/atom"),
    ("forces", "force", "meV/Å"),
    ("stress", "stress", "meV/Å³"),
)


def exponent(sizes, errors):
    """Slope of log error against log size, by least squares; NaN with fewer than two sizes, or errors of 0.

    Parameters
    ----------
    sizes, errors : (n,) arrays
    """
    sizes, errors = np.asarray(sizes, float), np.asarray(errors, float)
    if len(sizes) < 2 or not (errors > 0).all():
        return np.nan
    return float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])


def plot_sizes(rows, out):
    """Draw mean absolute errors of energies, forces and stresses, each with the power law that fits it best.

    Parameters
    ----------
    rows : list of dict
        "size", and for each quantity a dict with "mae" in eV, Å and atoms.
    out : str or Path
        A .png, .pdf or .svg file.

    Raises
    ------
    InputError
        Without matplotlib, without rows, or for an output that cannot be written.
    """
    panels = [panel for panel in PANELS if any(panel[0] in row for row in rows)]
    if not panels:
        raise InputError("no size has an error to draw; train at least one, on frames with test or validation labels")
    fig = new_figure(3.1 * len(panels) + 0.4, 3.0)
    for ax, (name, label, unit) in zip(np.atleast_1d(fig.subplots(1, len(panels))), panels, strict=True):
        found = [(row["size"], 1000 * row[name]["mae"]) for row in rows if name in row]
        x, y = np.array(found).T
        ax.loglog(x, y, "o-", color=VALID, ms=4, lw=1.4)
        slope = exponent(x, y)
        if np.isfinite(slope):
            fit = np.exp(np.log(y).mean() + slope * (np.log(x) - np.log(x).mean()))
            ax.loglog(x, fit, ":", color="#555555", lw=1.0, label=f"size$^{{{slope:.2f}}}$")
            ax.legend(frameon=False, fontsize=8)
        positive = y[y > 0]
        if len(positive):
            plain_ticks(ax, positive.min(), positive.max())
        ax.set_xticks(x, [f"{n:g}" for n in x])
        ax.minorticks_off()
        ax.set_xlabel("training structures", fontsize=9)
        ax.set_ylabel(f"{label} MAE ({unit})", fontsize=9)
        ax.grid(True, which="both", lw=0.3, color="#dddddd")
        tidy(ax)
    return save_figure(fig, out)
