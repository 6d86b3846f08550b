"""Spline filters alone: the textbook against published numbers, and what only this family promises."""

import json

import numpy as np
import pytest
from references import spline_filters as textbook
from references.neighbours import neighbours, pair_vectors

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
