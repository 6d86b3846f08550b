"""s-MEAM potentials from files for LAMMPS: the same numbers, there and back, trained further; and what is refused."""

import ase
import numpy as np
import pytest
from ase.build import bulk, fcc111, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from helpers.lammps_run import lammps_status, published, run

import fastdesc as fd
from fastdesc.cli import main
from fastdesc.errors import InputError
from fastdesc.io.meam_spline import MeamSpline, SplineFunction, write_functions
from fastdesc.numerics.splines import Splines
from fastdesc.training.batch_gradient import batch_gradient
from fastdesc.training.loss import LossWeights
from fastdesc.training.settings import Settings
from fastdesc.training.trainer import Trainer

LAMMPS, NO_LAMMPS = lammps_status()
needs_lammps = pytest.mark.skipif(not LAMMPS, reason=NO_LAMMPS)
TOLERANCE = 1e-9


def function(rng, x0, x1, n, height, level=0.0, ends=None):
    """A random spline that decays from `height` to its end, which is `ends` (value, slope) or a random one."""
    y = level + height * rng.uniform(0.3, 1.0) * np.linspace(1, 0, n) ** 2 + 0.1 * height * rng.normal(size=n)
    slopes = np.array([-2 * height / (x1 - x0), 0.3 * height]) * rng.normal(1, 0.3, 2)
    if ends is not None:
        y[-1], slopes[1] = ends
    return SplineFunction(Splines(x0, x1, n), np.concatenate([y, slopes]))


def random_functions(elements, cut, seed=0):
    """Functions of which no two have the same knots.

    cut : whether phi, rho and f end with a value and a slope other than zero, and are cut off there.
    """
    rng = np.random.default_rng(seed)
    n, ends = len(elements), None if cut else (0.0, 0.0)

    def some(m, x0, x1, height, **more):
        return tuple(
            function(rng, x0 + rng.uniform(0, 0.3), x1 + rng.uniform(-0.6, 0), int(rng.integers(4, 12)), height, **more)
            for _ in range(m)
        )

    pairs = n * (n + 1) // 2
    return MeamSpline(
        tuple(elements),
        phi=some(pairs, 1.9, 5.2, 2.0, ends=ends),
        rho=some(n, 2.0, 4.4, -1.0, ends=ends),
        U=some(n, -4.0, 9.0, 1.5),
        f=some(n, 1.8, 4.2, 1.0, ends=ends),
        g=tuple(function(rng, rng.uniform(-1, -0.99), x1, 6, 2.0, -0.5) for x1 in rng.uniform(0.8, 1.0, pairs)),
    )


def rattled(atoms, symbols, seed=3, width=0.1):
    rng = np.random.default_rng(seed)
    atoms.set_chemical_symbols(list(rng.choice(symbols, len(atoms))))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.03, (3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(0, width, atoms.positions.shape)
    return atoms


def structures(symbols):
    """Name -> frame, with a cell that holds all atoms even where it is not periodic."""
    crystal = bulk("Cu", "fcc", a=3.9, cubic=True)
    perfect = crystal.copy()
    perfect.set_chemical_symbols([symbols[k % len(symbols)] for k in range(4)])
    slab = fcc111("Cu", (3, 3, 3), a=3.9, vacuum=8.0)
    slab.pbc = True, True, False
    water = ase.Atoms("Cu4", positions=molecule("CH3OH").positions[:4] * 1.9)
    water.center(vacuum=9.0)
    close = ase.Atoms("Cu3", positions=[(9, 9, 9), (9, 9, 10.3), (9, 10.9, 9.2)], cell=[20] * 3)
    for frame in (water, close):
        frame.set_chemical_symbols(list(np.resize(symbols, len(frame))))
    return {
        "perfect": perfect,
        "strained": rattled(crystal * (2, 2, 2), symbols),
        "primitive": rattled(bulk("Cu", "fcc", a=3.9), symbols, width=0.0),
        "slab": rattled(slab, symbols, seed=4),
        "molecule": water,
        "below the first knot": close,
    }


def agree(potential, path, elements, frames):
    """Energies per atom, forces and stresses agree with LAMMPS."""
    for name, atoms in frames.items():
        energy, forces, stress = run(atoms, path, elements)
        found = potential.predict(atoms)
        assert abs(found.energy[0] - energy) < TOLERANCE * len(atoms), name
        np.testing.assert_allclose(found.forces, forces, rtol=0, atol=TOLERANCE, err_msg=name)
        if atoms.pbc.all():
            np.testing.assert_allclose(found.stress[0], stress, rtol=0, atol=TOLERANCE, err_msg=name)


@needs_lammps
@pytest.mark.parametrize("cut", [False, True], ids=["smooth", "cut"])
@pytest.mark.parametrize("elements", [("Cu",), ("Ti", "O")])
def test_numbers_of_lammps(tmp_path, elements, cut):
    """Older form for one element, newer for two, in an order that is not ours."""
    path = tmp_path / "a.meam.spline"
    write_functions(path, random_functions(elements, cut), form="single" if len(elements) == 1 else "named")
    agree(fd.read_meam_spline(path, elements[0]), path, elements, structures(elements))


@needs_lammps
@pytest.mark.parametrize("cut", [False, True], ids=["smooth", "cut"])
def test_dimers_across_all_last_knots(tmp_path, cut):
    """Straight lines from each last knot to the one cutoff of all functions, where they are cut off."""
    functions, path = random_functions(("Cu",), cut), tmp_path / "a"
    write_functions(path, functions, form="single")
    potential = fd.read_meam_spline(path, "Cu")
    ends = [getattr(functions, name)[0].splines.x1 for name in ("phi", "rho", "f")]
    assert len(set(ends)) == 3
    jumped = []
    for x in [1.0, *ends, functions.cutoff + 0.4]:
        for r in (x - 1e-6, x + 1e-6):
            dimer = ase.Atoms("Cu2", positions=[(9, 9, 9), (9, 9, 9 + r)], cell=[30] * 3)
            energy, forces, _ = run(dimer, path, ("Cu",))
            found = potential.predict(dimer)
            np.testing.assert_allclose(found.energy[0], energy, rtol=0, atol=TOLERANCE)
            np.testing.assert_allclose(found.forces, forces, rtol=0, atol=TOLERANCE)
            jumped.append(energy)
            if r > functions.cutoff:
                assert found.energy[0] == 0 and not found.forces.any()
    at = 2 + 2 * ends.index(max(ends))
    assert (abs(jumped[at] - jumped[at + 1]) > 1e-3) == cut


@needs_lammps
@pytest.mark.parametrize(
    ("name", "elements"),
    [("Si_1", ["Si"]), ("Si_2", ["Si"]), ("Ti", ["Ti"]), ("TiO", ["Ti", "O"])],
)
def test_published_potentials(name, elements):
    path = published(f"{name}.meam.spline")
    if path is None:
        pytest.skip(f"this lammps brings no potential {name}")
    agree(fd.read_meam_spline(path, elements[0]), path, elements, structures(elements))


# ------------------------------------------------------------------------------------------------- without LAMMPS


@pytest.fixture
def two(tmp_path):
    """A potential of two elements, read from a file."""
    write_functions(tmp_path / "two.meam.spline", random_functions(("Ti", "O"), cut=True))
    return fd.read_meam_spline(tmp_path / "two.meam.spline")


def test_there_and_back(tmp_path, two):
    """A file from a potential from a file: the same functions; elements in ascending order."""
    frames = list(structures(["Ti", "O"]).values())
    fd.write_meam_spline(tmp_path / "b", two)
    again = fd.read_meam_spline(tmp_path / "b")
    assert again.descriptor.species_numbers == two.descriptor.species_numbers
    for name, p in two.parameters.items():
        np.testing.assert_array_equal(again.parameters[name], p, err_msg=name)
    np.testing.assert_allclose(again.predict(frames).energy, two.predict(frames).energy, rtol=1e-13)


def test_models_keep_it(tmp_path, two):
    frames = list(structures(["Ti", "O"]).values())
    two.save(tmp_path / "m.h5")
    loaded = fd.load(tmp_path / "m.h5")
    one, other = two.predict(frames), loaded.predict(frames)
    np.testing.assert_array_equal(one.energy, other.energy)
    np.testing.assert_array_equal(one.forces, other.forces)


def test_isolated_atoms_have_no_energy(two):
    atoms = ase.Atoms("TiO", positions=[(0, 0, 0), (0, 0, 30)])
    assert not two.predict(atoms).energies.any()


def labelled(potential, frames, seed=0):
    """Frames with the numbers of a potential, slightly wrong."""
    rng = np.random.default_rng(seed)
    for atoms in frames:
        p = potential.predict(atoms)
        labels = {
            "energy": p.energy[0] + rng.normal(0, 0.1),
            "forces": p.forces + rng.normal(0, 0.1, p.forces.shape),
        }
        atoms.calc = SinglePointCalculator(atoms, **labels)
    return frames


def test_training_goes_on_from_it(two):
    """It starts where the potential is, not anew, and the loss falls."""
    frames = labelled(two, [rattled(bulk("Cu", "fcc", a=3.9, cubic=True), ["Ti", "O"], seed=k) for k in range(6)])
    before = {name: p.copy() for name, p in two.parameters.items()}
    energy = two.predict(frames).energy
    history = fd.train(two, frames, frames, epochs=12, batch_size=3, seed=0, dtype="float64", learning_rate=1e-3)
    assert history.best()["valid_loss"] < 0.9 * history.rows[0]["valid_loss"]
    for name in ("descriptor/pair", "descriptor/triplet_angular", "network/0/splines", "direct"):
        change = abs(two.parameters[name] - before[name]).max()
        assert 0 < change < 0.2, name
    assert abs(two.predict(frames).energy - energy).max() < 20


def test_gradient_of_the_loss(two):
    """Central differences of the loss in every kind of parameter, in random directions."""
    frames = labelled(two, [rattled(bulk("Cu", "fcc", a=3.9, cubic=True), ["Ti", "O"], seed=k) for k in range(2)])
    trainer = Trainer(two, frames, None, Settings.named(dtype="float64"), np.random.default_rng(0))
    batch = trainer.data.batch(np.arange(2), two.reference)
    weights, rng = LossWeights(1.0, 1.0, 0.0), np.random.default_rng(1)

    def loss(parameters):
        model = two.model("float64", parameters=parameters)
        return batch_gradient(two, model, batch, weights)

    _, gradient = loss(two.parameters)
    for name, p in two.parameters.items():
        direction, h = rng.normal(size=p.shape), 1e-5
        low, high = (loss({**two.parameters, name: p + s * direction})[0].loss for s in (-h, h))
        wanted = (high - low) / (2 * h)
        assert (gradient[name] * direction).sum() == pytest.approx(wanted, rel=1e-6, abs=1e-7), name


def test_command_line(tmp_path, capsys):
    write_functions(tmp_path / "si.meam.spline", random_functions(("Si",), cut=True), form="single")
    assert main(["import", str(tmp_path / "si.meam.spline"), str(tmp_path / "si.h5"), "--element", "Si"]) == 0
    assert main(["info", str(tmp_path / "si.h5")]) == 0
    assert "spline" in capsys.readouterr().out
    frames = labelled(fd.load(tmp_path / "si.h5"), [rattled(bulk("Si", cubic=True), ["Si"])])
    ase.io.write(tmp_path / "f.extxyz", frames)
    assert main(["evaluate", str(tmp_path / "si.h5"), str(tmp_path / "f.extxyz")]) == 0
    assert main(["export", str(tmp_path / "si.h5"), str(tmp_path / "b"), "--form", "single"]) == 0
    first, second = ((tmp_path / n).read_text().splitlines()[1:] for n in ("si.meam.spline", "b"))
    one, two = (np.array(" ".join(lines).split(), float) for lines in (first, second))
    np.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-13)
    assert main(["import", str(tmp_path / "si.meam.spline"), str(tmp_path / "x.h5")]) == 2
    assert "element=" in capsys.readouterr().err


def test_what_is_no_such_potential_is_refused(tmp_path, two):
    d = fd.SplineFilters(species=["Si"], n_pair=2, n_triplet=2, cutoff=5.0)
    one = fd.SplineFilters(species=["Si"], n_pair=2, n_triplet=1, cutoff=5.0)
    none = fd.SplineFilters(species=["Si"], n_pair=0, n_triplet=1, cutoff=5.0)
    for potential, mention in (
        (fd.Potential(fd.GaussianMoments(species=["Si"])), "GaussianMoments, .*; only Spline.*; train one, or run"),
        (fd.Potential(one, hidden=(8,)), "'per_species'.*network='spline' and hidden=.*; train one, or run"),
        (fd.Potential(one, network="spline", hidden=(2,), direct=["pair_0"]), r"\(2,\).*; train one, or run"),
        (fd.Potential(d, network="spline", direct=["pair_0"], bias=False), "2 triplet filters .* train one with"),
        (fd.Potential(none, network="spline", bias=False), "no pair filter for phi Si-Si.* n_pair of at least 1"),
        (fd.Potential(one, network="spline", direct=True, bias=False), "triplet filter enters .* and train again"),
        (fd.Potential(one, network="spline", direct=["pair_0"], bias=True), "isolated atom"),
    ):
        with pytest.raises(InputError, match=mention):
            fd.write_meam_spline(tmp_path / "x", potential)
    two.reference[0] = 0.5
    with pytest.raises(InputError, match="isolated atom"):
        fd.write_meam_spline(tmp_path / "x", two)
    two.reference[0] = 0
    two.set_parameters({"network/0/weight": [[1.0, 2.0]]})
    with pytest.raises(InputError, match="different weights"):
        fd.write_meam_spline(tmp_path / "x", two)
    assert not (tmp_path / "x").exists()


def test_filters_of_an_own_model_are_exported(tmp_path):
    """A model made and scaled here, smooth at its cutoffs: through a file to the same numbers."""
    d = fd.SplineFilters(species=["Si"], n_pair=3, n_triplet=1, cutoff=5.0, triplet_cutoff=4.0, r_min=1.8)
    potential = fd.Potential(d, network="spline", direct=["pair_0"], bias=False)
    potential.scaler.scale[:] = [1.0, 2.0, 0.5, 4.0]
    potential.scale[:] = 1.7
    fd.write_meam_spline(tmp_path / "a", potential)
    frames = list(structures(["Si"]).values())
    again = fd.read_meam_spline(tmp_path / "a").predict(frames)
    wanted = potential.predict(frames)
    np.testing.assert_allclose(again.energy, wanted.energy, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(again.forces, wanted.forces, rtol=0, atol=1e-11)


def test_filters_cut_elsewhere_are_refused(tmp_path):
    sizes = {"n_pair": 2, "n_triplet": 1, "cutoff": 5.0, "triplet_cutoff": 4.0}
    d = fd.SplineFilters(species=["Si"], **sizes, ends=("clamped", "free"))
    d.parameters["triplet_radial"][...] = 1.0
    potential = fd.Potential(d, network="spline", direct=["pair_0"], bias=False)
    with pytest.raises(InputError, match=r"f does not end at zero and is cut off at 4 Å.* train with one cutoff"):
        fd.write_meam_spline(tmp_path / "a", potential)


def test_filters_of_different_knots_cannot_be_added(tmp_path):
    knots = {"pair": [[[1.5, 5.0, 6]], [[1.5, 5.0, 7]]]}
    d = fd.SplineFilters(species=["Si"], n_pair=2, n_triplet=1, cutoff=5.0, knots=knots)
    potential = fd.Potential(d, network="spline", direct=True, bias=False)
    potential.direct_weights[:, 2] = 0
    with pytest.raises(InputError, match="phi Si-Si would be a sum of filters with different knots"):
        fd.write_meam_spline(tmp_path / "a", potential)
