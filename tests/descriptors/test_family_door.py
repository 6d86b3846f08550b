"""What the front door of every family promises: rows, files, threads, Jacobians, names, and errors for bad input."""

from copy import deepcopy

import ase
import ase.io
import numpy as np
import pytest
from cuda_emulator import gcc_status
from helpers.backends import emulator
from helpers.battery import TOGETHER, case, close, complex_step, descriptor_of, frames_of
from helpers.families import in_single, variants
from helpers.structures import ELEMENTS, ZOO
from references.neighbours import neighbours, pair_vectors

import fastdesc
from fastdesc import Pairs, Structures, geometry
from fastdesc.backend import threads as parallel
from fastdesc.errors import DeviceError, InputError

TOLERANCE = 1e-12
SINGLE = 64 * 2.0**-24

pytestmark = pytest.mark.parametrize(("family", "variant"), variants())


@pytest.fixture
def d(family, variant):
    return descriptor_of(family, variant)


@pytest.mark.parametrize("structure", ZOO)
def test_compute_equals_textbook_with_its_own_neighbours(family, variant, d, structure):
    """Nothing of ours between positions and features: every image is tried."""
    atoms = ZOO[structure]()
    i, j, shift = neighbours(atoms.positions, atoms.cell.array, atoms.pbc, d.cutoff)
    rij = pair_vectors(atoms.positions, atoms.cell.array, i, j, shift)
    species = np.searchsorted(d.species_numbers, atoms.numbers)
    settings = family.variants[variant].keywords
    close(d.compute(atoms), family.reference.features(rij, i, j, species, d.parameters, **settings), 1e-10)


def test_one_frame_or_many_rows_in_order(d):
    frames = frames_of(TOGETHER)
    q = d.compute(frames)
    assert q.shape == (sum(map(len, frames)), d.n_features)
    assert q.flags.c_contiguous
    one_by_one = [d.compute(atoms) for atoms in frames]
    close(q, np.concatenate(one_by_one), TOLERANCE)
    np.testing.assert_array_equal(d.compute(frames[:1]), one_by_one[0])


def test_compute_reads_files(d, tmp_path):
    frames = [ZOO["dimer"](), ZOO["triclinic"]()]
    ase.io.write(tmp_path / "two.traj", frames)
    for path in (tmp_path / "two.traj", str(tmp_path / "two.traj")):
        np.testing.assert_array_equal(d.compute(path), d.compute(frames))


@pytest.mark.single
def test_single_precision(d):
    """See the battery for the bound."""
    frames = frames_of(TOGETHER)
    q = d.compute(frames, dtype="float32")
    assert q.dtype == np.float32
    close(q, d.compute(frames), SINGLE)


def test_threads_do_not_change_a_bit(d):
    """Enough atoms for several chunks of any size: results, parameter gradients included, do not know the threads."""
    structures = Structures.from_ase(frames_of("triclinic") * 400 + frames_of("three_elements") * 40)
    pairs = Pairs.find(structures, d.cutoff)
    rij = geometry.pair_vectors(structures.positions, structures.cells, pairs, np.float64)
    rng = np.random.default_rng(8)
    rij = np.stack([rij, rng.normal(size=rij.shape)])
    species = structures.species(d.species_numbers)
    theta = d.theta(np.float64)
    dq = rng.normal(size=(2, d.n_features, structures.n_atoms))

    def results(threads):
        parallel.set_threads(threads)
        try:
            q, saved = d.forward(rij, pairs, species, theta)
            arguments = (rij, pairs, species, theta, saved, dq)
            return [q, d.pullback(*arguments), *d.pullback_parameters(*arguments).values()]
        finally:
            parallel.set_threads(None)

    for one, two in zip(results(1), results(2), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("structure", ["three_elements", "self_images", "triclinic", "cluster_and_far_atom", "wire"])
def test_jacobian(family, variant, structure):
    """Against the complex step over every coordinate; moving an atom moves its own images too."""
    c = case(family, variant, structure)
    q, jacobian = c.descriptor.compute(c.frames[0], jacobian=True)
    np.testing.assert_array_equal(q, c.descriptor.compute(c.frames[0]))
    n_features, n_atoms = c.shape
    wanted = np.empty((n_atoms, n_features, n_atoms, 3))
    for a in range(n_atoms):
        for x in range(3):
            rho = np.zeros((n_atoms, 3))
            rho[a, x] = 1
            trij = (rho[c.pairs.j] - rho[c.pairs.i]).T
            wanted[:, :, a, x] = complex_step(lambda h, t=trij: c.textbook(c.rij + h * t)).T
    close(jacobian.todense(), wanted, 1e-10)
    assert jacobian.values.shape == (len(jacobian.centre), n_features, 3)
    together = set(zip(jacobian.centre.tolist(), jacobian.atom.tolist(), strict=True))
    assert len(together) == len(jacobian.centre)
    assert {(a, a) for a in range(n_atoms)} <= together


def test_jacobian_of_many_frames_is_that_of_each(d):
    frames = [ZOO["triclinic"](), ZOO["lone_atom"](), ZOO["dimer"]()]
    _, jacobian = d.compute(frames, jacobian=True)
    dense = jacobian.todense()
    first = 0
    for atoms in frames:
        last = first + len(atoms)
        close(dense[first:last, :, first:last], d.compute(atoms, jacobian=True)[1].todense(), TOLERANCE)
        dense[first:last, :, first:last] = 0
        first = last
    assert not dense.any()


@pytest.mark.skipif(not gcc_status()[0], reason=gcc_status()[1])
def test_jacobian_by_the_cuda_kernels(family, d):
    atoms = ZOO["cluster_and_far_atom"]()
    numba = d.compute(atoms, jacobian=True)[1]
    with emulator():
        emulated = d.compute(atoms, jacobian=True)[1]
    np.testing.assert_array_equal(emulated.centre, numba.centre)
    close(emulated.values, numba.values, TOLERANCE)


def test_names_parameters_and_arguments(family, variant, d):
    names = list(d.feature_names_out())
    assert len(names) == d.n_features == len(set(names))
    assert all(isinstance(name, str) and name for name in names)
    arguments = d.get_params()
    for name, value in family.variants[variant].keywords.items():
        assert arguments[name] is value or arguments[name] == value
        assert getattr(d, name) == value
    assert list(d.species_numbers) == sorted(ase.data.atomic_numbers[s] for s in ELEMENTS)
    twin = type(d)(**arguments)
    twin.set_parameters(**d.parameters)
    atoms = ZOO["triclinic"]()
    np.testing.assert_array_equal(twin.compute(atoms), d.compute(atoms))
    fresh = [type(d)(**arguments) for _ in range(2)]
    for name in d.parameters:
        np.testing.assert_array_equal(fresh[0].parameters[name], fresh[1].parameters[name])


def test_species_are_symbols_or_numbers_in_any_order(family, variant):
    one = family.make(variant, ["O", "H", "C"])
    two = family.make(variant, [1, 6, 8])
    assert tuple(one.species_numbers) == tuple(two.species_numbers) == (1, 6, 8)
    np.testing.assert_array_equal(one.compute(ZOO["three_elements"]()), two.compute(ZOO["three_elements"]()))


def test_set_parameters_copies(d):
    twin = type(d)(**d.get_params())
    given = {name: x.copy() for name, x in d.parameters.items()}
    twin.set_parameters(**given)
    before = twin.compute(ZOO["dimer"]())
    for x in given.values():
        x[...] = 0
    np.testing.assert_array_equal(twin.compute(ZOO["dimer"]()), before)


# Bad input: each error, and that its message names what matters


BAD_KEYWORDS = [
    ({"cutoff": 0.0}, "cutoff"),
    ({"cutoff": -1.0}, "cutoff"),
    ({"cutoff": float("nan")}, "cutoff"),
    ({"cutoff": float("inf")}, "cutoff"),
    ({"cutoff": "six"}, "cutoff"),
    ({"cutoff": 1e-300}, "cutoff came as 1e-300, and no atom has another so near; give at least 0.01"),
    ({"cutoff": 1e4}, "cutoff came as 10000.0; it must be a positive number of at most 1000"),
    ({"seed": -1}, "seed came as -1"),
    ({"seed": [1, "a"]}, "seed"),
    ({"species": []}, "species"),
    ({"species": ["Xx"]}, "Xx"),
    ({"species": ["H", 1]}, "H|twice|species"),
    ({"species": [0]}, "0"),
    ({"species": [-5]}, "-5"),
    ({"species": None}, "species came as None"),
    ({"species": b"Cu"}, "species came as b'Cu'"),
    ({"species": ["cu"]}, "did you mean 'Cu'"),
    # More than any memory holds, and than anyone means.
    *(({name: 10**12}, f"{name} came as {10**12}; it must be an integer") for name in (
        "n_radial", "n_basis", "iterations", "n_pair", "n_triplet", "n_knots"
    )),
]


def test_constructor_refuses(family, variant, d):
    for keywords, mention in BAD_KEYWORDS + family.bad_keywords:
        if keywords.keys() <= d.get_params().keys():
            with pytest.raises(InputError, match=mention):
                family.make(variant, **{"species": ELEMENTS, **family.variants[variant].keywords, **keywords})


def test_set_parameters_refuses(d):
    name, value = next(iter(d.parameters.items()))
    with pytest.raises(InputError, match=name):
        d.set_parameters(**{name + "x": value})
    with pytest.raises(InputError, match="shape"):
        d.set_parameters(**{name: value[..., :0]})
    with pytest.raises(InputError, match=name):
        d.set_parameters(**{name: np.full_like(value, np.nan)})
    for nonsense in ("words", [[1], [1, 2]], value * 1j):
        with pytest.raises(InputError, match=rf"{name}.*real numbers"):
            d.set_parameters(**{name: nonsense})
    np.testing.assert_array_equal(d.parameters[name], value)


def test_refused_arguments_leave_the_descriptor_as_it_was(d):
    d = deepcopy(d)  # the fixture's is shared by all tests
    before = d.compute(ZOO["dimer"]())
    with pytest.raises(InputError, match="cutoff"):
        d.set_params(cutoff=-1.0)
    np.testing.assert_array_equal(d.compute(ZOO["dimer"]()), before)
    assert d.set_params(cutoff=d.cutoff + 0.125) is d
    assert not np.array_equal(d.compute(ZOO["dimer"]()), before)


def test_compute_refuses(d):
    good, bad = ZOO["dimer"](), ZOO["dimer"]()
    with pytest.raises(InputError, match=r"frame 1.*He"):
        d.compute([good, ase.Atoms("He")])
    bad.positions[1, 2] = np.nan
    with pytest.raises(InputError, match="frame 1, atom 1"):
        d.compute([good, bad])
    bad.positions[1] = bad.positions[0]
    with pytest.raises(InputError, match="frame 1"):
        d.compute([good, bad])
    flat = ase.Atoms("H", cell=[1, 1, 0], pbc=True)
    with pytest.raises(InputError, match=r"frame 1.*cell"):
        d.compute([good, flat])


@pytest.mark.parametrize("nothing", [[], None, 3, ["H2O"], ase.Atoms(), [ase.Atoms("H"), ase.Atoms()]], ids=repr)
def test_compute_refuses_what_is_no_frame(d, nothing):
    with pytest.raises(InputError, match=r"frame|Atoms|does not exist"):
        d.compute(nothing)


def test_compute_refuses_unknown_files_types_and_devices(d):
    with pytest.raises(InputError, match="float16"):
        d.compute(ZOO["dimer"](), dtype="float16")
    with pytest.raises(InputError, match="gpu"):
        d.compute(ZOO["dimer"](), device="gpu")
    with pytest.raises(InputError, match="no_such"):
        d.compute("no_such.xyz")


@pytest.mark.no_gpu
def test_missing_gpu_is_reported(d):
    with pytest.raises(DeviceError, match="cuda"):
        d.compute(ZOO["dimer"](), device="cuda")
    np.testing.assert_array_equal(d.compute(ZOO["dimer"](), device="auto"), d.compute(ZOO["dimer"]()))


@pytest.mark.gpu
def test_gpu_equals_cpu(d):
    frames = frames_of(TOGETHER)
    one, two = (d.compute(frames, jacobian=True, device=device) for device in ("cuda", "cpu"))
    close(one[0], two[0], TOLERANCE)
    close(one[1].todense(), two[1].todense(), TOLERANCE)
    close(d.compute(frames, device="cuda", dtype="float32"), two[0], SINGLE)


def test_every_family_is_public(family, variant):
    assert family.cls in fastdesc.__all__


def test_blocks_are_pieces_of_the_jacobian(d):
    """In the order of all at once; images of a centre itself are among its neighbours."""
    frames = frames_of(TOGETHER)
    q, whole = d.compute(frames, jacobian=True)
    centre, atom, values, features, seen = [], [], [], [], 0
    for block in d.jacobian_blocks(frames, n_atoms=3):
        assert block.atoms.start == seen
        assert 0 < block.atoms.stop - seen <= (3 if d.own_row else len(q))
        assert np.isin(block.jacobian.centre, np.arange(seen, block.atoms.stop)).all()
        assert block.jacobian.n_atoms == len(q)
        seen = block.atoms.stop
        features.append(block.features)
        centre.append(block.jacobian.centre)
        atom.append(block.jacobian.atom)
        values.append(block.jacobian.values.copy())
    close(np.concatenate(features), q, 1e-13)
    np.testing.assert_array_equal(np.concatenate(centre), whole.centre)
    np.testing.assert_array_equal(np.concatenate(atom), whole.atom)
    close(np.concatenate(values), whole.values, 1e-13)


def test_products_are_those_of_the_jacobian(family, variant, d, thorough):
    frames, rng = frames_of(TOGETHER), np.random.default_rng(4)
    q, jacobian = d.compute(frames, jacobian=True)
    v, w = rng.normal(size=(len(q), 3)), rng.normal(size=q.shape)
    dense = jacobian.todense()
    found, back = d.jvp(frames, v), d.vjp(frames, w)
    close(found, np.einsum("ifjc,jc->if", dense, v), TOLERANCE)
    close(back, np.einsum("ifjc,if->jc", dense, w), TOLERANCE)
    assert (found * w).sum() == pytest.approx((back * v).sum(), rel=1e-11)    # <w, J v> = <w J, v>
    if thorough or in_single(family, variant):
        single = d.jvp(frames, v, dtype="float32")
        assert single.dtype == np.float32
        close(single, found, 1e-4)


def test_products_refuse_other_shapes(d):
    atoms = ZOO["dimer"]()
    with pytest.raises(InputError, match=r"'directions' .*\(2, 3\)"):
        d.jvp(atoms, np.zeros((3, 3)))
    with pytest.raises(InputError, match="'weights'"):
        d.vjp(atoms, np.full((2, d.n_features), np.nan))
