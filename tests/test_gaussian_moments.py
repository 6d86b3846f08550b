"""Gaussian moments alone: the textbook against published numbers, and what only this family promises."""

import numpy as np
import pytest
from references import gaussian_moments as textbook
from references.neighbours import neighbours, pair_vectors

ALL = tuple(range(1, 9))
PUBLISHED = [(case, variant) for case in ("ch4", "nacl8") for variant in ("bessel", "gauss_ntk")]


def columns_in_our_order(tri3):
    """Their order of features in ours.

    `tri3`, the triples of contraction 5, is neither lexicographic nor sorted within a triple (a trace does
    not care); all else agrees.
    """
    theirs = [tuple(sorted(t)) for t in tri3.tolist()]
    column = np.arange(360)
    column[50:85] = [50 + theirs.index(t) for t in textbook.tuples("r<=s<=t", 5)]
    return column


def published_case(data, case, variant):
    """Return frame, species indices, keywords, beta in our normalisation, and features in our order.

    The published Bessel functions carry no factor n_basis^{-1/2}, the Gaussian ones do.
    """
    positions, cell = data[f"{case}/positions"], data[f"{case}/cell"]
    pbc = [bool(data[f"{case}/pbc"])] * 3
    species = np.searchsorted(data[f"{case}/species"], data[f"{case}/numbers"])
    beta = data[f"{case}/{variant}/coef"]
    basis = "gaussian"
    if variant == "bessel":
        basis, beta = "bessel", beta * np.sqrt(beta.shape[3])
    settings = {"cutoff": float(data[f"{case}/rcut"]), "basis": basis, "contractions": ALL}
    published = data[f"{case}/{variant}/descriptor_eps0"][:, columns_in_our_order(data["tri3"])]
    return (positions, cell, pbc), species, settings, beta, published


@pytest.mark.parametrize(("case", "variant"), PUBLISHED)
def test_textbook_equals_published(reference_numbers, case, variant):
    data = reference_numbers("gmnn_reference.npz")
    (positions, cell, pbc), species, settings, beta, published = published_case(data, case, variant)
    i, j, shift = neighbours(positions, cell, pbc, settings["cutoff"])
    rij = pair_vectors(positions, cell, i, j, shift)
    q = textbook.features(rij, i, j, species, {"beta": beta}, **settings)
    np.testing.assert_allclose(q, published, rtol=0, atol=1e-13)


def test_textbook_derivative_equals_published(reference_numbers):
    """The published Jacobian has 1e-5 Å added to every distance, hence the tolerance."""
    data = reference_numbers("gmnn_reference.npz")
    (positions, cell, pbc), species, settings, beta, _ = published_case(data, "nacl8", "bessel")
    i, j, shift = neighbours(positions, cell, pbc, settings["cutoff"])
    step = np.zeros(positions.shape, complex)
    step[3, 1] = 1e-30j
    rij = pair_vectors(positions + step, cell, i, j, shift)
    tq = textbook.features(rij, i, j, species, {"beta": beta}, **settings).imag / 1e-30
    published = data["nacl8/bessel/descriptor_jacobian"][:, columns_in_our_order(data["tri3"]), 3, 1]
    np.testing.assert_allclose(tq, published, rtol=0, atol=2e-5 * abs(published).max())
