"""Plots: what is drawn is what was given, and a picture comes whole or not at all."""

import builtins
import sys

import numpy as np
import pytest

from fastdesc.analysis import plots
from fastdesc.analysis.accuracy import Comparison
from fastdesc.analysis.plots import follow_learning, plot_learning, plot_parity
from fastdesc.errors import FileFormatError, InputError
from fastdesc.training.history import History

pytest.importorskip("matplotlib", reason="plots need matplotlib")


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    figures, save = [], plots.save_figure

    def keep(fig, out):
        figures.append(fig)
        return save(fig, out)

    monkeypatch.setattr(plots, "save_figure", keep)
    return figures


def history(n=10, valid=True):
    rows = []
    for k in range(1, n + 1):
        row = {"epoch": k, "learning_rate": 1e-3, "train_loss": 1 / k, "train_energy_mae": 0.1 / k}
        if valid and k % 2 == 0:
            row |= {"valid_loss": 2 / k if k < 8 else 1.0, "valid_energy_mae": 0.2 / k, "valid_forces_mae": 0.3}
        rows.append(row)
    return History(rows)


def comparison(n_frames=10, stress=True):
    rng = np.random.default_rng(0)
    n_atoms = rng.integers(2, 9, n_frames)
    energy, forces = -3.0 * n_atoms, rng.normal(size=(n_atoms.sum(), 3))
    s = rng.normal(size=(n_frames, 6)) if stress else np.full((n_frames, 6), np.nan)
    return Comparison(n_atoms, energy + 0.1 * n_atoms, energy, forces + 0.02, forces, s, s)


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000


def test_learning_curve(tmp_path, drawn):
    out = tmp_path / "l.png"
    assert plot_learning(history(), out) == out and is_png(out)
    assert [p.name for p in tmp_path.iterdir()] == ["l.png"]
    (fig,) = drawn
    assert [ax.get_ylabel() for ax in fig.axes] == ["loss (eV² per atom)", "energy MAE (meV/atom)", "force MAE (meV/Å)"]
    lines = {line.get_label(): line for line in fig.axes[1].get_lines()}
    np.testing.assert_allclose(lines["train"].get_ydata(), 100 / np.arange(1, 11))
    np.testing.assert_array_equal(lines["valid"].get_xdata(), [2, 4, 6, 8, 10])
    np.testing.assert_allclose(lines["kept"].get_xdata(), [6], err_msg="the smallest validation loss")
    stars = [{line.get_label(): line for line in ax.get_lines()}["kept"] for ax in fig.axes]
    assert [star.get_marker() for star in stars] == ["*"] * 3 and {star.get_xdata()[0] for star in stars} == {6}
    np.testing.assert_allclose([star.get_ydata()[0] for star in stars], [1 / 3, 200 / 6, 300])


@pytest.mark.parametrize("suffix", ["json", "csv"])
def test_learning_curve_from_a_file(tmp_path, drawn, suffix):
    path = tmp_path / f"history.{suffix}"
    history().save(path)
    plot_learning(path, tmp_path / "l.png")
    assert len(drawn[0].axes) == 3
    np.testing.assert_array_equal(drawn[0].axes[0].get_lines()[1].get_xdata(), [2, 4, 6, 8, 10])


def test_learning_curve_without_validation_and_with_one_epoch(tmp_path, drawn):
    plot_learning(history(valid=False), tmp_path / "l.png")
    plot_learning(history(1), tmp_path / "l.png")
    assert [len(fig.axes) for fig in drawn] == [2, 2]
    assert not any(line.get_label() == "kept" for fig in drawn for ax in fig.axes for line in ax.get_lines())


def test_a_run_is_followed(tmp_path, drawn):
    """Nothing there, a history, the same, half a line more, all of it: two pictures."""
    path, out, looks = tmp_path / "h.csv", tmp_path / "l.png", []

    def until():
        looks.append(len(drawn))
        if len(looks) == 1:
            assert not out.exists()
            history(4).save(path)
        if len(looks) == 3:
            whole = path.read_text()
            path.write_text(whole + whole.splitlines()[-1][:12])
        if len(looks) == 4:
            history(6).save(path)
        return len(looks) == 6

    follow_learning(path, out, 0.0, until)
    assert looks == [0, 1, 1, 1, 2, 2]
    assert max(drawn[-1].axes[0].get_lines()[0].get_xdata()) == 6


def test_what_is_no_history_is_not_followed_for_ever(tmp_path):
    path = tmp_path / "h.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(FileFormatError, match="not a history"):
        follow_learning(path, tmp_path / "l.png", 0.0)
    with pytest.raises(InputError, match="png"):
        follow_learning(path, tmp_path / "l.doc", 0.0)


@pytest.mark.parametrize("n_frames", [10, 2000])
def test_parity(tmp_path, drawn, n_frames):
    out = tmp_path / "p.png"
    plot_parity(comparison(n_frames), out)
    assert is_png(out)
    energy, forces, _ = drawn[0].axes
    assert energy.texts[0].get_text() == "MAE 100 meV/atom\nRMSE 100 meV/atom"
    assert forces.texts[0].get_text() == "MAE 20.0 meV/Å\nRMSE 20.0 meV/Å"
    assert energy.get_xlabel() == "reference energy (eV/atom)" and forces.get_ylabel() == "predicted force (eV/Å)"
    assert energy.get_xlim() == energy.get_ylim()
    if n_frames < 100:
        np.testing.assert_allclose(energy.collections[0].get_offsets()[0], [-3.0, -2.9])
    else:
        assert forces.collections[0].get_array().sum() > 0, "densities"


@pytest.mark.parametrize("n_frames", [10, 2000])
def test_parity_says_what_it_cannot_draw(tmp_path, drawn, n_frames):
    some = comparison(n_frames)
    some.energy[3], some.forces[0, 1] = np.nan, np.inf
    plot_parity(some, tmp_path / "p.png")
    energy, forces, _ = drawn[0].axes
    assert energy.texts[0].get_text() == "MAE nan meV/atom\nRMSE nan meV/atom"
    assert forces.texts[0].get_text() == "MAE inf meV/Å\nRMSE inf meV/Å"
    assert np.isfinite([*energy.get_xlim(), *forces.get_ylim()]).all()


def test_parity_leaves_out_what_is_not_there(tmp_path, drawn):
    plot_parity(comparison(stress=False), tmp_path / "p.png")
    assert len(drawn[0].axes) == 2


def test_parity_from_a_file(tmp_path, drawn):
    comparison().save(tmp_path / "p.h5")
    plot_parity(tmp_path / "p.h5", tmp_path / "p.svg")
    assert len(drawn[0].axes) == 3 and b"<svg" in (tmp_path / "p.svg").read_bytes()


def test_nothing_to_draw(tmp_path):
    with pytest.raises(InputError, match="history has no row"):
        plot_learning(History([{"epoch": 1}]), tmp_path / "l.png")
    c = comparison(stress=False)
    c.reference_energy[:] = np.nan
    c.reference_forces[:] = np.nan
    with pytest.raises(InputError, match="no frame carries a reference"):
        plot_parity(c, tmp_path / "p.png")


def test_outputs_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match=r"l.jpeg is no name for a picture; use one that ends in .png"):
        plot_learning(history(), tmp_path / "l.jpeg")
    with pytest.raises(InputError, match="there is no folder"):
        plot_learning(history(), tmp_path / "nowhere" / "l.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("h.json", "{"),
        ("h.json", '{"a": 1}'),
        ("h.json", "[1]"),
        ("h.csv", "epoch\nx\n"),
        ("h.csv", "a,b\n1,2\n"),
        ("h.csv", ""),
    ],
)
def test_files_that_are_no_history(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(FileFormatError, match=f"{name} is not a history"):
        plot_learning(tmp_path / name, tmp_path / "l.png")
    with pytest.raises(InputError, match="does not exist"):
        plot_learning(tmp_path / "nowhere.csv", tmp_path / "l.png")


def test_without_matplotlib(tmp_path, monkeypatch):
    real = builtins.__import__

    def no_matplotlib(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    for name in [m for m in sys.modules if m.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    for plot, what in ((plot_learning, history()), (plot_parity, comparison())):
        with pytest.raises(InputError, match=r"pip install 'fastdesc\[plot\]'"):
            plot(what, tmp_path / "x.png")


def test_predictions_beyond_the_references_are_in_sight(drawn, tmp_path):
    one = np.ones(3, int)
    energy, wrong = np.array([-1.0, 0.0, 1.0]), np.array([-7.0, 0.0, 5.0])
    forces, none = np.full((3, 3), np.nan), np.full((3, 6), np.nan)
    plot_parity(Comparison(one, wrong, energy, forces, forces, none, none), tmp_path / "p.png")
    low, high = drawn[0].axes[0].get_xlim()
    assert low < -7.0 and high > 5.0 and drawn[0].axes[0].get_ylim() == (low, high)


@pytest.mark.parametrize("losses, scale, first", [([0.0, 0.0], "linear", None), ([0.0, 0.5, 5.0], "log", "0.5")])
def test_losses_of_zero_have_no_place_on_a_logarithmic_axis(drawn, tmp_path, losses, scale, first):
    rows = [{"epoch": k, "train_loss": loss} for k, loss in enumerate(losses, 1)]
    plot_learning(History(rows), tmp_path / "l.png")
    ax = drawn[0].axes[0]
    assert ax.get_yscale() == scale
    if first:    # numbers as they are written, not powers of ten
        assert ax.yaxis.get_major_formatter()(0.5, 0) == first
