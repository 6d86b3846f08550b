"""Gaussian moments alone: the textbook against published numbers, and what only this family promises."""

import ase
import ase.build
import numpy as np
import pytest
from helpers.battery import TOGETHER, case, close, dual, frames_of
from helpers.families import GAUSSIAN_MOMENTS
from helpers.structures import ELEMENTS
from references import gaussian_moments as textbook
from references.neighbours import neighbours, pair_vectors

from fastdesc import GaussianMoments, Pairs, Potential, Structures, geometry
from fastdesc.descriptors.gaussian_moments import cpu
from fastdesc.descriptors.jacobian import row_jacobian

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


def ours(data, case, variant):
    """Return the published case as frame and descriptor of ours, and its features."""
    (positions, cell, pbc), _, settings, beta, published = published_case(data, case, variant)
    atoms = ase.Atoms(data[f"{case}/numbers"], positions=positions, cell=cell, pbc=pbc)
    species = data[f"{case}/species"].tolist()
    d = GaussianMoments(species=species, n_radial=beta.shape[2], n_basis=beta.shape[3], max_rank=3, **settings)
    d.set_parameters(beta=beta)
    return atoms, d, published


@pytest.mark.parametrize(("case", "variant"), PUBLISHED)
def test_ours_equals_published(reference_numbers, case, variant):
    atoms, d, published = ours(reference_numbers("gmnn_reference.npz"), case, variant)
    np.testing.assert_allclose(d.compute(atoms), published, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("case", "variant"), PUBLISHED)
def test_our_jacobian_is_near_the_published(reference_numbers, case, variant):
    """1e-5 Å in theirs, as above."""
    data = reference_numbers("gmnn_reference.npz")
    atoms, d, _ = ours(data, case, variant)
    published = data[f"{case}/{variant}/descriptor_jacobian"][:, columns_in_our_order(data["tri3"])]
    dense = d.compute(atoms, jacobian=True)[1].todense()
    np.testing.assert_allclose(dense, published, rtol=0, atol=1e-4 * abs(published).max())


@pytest.mark.parametrize("structure", ["triclinic", "three_elements"])
@pytest.mark.parametrize("variant", GAUSSIAN_MOMENTS.variants)
def test_moments_have_the_agreed_layout(variant, structure):
    """(n_radial, n_moments, n_atoms): 1 | x y z | xx xy xz yy yz zz | xxx xxy xxz xyy xyz xzz yyy yyz yzz zzz."""
    c = case(GAUSSIAN_MOMENTS, variant, structure)
    _, saved = c.descriptor.forward(c.rij, c.pairs, c.species, c.theta)
    moments = saved.moments[0] if c.descriptor.iterations else saved    # before the first iteration
    beta = textbook.coefficients(c.theta)
    full = textbook.moments(c.rij.T, c.pairs.i, c.pairs.j, c.species, beta, c.settings["cutoff"], c.settings["basis"])
    columns = []
    for rank in range(c.settings["max_rank"] + 1):
        for index in textbook.unordered(range(3), rank):
            columns.append(full[rank][(slice(None), slice(None), *index)])
    close(moments, np.stack(columns).transpose(2, 0, 1), 1e-12)


def test_moments_are_linear_in_beta():
    """So their tangent along beta does not depend on beta."""
    c = case(GAUSSIAN_MOMENTS, "bessel", "triclinic")
    _, tbeta = c.direction(c.rng)
    rij = dual(c.rij, 0 * c.rij)
    one, two = (
        c.descriptor.forward(rij, c.pairs, c.species, dual({"beta": beta}, tbeta))[1]
        for beta in (c.theta["beta"], 0 * c.theta["beta"])
    )
    close(one[1], two[1], 1e-12)
    assert not two[0].any()


@pytest.mark.parametrize(("n_radial", "counts"), [(5, (5, 20, 145, 360)), (7, (7, 35, 343, 910))])
def test_number_of_features(n_radial, counts):
    for max_rank, n in enumerate(counts):
        d = GaussianMoments(species=["H"], n_radial=n_radial, max_rank=max_rank)
        assert d.n_features == n == len(d.feature_names_out())


def test_names_say_which_contraction_of_which_channels():
    """A name is the formula: evaluated by hand from the full tensors, it gives the column it names."""
    c = case(GAUSSIAN_MOMENTS, "bessel", "three_elements")
    m = textbook.moments(c.rij.T, c.pairs.i, c.pairs.j, c.species, c.theta["beta"], c.settings["cutoff"], "bessel")
    q = c.descriptor.compute(c.frames[0])
    for column, name in enumerate(c.descriptor.feature_names_out()):
        factors = [f.split("_") for f in name.split()]
        tensors = [m[int(rank[1])][:, int(rest[0])] for rank, rest in factors]
        subscripts = ",".join("n" + rest[1:] for _, rest in factors)
        close(q[:, column], np.einsum(subscripts + "->n", *tensors), 1e-10)


def test_repeated_contractions_count_once():
    d = GaussianMoments(species=["H"], contractions=(2, 1, 2))
    assert d.n_features == 5 + 15


def test_self_images_are_neighbours():
    """Self images beyond the cutoff do not count, those within do (some implementations drop them)."""
    wide = ase.Atoms("Cu", cell=[9, 9, 9], pbc=True)
    narrow = ase.Atoms("Cu", cell=[3, 9, 9], pbc=True)
    d = GaussianMoments(species=["Cu"], cutoff=4.0)
    assert Pairs.find(Structures.from_ase(narrow), 4.0).n_pairs == 2
    assert not d.compute(wide).any()
    assert d.compute(narrow).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("variant", GAUSSIAN_MOMENTS.variants)
def test_both_orders_of_neighbours_give_the_same(variant, dtype, monkeypatch):
    """Sorted by element, as with few elements, and in any order."""
    c = case(GAUSSIAN_MOMENTS, variant, "three_elements")
    rng = c.rng
    rij = dual(c.rij, rng.normal(size=c.rij.shape)).astype(dtype)
    theta = {name: x.astype(dtype) for name, x in c.theta.items()}
    w = rng.normal(size=(2, *c.shape)).astype(dtype)
    found = []
    for many in (1, 1000):
        monkeypatch.setattr(cpu, "MANY", many)
        d, maps = c.descriptor, []
        for r, dq in ((rij, w), (rij[0], w[0])):
            given = r, c.pairs, c.species, theta
            q, saved = d.forward(*given)
            maps += [q, d.pullback(*given, saved, dq), *d.pullback_parameters(*given, saved, dq).values()]
        found.append(maps)
    for one, two in zip(*found, strict=True):
        close(one, two, 1e-12 if dtype is np.float64 else 64 * 2.0**-24)


@pytest.mark.parametrize("from_elements", [1, 1000])
def test_elements_that_are_not_there_change_nothing(from_elements, monkeypatch):
    monkeypatch.setattr(cpu, "MANY", from_elements)
    atoms = ase.Atoms("CuO", positions=[(0.1, 0.2, 0.3), (3.0, 2.2, 1.1)], cell=[3.4, 6.9, 3.5], pbc=True)
    few = GaussianMoments(species=["O", "Cu"], cutoff=4.0, n_radial=2, n_basis=3)
    many = GaussianMoments(species=range(1, 90), cutoff=4.0, n_radial=2, n_basis=3)
    place = np.array([7, 28])
    beta = many.parameters["beta"]
    few.set_parameters(beta=beta[np.ix_(place, place)])
    found = []
    for d in (few, many):
        rij, pairs, species = d.prepare(atoms)
        q, saved = d.forward(rij, pairs, species, d.theta(np.float64))
        back = d.pullback_parameters(rij, pairs, species, d.theta(np.float64), saved, np.ones_like(q))
        found.append((q, d.pullback(rij, pairs, species, d.theta(np.float64), saved, np.ones_like(q)), back["beta"]))
    (q, drij, dfew), (q_of_many, drij_of_many, dmany) = found
    np.testing.assert_array_equal(q_of_many, q)
    np.testing.assert_array_equal(drij_of_many, drij)
    np.testing.assert_array_equal(dmany[np.ix_(place, place)], dfew)
    assert np.count_nonzero(dmany) == np.count_nonzero(dfew) > 0


def test_factors_grow_with_the_number_of_elements_and_the_table_with_its_square():
    def sizes(mixing):
        made = [GaussianMoments(species=range(1, 1 + n), species_mixing=mixing).parameters for n in (10, 20, 40)]
        return np.diff([sum(a.size for a in parameters.values()) for parameters in made])

    assert list(sizes("factorised")) == [10 * 2 * 8, 20 * 2 * 8]
    assert list(sizes("pairs")) == [300 * 40, 1200 * 40]


def test_factors_begin_as_large_as_the_table():
    many = range(1, 31)
    for n_embedding in (1, 8, 40):
        d = GaussianMoments(species=many, species_mixing="factorised", n_embedding=n_embedding)
        beta = d.prepared(d.parameters, np.float64)["beta"]
        assert beta.shape == (30, 30, 5, 8) and abs(beta.mean()) < 0.1
        # A third, but for the spread of so few factors.
        assert 0.5 < 3 * (beta**2).mean() < 2
    assert 0.99 < 3 * (GaussianMoments(species=many).parameters["beta"] ** 2).mean() < 1.01


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_list_may_reach_far_beyond_the_cutoff(dtype):
    """Functions of distances that do not count would overflow there; they are zero, and not infinity times zero."""
    atoms = ase.Atoms("Cu8", np.random.default_rng(0).uniform(0, 4, (8, 3)) + np.arange(8)[:, None] // 4 * [0, 0, 45.0])
    d = GaussianMoments(species=["Cu"], cutoff=3.0, n_radial=2, n_basis=19)
    structures, theta = Structures.from_ase([atoms]), d.theta(np.dtype(dtype), "cpu")
    potential = Potential(d, hidden=(4,))
    found = []
    for reach in (3.0, 50.0):
        pairs, species = Pairs.find(structures, reach), np.zeros(8, np.int32)
        rij = geometry.pair_vectors(structures.positions, structures.cells, pairs, dtype)
        q, saved = d.forward(rij, pairs, species, theta)
        drij = d.pullback(rij, pairs, species, theta, saved, np.ones_like(q))
        _, forces, _, _ = potential.evaluate(structures, pairs, potential.model(dtype))
        found.append((q, geometry.forces(drij, pairs), forces))
    # Neighbours stand in other places of a block, and are summed in another order.
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for near, far in zip(*found, strict=True):
        np.testing.assert_allclose(far, near, rtol=0, atol=tolerance * np.abs(near).max())


def test_what_networks_of_the_recursion_see_at_first_is_scaled():
    """Training begins with first layers that see zero mean; parameters that were set stay."""
    settings = {"species": ELEMENTS, "cutoff": 4.5, "n_radial": 3, "n_basis": 4}
    d, plain = GaussianMoments(**settings, iterations=1), GaussianMoments(**settings, contractions=(1, 2, 3, 4))
    given = (*d.prepare(frames_of(TOGETHER)), d.theta("float64"))
    np.testing.assert_array_equal(d.parameters["beta"], plain.parameters["beta"])
    d.training_hints.adapt_initial(*given)
    q, shift = plain.compute(frames_of(TOGETHER)), d.parameters["network.1.O.0.bias"]
    seen = q @ d.parameters["network.1.O.0.weight"].T + shift
    close(seen.mean(axis=0), np.zeros(32), 1e-10 * abs(shift).max())
    scaled = {name: x.copy() for name, x in d.parameters.items()}
    d.training_hints.adapt_initial(*given)
    for name, x in scaled.items():
        np.testing.assert_array_equal(d.parameters[name], x)


@pytest.mark.parametrize(
    ("cutoff", "more"),
    [
        (3.0, {}),
        (6.0, {}),
        (5.0, {"basis": "gaussian", "contractions": (1, 2, 3, 6)}),    # no moments of rank 3
        (4.0, {"contractions": (4, 8)}),
    ],
)
def test_jacobian_in_lanes_equals_a_pullback_per_feature(cutoff, more):
    """Images of one neighbour, and of the atom itself, share a block; more pairs than one tile of lanes, and none."""
    lone, two = ase.Atoms("Cu"), ase.Atoms("CuH", [(0, 0, 0), (0, 0.3, 2.3)])
    frames = [ase.build.bulk("Cu", cubic=True), ase.build.bulk("Cu"), lone, two]
    for atoms in frames[:2]:
        atoms.rattle(0.1, seed=2)
    frames[0].symbols[1:3] = "H"
    d = GaussianMoments(species=["Cu", "H"], cutoff=cutoff, n_radial=3, n_basis=4, **more)
    structures = Structures.from_ase(frames)
    rij, pairs, species = d.prepare(structures)
    theta = d.theta("float64", "cpu")
    _, saved = d.forward(rij, pairs, species, theta)
    wanted = row_jacobian(lambda dq: d.pullback(rij, pairs, species, theta, saved, dq), rij, pairs, d.n_features)
    _, found = d.compute(frames, jacobian=True)
    np.testing.assert_array_equal(found.centre, wanted.centre)
    np.testing.assert_array_equal(found.atom, wanted.atom)
    np.testing.assert_allclose(found.values, wanted.values, atol=1e-13 * abs(wanted.values).max())
    single = d.compute(frames, jacobian=True, dtype="float32")[1].values
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, wanted.values, atol=2e-6 * abs(wanted.values).max())
