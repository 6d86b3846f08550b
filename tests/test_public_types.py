"""What a type checker sees is what runs: a program that uses every public name, checked by mypy and executed here."""

import ast
import inspect
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from helpers import apax_models, reann_models
from numpy.typing import NDArray

import fastdesc as fd
from fastdesc.descriptors.descriptor import Descriptor
from fastdesc.descriptors.jacobian import Jacobian
from fastdesc.features.reader import FeaturesFile
from fastdesc.potential.prediction import Prediction
from fastdesc.potential.uncertainty import Uncertainty
from fastdesc.training.history import History

Array = NDArray[Any]


def labelled(n: int) -> list[Atoms]:
    """Return small copper crystals with energies and forces."""
    frames = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, seed=k)
        atoms.calc = SinglePointCalculator(atoms, energy=-3.0 * len(atoms), forces=np.zeros((len(atoms), 3)))
        frames.append(atoms)
    return frames


def test_descriptors() -> None:
    frames = labelled(2)
    moments = fd.GaussianMoments(species=["Cu"], cutoff=4.0, n_radial=2, n_basis=3, max_rank=1)
    density = fd.EmbeddedDensity(species=[29], cutoff=4.0, n_radial=2, contraction="none", hidden=(4,))
    splines = fd.SplineFilters(species=["Cu"], cutoff=4.0, triplet_cutoff=3.5, n_pair=1, n_triplet=1)
    descriptors: list[Descriptor] = [moments, density.calibrate(frames), splines]
    for d in descriptors:
        q = d.compute(frames)
        q, J = d.compute(frames[0], jacobian=True, dtype="float32")
        assert_type(J, Jacobian)
        assert_type(d.feature_names_out(), list[str])
        assert len(d.feature_names_out()) == q.shape[1] and J.todense().ndim == 4
        d.set_parameters(**d.parameters)
        assert d.set_params(seed=1).get_params()["seed"] == 1
    assert splines.spline("pair", 0, 0).n_knots == 12


def test_structures_and_pairs() -> None:
    structures = fd.Structures.from_ase(labelled(2))
    pairs = fd.Pairs.find(structures.moved(structures.positions), 4.0)
    assert_type(pairs.n_pairs, int)
    assert_type(fd.choose_cutoff(labelled(1)), float)
    assert fd.Pairs.concatenate([pairs, pairs]).n_pairs == 2 * pairs.n_pairs
    assert fd.Structures.concatenate([structures, structures.take([0])]).n_frames == 3
    assert pairs.take([1]).to_device("cpu").n_atoms == 4 and structures.volumes.shape == (2,)


def test_potential_training_and_dynamics(tmp_path: Path) -> None:
    frames = labelled(4)
    d = fd.GaussianMoments(species=["Cu"], cutoff=4.0, n_radial=2, n_basis=3, max_rank=1)
    potential = fd.Potential(d, hidden=(4,))
    history = fd.train(potential, frames[:3], frames[3:], epochs=2, progress=False)
    assert_type(history, History)
    best = history.best()
    assert best is not None and len(history) == 2 and len(history["epoch"]) == 2
    potential.save(tmp_path / "cu.h5")
    loaded = fd.load(tmp_path / "cu.h5")
    assert_type(loaded, fd.Potential)
    out = loaded.predict(frames, dtype="float32")
    assert_type(out, Prediction)
    assert out.forces is not None and out.stress is not None
    assert out.energy.shape == (4,) and out.forces.shape == (16, 3) and out.stress.shape == (4, 6)
    assert_type(fd.fit_uncertainty(loaded, frames[:3], frames[3:]), Uncertainty)
    assert fd.sparse_hessian(loaded, frames[0], [0]).shape == (12, 3)
    resting = bulk("Cu")    # one atom, which is at rest
    assert fd.elastic_constants(loaded, resting).clamped.shape == (6, 6)
    assert_type(fd.shallow_ensemble(loaded, frames[:3], frames[3:], members=2), Uncertainty)
    assert len(fd.last_layer_features(loaded, frames)) == 4
    sure = loaded.predict(frames, uncertainty=True, members=4)
    assert sure.energy_uncertainty is not None and sure.forces_uncertainty is not None and sure.grade is not None
    several = fd.Ensemble([fd.Potential(d, seed=1), tmp_path / "cu.h5"])
    several.calibrate(frames)
    assert_type(several.predict(frames), Prediction)
    assert len(fd.EnsembleCalculator(several, dtype="float32").members) == 2
    atoms = frames[0].copy()
    atoms.calc = fd.FastdescCalculator(loaded, skin=0.3, dtype="float32")
    assert atoms.get_potential_energy() == atoms.calc.results["energy"]
    assert fd.calculate_together(frames[:2], loaded).evaluations == 0
    assert loaded.hessian(frames[0], indices=[0]).shape == (1, 3, 1, 3)


def test_published_potentials(tmp_path: Path) -> None:
    d = fd.SplineFilters(species=["Cu"], cutoff=4.0, triplet_cutoff=4.0, n_pair=1, n_triplet=1)
    potential = fd.Potential(d, network="spline", direct=["pair_0"], bias=False)
    fd.load_filters(potential, d)
    assert_type(fd.add_elements(potential, ["Ag"]), fd.Potential)
    pair = fd.SplineFilters(
        species=["Cu"], cutoff=4.0, triplet_cutoff=4.0, n_pair=2, n_triplet=1, ends=("clamped", "clamped"), n_knots=6
    )
    written = fd.Potential(pair, network="spline", direct=["pair_0"], bias=False)
    fd.write_meam_spline(tmp_path / "Cu.meam.spline", written)
    assert_type(fd.read_meam_spline(tmp_path / "Cu.meam.spline"), fd.Potential)
    reann_models.write_script(tmp_path / "PES.pt", reann_models.model())
    assert_type(fd.read_reann(tmp_path / "PES.pt"), fd.Potential)
    folder = apax_models.write(tmp_path / "apax", apax_models.config(), apax_models.arrays(apax_models.config(), [29]))
    assert_type(fd.read_apax(folder), fd.Potential)


def test_features(tmp_path: Path) -> None:
    from ase.io import write

    write(tmp_path / "cu.extxyz", labelled(4))
    frames = fd.read_frames(tmp_path / "cu.extxyz")
    assert_type(frames, list[Atoms])
    d = fd.GaussianMoments(species=["Cu"], cutoff=4.0, n_radial=2, n_basis=3, max_rank=1)
    path = fd.featurize(tmp_path / "cu.extxyz", tmp_path / "q.h5", d, compression="lzf", progress=False)
    assert_type(path, Path)
    assert fd.read_features(path).features.shape == (16, d.n_features)
    with fd.open_features(path) as f:
        assert_type(f, FeaturesFile)
        assert_type(f.table(), dict[str, Array])
        chosen, distances = fd.select_diverse(f, 2)
        assert fd.select_typical(f, 2).shape == fd.select_uncertain(f, 2)[0].shape == (2,)
        assert fd.find_duplicates(f, 0.1, scale=False).shape == (4,)
        assert fd.select_spanning(f, 2).shape == (2,) and fd.rarity(f).shape == (4,)
        assert chosen.shape == distances.shape == (2,) and sum(len(b.energies) for b in f.batches(3)) == 4
    converted, skipped = fd.convert(frames, tmp_path / "cu.h5", report=True, progress=False)
    assert_type(converted, Path)
    assert fd.SimilarityKernel(d).fit(frames).transform(frames[:2]).shape == (2, 4)
    assert skipped == [] and fd.StructureFeatures(d, pool="sum").fit(frames).transform(frames).shape[0] == 4


def test_errors() -> None:
    try:
        fd.GaussianMoments(species=[])
    except fd.FastdescError as error:
        assert str(error)
    else:
        raise AssertionError("no elements are refused")
    assert_type(fd.__version__, str)


def test_type_checkers_are_told_of_every_public_name() -> None:
    """The imports for type checkers and the names resolved when first used are the same."""
    tree = ast.parse(Path(fd.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    told = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert told == fd._PUBLIC


def test_this_program_uses_every_public_name() -> None:
    tree = ast.parse(Path(__file__).read_text())
    used = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "fd"}
    assert not set(fd.__all__) - used


def incomplete(function: Any) -> list[str]:
    """Return the parameters without annotation, and 'return'."""
    signature = inspect.signature(function)
    names = [n for n, p in signature.parameters.items() if n not in ("self", "cls") and p.annotation is p.empty]
    return names + ["return"] * (signature.return_annotation is signature.empty)


def public_functions() -> dict[str, Any]:
    """Return every public function and every public method of ours, properties included, by dotted name."""
    found: dict[str, Any] = {}
    classes: list[type] = [FeaturesFile, History, Jacobian]
    for name in fd._PUBLIC:
        value = getattr(fd, name)
        if isinstance(value, type):
            classes.append(value)
        else:
            found[name] = value
    for cls in classes:
        ours = [c for c in cls.__mro__ if c.__module__.startswith("fastdesc")]
        for name, value in ((n, v) for c in reversed(ours) for n, v in vars(c).items()):
            function = getattr(value, "fget", None) or getattr(value, "func", None) or value
            function = getattr(function, "__func__", function)
            if inspect.isfunction(function) and (name == "__init__" or not name.startswith("_")):
                found[f"{cls.__name__}.{name}"] = function
    return found


def test_every_public_signature_is_annotated() -> None:
    found = public_functions()
    assert len(found) > 100
    lacking = {name: incomplete(function) for name, function in found.items() if "dataclass" not in name}
    assert not {name: names for name, names in lacking.items() if names and name != "Jacobian.__init__"}
    assert incomplete(lambda x: x) == ["x", "return"]
