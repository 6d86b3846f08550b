"""The recorded evaluation: the same numbers as the evaluation itself, wherever the atoms are."""

import numpy as np
import pytest
from ase.build import bulk
from helpers.families import FAMILIES, variants

import fastdesc as fd
from fastdesc.backend.threads import n_threads, set_threads
from fastdesc.potential.recorded import RecordedEvaluation


def frame(repeat=(3, 2, 1)):
    atoms = bulk("Cu", "fcc", a=3.7).repeat(repeat)
    rng = np.random.default_rng(5)
    atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
    atoms.set_chemical_symbols([("Cu", "Au")[k % 3 == 0] for k in range(len(atoms))])
    return atoms


def recorded_and_evaluated(potential, atoms, dtype, steps=3):
    """Yield what a recording and what the evaluation finds for the same pairs, atoms and cell moving."""
    structures = fd.Structures.from_ase(atoms)
    pairs = fd.Pairs.find(structures, potential.descriptor.cutoff + 0.5)
    model, rng = potential.model(dtype), np.random.default_rng(1)
    species = structures.species(potential.descriptor.species_numbers)
    recorded = RecordedEvaluation(model, species, pairs, structures)
    for _ in range(steps):
        atoms.positions += rng.normal(0, 0.02, atoms.positions.shape)
        atoms.set_cell(atoms.cell.array * (1 + 0.002 * rng.normal()))
        now = fd.Structures.from_ase(atoms)
        atomic, forces, virials = recorded.replay(now)
        energy, atomic = potential.totals(atomic, species, now.first)
        yield (energy, forces, virials, atomic), potential.evaluate(now, pairs, model)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden, network", [((8, 5), "per_species"), ((), "shared"), (None, "spline")])
@pytest.mark.parametrize("family, variant", variants())
def test_same_bits_as_the_evaluation(family, variant, hidden, network, dtype):
    descriptor = family.make(variant, ["Cu", "Au"])
    if not descriptor.recordable:
        assert descriptor.iterations > 0
        return
    descriptor.set_parameters(**family.randomised(descriptor.parameters, np.random.default_rng(1)))
    potential = fd.Potential(descriptor, hidden=hidden, network=network, direct=network == "spline")
    potential.reference = np.array([-1.0, -2.0])
    before = None
    for found, wanted in recorded_and_evaluated(potential, frame(), dtype):
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(a, b)
        assert before is None or not np.array_equal(before, found[1])
        before = found[1]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_same_bits_with_residual_blocks(family):
    descriptor = family.make(next(iter(family.variants)), ["Cu", "Au"])
    form = {"hidden": (8, 5), "activation": "trained_silu", "blocks": 2, "layer_norm": True}
    potential = fd.Potential(descriptor, **form)
    for found, wanted in recorded_and_evaluated(potential, frame(), "float64"):
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(a, b)


def test_chunks_and_threads_change_no_bit():
    potential = fd.Potential(fd.GaussianMoments(species=["Cu", "Au"], cutoff=4.0, n_radial=3), hidden=(8,))
    before, found = n_threads(), {}
    try:
        for n in (1, 3):
            set_threads(n)
            found[n] = [x for x, _ in recorded_and_evaluated(potential, frame((9, 9, 8)), "float32")]
    finally:
        set_threads(before)
    for one, three in zip(found[1], found[3], strict=True):
        for a, b in zip(one, three, strict=True):
            np.testing.assert_array_equal(a, b)


def test_results_of_a_step_outlive_the_next():
    potential = fd.Potential(fd.GaussianMoments(species=["Cu", "Au"], cutoff=4.0, n_radial=2), hidden=(4,))
    results = [found for found, _ in recorded_and_evaluated(potential, frame(), "float64")]
    again = [found for found, _ in recorded_and_evaluated(potential, frame(), "float64")]
    for one, two in zip(results, again, strict=True):
        for a, b in zip(one, two, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_calculator_replays_and_its_memory_does_not_grow():
    potential = fd.Potential(fd.GaussianMoments(species=["Cu", "Au"], cutoff=4.0, n_radial=2), hidden=(4,))
    atoms = frame()
    calc = atoms.calc = fd.FastdescCalculator(potential, skin=0.3)
    rng, held = np.random.default_rng(0), []
    for _ in range(40):
        atoms.positions += rng.normal(0, 0.03, atoms.positions.shape)
        want = potential.predict(atoms)
        np.testing.assert_allclose(atoms.get_forces(), want.forces, atol=1e-12)
        held.append(calc._workspace.n_bytes)
    assert calc.searches > 3
    assert calc._recorded is not None
    assert max(held[20:]) <= 1.5 * held[0]
