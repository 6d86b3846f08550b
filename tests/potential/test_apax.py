"""Models of apax as potentials: the textbook, apax's own numbers, every form, damage."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms

import fastdesc as fd
from fastdesc.cli import main
from fastdesc.errors import FileFormatError, InputError

pytest.importorskip("tensorstore", reason="tensorstore is not installed")
pytest.importorskip("yaml", reason="PyYAML is not installed")

from helpers.apax_models import arrays, config, energy, orders, write

OWN = Path(__file__).with_name("apax_model.zip")
"""A model that apax 0.14 trained, with its own energy and forces: python -m bench.import_apax --keep FILE."""
MODELS = {
    "as it comes": {},
    "Gaussian, NTK": {"basis": "gaussian", "use_ntk": True},
    "five contractions": {"n_contr": 5, "n_radial": 3, "activation_fn": "softplus"},
    "no embedding": {"emb_init": None, "n_basis": 3, "activation_fn": "tanh"},
    "no embedding, Gaussian": {"emb_init": None, "n_basis": 2, "basis": "gaussian", "activation_fn": "silu"},
    "shallow ensemble": {"ensemble": {"kind": "shallow", "n_members": 3}, "activation_fn": "celu"},
    "one layer": {"nn": (6,), "n_contr": 1},
    "linear": {"nn": ()},
}


def water(seed=0):
    rng = np.random.default_rng(seed)
    positions = [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0], [2.1, 1.3, 0.4], [2.9, 1.6, 0.9], [1.9, 2.1, -0.2]]
    return Atoms("OHHOHH", positions + 0.05 * rng.normal(size=(6, 3)))


@pytest.mark.parametrize("case", MODELS)
def test_the_textbook(tmp_path, case):
    """Energies of every form, to 1e-10."""
    model = config(**MODELS[case])
    parameters = arrays(model, [1, 8])
    potential = fd.read_apax(write(tmp_path / "model", model, parameters))
    assert list(potential.descriptor.species_numbers) == [1, 8]
    atoms = water()
    np.testing.assert_allclose(potential.predict(atoms).energy[0], energy(atoms, model, parameters), rtol=0, atol=1e-10)


def test_features_are_listed_once(tmp_path):
    """The two orders of features hold the same ones."""
    from fastdesc.potential.apax import feature_rows

    for n_radial in (1, 2, 3, 5):
        for n_contr in range(1, 9):
            rows = feature_rows(n_radial, n_contr)
            n = sum(map(len, orders(config(n_radial=n_radial, n_contr=n_contr))))
            np.testing.assert_array_equal(np.sort(rows), np.arange(n))


def test_apax_itself(tmp_path):
    """apax's own float64 numbers: those of the textbook with its 1e-5 Å, and ours to what that makes."""
    with zipfile.ZipFile(OWN) as archive:
        archive.extractall(tmp_path)
    told = json.loads((tmp_path / "numbers.json").read_text())
    model = yaml.safe_load((tmp_path / "model" / "config.yaml").read_text())["model"]
    from fastdesc.potential.apax_files import newest_step, read_arrays

    parameters = read_arrays(newest_step(tmp_path / "model"))
    atoms = Atoms(told["numbers"], told["positions"])
    np.testing.assert_allclose(energy(atoms, model, parameters, offset=1e-5), told["energy"], rtol=0, atol=1e-9)
    found = fd.read_apax(tmp_path / "model").predict(atoms)
    np.testing.assert_allclose(found.energy[0], energy(atoms, model, parameters), rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.energy[0], told["energy"], rtol=0, atol=3e-5 * len(atoms))
    np.testing.assert_allclose(found.forces, told["forces"], rtol=0, atol=3e-5 * np.abs(told["forces"]).max())


def test_one_of_an_ensemble(tmp_path):
    """Members have a leading axis; which is wanted must be said."""
    model = config(ensemble={"kind": "full", "n_members": 2})
    parameters = arrays(model, [1, 8], members=(2,))
    folder = write(tmp_path / "model", model, parameters)
    atoms = water()
    for k in range(2):
        own = {name: array[k] for name, array in parameters.items()}
        found = fd.read_apax(folder, member=k).predict(atoms).energy[0]
        np.testing.assert_allclose(found, energy(atoms, model, own), rtol=0, atol=1e-10)
    for wrong in (None, 2, -1, True, 0.0, "0"):
        with pytest.raises(InputError, match=r"ensemble of 2 models .* give member, 0 to 1"):
            fd.read_apax(folder, member=wrong)


def test_the_command_and_what_follows(tmp_path, capsys):
    """fastdesc import, info, and the file gives the same numbers; wrong arguments are told."""
    folder = write(tmp_path / "model", model := config(), parameters := arrays(config(), [1, 8]))
    out = tmp_path / "ours.h5"
    assert main(["import", str(folder), str(out)]) == 0
    np.testing.assert_allclose(
        fd.load(out).predict(water()).energy[0], energy(water(), model, parameters), rtol=0, atol=1e-10
    )
    capsys.readouterr()
    for words, message in (
        (["--element", "O"], "--element came with .* a directory of apax; leave it out"),
        (["--member", "1"], "member came as 1, and .* holds one model; leave it out"),
        (["--species", "H", "Xx"], "Xx"),
    ):
        assert main(["import", str(folder), str(tmp_path / "more.h5"), *words]) == 2
        told = capsys.readouterr().err
        assert len(told.splitlines()) == 1
        with pytest.raises(AssertionError, match=message):
            raise AssertionError(told)
    assert main(["import", str(tmp_path), str(tmp_path / "more.h5")]) == 2
    assert "holds no config.yaml" in capsys.readouterr().err


def test_elements_can_be_chosen(tmp_path):
    model = config()
    parameters = arrays(model, [1, 8])
    folder = write(tmp_path / "model", model, parameters)
    assert list(fd.read_apax(folder, species=["H"]).descriptor.species_numbers) == [1]
    plain = parameters | {f"scale_shift.{k}_per_element": np.ones((119, 1)) for k in ("scale", "shift")}
    untold = write(tmp_path / "untold", model, plain)
    with pytest.raises(InputError, match="does not tell which elements it was trained on; give species"):
        fd.read_apax(untold)
    assert list(fd.read_apax(untold, species=["O", "H"]).descriptor.species_numbers) == [1, 8]


BROKEN = {
    "another model": ({"name": "so3krates"}, "its model is 'so3krates'"),
    "a correction": ({"empirical_corrections": [{"name": "zbl", "r_max": 1.5}]}, "it adds zbl, which is not read"),
    "an activation": ({"activation_fn": "gelu"}, "activation_fn 'gelu' has no counterpart"),
    "uneven Gaussians": (
        {"basis": {"name": "gaussian", "n_basis": 4, "r_max": 3.7, "r_min": 0.5, "spacing": "exponential"}},
        "spaced evenly",
    ),
    "no basis": ({"basis": None}, "basis in config.yaml is None"),
    "a cutoff": ({"basis": {"name": "bessel", "n_basis": 4, "r_max": "far"}}, "r_max is 'far'"),
    "a huge network": ({"nn": [10**9]}, r"nn in config.yaml is 1000000000; it must be a whole number"),
    "widths of others": ({"nn": [5, 5]}, r"readout.dense_1.w has the shape \(5, 4\), .* asks for \(5, 5\)"),
    "channels of others": ({"n_radial": 3}, r"asks for \(119, 119, 3, 4\)"),
    "no layers": ({"nn": None}, "nn in config.yaml is None"),
    "contractions": ({"n_contr": 9}, "n_contr in config.yaml is 9"),
    "an ensemble": ({"ensemble": {"kind": "bagged"}}, "ensemble 'bagged' is not known"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_configurations_that_are_refused(tmp_path, case):
    entries, words = BROKEN[case]
    folder = write(tmp_path / "model", config(), arrays(config(), [1, 8]))
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": config() | entries}))
    with pytest.raises(FileFormatError, match=words):
        fd.read_apax(folder)


def test_damage_is_told(tmp_path):
    """What is missing or cut is a sentence; never zeros in its place."""
    parameters = arrays(config(), [1, 8])
    whole = write(tmp_path / "whole", config(), parameters)
    intact = fd.read_apax(whole).parameters
    seen = set()
    for k, file in enumerate(sorted(p for p in whole.rglob("*") if p.is_file() and p.name != "config.yaml")):
        for how in ("gone", "cut", "changed"):
            folder = shutil.copytree(whole, tmp_path / f"{how}{k}")
            damaged = folder / file.relative_to(whole)
            data = damaged.read_bytes()
            if how == "gone":
                damaged.unlink()
            else:
                middle = len(data) // 2
                damaged.write_bytes(data[:middle] if how == "cut" else data[:middle] + b"\xff\x00" + data[middle + 2 :])
            try:
                potential = fd.read_apax(folder)
            except (FileFormatError, InputError) as error:
                seen.add(how)
                assert len(str(error).splitlines()) == 1
            else:    # a file that is not read, or bytes of numbers, which tensorstore does not check
                for name, array in potential.parameters.items():
                    assert np.isfinite(array).all()
                    if how != "changed":
                        np.testing.assert_array_equal(array, intact[name])
    assert seen >= {"gone", "cut"}
    lost = write(tmp_path / "lost", config(), {n: a for n, a in parameters.items() if n != "readout.dense_1.b"})
    with pytest.raises(FileFormatError, match=r"readout\.dense_1\.b is missing"):
        fd.read_apax(lost)
    for words, change in (
        ("is no YAML", lambda f: (f / "config.yaml").write_text("model: [1, 2")),
        ("describes no model", lambda f: (f / "config.yaml").write_text("- 1")),
        ("holds no step", lambda f: shutil.rmtree(f / "best")),
        ("default is missing", lambda f: shutil.rmtree(f / "best" / "3" / "default")),
    ):
        folder = shutil.copytree(whole, tmp_path / words.replace(" ", "_"))
        change(folder)
        with pytest.raises(FileFormatError, match=words):
            fd.read_apax(folder)
    with pytest.raises(InputError, match=r"holds no config\.yaml"):
        fd.read_apax(tmp_path / "nowhere")
    with pytest.raises(InputError, match="came where the name of a file belongs"):
        fd.read_apax(3)


def test_a_missing_library_is_told(tmp_path, monkeypatch):
    folder = write(tmp_path / "model", config(), arrays(config(), [1, 8]))
    for library in ("tensorstore", "yaml"):
        with monkeypatch.context() as patch:
            patch.setitem(__import__("sys").modules, library, None)
            with pytest.raises(InputError, match=r"pip install \"fastdesc\[apax\]\""):
                fd.read_apax(folder)
