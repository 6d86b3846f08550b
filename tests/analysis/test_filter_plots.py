"""Pictures of filters: the data behind them counted as a textbook would, lines and knots where the parameters say."""

from itertools import combinations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

import fastdesc as fd
from fastdesc.analysis import filter_plots
from fastdesc.analysis.filter_histograms import BINS, filter_data
from fastdesc.analysis.filter_plots import plot_filters
from fastdesc.cli import main
from fastdesc.errors import InputError

pytest.importorskip("matplotlib", reason="plots need matplotlib")


def descriptor(species=("Cu", "Au"), **changed):
    settings = {"cutoff": 4.0, "triplet_cutoff": 3.2, "r_min": 2.2, "n_pair": 2, "n_triplet": 1, "n_knots": 7}
    return fd.SplineFilters(species=list(species), **{**settings, **changed})


def alloy(n=3):
    frames = []
    for k in range(n):
        atoms = bulk("Cu", "fcc", a=3.75, cubic=True)
        atoms.numbers[: 1 + k] = 79
        atoms.rattle(0.1, seed=k)
        frames.append(atoms)
    return frames


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    figures, save = [], filter_plots.save_figure

    def keep(fig, out):
        figures.append(fig)
        return save(fig, out)

    monkeypatch.setattr(filter_plots, "save_figure", keep)
    return figures


def textbook_counts(d, frames):
    """Histograms by loops over neighbours that ASE found."""
    from ase.neighborlist import neighbor_list

    n = len(d.species_numbers)
    rows = [(a, b) for a in range(n) for b in range(a, n)]
    distances, cosines = np.zeros((n, BINS), int), np.zeros((len(rows), BINS), int)
    for atoms in frames:
        i, j, r, rij = neighbor_list("ijdD", atoms, d.cutoff)
        z = [d.species_numbers.index(number) for number in atoms.numbers]
        for k, x in zip(j, r, strict=True):
            distances[z[k], int(x / d.cutoff * BINS)] += 1
        for atom in range(len(atoms)):
            close = np.flatnonzero((i == atom) & (r < d.triplet_cutoff))
            for p, q in combinations(close, 2):
                c = rij[p] @ rij[q] / (r[p] * r[q])
                cosines[rows.index(tuple(sorted((z[j[p]], z[j[q]])))), min(int((c + 1) / 2 * BINS), BINS - 1)] += 1
    return distances, cosines


def test_data_are_counted_as_a_textbook_would():
    d, frames = descriptor(), alloy()
    found = filter_data(d, frames)
    distances, cosines = textbook_counts(d, frames)
    np.testing.assert_array_equal(found.distances, distances)
    np.testing.assert_array_equal(found.cosines, cosines)
    assert (found.n_frames, found.n_atoms) == (3, 12)
    for e, elements in enumerate(d.elements_of("triplet_angular")):
        np.testing.assert_array_equal(found.counts(elements, True), cosines[e])
    np.testing.assert_array_equal(found.counts((1,), False), distances[1])
    np.testing.assert_array_equal(found.counts((), False), distances.sum(0), err_msg="shared filters see all")


def test_files_stream_and_add_up(tmp_path, monkeypatch):
    from fastdesc.analysis import filter_histograms as module

    frames = alloy()
    for k, atoms in enumerate(frames):
        atoms.write(tmp_path / f"{k}.extxyz")
    monkeypatch.setattr(module, "BATCH_ATOMS", 5)
    found = filter_data(descriptor(), str(tmp_path / "*.extxyz"))
    np.testing.assert_array_equal(found.distances, filter_data(descriptor(), frames).distances)
    assert found.n_frames == 3


def test_one_panel_per_filter_with_its_knots(tmp_path, drawn):
    d = descriptor()
    assert plot_filters(d, tmp_path / "f.png") == tmp_path / "f.png"
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    panels = {ax.get_title(): ax for ax in drawn[0].axes if ax.get_title()}
    assert list(panels) == ["pair_0: ρ(r)", "pair_1: ρ(r)", "triplet_0: f(r)", "triplet_0: g(cos θ)"]
    lines = panels["pair_1: ρ(r)"].get_lines()
    curves = {line.get_label(): line for line in lines if not line.get_label().startswith("_")}
    assert list(curves) == ["Cu", "Au"]
    knots = [line for line in lines if line.get_marker() == "o" and len(line.get_xdata())]
    splines = d.spline("pair", 1, 0)
    for e, (curve, dots) in enumerate(zip(curves.values(), knots, strict=True)):
        p = d.parameters["pair"][1, e]
        np.testing.assert_allclose(curve.get_ydata(), splines.values(p, curve.get_xdata()))
        np.testing.assert_allclose(dots.get_xdata(), splines.knots)
        np.testing.assert_allclose(dots.get_ydata()[:-1], p[:6])
    angular = panels["triplet_0: g(cos θ)"].get_legend_handles_labels()[1]
    assert angular == ["Cu-Cu", "Cu-Au", "Au-Au"]
    assert [t.get_text() for t in drawn[0].legends[0].get_texts()] == ["Cu", "Au", *angular]


def test_knots_without_data_are_hollow_and_short_distances_in_sight(tmp_path, drawn):
    """Two atoms 2.0 Å apart, below r_min = 2.2, and two 3.1 Å apart: knots at 2.2, 2.5, .., 4.0."""
    frames = [Atoms("Cu2", positions=[(0, 0, 0), (x, 0, 0)]) for x in (2.0, 3.1)]
    plot_filters(descriptor(["Cu"]), tmp_path / "f.png", frames)
    ax = drawn[0].axes[0]
    full, hollow = (line for line in ax.get_lines() if line.get_marker() == "o")
    np.testing.assert_allclose(full.get_xdata(), [2.8, 3.1, 3.4])
    np.testing.assert_allclose(hollow.get_xdata(), [2.2, 2.5, 3.7, 4.0])
    assert hollow.get_markerfacecolor() == "white"
    (straight,) = (line for line in ax.get_lines() if line.get_linestyle() == ":")
    width = 4.0 / BINS
    assert 2.0 - width <= straight.get_xdata()[0] <= 2.0 and straight.get_xdata()[1] == 2.2
    words = [t.get_text() for t in drawn[0].legends[0].get_texts()]
    assert words == ["distances and cosines in 2 frames", "knot without data beside it"]


def test_a_wall_that_few_distances_reach_does_not_hide_the_rest(tmp_path, drawn):
    """Distances of 3.1 Å and more; the filter is 100 at 2.2 Å and below 0.5 from 2.8 Å on."""
    d = descriptor(["Cu"], n_triplet=0, n_pair=2)
    values = d.parameters["pair"].copy()
    values[0, 0] = 100, 8, 0.4, -0.3, -0.2, -0.1, 0, -600, 0
    values[1, 0] = 0.5, 0.4, 0.3, 0.2, 0.1, 0.0, 0, 0, 0
    d.set_parameters(pair=values)
    plot_filters(d, tmp_path / "f.png", [Atoms("Cu2", positions=[(0, 0, 0), (x, 0, 0)]) for x in (3.1, 3.5, 3.9)])
    steep, gentle = drawn[0].axes[:2]
    low, high = steep.get_ylim()
    assert -1 < low < -0.3 and 0 < high < 1
    low, high = gentle.get_ylim()
    assert low < 0 and high > 0.5, "all of it"
    plot_filters(d, tmp_path / "f.png")
    assert drawn[1].axes[0].get_ylim()[1] > 100, "without data there is no telling"


def test_shared_filters_and_pairs_alone(tmp_path, drawn):
    plot_filters(descriptor(shared=True, n_triplet=0, n_pair=1), tmp_path / "f.svg", alloy())
    titles = [ax.get_title() for ax in drawn[0].axes if ax.get_title()]
    assert titles == ["pair_0: ρ(r)"]
    assert drawn[0].axes[0].get_legend_handles_labels()[1] == ["all elements"]


def test_what_cannot_be_drawn(tmp_path):
    with pytest.raises(InputError, match="is a GaussianMoments; only SplineFilters have filters"):
        plot_filters(fd.Potential(fd.GaussianMoments(species=["Cu"])), tmp_path / "f.png")
    with pytest.raises(InputError, match="only SplineFilters"):
        plot_filters(3, tmp_path / "f.png")
    with pytest.raises(InputError, match="no name for a picture"):
        plot_filters(descriptor(), tmp_path / "f.jpeg")
    with pytest.raises(InputError, match="Ag"):
        plot_filters(descriptor(), tmp_path / "f.png", bulk("Ag"))


def test_command_line(tmp_path, capsys):
    fd.Potential(descriptor(), hidden=(4,)).save(tmp_path / "m.h5")
    for k, atoms in enumerate(alloy()):
        atoms.write(tmp_path / f"{k}.extxyz")
    frames = [str(tmp_path / f"{k}.extxyz") for k in range(3)]
    assert main(["plot", "filters", str(tmp_path / "m.h5")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "m.png")
    assert main(["plot", "filters", str(tmp_path / "m.h5"), *frames, "-o", str(tmp_path / "g.pdf")]) == 0
    assert (tmp_path / "g.pdf").read_bytes().startswith(b"%PDF")
    assert main(["plot", "learning", str(tmp_path / "m.h5"), *frames]) == 2
    assert "takes one file" in capsys.readouterr().err
