"""A picture of spline filters: every one with its knots, over the distances and cosines that occur in a data set."""

import numpy as np
from ase.data import chemical_symbols

from fastdesc.analysis.filter_histograms import filter_data
from fastdesc.analysis.plots import LINE, check_picture, new_figure, save_figure, tidy
from fastdesc.descriptors.spline_filters import SplineFilters
from fastdesc.errors import InputError
from fastdesc.potential import Potential
from fastdesc.potential.loading import load

# Okabe and Ito's colours can be told apart with any colour vision; the line styles help in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
DATA = "#999999"
COLUMNS, WIDTH, HEIGHT = 4, 2.5, 1.75    # panels, inches
POINTS = 401
FULL = 0.45
"""Part of a panel's height that its histogram takes."""
TOP = 98
"""Percentile of the counts that gets that height."""
RAREST, STEEP = 1e-3, 3.0
"""A panel shows what the rarest distances on either side meet only where that is less than so many times as high."""
TITLES = {"pair": "pair_{}: ρ(r)", "triplet_radial": "triplet_{}: f(r)", "triplet_angular": "triplet_{}: g(cos θ)"}


def plot_filters(model, out, frames=None):
    """Draw every filter of a descriptor with its knots.

    Panels are filters, lines in a panel elements (or pairs of elements, for angles). With frames, histograms of their
    distances and cosines lie behind the filters, and a knot in whose two intervals there are no data is drawn hollow:
    what a filter does there, training did not decide.

    Parameters
    ----------
    model : Potential, SplineFilters, str or Path
        Or the file of a potential.
    out : str or Path
        A .png, .pdf or .svg file.
    frames : path, ase.Atoms, list of ase.Atoms or list of paths, optional
        They stream through; memory does not grow with their number.

    Raises
    ------
    InputError
        Without matplotlib, for a descriptor without spline filters, frames that cannot be used, or an output that
        cannot be written.
    FileFormatError
        When the file is not a model.
    """
    check_picture(out)
    descriptor = descriptor_of(model)
    data = None if frames is None else filter_data(descriptor, frames)
    panels = _panels(descriptor)
    rows = [panels[k : k + COLUMNS] for k in range(0, len(panels), COLUMNS)]
    columns = min(COLUMNS, len(panels))
    fig = new_figure(WIDTH * columns + 0.4, HEIGHT * len(rows) + 0.5)
    axes = fig.subplots(len(rows), columns, squeeze=False)
    for ax, panel in zip(axes.flat, (*panels, *[None] * (axes.size - len(panels))), strict=True):
        if panel is None:
            ax.axis("off")
        else:
            _draw(ax, descriptor, *panel, data)
    handles = _legend(axes, data)
    if handles:
        fig.legend(handles=handles, loc="outside upper right", ncols=8, frameon=False, fontsize=8)
    return save_figure(fig, out)


def descriptor_of(model):
    """Return the spline filters of a descriptor, a potential or the file of one; InputError where there are none."""
    if not isinstance(model, Potential | SplineFilters):
        model = load(model) if isinstance(model, str) or hasattr(model, "__fspath__") else model
    descriptor = getattr(model, "descriptor", model)
    if not isinstance(descriptor, SplineFilters):
        raise InputError(f"the descriptor is a {type(descriptor).__name__}; only SplineFilters have filters to draw")
    return descriptor


def _panels(descriptor):
    """Kind and number of every filter, in the order of the picture; None fills a row that ends early.

    The two filters of a triplet stand side by side.
    """
    pairs = [("pair", a) for a in range(descriptor.n_pair)]
    triplets = [(kind, b) for b in range(descriptor.n_triplet) for kind in ("triplet_radial", "triplet_angular")]
    filling = [None] * (-len(pairs) % COLUMNS) if triplets else []
    return [*pairs, *filling, *triplets]


def _draw(ax, descriptor, kind, a, data):
    """One filter, for all elements, with its data behind it."""
    angular = kind == "triplet_angular"
    all_elements = descriptor.elements_of(kind)
    behind = None
    if data is not None:
        behind = ax.twinx()
        behind.set_axis_off()
        ax.set_zorder(behind.get_zorder() + 1)
        ax.patch.set_visible(False)
    drawn, populated = [0.0], [0.0]
    for e, elements in enumerate(all_elements):
        splines, p = descriptor.spline(kind, a, e), descriptor.parameters[kind][a, e]
        p = p[: splines.n_parameters]
        colour, style = COLOURS[e % len(COLOURS)], STYLES[e // len(COLOURS) % len(STYLES)]
        low, high = _limits(splines, elements, angular, data)
        x = np.linspace(splines.x0, splines.x1, POINTS)
        label = "-".join(chemical_symbols[descriptor.species_numbers[k]] for k in elements) or "all elements"
        ax.plot(x, splines.values(p, x), style, color=colour, lw=1.4, label=label)
        if low < splines.x0:
            ends = np.array([low, splines.x0])
            ax.plot(ends, splines.values(p, ends), ":", color=colour, lw=1.2)
        drawn += [*splines.values(p, x)]
        populated += [*splines.values(p, _populated(x, elements, angular, data))]
        filled = _filled(splines, elements, angular, data)
        y = splines.values(p, splines.knots)
        ax.plot(splines.knots[filled], y[filled], "o", color=colour, ms=3.2)
        ax.plot(splines.knots[~filled], y[~filled], "o", mec=colour, mfc="white", mew=0.9, ms=3.6)
        if behind is not None:
            shade = colour if len(all_elements) > 1 else DATA
            _histogram(behind, data, elements, angular, (low, high), shade)
    if np.ptp(drawn) > STEEP * np.ptp(populated) > 0:
        # A repulsive wall that few distances reach would leave nothing to see of the rest.
        ax.set_ylim(min(populated) - 0.2 * np.ptp(populated), max(populated) + 0.2 * np.ptp(populated))
    ax.axhline(0, color="#bbbbbb", lw=0.6, zorder=0)
    ax.set_title(TITLES[kind].format(a), fontsize=8, pad=3)
    ax.set_xlabel("cos θ" if angular else "r (Å)", fontsize=8, labelpad=1)
    tidy(ax, 7)
    ax.locator_params(axis="y", nbins=4)


def _limits(splines, elements, angular, data):
    """Where a filter is drawn: between its ends, and over data on the straight line below the first knot."""
    if data is None or angular:
        return splines.x0, splines.x1
    occupied = np.flatnonzero(data.counts(elements, angular))
    shortest = data.edges(angular)[occupied[0]] if len(occupied) else splines.x0
    return min(shortest, splines.x0), splines.x1


def _populated(x, elements, angular, data):
    """Those of the points x where all but the rarest data lie; all of them without data."""
    counts = None if data is None else data.counts(elements, angular)
    if counts is None or not counts.any():
        return x
    edges, share = data.edges(angular), np.cumsum(counts) / counts.sum()
    low, high = edges[:-1][share > RAREST][0], edges[1:][share >= 1 - RAREST][0]
    inside = x[(x >= low) & (x <= high)]
    return inside if len(inside) else x


def _filled(splines, elements, angular, data):
    """Whether there are data within a knot's two intervals, for every knot; True for all without data."""
    if data is None:
        return np.ones(splines.n_knots, bool)
    x, dx = splines.knots, splines.dx
    ranges = zip(np.maximum(x - dx, splines.x0), np.minimum(x + dx, splines.x1), strict=True)
    return np.array([data.within(elements, angular, *r) > 0 for r in ranges])


def _histogram(ax, data, elements, angular, limits, colour):
    """Counts as a filled curve in the lower part of a panel; the peaks of a perfect crystal are cut off."""
    edges, counts = data.edges(angular), data.counts(elements, angular)
    shown = (edges[1:] > limits[0]) & (edges[:-1] < limits[1])
    if counts[shown].any():
        top = np.percentile(counts[shown][counts[shown] > 0], TOP)
        heights = np.minimum(counts[shown] / top, 1)
        ax.stairs(heights, edges[np.concatenate([shown, [False]]) | np.concatenate([[False], shown])],
                  fill=True, color=colour, alpha=0.25, lw=0)  # fmt: skip
    ax.set_ylim(0, 1 / FULL)


def _legend(axes, data):
    """Lines of the elements where there are several, and what grey areas and hollow knots mean."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    found = {}
    for ax in axes.flat:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    handles = list(found.values()) if any(len(ax.get_legend_handles_labels()[1]) > 1 for ax in axes.flat) else []
    if data is not None:
        frames = f"{data.n_frames} frame{'s'[: data.n_frames != 1]}"
        hollow = {"marker": "o", "ls": "", "mec": LINE, "mfc": "white", "ms": 4}
        handles += [
            Patch(color=DATA, alpha=0.3, lw=0, label=f"distances and cosines in {frames}"),
            Line2D([], [], **hollow, label="knot without data beside it"),
        ]
    return handles
