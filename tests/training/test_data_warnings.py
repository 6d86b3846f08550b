"""What will not train well is told before training, in one line each, with file and index; scales are robust."""

import re
import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from helpers.command_line import CONFIG
from helpers.training import alloy, small_potential

import fastdesc as fd
from fastdesc.errors import FastdescWarning, InputError
from fastdesc.io.frames import read_frames
from fastdesc.training import outliers, trainer_for
from fastdesc.training.outliers import energy_deviations, far_outside

GPA, KBAR = 160.21766208, 1602.1766208    # CODATA 2014: 1 eV/Å^3


def told(train, valid=None, potential=None, **settings):
    """What is said before training, but for elements that are not told apart: all these frames are of one kind."""
    potential = small_potential() if potential is None else potential
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        trainer_for(potential, train, valid, **{"valid_fraction": 0.0, **settings})
    said = [str(w.message) for w in found if w.category is FastdescWarning]
    assert not any("\n" in text for text in said)
    return [text for text in said if " apart, " not in text]


def changed(n, seed=0, **factors):
    """Frames whose labels are multiples of right ones."""
    frames = alloy(n, seed)
    for atoms in frames:
        for name, factor in factors.items():
            atoms.calc.results[name] = factor(atoms) * np.asarray(atoms.calc.results[name])
    return frames


def test_of_good_frames_nothing_is_said():
    assert told(alloy(12), alloy(3, seed=1)) == []


@pytest.mark.parametrize("name", ["forces", "energy"])
def test_an_outlier_is_named_with_file_and_index(tmp_path, name):
    frames = alloy(14)
    if name == "forces":
        frames[9].calc.results["forces"][3, 1] = 3e4
        want = "frame 9 of .*in.extxyz has forces up to 3e[+]04 eV/Å, nine in ten training frames up to "
    else:
        frames[9].calc.results["energy"] += 8 * 500.0
        want = "frame 9 of .*in.extxyz has an energy off by up to 500 eV/atom, nine in ten training frames up to "
    write(tmp_path / "in.extxyz", frames)
    (text,) = told(tmp_path / "in.extxyz")
    assert re.match(want, text), text
    (text,) = told(alloy(4), tmp_path / "in.extxyz")
    assert re.match(want.replace("training", "validation"), text), text


def test_frames_of_several_files_keep_their_names(tmp_path):
    frames = alloy(14)
    for k in (2, 11):
        frames[k].calc.results["forces"][0, 0] = 1e4 * k
    frames = [*frames, *alloy(10, seed=2)]
    write(tmp_path / "a.extxyz", frames[:8])
    write(tmp_path / "b.extxyz", frames[8:])
    (text,) = told(str(tmp_path / "*.extxyz"))
    assert text.startswith(f"frame 3 of {tmp_path}/b.extxyz, frame 2 of {tmp_path}/a.extxyz have forces up to 1.1e+05")
    texts = told(str(tmp_path / "*.extxyz"), valid_fraction=0.5, seed=1)
    assert sum("a.extxyz" in t and "frame 2 " in t for t in texts) == 1, "the index in the file, not in the part"


def test_scales_do_not_go_by_an_outlier():
    """Reference energies, feature scales and the energy scale are those of the set without it, to the last bit."""
    frames, plain, spoilt = alloy(14), small_potential(), small_potential()
    told(frames, potential=plain)
    bad = frames[3].copy()
    bad.positions[0] = bad.positions[1] + [0.9, 0, 0]
    bad.calc = SinglePointCalculator(bad, energy=9e3, forces=np.full((8, 3), 1e5))
    (energy, forces) = sorted(told([*frames, bad], potential=spoilt))
    assert "energy off by" in energy + forces and "forces up to" in energy + forces
    np.testing.assert_array_equal(spoilt.reference, plain.reference)
    np.testing.assert_array_equal(spoilt.scaler.scale, plain.scaler.scale)
    np.testing.assert_array_equal(spoilt.scale, plain.scale)


def test_far_outside():
    far, typical = far_outside(np.array([1.0, 2.0, 3.0, 30.0, 31.0, np.nan]), 0.5)
    assert typical == 30 and not far.any(), "one in five is not rare"
    values = np.append(np.linspace(1, 3, 19), 30.1)
    assert list(np.flatnonzero(far_outside(values, 0.5)[0])) == [19]
    assert not far_outside(values, 31.0)[0].any()
    assert not far_outside(np.array([0.0] * 20 + [5.0]), 1.0)[0].any(), "nothing to compare with"
    assert not far_outside(np.full(3, np.nan), 1.0)[0].any()


def test_deviations_are_those_from_the_right_references():
    """Two elements, sums of exact references, three energies spoilt: deviations are what was spoilt."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 9, (40, 2)).astype(float)
    energies = counts @ [-3.0, -500.0]
    wrong = np.zeros(40)
    wrong[[3, 17, 30]] = 1e4, -30.0, 7.0
    off = energy_deviations(counts, energies + wrong)
    # The fit is robust, not exact: what is wrong leaks into the others by less than this.
    np.testing.assert_allclose(off, abs(wrong) / counts.sum(1), atol=1e-3)


def test_deviations_of_many_frames_go_by_some_of_them(monkeypatch):
    """Every element counts, also one that the frames looked at by chance do not hold."""
    monkeypatch.setattr(outliers, "SOME", 5)
    counts = np.tile([[4.0, 4.0, 0.0], [5.0, 3.0, 0.0]], (500, 1))
    counts[501] = 4, 3, 1
    energies = counts @ [-3.0, -500.0, 77.0]
    energies[333] += 800.0
    off = energy_deviations(counts, np.where(np.arange(1000) == 7, np.nan, energies))
    assert np.isnan(off[7]) and off[333] == pytest.approx(100, abs=1e-3)
    assert np.delete(off, [7, 333]).max() < 1e-3


@pytest.mark.parametrize("unit", ["GPa", "kbar", "virial"])
def test_a_stress_in_another_unit_is_told(unit):
    factor = {"GPa": lambda a: GPA, "kbar": lambda a: KBAR, "virial": lambda a: -a.get_volume()}[unit]
    (text,) = told(changed(8, stress=factor))
    if unit != "virial":    # of perfect crystals as well, whose forces say nothing
        (alone,) = told(changed(8, stress=factor, forces=lambda a: 1e-6))
        assert "looks like GPa" in alone
    assert re.match(r"the stress of the training frames is .* eV/Å\^3 in the median .* looks like GPa, kbar or a", text)
    assert "frame 0 of the training frames" in text


def test_a_high_pressure_is_no_other_unit():
    """Copper and gold at 60 GPa and more, beside forces that are as large."""
    from ase.calculators.emt import EMT

    frames = alloy(6)
    for atoms in frames:
        atoms.set_cell(0.93 * atoms.cell.array, scale_atoms=True)
        atoms.calc = EMT()
        results = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
        atoms.calc = SinglePointCalculator(atoms, **results)
    assert np.median([-a.get_stress()[:3].mean() for a in frames]) * GPA > 60
    assert told(frames) == []


def test_a_virial_that_is_named_is_taken_with_sign_and_volume(tmp_path):
    frames = alloy(5)
    for atoms in frames:
        atoms.info["REF_virial"] = -atoms.get_volume() * atoms.get_stress(voigt=False)
    want = [atoms.get_stress() for atoms in frames]
    write(tmp_path / "v.extxyz", [without(a, "stress") for a in frames])
    read = read_frames(tmp_path / "v.extxyz", stress_key="REF_virial")
    np.testing.assert_allclose([a.get_stress() for a in read], want, rtol=1e-6, atol=1e-9)
    assert told(read) == []
    (text,) = told(read_frames(tmp_path / "v.extxyz"))
    assert text == ("'REF_virial' of frame 0 of the training frames looks like a virial and is not used; "
                    "stress_key='REF_virial' takes it, with its sign and the volume")  # fmt: skip
    flat = Atoms("Cu", info={"virial": np.eye(3)})
    flat.calc = SinglePointCalculator(flat, energy=1.0)
    with pytest.raises(InputError, match=r"a virial came with a cell .* without volume"):
        read_frames([flat], stress_key="virial")


def without(atoms, *names):
    out = atoms.copy()
    out.calc = SinglePointCalculator(out, **{k: v for k, v in atoms.calc.results.items() if k not in names})
    return out


def test_stresses_of_slabs_are_told_and_not_counted():
    frames = alloy(8)
    for k in (1, 4):
        results = dict(frames[k].calc.results)
        frames[k].pbc = [True, True, False]
        frames[k].calc = SinglePointCalculator(frames[k], **results)
    (text,) = told(frames)
    assert text.startswith("the stress of frame 1 of the training frames, frame 4 of the training frames is left out")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = trainer_for(small_potential(), frames, valid_fraction=0.0)
    assert trainer.data.report == "8 frames (64 atoms), all with energy, all with forces, 2 without stress"


LABELS = (("forces", "force"), ("energy", "energy"), ("stress", "stress"), ("stress", "virial"))
COLUMNS = {    # name, value, is it told
    "force": ("arrays", True), "REF_forces": ("arrays", True), "dft_force": ("arrays", True),
    "REF_energy": ("info", True), "total_energy": ("info", True), "Energy": ("info", True),
    "dft_energy": ("info", True), "virial": ("info", True), "REF_stress": ("info", True),
    "max_force": ("info", False), "kinetic_energy": ("info", False), "energy_cutoff": ("info", False),
    "stressed": ("info", False), "forcefield": ("arrays", False), "forces_ref": ("arrays", True),
    "dft-forces": ("arrays", True), "ref.forces": ("arrays", True), "forcesQM": ("arrays", True),
    "energy-ref": ("info", True), "energy_total": ("info", True), "stress_dft": ("info", True),
    "virial_ref": ("info", True), "force_constants": ("arrays", False), "forces_uncertainty": ("arrays", False),
    "energy_uncertainty": ("info", False), "formation_energy": ("info", False),
}  # fmt: skip


@pytest.mark.parametrize("key", COLUMNS)
def test_columns_that_look_like_labels_are_told(key):
    where, said = COLUMNS[key]
    frames = alloy(6)
    for atoms in frames[2:]:
        value = 1.0 if "energy" in key.lower() or key == "max_force" else np.eye(3)
        getattr(atoms, where)[key] = value if where == "info" else np.full((len(atoms), 3), 0.5)
    texts = told(frames)
    assert len(texts) == said
    if said:
        name = next(name for name, word in LABELS if word in key.lower())
        assert texts[0].startswith(f"{key!r} of frame 2 of the training frames looks like ")
        assert f"is not used; {name}_key={key!r} takes it" in texts[0]


def test_a_column_that_is_used_is_not_told():
    frames = alloy(3)
    for atoms in frames:
        atoms.info["REF_energy"], atoms.arrays["force"] = atoms.get_potential_energy(), atoms.get_forces()
        atoms.info["REF_stress"] = atoms.get_stress()
    used = read_frames(frames, energy_key="REF_energy", forces_key="force", stress_key="REF_stress")
    assert told(used) == [] and told(frames) == []


def test_elements_that_only_validation_holds_are_named():
    frames = alloy(4)
    for atoms in frames[:3]:
        results = dict(atoms.calc.results)
        atoms.numbers[:] = 29
        atoms.calc = SinglePointCalculator(atoms, **results)
    (text,) = told(frames[:3], [frames[0], frames[3]])
    assert text == ("Au is in frame 1 of the validation frames of the validation set and in no training frame: what "
                    "the potential says of it is not trained")  # fmt: skip


def test_the_command_says_it_too(trained, run, tmp_path):
    """Before training, in its log: an outlier, and an element of validation and test frames alone."""
    frames = read_frames(trained / "train.extxyz")
    copper = []
    for atoms in frames:
        results = dict(atoms.calc.results)
        atoms.numbers[:] = 29
        copper.append(atoms)
        atoms.calc = SinglePointCalculator(atoms, **results)
    copper[5].calc.results["forces"][0, 0] = 1e5
    write(tmp_path / "train.extxyz", copper)
    text = CONFIG.replace('"te', f'"{trained}/te').replace("epochs = 3", "epochs = 1")
    text = text.replace("cutoff", 'species = ["Cu", "Au"]\ncutoff', 1)
    (tmp_path / "c.toml").write_text(text.replace("[data]", f'[data]\nvalid = "{trained}/train.extxyz"'))
    code, _, err = run("train", tmp_path / "c.toml", "--quiet")
    assert code == 0
    lines = err.splitlines()
    assert all(line.startswith("fastdesc: warning: ") for line in lines)
    assert sum("frame 5 of " in x and "forces up to 1e+05" in x and "train.extxyz has" in x for x in lines) == 1
    for name, purpose in (("train", "validation"), ("test", "test")):
        said = re.compile(rf"Au is in frame \d+ of .*{name}.extxyz of the {purpose} set")
        assert sum(said.search(x) is not None for x in lines) == 1


def test_features_know_outliers(tmp_path):
    frames = alloy(12)
    frames[7].calc.results["energy"] -= 8e3
    p = small_potential()
    out = fd.featurize(frames, tmp_path / "f.h5", p.descriptor, progress=False)
    (text,) = told(out, potential=p)
    assert text.startswith(f"frame 7 of {out} has an energy off by up to 1e+03 eV/atom")
