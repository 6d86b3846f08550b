"""A loss in which nothing counts is refused, and terms without labels are told, before a step is made."""

import warnings

import numpy as np
import pytest
from helpers.training import alloy, small_potential

import fastdesc as fd
from fastdesc.errors import FastdescWarning, InputError
from fastdesc.training import trainer_for


def without(frames, *names):
    for atoms in frames:
        for name in names:
            del atoms.calc.results[name]
    return frames


def slabs(n):
    frames = alloy(n)
    for atoms in frames:
        results = dict(atoms.calc.results)
        atoms.pbc = [True, True, False]
        atoms.calc.atoms, atoms.calc.results = atoms.copy(), results
    return frames


def weighing_nothing(n):
    frames = alloy(n)
    for atoms in frames:
        atoms.info["weight"] = 0
    return frames


E, F, S = ({"energy_weight": 0, "force_weight": 0, "stress_weight": 0, f"{name}_weight": 1.0} for name in (
    "energy", "force", "stress"))  # fmt: skip

NOTHING = {    # frames to train on and to validate on, settings, what is said
    "forces alone, energies to validate on": (
        lambda: alloy(3), lambda: without(alloy(2), "forces", "stress"), F,
        "on the validation frames: energy_weight is 0; no frame with a weight above 0 has forces; stress_weight is 0"),
    "energies alone, forces to train on": (
        lambda: without(alloy(3), "energy"), lambda: alloy(2), E,
        "on the training frames: no frame with a weight above 0 has an energy; force_weight is 0"),
    "stress alone, none": (
        lambda: without(alloy(3), "stress"), lambda: alloy(2), S, "training frames: .* has a stress in a cell that"),
    "stress alone, slabs": (lambda: slabs(3), lambda: alloy(2), S, "training frames: .* periodic in all directions"),
    "stress alone, slabs to validate on": (lambda: alloy(3), lambda: slabs(2), S, "on the validation frames"),
    "no weight": (lambda: weighing_nothing(3), lambda: alloy(2), {}, "training frames: no frame with a weight above 0"),
    "no weight in validation": (lambda: alloy(3), lambda: weighing_nothing(2), {}, "on the validation frames"),
    "what has labels weighs nothing": (
        lambda: [*weighing_nothing(2), *without(alloy(2), "forces", "stress")], lambda: alloy(2), F,
        "on the training frames"),
}  # fmt: skip


@pytest.mark.parametrize("what", NOTHING)
def test_a_loss_in_which_nothing_counts_is_refused(what):
    train, valid, settings, message = NOTHING[what]
    with pytest.raises(InputError, match=f"nothing counts in the loss .*{message}.*Give labels, or weights"):
        trainer_for(small_potential(), train(), valid(), epochs=1, **settings)


SAID = {
    "no forces to validate on": (
        lambda: alloy(3), lambda: without(alloy(2), "forces"), {},
        ["no validation frame has forces: errors in the forces do not decide which epoch is the best"]),
    "forces to validate on alone": (
        lambda: without(alloy(3), "forces"), lambda: alloy(2), {},
        ["validation frames have forces and no training frame does: the forces cannot be learnt"]),
    "a weight for what is not there": (
        lambda: without(alloy(3), "stress"), lambda: without(alloy(2), "stress"), {"stress_weight": 3},
        ["stress_weight is 3 and has no effect: no training frame has a stress"]),
    "nothing": (lambda: alloy(3), lambda: alloy(2), {}, []),
    "nothing by the weights there always are": (
        lambda: without(alloy(3), "stress"), lambda: without(alloy(2), "stress"), {}, []),
    "nothing where a term does not weigh": (
        lambda: alloy(3), lambda: without(alloy(2), "forces"), {"force_weight": 0}, []),
}  # fmt: skip


@pytest.mark.parametrize("what", SAID)
def test_terms_without_labels_are_told(what):
    train, valid, settings, messages = SAID[what]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        trainer_for(small_potential(), train(), valid(), epochs=1, **settings)
    # Labels of a slab, or of one composition, have warnings of their own.
    about = ("no validation frame", "validation frames have", "has no effect")
    said = [str(w.message) for w in found if w.category is FastdescWarning and any(x in str(w.message) for x in about)]
    assert len(said) == len(messages)
    for text, message in zip(said, messages, strict=True):
        assert text.startswith(message) and "\n" not in text


def test_features_that_weigh_nothing(stored, tmp_path):
    frames, _ = stored
    potential = small_potential()
    out = fd.featurize(weighing_nothing(3), tmp_path / "f.h5", potential.descriptor, progress=False)
    with pytest.raises(InputError, match="nothing counts in the loss on the training frames: no frame with a weight"):
        fd.train(potential, out, frames[:2], epochs=1, progress=False)


def test_the_virial_of_a_slab_is_left_out():
    """Its volume is that of the box and not of the matter: what it would teach is wrong."""
    from fastdesc.training.dataset import TrainingSet

    frames = [*slabs(2), *alloy(2)]
    data = TrainingSet(frames, small_potential().descriptor, np.float64)
    assert data.counts() == {"energy": 4, "forces": 4, "stress": 2}
    virial = data.batch(np.arange(4), np.zeros(2)).targets.virial
    assert np.isnan(virial[:2]).all()
    want = [atoms.get_volume() * atoms.get_stress(voigt=False) for atoms in frames[2:]]
    np.testing.assert_allclose(virial[2:], want, rtol=1e-12)
