"""Reference energies: those given and those of isolated atoms are used exactly, and all else is fitted beside them."""

import re
import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from helpers.command_line import CONFIG
from helpers.training import alloy, small_potential

import fastdesc as fd
from fastdesc.errors import FastdescWarning, InputError
from fastdesc.networks.scaler import reference_energies, undetermined
from fastdesc.training import trainer_for
from fastdesc.training.dataset import TrainingSet
from fastdesc.training.linear_start import fit_pair_potential
from fastdesc.training.loss import LossWeights

QUICK = {"epochs": 2, "progress": False, "valid_fraction": 0.0}


def lone(symbol, energy, box=None):
    """An isolated atom: without a cell, or in a box in which it sees no image of itself."""
    atoms = Atoms(symbol, cell=None if box is None else [box] * 3, pbc=box is not None)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((1, 3)))
    return atoms


def mixed(n=8):
    """Cells of several compositions: least squares tell the elements apart."""
    return alloy(n) + alloy(n // 2, seed=4, size=(1, 1, 1))[:2] + of_one_kind(3)


def of_one_kind(n):
    frames = alloy(n, seed=9)
    for atoms in frames:
        results = {"energy": atoms.get_potential_energy() - 1.0, "forces": atoms.get_forces()}
        atoms.numbers[:] = 29
        atoms.calc = SinglePointCalculator(atoms, **results)
    return frames


def potential(**arguments):
    d = fd.GaussianMoments(species=("Cu", "Au"), cutoff=4.5, n_radial=3, n_basis=5)
    return fd.Potential(d, hidden=(12, 8), seed=3, **arguments)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("box", [None, 12.0])
def test_isolated_atoms_give_their_energies_exactly(bias, box):
    p = potential(bias=bias)
    fd.train(p, [*mixed(), lone("Cu", -0.123456789, box), lone("Au", 0.987654321, box)], **QUICK)
    np.testing.assert_array_equal(p.reference, [-0.123456789, 0.987654321])
    if not bias:    # nothing but the reference is left of an atom that sees no other
        energies = p.predict([lone("Cu", 0.0), lone("Au", 0.0)]).energy
        np.testing.assert_array_equal(energies, [-0.123456789, 0.987654321])


def test_a_periodic_atom_that_sees_its_images_is_not_isolated():
    frames = [*mixed(), lone("Cu", 0.3, 2.6)]
    p = potential()
    fd.train(p, frames, **QUICK)
    counts = np.array([[(a.numbers == z).sum() for z in (29, 79)] for a in frames])
    energies = np.array([a.get_potential_energy() for a in frames])
    np.testing.assert_allclose(p.reference, reference_energies(counts, energies), rtol=1e-12)


def test_of_isolated_atoms_that_differ_the_lowest_counts():
    p = potential()
    with pytest.warns(FastdescWarning, match=r"isolated Cu of frame 12 of the training frames has -0.5 eV and that of "
                                             r"frame 11 of the training frames 0.25 eV; the lower one"):  # fmt: skip
        fd.train(p, [*mixed()[:11], lone("Cu", 0.25), lone("Cu", -0.5)], **QUICK)
    assert p.reference[0] == -0.5


def test_what_is_given_is_used_and_the_rest_is_fitted():
    """Of gold the best that is left: plain least squares per atom, solved here by the normal equation."""
    frames = mixed()
    p = potential(reference={"Cu": -3.25})
    fd.train(p, frames, **QUICK)
    n = np.array([[(a.numbers == z).sum() for z in (29, 79)] for a in frames], float)
    energies = np.array([a.get_potential_energy() for a in frames])
    w = 1 / n.sum(1)
    gold = ((w * n[:, 1]) @ (w * (energies + 3.25 * n[:, 0]))) / ((w * n[:, 1]) @ (w * n[:, 1]))
    assert p.reference[0] == -3.25 and p.reference[1] == pytest.approx(gold, rel=1e-12)


def test_what_is_given_goes_before_an_isolated_atom():
    p = potential(reference={29: -3.25})
    fd.train(p, [*mixed(), lone("Cu", -0.1), lone("Au", -0.2)], **QUICK)
    np.testing.assert_array_equal(p.reference, [-3.25, -0.2])


@pytest.mark.parametrize("how", ["argument", "attribute"])
def test_all_else_is_fitted(how):
    """A potential whose references are set trains as well as one that fits them; scales are those of any other."""
    frames, values = mixed(24), {"Cu": -0.0, "Au": 1.5}
    p, plain = potential(reference=values if how == "argument" else None), potential()
    if how == "attribute":
        p.reference = np.array(list(values.values()))
    settings = {"epochs": 40, "batch_atoms": 60, "learning_rate": 1e-2, "progress": False}
    ours, theirs = (fd.train(x, frames[:20], frames[20:], **settings) for x in (p, plain))
    np.testing.assert_array_equal(p.reference, list(values.values()))
    np.testing.assert_array_equal(p.scaler.scale, plain.scaler.scale)
    for name in ("valid_energy_mae", "valid_forces_mae"):
        assert ours.best()[name] < 1.5 * theirs.best()[name], name


def test_energies_begin_right_in_the_mean():
    """References far from matter: the untrained networks make up for it, each for its element."""
    for network in ("per_species", "shared"):
        frames = mixed()
        p = potential(reference={"Cu": 100.0, "Au": -55.0}, network=network)
        trainer_for(p, frames, **{k: v for k, v in QUICK.items() if k != "progress"})
        n = np.array([len(a) for a in frames])
        off = (p.predict(frames).energy - [a.get_potential_energy() for a in frames]) / n
        assert abs(off.mean()) < (0.05 if network == "per_species" else 40)
        assert abs(off).max() < (2 if network == "per_species" else 90)


def test_elements_that_cannot_be_told_apart_are_named():
    with pytest.warns(FastdescWarning, match="do not tell Cu and Au apart, which occur in fixed proportions: .*add fr"):
        trainer_for(small_potential(), alloy(4), valid_fraction=0.0)
    for frames, arguments in (
        (mixed(), {}), ([*alloy(4), lone("Cu", 0.0)], {}), (alloy(4), {"reference": {"Au": 1.0}})
    ):  # fmt: skip
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            trainer_for(potential(**arguments), frames, valid_fraction=0.0)
        assert not any("apart" in str(w.message) for w in found)


def test_which_elements_are_undetermined():
    water = np.array([[2, 1, 0], [4, 2, 3], [8, 4, 1], [0, 0, 2]])
    np.testing.assert_array_equal(undetermined(water), [True, True, False])
    np.testing.assert_array_equal(undetermined([[500, 500], [499, 501]]), [False, False])
    np.testing.assert_array_equal(undetermined([[3, 0], [5, 0]]), [False, False])
    np.testing.assert_array_equal(undetermined([[4, 4], [4, 4]]), [True, True])
    np.testing.assert_array_equal(undetermined(np.zeros((0, 2))), [False, False])


def test_the_linear_start_uses_what_is_given():
    d = fd.SplineFilters(species=["Cu", "Au"], cutoff=4.5, r_min=1.5, n_pair=1, n_triplet=0, n_knots=7)
    frames = mixed()
    data = TrainingSet(frames, d, np.float64)
    fixed = np.array([-2.5, np.nan])
    _, found = fit_pair_potential(d, data, LossWeights(1.0, 1.0, 0.0), known=fixed)
    assert found[0] == -2.5 and np.isfinite(found[1])
    _, free = fit_pair_potential(d, data, LossWeights(1.0, 1.0, 0.0))
    _, again = fit_pair_potential(d, data, LossWeights(1.0, 1.0, 0.0), known=np.array([free[0], np.nan]))
    assert again[1] == pytest.approx(free[1], abs=1e-6), "what least squares gave, given, changes nothing"
    p = fd.Potential(d, network="none", direct=True, reference={"Cu": -2.5})
    trainer_for(p, frames, start="linear", valid_fraction=0.0)
    assert p.reference[0] == -2.5


def test_features_know_isolated_atoms(tmp_path):
    frames = [*mixed(), lone("Cu", -0.125), lone("Au", 0.5)]
    p = small_potential()
    out = fd.featurize(frames, tmp_path / "f.h5", p.descriptor, progress=False)
    fd.train(p, out, **QUICK)
    np.testing.assert_array_equal(p.reference, [-0.125, 0.5])


def test_files_and_copies_keep_what_was_given(tmp_path):
    p = potential(reference={"Au": 2.5})
    assert p.arguments["reference"] == {"Au": 2.5} and "reference" not in potential().arguments
    np.testing.assert_array_equal(p.reference, [0, 2.5])
    fd.train(p, mixed(), **QUICK)
    p.save(tmp_path / "p.h5")
    again = fd.load(tmp_path / "p.h5")
    assert again.arguments == p.arguments and np.array_equal(again.reference, p.reference)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ({"H": -13.6}, "reference names H, which the descriptor does not know; it knows Cu, Au"),
        ({"Cu": "low"}, "reference of Cu came as 'low'; it must be a finite number"),
        ({"Cu": np.nan}, "reference of Cu came as nan"),
        ({"Cu": True}, "reference of Cu came as True"),
        ({"Cu": 1.0, 29: 2.0}, "reference names Cu twice"),
        ({"copper": 1.0}, "species holds 'copper'"),
        ([1.0, 2.0], r"reference came as \[1.0, 2.0\]; give energies by element"),
    ],
)
def test_what_cannot_be_a_reference(reference, message):
    with pytest.raises(InputError, match=message):
        potential(reference=reference)


def test_references_in_a_configuration(trained, run, fails, tmp_path):
    text = CONFIG.replace('"t', f'"{trained}/t').replace("epochs = 3", "epochs = 1")
    config = tmp_path / "c.toml"
    config.write_text(text.replace("[potential]", "[potential]\nreference = {Cu = -3.5}"))
    assert run("train", config, "--quiet")[0] == 0
    assert fd.load(tmp_path / "run" / "model.h5").reference[0] == -3.5
    again = tmp_path / "run" / "config.toml"
    assert re.search(r'reference = \{"Cu" = -3.5\}', again.read_text())
    assert run("train", again, "--quiet", "--overwrite")[0] == 0
    config.write_text(text.replace("[potential]", "[potential]\nreference = -3.5"))
    assert "[potential] reference is -3.5; it must be energies by element, such as {H" in fails("train", config)
