"""The loss against sums over frames and components written out, each term with its own factor."""

import numpy as np
import pytest

from fastdesc.training.history import History, summary
from fastdesc.training.loss import LossWeights, Metrics, Targets, energy_residuals, residuals

N_ATOMS = (2, 5, 1)


def case(seed=0):
    rng = np.random.default_rng(seed)
    n, first = len(N_ATOMS), np.cumsum([0, *N_ATOMS])
    targets = Targets(rng.normal(size=n), rng.normal(size=(first[-1], 3)), rng.normal(size=(n, 3, 3)),
                      np.array([1.0, 0.5, 3.0]), first, int(first[-1]))  # fmt: skip
    targets.forces[2:7] = np.nan    # the second frame has no forces
    targets.virial[2] = np.nan
    return targets, rng.normal(size=n), rng.normal(size=(first[-1], 3)), rng.normal(size=(n, 3, 3))


def huber(x, limit):
    return x**2 if abs(x) <= limit else 2 * limit * abs(x) - limit**2


def written_out(targets, energy, forces, virial, w):
    """Formula (1) of fastdesc/training/loss.py, frame by frame."""
    total = 0.0
    for f, n in enumerate(N_ATOMS):
        own = slice(targets.first[f], targets.first[f + 1])
        part = w.energy * ((energy[f] - targets.energy[f]) / n) ** 2
        for i in range(own.start, own.stop):
            for k in range(3):
                if np.isfinite(targets.forces[i, k]):
                    part += w.force * (forces[i, k] - targets.forces[i, k]) ** 2 / (3 * n)
        for a in range(3):
            for b in range(3):
                if np.isfinite(targets.virial[f, a, b]):
                    part += w.stress * huber((virial[f, a, b] - targets.virial[f, a, b]) / n, w.stress_limit) / 9
        total += targets.weight[f] * part / len(N_ATOMS)
    return total


@pytest.mark.parametrize("weights", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (2.0, 0.7, 0.3), (0, 0, 1, 0.3)])
def test_every_term_is_that_of_the_formula(weights):
    w, (targets, *predicted) = LossWeights(*weights), case()
    assert residuals(targets, *predicted, w).loss == pytest.approx(written_out(targets, *predicted, w), rel=1e-13)
    if weights[1:] == (0, 0):
        assert energy_residuals(targets, predicted[0], w).loss == pytest.approx(
            written_out(targets, *predicted, w), rel=1e-13
        )


@pytest.mark.parametrize("limit, step", [(np.inf, 1.0), (0.3, 1e-5)])
def test_derivatives_are_those_of_the_formula(limit, step):
    """A quadratic form, also in a small step with a limit: central differences are exact but for round-off."""
    w, (targets, *predicted) = LossWeights(2.0, 0.7, 0.3, limit), case()
    found = residuals(targets, *predicted, w)
    for k, (array, derivative) in enumerate(((0, found.de), (1, found.rho), (2, -found.strain))):
        rng = np.random.default_rng(k)
        direction = rng.normal(size=predicted[array].shape)
        sides = []
        for sign in (1, -1):
            moved = [a.copy() for a in predicted]
            moved[array] = moved[array] + sign * step * direction
            sides.append(written_out(targets, *moved, w))
        if array == 0:
            derivative = derivative[targets.first[:-1]]    # of an energy, at each of its atoms
        assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(
            (derivative * direction).sum(), rel=1e-12 if step == 1 else 1e-9
        )


def test_errors_are_per_atom_and_component():
    w, (targets, energy, forces, virial) = LossWeights(1, 1, 1), case()
    metrics = Metrics(energy)
    metrics.add(residuals(targets, energy, forces, virial, w).errors)
    found, n = metrics.result(), np.array(N_ATOMS)
    de, df = (energy - targets.energy) / n, (forces - targets.forces)[np.isfinite(targets.forces)]
    dw = ((virial - targets.virial) / n[:, None, None])[:2]
    for name, e in (("energy", de), ("forces", df), ("stress", dw)):
        assert found[f"{name}_mae"] == pytest.approx(abs(e).mean(), rel=1e-13)
        assert found[f"{name}_rmse"] == pytest.approx(np.sqrt((e**2).mean()), rel=1e-13)


def test_words_of_the_bar_and_their_units():
    """eV/atom and eV/Å come in, meV go out; the validation errors where there are some."""
    row = {"train_loss": 0.5, "train_energy_mae": 0.1, "train_forces_mae": 0.2}
    assert summary(row) == "loss 5.00e-01, E 100.00 meV/at, F 200.00 meV/Å"
    row |= {"valid_loss": 0.03, "valid_energy_mae": 0.01234, "valid_forces_mae": 0.0456, "valid_stress_mae": 9.0}
    assert summary(row) == "loss 3.00e-02, E 12.34 meV/at, F 45.60 meV/Å"
    assert summary({"train_loss": 2.0}) == "loss 2.00e+00"


def test_of_equal_losses_the_first_is_the_best():
    """As training keeps it: a later epoch must be better to be taken."""
    history = History([{"epoch": k, "valid_loss": v} for k, v in enumerate([3.0, 1.0, 2.0, 1.0], 1)])
    assert history.best()["epoch"] == 2 and history.best("train_loss") is None
