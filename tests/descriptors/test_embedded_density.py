"""Embedded density alone: the textbook against published numbers, and what only this family promises."""

import tracemalloc

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import voigt_6_to_full_3x3_stress
from helpers.battery import close
from helpers.structures import ZOO
from references import embedded_density as textbook

from fastdesc import EmbeddedDensity, Potential, geometry, load
from fastdesc.backend import threads
from fastdesc.training.batch_gradient import batch_gradient, predict_batch
from fastdesc.training.dataset import TrainingSet
from fastdesc.training.initialise import initialise
from fastdesc.training.loss import LossWeights, residuals
from fastdesc.training.settings import Settings
from fastdesc.training.trainer import Trainer

PUBLISHED = [("ch4_T0", 0), ("ch4_T2", 0), ("ch4_T2", 1), ("ch4_T2", 2), ("nacl8_T0", 0)]
SMALL = {"normalized": True, "cutoff": 3.0, "n_radial": 3, "n_features": 7, "hidden": (5,)}


def randomised(d, seed=0):
    """Return `d` with parameters in general position."""
    rng = np.random.default_rng(seed)
    d.set_parameters(**{k: rng.uniform(-0.5, 0.5, x.shape) for k, x in d.parameters.items()})
    return d


@pytest.mark.parametrize(("case", "iteration"), PUBLISHED)
def test_textbook_equals_published(reference_numbers, case, iteration):
    """Densities of every iteration, from the coefficients of that iteration."""
    data = {k.split("/", 1)[1]: v for k, v in reference_numbers("reann_reference.npz").items() if k.startswith(case)}
    i, j = data["pairs_ijS"][:, :2].T
    hyper = data["param/density.hyper"]
    q = textbook.density(
        data["pair_vec"], i, j, data["species"], -data["param/density.inta"], data["param/density.rs"],
        data[f"orb_coeff_t{iteration}"], hyper, cutoff=data["param/density.cutoff"].item(), l_max=len(hyper) - 1,
        normalized=False,
    )  # fmt: skip
    np.testing.assert_allclose(q, data[f"density_t{iteration}"], rtol=0, atol=1e-13)


@pytest.mark.parametrize("case", ["ch4_T0", "nacl8_T0"])
def test_published_features_from_a_frame(reference_numbers, case):
    """Frame to features: neighbour list, sign of vectors, order of elements, logarithm of the exponents."""
    data = {k.split("/", 1)[1]: v for k, v in reference_numbers("reann_reference.npz").items() if k.startswith(case)}
    symbols = {"ch4_T0": "CH", "nacl8_T0": ["Na", "Cl"]}[case]
    atoms = Atoms(
        [symbols[z] for z in data["species"]], data["positions"], cell=data["cell"], pbc=data["pbc"].astype(bool)
    )
    n_l, n_radial, n_features = data["param/density.hyper"].shape
    d = EmbeddedDensity(
        species=list(symbols), cutoff=data["param/density.cutoff"].item(), n_radial=n_radial, l_max=n_l - 1,
        n_features=n_features, normalized=False,
    )  # fmt: skip
    order = np.argsort([Atoms([s]).numbers[0] for s in symbols])
    d.set_parameters(
        alpha=np.log(-data["param/density.inta"])[order], r_s=data["param/density.rs"][order],
        coefficients=data["param/density.params"][order], hyper=data["param/density.hyper"],
    )  # fmt: skip
    close(d.compute(atoms), data["density_t0"], 1e-12)


def test_none_is_hyper_with_one_radial_function_each():
    settings = {"species": ["Na", "Cl"], "cutoff": 4.0, "n_radial": 3, "l_max": 3}
    plain = randomised(EmbeddedDensity(**settings, contraction="none"))
    mixed = EmbeddedDensity(**settings, n_features=12)
    hyper = np.zeros((4, 3, 12))
    for l in range(4):
        hyper[l, :, 3 * l : 3 * l + 3] = np.eye(3)
    mixed.set_parameters(**plain.parameters, hyper=hyper)
    close(plain.compute(ZOO["triclinic"]()), mixed.compute(ZOO["triclinic"]()), 1e-12)
    assert plain.feature_names_out()[4] == "density_l1_k1"


@pytest.mark.parametrize("iterations", [0, 1, 2])
@pytest.mark.parametrize("structure", ["three_elements", "triclinic", "cluster_and_far_atom", "self_images"])
def test_jacobian_has_the_blocks_of_atoms_within_reach(iterations, structure):
    """And no others; what is in them is the battery's."""
    atoms = ZOO[structure]()
    settings = {**SMALL, "cutoff": 1.6 if structure == "three_elements" else 3.0, "iterations": iterations}
    d = randomised(EmbeddedDensity(species=sorted(set(atoms.symbols)), **settings))
    jacobian = d.compute(atoms, jacobian=True)[1]
    pairs = d.prepare(atoms)[1]
    near = np.eye(len(atoms), dtype=int)
    near[pairs.i, pairs.j] = 1
    reach = np.linalg.matrix_power(near, iterations + 1) > 0
    assert set(zip(jacobian.centre, jacobian.atom, strict=True)) == set(zip(*np.nonzero(reach), strict=True))


@pytest.mark.parametrize("iterations", [0, 1, 2])
def test_features_see_one_cutoff_further_each_iteration(iterations):
    """A chain of atoms 1.6 Å apart, cutoff 3 Å: atom k matters to atom 0 only after k - 1 iterations."""
    d = randomised(EmbeddedDensity(species=["Cu"], iterations=iterations, **SMALL))
    chain = Atoms("Cu5", positions=[(1.6 * k, 0.05 * k * k, 0) for k in range(5)])
    before = d.compute(chain)
    for k in range(1, 5):
        moved = chain.copy()
        moved.positions[k, 1] += 0.3
        assert (abs(d.compute(moved) - before)[0].max() > 1e-12) == (k <= iterations + 1), k


@pytest.mark.parametrize("contraction", ["hyper", "none"])
@pytest.mark.parametrize("networks", ["per_species", "shared"])
def test_iterations_begin_with_the_features_of_none(contraction, networks):
    settings = {"species": ["Na", "Cl"], "contraction": contraction, "networks": networks}
    q = EmbeddedDensity(**settings).compute(ZOO["triclinic"]())
    np.testing.assert_allclose(EmbeddedDensity(**settings, iterations=2).compute(ZOO["triclinic"]()), q, rtol=1e-12)
    assert 1e-3 < np.sqrt((q**2).mean()) < 1e3 if contraction == "hyper" else q.any()


def test_calibration():
    """Features of mean square one, and first layers that see zero mean and unit variance."""
    frames = [ZOO["triclinic"](), ZOO["skewed"](), ZOO["three_elements"]()]
    species = ["H", "C", "O", "Na", "Cl", "Cu"]
    for contraction in ("hyper", "none"):
        d = EmbeddedDensity(species=species, iterations=2, contraction=contraction)
        assert d.calibrate(frames) is d
        q = d.compute(frames)
        if contraction == "hyper":
            np.testing.assert_allclose((q**2).mean(axis=0), 1, rtol=1e-9)
        for name in ("network.1.H.0", "network.2.Cu.0"):
            z = q @ d.parameters[f"{name}.weight"].T + d.parameters[f"{name}.bias"]
            close(z.mean(axis=0), np.zeros(64), 1e-9)
            assert 0.3 < z.std() < 3


@pytest.mark.parametrize("iterations", [0, 2])
def test_training_calibrates_parameters_that_nobody_changed(iterations):
    """As `calibrate` on the training frames does; what was set, if only one number, stays."""
    frames = labelled_alloy(3)
    d = EmbeddedDensity(species=["Cu", "Au"], iterations=iterations, **SMALL)
    by_hand = EmbeddedDensity(**d.get_params()).calibrate(frames)

    def begun(descriptor, **settings):
        potential = Potential(descriptor, hidden=(4,))
        Trainer(potential, frames, None, Settings.named(dtype="float64", **settings), np.random.default_rng(0))
        assert potential.fitted
        return potential.descriptor.parameters

    for name, array in begun(d).items():
        close(array, by_hand.parameters[name], 1e-12)
    assert not np.allclose(by_hand.parameters["hyper"], d.parameters["hyper"])
    changed = EmbeddedDensity(**d.get_params())
    changed.set_parameters(coefficients=1.25 * d.parameters["coefficients"])
    held = {"freeze": ["descriptor/r_s"]}, {"descriptor_learning_rate": 0}
    for descriptor, settings in ((changed, {}), *((d, h) for h in held)):
        for name, array in begun(descriptor, **settings).items():
            np.testing.assert_array_equal(array, descriptor.parameters[name])


@pytest.mark.parametrize("call", ["energies and forces", "gradient"])
def test_iterations_keep_nothing_of_the_networks(call):
    """Peak of memory: an iteration adds densities, their cotangents and c, not features or hidden values.

    With 60 features and two layers of 64, one plane of those in float32 would be 1.3 kB an atom.
    """
    atoms = bulk("Cu", cubic=True).repeat(11)
    atoms.rattle(0.05, seed=1)
    settings = {"species": ["Cu"], "cutoff": 3.2, "n_radial": 4, "n_features": 60, "hidden": (64, 64)}
    dual = call == "gradient"

    def peak(iterations):
        d = EmbeddedDensity(**settings, iterations=iterations)
        rij, pairs, species = d.prepare(atoms, "float32")
        theta, rij = d.theta(rij.dtype), np.stack([rij, rij]) if dual else rij
        dq = np.ones((*rij.shape[:-2], d.n_features, len(atoms)), np.float32)
        threads.set_threads(1)  # how many blocks are at work at a time is no matter of iterations
        tracemalloc.start()
        try:
            saved = d.forward(rij, pairs, species, theta)[1]
            (d.pullback_parameters if dual else d.pullback)(rij, pairs, species, theta, saved, dq)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            threads.set_threads(None)

    planes, needed = 1 + dual, 4 * (2 * 4 * 10 + 8)
    peak(1)  # compiles
    assert (peak(4) - peak(1)) / (3 * len(atoms)) < 1.1 * planes * needed


def test_names_of_the_networks():
    d = EmbeddedDensity(species=["H", "O"], iterations=2, hidden=(4,), n_features=6)
    assert "network.2.O.1.bias" in d.parameters and d.parameters["network.1.H.0.weight"].shape == (4, 6)
    d = EmbeddedDensity(species=["H", "O"], iterations=1, hidden=(), n_features=6, networks="shared")
    names = [k for k in d.parameters if k.startswith("network")]
    assert names == ["network.1.shared.0.weight", "network.1.shared.0.bias"]
    assert d.parameters["network.1.shared.0.weight"].shape == (8, 8)


def test_default_number_of_features():
    assert EmbeddedDensity(species=["H"]).n_features == 108
    d = EmbeddedDensity(species=["H"], n_radial=4, l_max=1, contraction="none")
    assert d.n_features == 8 and d.get_params()["n_features"] is None


def labelled_alloy(n, seed=0):
    """Rattled and strained CuAu cells smaller than the cutoff, with random energies, forces and stresses."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n):
        atoms = bulk("Cu", "fcc", a=3.75, cubic=True)
        atoms.numbers[rng.permutation(4)[:2]] = 79
        atoms.set_cell(atoms.cell @ (np.eye(3) + 0.05 * rng.standard_normal((3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(0, 0.1, (4, 3))
        labels = {"energy": rng.normal(), "forces": rng.normal(size=(4, 3)), "stress": rng.normal(size=6)}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    return frames


def five_point(f, h):
    """Fourth-order difference quotient of f at 0."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_potential_end_to_end(iterations):
    """Forces and stress against differences of energies; the gradient of a loss on all three against differences of it.

    Every parameter, through every iteration, on periodic cells with self images. Differences of a step where rounding
    and truncation meet are good to 1e-7; the battery's exact derivatives are held to 1e-10.
    """
    frames = labelled_alloy(2)
    settings = {**SMALL, "n_features": 5, "cutoff": 4.2}
    d = randomised(EmbeddedDensity(species=["Cu", "Au"], iterations=iterations, **settings))
    potential = Potential(d, hidden=(4,), seed=1)
    data = TrainingSet(frames, d, np.float64)
    initialise(potential, data)
    rng = np.random.default_rng(2)

    atoms, rho = frames[0], rng.normal(size=(4, 3))
    strain = rng.normal(size=(3, 3))
    strain += strain.T

    def energy(h):
        moved = atoms.copy()
        moved.positions += h * rho
        moved.set_cell(moved.cell @ (np.eye(3) + h * strain), scale_atoms=True)
        return potential.predict(moved).energy[0]

    out = potential.predict(atoms)
    along_strain = (voigt_6_to_full_3x3_stress(out.stress[0]) * strain).sum() * atoms.get_volume()
    assert five_point(energy, 2e-4) == pytest.approx(along_strain - (out.forces * rho).sum(), rel=1e-7)

    weights = LossWeights(2.0, 1.0, 0.7)
    batch = data.batch([1, 0], potential.reference)
    parameters = potential.parameters
    gradient = batch_gradient(potential, potential.model(parameters=parameters), batch, weights)[1]
    assert list(gradient) == list(parameters)
    for name, array in parameters.items():
        direction = rng.standard_normal(array.shape)

        def loss(h, name=name, array=array, direction=direction):
            model = potential.model(parameters={**parameters, name: array + h * direction})
            return residuals(batch.targets, *predict_batch(model, batch)[:3], weights).loss

        wanted = five_point(loss, 1e-4)
        assert (gradient[name] * direction).sum() == pytest.approx(wanted, rel=1e-7, abs=1e-9), name


def test_a_saved_potential_keeps_its_networks(tmp_path):
    d = randomised(EmbeddedDensity(species=["Na", "Cl"], iterations=1, **SMALL))
    potential = Potential(d, hidden=(4,))
    potential.save(tmp_path / "model.h5")
    again = load(tmp_path / "model.h5")
    assert list(again.descriptor.parameters) == list(d.parameters)
    one, two = (p.predict(ZOO["triclinic"]()) for p in (potential, again))
    np.testing.assert_array_equal(one.forces, two.forces)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("iterations", [0, 1])
def test_gaussians_that_grow_stay_finite_beyond_the_cutoff(dtype, iterations):
    """Lanes without a neighbour, and neighbours beyond the cutoff, are where such a Gaussian overflows."""
    d = EmbeddedDensity(species=["Na", "Cl"], iterations=iterations, exponents="any", **{**SMALL, "cutoff": 3.1})
    d.set_parameters(exponents=np.full((2, 3), -25.0), r_s=np.full((2, 3), 2.5))
    atoms = ZOO["triclinic"]()
    rij, pairs, species = d.prepare(atoms, dtype)
    wide = EmbeddedDensity(species=["Na", "Cl"], **{**SMALL, "cutoff": 7.0}).prepare(atoms, dtype)
    theta = d.theta(dtype)
    expected, saved = d.forward(rij, pairs, species, theta)
    assert np.isfinite(expected).all() and expected.any()
    found, wide_saved = d.forward(*wide, theta)
    # Pairs that count for nothing may move the others to other lanes, so that sums are taken in another order.
    tolerance = 1e-6 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(found, expected, rtol=tolerance)
    dq = np.ones_like(expected)
    forces = [geometry.forces(d.pullback(*list_, theta, kept, dq), list_[1])
              for list_, kept in (((rij, pairs, species), saved), (wide, wide_saved))]    # fmt: skip
    size = abs(forces[0]).max()
    np.testing.assert_allclose(forces[1], forces[0], rtol=0, atol=size * tolerance)
