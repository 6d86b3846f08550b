"""Spline filters alone: the textbook against published numbers, and what only this family promises."""

import json

import ase
import numpy as np
import pytest
from helpers.structures import ZOO
from references import spline_filters as textbook
from references.neighbours import neighbours, pair_vectors

from fastdesc.descriptors.spline_filters import SplineFilters

CASES = [f"{case}_{ends}_celu_nobias" for case, ends in (("A", "clamped"), ("A", "natural"), ("B", "clamped"))]


def published_case(data, case):
    """Return positions, cell, pbc, species indices, parameters, keywords, and features of one published case."""
    positions = data[f"{case}/positions"]
    periodic = f"{case}/cell" in data
    cell = data[f"{case}/cell"] if periodic else np.zeros((3, 3))
    species = data.get(f"{case}/species", np.zeros(len(positions), int))
    theta = {
        "pair": data[f"{case}/p_rho"],
        "triplet_radial": data[f"{case}/p_f"],
        "triplet_angular": data[f"{case}/p_g"],
    }
    told = json.loads(str(data["description"]))["cases"][case]
    r_min, cutoff, n_knots = data[f"{case}/rho_grid"]
    settings = {
        "cutoff": float(cutoff),
        "triplet_cutoff": float(data[f"{case}/f_grid"][1]),
        "r_min": float(r_min),
        "n_knots": int(n_knots),
        "ends": tuple(told["bc_f"]),
        "angular_ends": tuple(told["bc_g"]),
    }
    return (positions, cell, [periodic] * 3), species, theta, settings, data[f"{case}/G"]


@pytest.mark.parametrize("case", CASES)
def test_textbook_equals_published(reference_numbers, case):
    frame, species, theta, settings, published = published_case(reference_numbers("snnp_reference.npz"), case)
    i, j, shift = neighbours(*frame, settings["cutoff"])
    rij = pair_vectors(frame[0], frame[1], i, j, shift)
    q = textbook.features(rij, i, j, species, theta, **settings)
    np.testing.assert_allclose(q, published, rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_textbook_derivative_equals_published(reference_numbers, case):
    """Forces of the published energy, with its own dE/dG, by the complex step through the textbook."""
    data = reference_numbers("snnp_reference.npz")
    (positions, cell, pbc), species, theta, settings, _ = published_case(data, case)
    i, j, shift = neighbours(positions, cell, pbc, settings["cutoff"])
    for atom, x in np.ndindex(positions.shape):
        step = np.zeros(positions.shape, complex)
        step[atom, x] = 1e-30j
        rij = pair_vectors(positions + step, cell, i, j, shift)
        tq = textbook.features(rij, i, j, species, theta, **settings).imag / 1e-30
        np.testing.assert_allclose(-(data[f"{case}/dEdG"] * tq).sum(), data[f"{case}/F"][atom, x], rtol=0, atol=1e-10)


@pytest.mark.parametrize("case", CASES[:2])
def test_textbook_equals_published_structure_vectors(reference_numbers, case):
    """A pair feature summed over atoms is linear in its parameters, with the published vectors."""
    data = reference_numbers("snnp_reference.npz")
    frame, species, theta, settings, _ = published_case(data, case)
    i, j, shift = neighbours(*frame, settings["cutoff"])
    rij = pair_vectors(frame[0], frame[1], i, j, shift)
    q = textbook.features(rij, i, j, species, theta, **settings)
    vectors = np.einsum("isp,asp->ia", data[f"{case}/A2"], theta["pair"])
    np.testing.assert_allclose(q[:, : len(theta["pair"])], vectors, rtol=0, atol=1e-12)


def descriptor_like(theta, settings, **changed):
    """Return a descriptor of as many elements as theta has, with these parameters."""
    n_species = theta["pair"].shape[1]
    sizes = {"n_pair": len(theta["pair"]), "n_triplet": len(theta["triplet_radial"])}
    d = SplineFilters(species=["H", "O", "Cu"][:n_species], **settings, **sizes, **changed)
    d.set_parameters(**theta)
    return d


@pytest.mark.parametrize("case", CASES)
def test_equals_published(reference_numbers, case):
    (positions, cell, pbc), species, theta, settings, published = published_case(
        reference_numbers("snnp_reference.npz"), case
    )
    d = descriptor_like(theta, settings)
    frame = ase.Atoms([d.species_numbers[s] for s in species], positions=positions, cell=cell, pbc=pbc)
    np.testing.assert_allclose(d.compute(frame), published, rtol=0, atol=1e-12)


# ------------------------------------------------------------------------------------------- what only splines have


def prepared(d, structure, dtype="float64"):
    """Return what the maps of d take, and a random cotangent of its features."""
    rij, pairs, species = d.prepare(ZOO[structure](), dtype)
    dq = np.random.default_rng(3).normal(size=(d.n_features, pairs.n_atoms)).astype(dtype)
    return (rij, pairs, species, d.theta(rij.dtype)), dq


def pulled(d, arguments, dq):
    """Return features, their pullback to pair vectors and to parameters."""
    q, saved = d.forward(*arguments)
    return q, d.pullback(*arguments, saved, dq), d.pullback_parameters(*arguments, saved, dq)


def random_descriptor(seed=5, **keywords):
    d = SplineFilters(**{"species": ["H", "C", "O", "Na", "Cl"], "cutoff": 4.5, "triplet_cutoff": 3.9, **keywords})
    rng = np.random.default_rng(seed)
    d.set_parameters(**{name: rng.uniform(-1, 1, x.shape) for name, x in d.parameters.items()})
    return d


@pytest.mark.parametrize("structure", ["three_elements", "triclinic"])
def test_shared_filters_are_equal_filters_for_all_elements(structure):
    shared = random_descriptor(shared=True)
    apart = random_descriptor()
    assert [x.shape[1] for x in shared.parameters.values()] == [1, 1, 1]
    assert [x.shape[1] for x in apart.parameters.values()] == [5, 5, 15]
    apart.set_parameters(
        **{name: np.repeat(x, apart.parameters[name].shape[1], axis=1) for name, x in shared.parameters.items()}
    )
    arguments, dq = prepared(shared, structure)
    q, drij, dtheta = pulled(shared, arguments, dq)
    arguments, _ = prepared(apart, structure)
    wanted_q, wanted_drij, wanted_dtheta = pulled(apart, arguments, dq)
    np.testing.assert_allclose(q, wanted_q, rtol=0, atol=1e-12)
    np.testing.assert_allclose(drij, wanted_drij, rtol=0, atol=1e-12)
    for name, x in dtheta.items():
        np.testing.assert_allclose(x, wanted_dtheta[name].sum(axis=1, keepdims=True), rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_triplet", [1, 2, 3, 17])
def test_any_number_of_filters_fills_vectors_alike(n_triplet, dtype):
    """The first filters of many are those of few: padding and the order of vectors do not show."""
    many = random_descriptor(n_pair=n_triplet, n_triplet=n_triplet, n_knots=5)
    few = random_descriptor(n_pair=1, n_triplet=1, n_knots=5)
    arguments, dq = prepared(many, "three_elements", dtype)
    results = pulled(many, arguments, dq)
    total = 0
    for b in range(n_triplet):
        few.set_parameters(**{name: x[b : b + 1] for name, x in many.parameters.items()})
        arguments, _ = prepared(few, "three_elements", dtype)
        q, drij, dtheta = pulled(few, arguments, dq[[b, n_triplet + b]])
        total = total + drij.astype(float)
        # Vectors of one lane and of many add in another order; float32 loses a few units of a few hundred terms.
        tolerance = {"float32": 3e-5, "float64": 1e-12}[dtype]
        np.testing.assert_allclose(results[0][[b, n_triplet + b]], q, rtol=0, atol=tolerance)
        for name, x in dtheta.items():
            np.testing.assert_allclose(results[2][name][b : b + 1], x, rtol=0, atol=tolerance * 10)
    np.testing.assert_allclose(results[1], total, rtol=0, atol=tolerance * 10)


def test_triplets_alone():
    both, alone = random_descriptor(n_pair=3, n_triplet=4), random_descriptor(n_pair=0, n_triplet=4)
    alone.set_parameters(**{name: x for name, x in both.parameters.items() if name != "pair"})
    assert list(alone.feature_names_out()) == list(both.feature_names_out())[3:]
    arguments, dq = prepared(alone, "three_elements")
    q, drij, dtheta = pulled(alone, arguments, dq)
    arguments, _ = prepared(both, "three_elements")
    padded_dq = np.concatenate([np.zeros((3, dq.shape[1])), dq])
    wanted_q, wanted_drij, wanted_dtheta = pulled(both, arguments, padded_dq)
    np.testing.assert_allclose(q, wanted_q[3:], rtol=0, atol=1e-13)
    np.testing.assert_allclose(drij, wanted_drij, rtol=0, atol=1e-13)
    assert dtheta["pair"].shape == (0, 5, alone.n_knots + 2)
    assert not wanted_dtheta["pair"].any()
    np.testing.assert_allclose(dtheta["triplet_angular"], wanted_dtheta["triplet_angular"], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("last", "ignored"), [("clamped", [-3, -1]), ("natural", [-4, -3, -1])])
def test_what_is_pinned_is_ignored(last, ignored):
    d = random_descriptor(ends=("clamped", last))
    arguments, dq = prepared(d, "three_elements")
    q, _, dtheta = pulled(d, arguments, dq)
    for name in ("pair", "triplet_radial"):
        assert not dtheta[name][..., ignored].any()
        assert dtheta[name][..., [k for k in range(-9, 0) if k not in ignored]].any(axis=(0, 1)).all()
        changed = d.parameters[name].copy()
        changed[..., ignored] = 17.0
        d.set_parameters(**{name: changed})
    np.testing.assert_array_equal(d.compute(ZOO["three_elements"]()).T, q)


def test_initial_filters_end_at_the_cutoff_and_depend_on_the_seed():
    d = SplineFilters(species=["Si"])
    for name in ("pair", "triplet_radial"):
        assert not d.parameters[name][..., [-3, -1]].any()
        assert d.parameters[name][..., :-3].all()
    assert d.parameters["triplet_angular"][..., :-2].all()
    assert (SplineFilters(species=["Si"], seed=1).parameters["pair"] != d.parameters["pair"]).any()


@pytest.mark.parametrize("ends", [("clamped", "clamped"), ("natural", "natural"), ("clamped", "natural")])
def test_initial_filters_are_the_same_functions_at_any_number_of_knots(ends):
    """Up to the error of interpolation, of fourth order in the spacing; smooth, of magnitude one, on average zero."""
    few, many, most = (
        SplineFilters(species=["H", "O"], n_knots=n, n_pair=20, ends=ends, angular_ends=ends[::-1])
        for n in (16, 31, 61)
    )
    for name in most.parameters:
        splines = most.spline(name, 0, 0)
        # A pinned end bends the last interval of whatever number of knots.
        x = splines.x0 + np.linspace(0, 0.8, 200) * (splines.x1 - splines.x0)
        coarse, fine, finest = (d.spline(name, 0, 0).values(d.parameters[name], x) for d in (few, many, most))
        assert abs(fine - finest).max() < 0.2 * abs(coarse - finest).max() < 0.02, name
        assert 0.3 < finest.std() < 1.5 and abs(finest.mean()) < 0.3, name


def test_counts_distances_below_r_min():
    d = SplineFilters(species=["H", "O"], r_min=1.2, cutoff=5.0)
    rij, _, _ = d.prepare(ZOO["dimer"]())
    near = np.sqrt((rij**2).sum(0))[0]
    for r_min, count in ((near + 1e-9, 2), (near - 1e-9, 0)):
        d.set_params(r_min=r_min)
        assert d.training_hints.count_below_r_min(rij) == count
        assert d.training_hints.count_below_r_min(np.stack([rij, rij])) == count


def test_goes_on_linearly_below_r_min():
    d = random_descriptor(r_min=1.5, n_triplet=0)

    def q(distance):
        return d.compute(ase.Atoms("CO", positions=[(0, 0, 0), (distance, 0, 0)]))

    np.testing.assert_allclose(q(0.6) - q(0.9), 3 * (q(1.2) - q(1.3)), rtol=0, atol=1e-12)


def test_no_chunk_of_atoms_is_special():
    """Atoms of all chunks and of incomplete ones, beside each other: rows of very different length."""
    d = random_descriptor(species=["Cu", "O", "C"], cutoff=5.0, n_triplet=3)
    frames = [ZOO["self_images"](), ZOO["lone_atom"](), ZOO["wire"](), ZOO["slab"]()] * 50
    one_by_one = {name: d.compute(ZOO[name]()) for name in ("self_images", "lone_atom", "wire", "slab")}
    np.testing.assert_allclose(d.compute(frames), np.concatenate(list(one_by_one.values()) * 50), rtol=0, atol=1e-13)
