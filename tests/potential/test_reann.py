"""Published REANN models as potentials: published numbers, the textbook, both forms of file, both backends."""

import json
import re

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write as write_frames
from helpers.backends import emulator
from helpers.battery import complex_step
from helpers.reann_models import OURS, energies, model, modules, write_checkpoint, write_script
from helpers.torch_writer import Module, Raw, Writer, named, write

import fastdesc as fd
from fastdesc.backend.threads import set_threads
from fastdesc.cli import main
from fastdesc.errors import FileFormatError, InputError
from fastdesc.training.batch_gradient import batch_gradient
from fastdesc.training.dataset import TrainingSet
from fastdesc.training.loss import LossWeights

PUBLISHED = {"ch4_T0": ("C", "H"), "ch4_T2": ("C", "H"), "nacl8_T0": ("Na", "Cl")}


def water(n=2, seed=0):
    """A small periodic cell of water whose atoms see images of themselves."""
    rng = np.random.default_rng(seed)
    positions = np.concatenate(
        [3.0 * np.array([k, k % 2, 0]) + [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]] for k in range(n)]
    )
    atoms = Atoms("OHH" * n, positions, cell=[[6.2, 0, 0], [0.4, 3.7, 0], [0, 0.3, 3.9]], pbc=True)
    atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
    return atoms


def published(data, case):
    """Atoms, state and expected numbers of a case."""
    own = {k.split("/", 1)[1]: v for k, v in data.items() if k.startswith(f"{case}/")}
    elements = PUBLISHED[case]
    atoms = Atoms(
        [elements[z] for z in own["species"]], own["positions"], cell=own["cell"], pbc=own["pbc"].astype(bool)
    )
    state = {name.removeprefix("param/"): array for name, array in own.items() if name.startswith("param/")}
    return atoms, state, own


@pytest.mark.parametrize("form", ["script", "checkpoint"])
@pytest.mark.parametrize("backend", ["numba", "emulated"])
@pytest.mark.parametrize("case", PUBLISHED)
def test_published_energies_and_forces(reference_numbers, tmp_path, case, backend, form):
    """To 1e-9 (to 1e-12, in fact), also from the model file of ours."""
    atoms, state, expected = published(reference_numbers("reann_reference.npz"), case)
    if form == "script":
        potential = fd.read_reann(write_script(tmp_path / "PES.pt", state))
    else:
        potential = fd.read_reann(write_checkpoint(tmp_path / "REANN.pth", state), activation="trained_silu")
    potential.save(tmp_path / "ours.h5")
    for p in (potential, fd.load(tmp_path / "ours.h5")):
        if backend == "emulated":
            with emulator():
                found = p.predict(atoms)
        else:
            found = p.predict(atoms)
        np.testing.assert_allclose(found.energy[0], expected["energy"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.energies, expected["atomic_energy"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.forces, expected["forces"], rtol=0, atol=1e-12)
        if atoms.pbc.all():
            virial = expected["virial_dE_dstrain"][[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
            np.testing.assert_allclose(found.stress[0] * atoms.get_volume(), virial, rtol=0, atol=1e-11)


MODELS = {
    "as published": {"initpot": -156.3},
    "hyper by iteration": {"own_hyper": True, "iterations": 2, "blocks": 2},
    "one hyper of none": {"own_hyper": True, "iterations": 0},
    "degree 3, one width": {"l_max": 3, "iterations": 0, "hidden": (6,), "blocks": 3, "normed": False},
    "no blocks": {"blocks": 0, "hidden": (6,), "inner": (5,), "normed": False},
    "dropout": {"gaps": True, "l_max": 0, "hidden": (5, 4, 3)},
}


@pytest.mark.parametrize("activations", [("Relu_like", None), ("Tanh_like", None), ("Tanh_like", "Relu_like")])
@pytest.mark.parametrize("name", MODELS)
def test_textbook_energies_and_forces(tmp_path, name, activations):
    """Elements in another order than ours, images of the atom itself, every form of network."""
    state, elements = model(**MODELS[name]), ("O", "H")
    potential = fd.read_reann(write_script(tmp_path / "PES.pt", state, *activations))
    atoms = water()
    pairs = fd.Pairs.find(fd.Structures.from_ase(atoms), 4.0)
    kinds = np.array([elements.index(s) for s in atoms.get_chemical_symbols()])
    vectors = atoms.positions[pairs.j] - atoms.positions[pairs.i] + pairs.shift @ atoms.cell[:]
    given = pairs.i, pairs.j, kinds, elements, *activations
    found = potential.predict(atoms)
    expected = energies(state, vectors, *given)
    np.testing.assert_allclose(found.energies, expected, rtol=0, atol=1e-11 * max(1, abs(expected).max()))
    along = np.random.default_rng(1).normal(size=atoms.positions.shape)
    moved = along[pairs.j] - along[pairs.i]
    slope = complex_step(lambda h: energies(state, vectors + h * moved, *given).sum())
    np.testing.assert_allclose(-(found.forces * along).sum(), slope, rtol=1e-10)


def test_float32_files_hold_exact_numbers(tmp_path):
    state = {n: a.astype("f4") if a.dtype.kind == "f" else a for n, a in model(initpot=-3.0).items()}
    potential = fd.read_reann(write_script(tmp_path / "PES.pt", state))
    exact = {n: a.astype(float) for n, a in state.items()}
    again = fd.read_reann(write_script(tmp_path / "again.pt", exact))
    for name, array in potential.parameters.items():
        assert array.dtype == np.float64
        np.testing.assert_array_equal(array, again.parameters[name])
    np.testing.assert_array_equal(potential.reference, [-3.0, -3.0])


def labelled(potential, n=6):
    """Frames with labels near what the potential says."""
    frames = []
    for seed in range(n):
        atoms, rng = water(seed=seed), np.random.default_rng(seed)
        found = potential.predict(atoms)
        labels = {"energy": found.energy[0] + 0.1, "forces": found.forces + 0.1 * rng.normal(size=found.forces.shape)}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    return frames


@pytest.mark.parametrize("backend", ["numba", "emulated"])
def test_training_gradient_of_every_parameter(tmp_path, backend):
    """Of a loss on energies and forces, along a direction of each parameter, by five-point differences."""
    state = model(own_hyper=True, iterations=1, n_radial=2, n_features=4, hidden=(3, 2), inner=(3, 2), cutoff=3.5)
    potential = fd.read_reann(write_script(tmp_path / "PES.pt", state))
    data = TrainingSet(labelled(potential, 1), potential.descriptor, "float64", "cpu")
    batch, weights = data.batch(np.arange(1), potential.reference), LossWeights(1.0, 1.0, 0.0)

    def loss(parameters=None):
        model = potential.model("float64", "cpu", parameters)
        return batch_gradient(potential, model, batch, weights)

    if backend == "emulated":
        with emulator():
            _, gradient = loss()
    else:
        _, gradient = loss()
    before = dict(potential.parameters)
    for seed, name in enumerate(before):
        along = np.random.default_rng(seed).normal(size=before[name].shape)
        h, total = 1e-3, 0.0
        for k, factor in ((1, 8), (-1, -8), (2, -1), (-2, 1)):
            total += factor * float(loss({**before, name: before[name] + k * h * along})[0].loss)
        # Differences of fifth order: some 1e-9 of the largest derivatives.
        slope = total / (12 * h)
        assert (gradient[name] * along).sum() == pytest.approx(slope, rel=1e-6, abs=1e-7 * abs(slope) + 1e-8), name


def test_trained_further_from_where_it_stands(tmp_path):
    """Nothing is fitted anew, and training lowers the error."""
    potential = fd.read_reann(write_script(tmp_path / "PES.pt", model(initpot=-1.0)))
    assert potential.fitted
    frames, before = labelled(potential), potential.predict(water(seed=9))
    fd.train(potential, frames, frames, epochs=0 + 1, batch_size=3, learning_rate=1e-12, descriptor_learning_rate=1e-12)
    after = potential.predict(water(seed=9))
    np.testing.assert_allclose(after.energy, before.energy, rtol=1e-9)    # a step is some 1e-12
    np.testing.assert_allclose(after.forces, before.forces, rtol=0, atol=1e-9)
    history = fd.train(potential, frames, frames, epochs=30, batch_size=3, learning_rate=2e-3)
    losses = [row["valid_loss"] for row in history.rows]
    assert losses[-1] < 0.7 * losses[0]
    potential.save(tmp_path / "trained.h5")
    np.testing.assert_array_equal(fd.load(tmp_path / "trained.h5").predict(frames[0]).forces,
                                  potential.predict(frames[0]).forces)    # fmt: skip


def test_calculator(tmp_path):
    potential = fd.read_reann(write_script(tmp_path / "PES.pt", model(initpot=-1.0)))
    atoms = water()
    atoms.calc = fd.FastdescCalculator(potential)
    expected = potential.predict(water())
    np.testing.assert_allclose(atoms.get_potential_energy(), expected.energy[0], rtol=1e-13)
    np.testing.assert_allclose(atoms.get_forces(), expected.forces, rtol=0, atol=1e-12)
    np.testing.assert_allclose(atoms.get_stress(), expected.stress[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("threads", [1, 2])
def test_results_repeat(tmp_path, threads):
    potential = fd.read_reann(write_script(tmp_path / "PES.pt", model()))
    wanted = potential.predict(water(8)).forces
    set_threads(threads)
    try:
        np.testing.assert_array_equal(potential.predict(water(8)).forces, wanted)
    finally:
        set_threads(None)


# what is refused


def changed(**changes):
    """A state with some names changed; None takes one away."""
    state = model() | {name.replace("__", "."): array for name, array in changes.items()}
    return {name: array for name, array in state.items() if array is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"density__rs": np.ones((2, 4))}, "rs, inta and params do not fit"),
        ({"density__params": None}, r"density\.params is missing"),
        ({"density__hyper": np.ones((5, 3, 7))}, "degrees up to 4"),
        ({"density__hyper": np.ones((4, 3, 3, 7))}, "hyper is for 3 iterations, and it has 1"),
        ({"density__hyper": np.ones((3, 4, 7))}, "hyper and rs do not fit"),
        ({"density__hyper": np.full((3, 3, 7), np.nan)}, "density.hyper holds NaN"),
        ({"density__cutoff": np.array([-1.0])}, "cutoff came as -1.0"),
        ({"density__cutoff": np.array([1.0, 2.0])}, "density.cutoff is not one number"),
        ({"density__index_para": np.array([0, 1, 2])}, "ordered in another way"),
        ({"density__inta": np.ones((2, 3), int)}, "density.inta is no array"),
        ({"nnmod__elemental_nets__O__0__weight": np.ones((5, 8))}, r"O does not fit \(first/weight\)"),
        ({"nnmod__elemental_nets__O__1__resblock__1__weight": None}, "resblock.1.weight is missing"),
        ({"nnmod__elemental_nets__H__2__alpha": None}, "nnmod.elemental_nets.H.2.alpha is missing"),
        ({"nnmod__elemental_nets__H__5__alpha": np.ones((1, 2))}, "has other layers"),
        ({"nnmod__elemental_nets__Qq__0__weight": np.ones((1, 2))}, "its elements are"),
        ({"density__ocmod__memssage_3__elemental_nets__H__0__bias": np.ones(2)}, "an iteration are missing"),
        ({"nnmod1__elemental_nets__H__0__bias": np.ones(2)}, "model of polarisabilities"),
    ],
)
def test_files_that_are_no_model_of_an_energy(tmp_path, changes, message):
    path = write_checkpoint(tmp_path / "REANN.pth", changed(**changes))
    with pytest.raises(FileFormatError, match=message):
        fd.read_reann(path, activation="trained_silu")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"weight": np.ones(3)}, "no model of the REANN package"),
        ([1, 2], "no model of the REANN package"),
        ({"reannparam": [1]}, "no model of the REANN package"),
        (modules(model(), root="__torch__.dm.PES.PES"), "model of dipole moments"),
        (modules(model(), "Softplus"), r"activations \['Softplus'\]"),
    ],
)
def test_other_files_of_pytorch(tmp_path, tree, message):
    with pytest.raises(FileFormatError, match=message):
        fd.read_reann(write(tmp_path / "x.pt", tree), activation=None)


def test_more_of_anything_than_a_model_has(tmp_path):
    many = {f"density.ocmod.memssage_{t}.elemental_nets.H.0.bias": np.ones(1) for t in range(101)}
    path = write_checkpoint(tmp_path / "iterations.pth", model() | many)
    with pytest.raises(FileFormatError, match="it has 101 iterations, and 100 are allowed"):
        fd.read_reann(path, activation="trained_silu")
    names = {f"a{n}": 1 for n in range(50_001)}
    for tree in ({"reannparam": names}, Module("__torch__.pes.PES.PES", **names)):
        with pytest.raises(FileFormatError, match="holds more than 50000 names"):
            fd.read_reann(write(tmp_path / "names.pt", tree))
    deep = Module("__torch__.a.B")
    for _ in range(20):
        deep = Module("__torch__.a.B", a=deep)
    with pytest.raises(FileFormatError, match="holds modules 16 deep"):
        fd.read_reann(write(tmp_path / "deep.pt", deep))


class OneStorage(Writer):
    """Tensors of one shape share their bytes."""

    def __init__(self):
        super().__init__()
        self.known = {}

    def tensor(self, array, **_):
        array = np.asarray(array)
        key = self.known.get(array.shape)
        if key is None:
            made = super().tensor(array)
            self.known[array.shape] = list(self.data)[-1]
            return made
        made = super().tensor(array, key=key)
        self.data.popitem()
        return made


def test_many_names_for_the_same_numbers(tmp_path):
    """A small file cannot describe a large model."""
    state = model(elements=("H",), iterations=0, hidden=(60,), blocks=20)
    assert fd.read_reann(write(tmp_path / "honest.pt", modules(state))).blocks == 20
    path = write(tmp_path / "x.pt", modules(state), writer=OneStorage())
    assert path.stat().st_size < 0.3 * (tmp_path / "honest.pt").stat().st_size
    with pytest.raises(FileFormatError, match="it describes more numbers than it holds"):
        fd.read_reann(path)


def test_activations_that_are_given_and_not(tmp_path):
    state = model()
    script, checkpoint = write_script(tmp_path / "a.pt", state), write_checkpoint(tmp_path / "a.pth", state)
    with pytest.raises(InputError, match="is a checkpoint, which does not name its activation; give 'trained_silu'"):
        fd.read_reann(checkpoint)
    with pytest.raises(InputError, match="activation came as 'silu'; give 'trained_silu'"):
        fd.read_reann(checkpoint, activation="silu")
    with pytest.raises(InputError, match=r"a\.pt says 'trained_silu' itself; leave it out"):
        fd.read_reann(script, activation="trained_isru")
    p = fd.read_reann(checkpoint, activation="trained_isru", recursion_activation="trained_silu")
    assert (p.activation, p.descriptor.activation) == ("trained_isru", "trained_silu")
    assert fd.read_reann(checkpoint, activation="trained_isru").descriptor.activation == "trained_isru"
    none = write_script(tmp_path / "none.pt", model(iterations=0))
    with pytest.raises(InputError, match="has no iterations; leave it out"):
        fd.read_reann(none, recursion_activation="trained_silu")
    with pytest.raises(InputError, match="does not exist"):
        fd.read_reann(tmp_path / "missing.pt")
    assert set(OURS.values()) == {"trained_silu", "trained_isru"}


def test_where_a_model_came_from_is_kept(tmp_path):
    path = write_script(tmp_path / "PES.pt", model())
    fd.read_reann(path).save(tmp_path / "m.h5")
    assert json.loads(json.dumps(fd.load(tmp_path / "m.h5").training)) == {
        "imported": {"package": "REANN", "file": "PES.pt"}
    }


# the command line


def test_import_evaluate_and_info(tmp_path, capsys):
    state, model_file = model(initpot=-2.0), str(tmp_path / "m.h5")
    assert main(["import", str(write_script(tmp_path / "PES.pt", state)), model_file]) == 0
    assert f"{model_file}: " in capsys.readouterr().out
    np.testing.assert_array_equal(
        fd.load(model_file).predict(water()).forces, fd.read_reann(tmp_path / "PES.pt").predict(water()).forces
    )
    assert main(["info", model_file]) == 0
    said = capsys.readouterr().out
    assert "trained_silu" in said and 'package = "REANN"' in said
    checkpoint = str(write_checkpoint(tmp_path / "REANN.pth", state))
    words = ["--activation", "trained_isru", "--recursion-activation", "trained_silu"]
    assert main(["import", checkpoint, str(tmp_path / "c.h5"), *words]) == 0
    assert fd.load(tmp_path / "c.h5").activation == "trained_isru"
    with pytest.raises(SystemExit):
        main(["import", "--help"])
    said = capsys.readouterr().out
    assert "PES.pt" in said and "Relu_like" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("REANN.pth m.h5", "does not name its activation"),
        ("PES.pt m.h5 --element Si", "--element came with .*PES.pt, a file of the REANN package; leave it out"),
        ("x.meam m.h5 --activation trained_silu", "--activation came with .*x.meam, a file of an s-MEAM potential"),
        ("missing.pt m.h5", "missing.pt does not exist"),
        ("PES.pt PES.pt", "would be written over"),
        ("ours.h5 m.h5", "ours.h5 is an HDF5 file; .* a model needs no import"),
        ("cut.pt m.h5", "no zip archive, or a truncated one"),
        ("bad.pt m.h5", "names 'os.system', which is not allowed"),
    ],
)
def test_import_says_what_is_wrong_in_one_line(tmp_path, capsys, words, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_checkpoint("REANN.pth", model())
    script = write_script("PES.pt", model())
    fd.read_reann(script).save("ours.h5")
    (tmp_path / "cut.pt").write_bytes((tmp_path / script).read_bytes()[:5000])
    write("bad.pt", Raw(named("os", "system") + b")R"))
    (tmp_path / "x.meam").write_text("a\n")
    assert main(["import", *words.split()]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and re.search(message, said)
    assert not (tmp_path / "m.h5").exists()


@pytest.mark.parametrize(
    ("which", "change", "message"),
    [
        ("potential", {"hidden": [3000, 3000], "blocks": 100}, r"describes \d+ parameters or more and holds"),
        ("descriptor", {"hidden": [3000, 3000], "blocks": 100}, r"describes \d+ parameters or more and holds"),
        ("descriptor", {"blocks": 10**9}, r"describes \d+ parameters or more and holds"),
        ("potential", {"blocks": "x"}, "blocks came as 'x'"),
        ("descriptor", {"layer_norm": [1]}, "layer_norm came as"),
        ("descriptor", {"exponents": "x"}, "exponents 'x' is not known"),
        ("descriptor", {"contraction": "hyper_by_iteration"}, "hyper' came with shape"),
        ("potential", {"activation": "tanh", "blocks": 0, "layer_norm": False}, "is missing"),
    ],
)
def test_model_files_of_ours_that_do_not_fit(tmp_path, which, change, message):
    """Refused before anything of the described size is made."""
    path = tmp_path / "m.h5"
    fd.read_reann(write_script(tmp_path / "PES.pt", model())).save(path)
    with h5py.File(path, "a") as file:
        description = json.loads(file.attrs[which])
        (description["arguments"] if which == "descriptor" else description).update(change)
        file.attrs[which] = json.dumps(description)
    with pytest.raises(FileFormatError, match=message):
        fd.load(path)


def test_further_elements_and_a_configuration(tmp_path):
    """The model says of old elements what it said, and `fastdesc train` goes on from it."""
    potential = fd.read_reann(write_script(tmp_path / "PES.pt", model(own_hyper=True, initpot=-2.0)))
    wider = fd.add_elements(potential, ["C"])
    found, wanted = wider.predict(water()), potential.predict(water())
    np.testing.assert_allclose(found.energies, wanted.energies, rtol=1e-12)
    np.testing.assert_allclose(found.forces, wanted.forces, rtol=0, atol=1e-12)
    potential.save(tmp_path / "start.h5")
    write_frames(tmp_path / "train.extxyz", labelled(potential))
    config = '[data]\ninit = "start.h5"\ntrain = "train.extxyz"\n[training]\nsteps = 4\n[output]\nplots = false\n'
    (tmp_path / "run.toml").write_text(config)
    assert main(["train", str(tmp_path / "run.toml"), "--quiet"]) == 0
    trained = fd.load(tmp_path / "fastdesc-run/model.h5")
    assert trained.descriptor.get_params() == fd.load(tmp_path / "start.h5").descriptor.get_params()
    np.testing.assert_array_equal(trained.reference, potential.reference)
