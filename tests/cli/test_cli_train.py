"""`fastdesc train`: a folder of results, resumed, not overwritten by chance; what is wrong is told before it begins."""

import json
import re

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from helpers.command_line import CONFIG, names

import fastdesc as fd
from fastdesc.pairs.choose_cutoff import choose_cutoff


def test_train_writes_a_folder(trained):
    files = names(trained / "run")
    want = ["checkpoint.h5", "config.toml", "errors.json", "history.csv", "learning.png", "model.h5", "parity.png"]
    assert files == sorted([*want, "predictions.h5", "reliability.png"])
    errors = json.loads((trained / "run" / "errors.json").read_text())
    assert errors["set"] == "test" and errors["forces"]["n"] == 3 * errors["n_atoms"]
    predicted = fd.load(trained / "run" / "model.h5").predict(read(trained / "test.extxyz", ":"))
    with h5py.File(trained / "run" / "predictions.h5") as f:
        np.testing.assert_allclose(f["forces"][...], predicted.forces, atol=1e-10)


def test_train_says_what_happens(trained, run, tmp_path):
    (tmp_path / "c.toml").write_text(CONFIG.replace('"t', f'"{trained}/t').replace("epochs = 3", "epochs = 1"))
    code, out, _ = run("train", tmp_path / "c.toml", "--quiet")
    assert code == 0
    assert "train: 12 frames (288 atoms), all with energy, all with forces, all with stress" in out
    assert "trained 1 epochs" in out and "errors on test: 4 frames, 96 atoms" in out
    assert re.search(rf"model +{tmp_path / 'run' / 'model.h5'}\n", out)
    text = (tmp_path / "run" / "config.toml").read_text()
    assert f'train = "{trained}/train.extxyz"' in text and "epochs = 1" in text


def test_a_finished_run_is_not_overwritten_by_chance(trained, run, fails, tmp_path):
    (tmp_path / "c.toml").write_text(CONFIG.replace('"t', f'"{trained}/t').replace("epochs = 3", "epochs = 1"))
    assert run("train", tmp_path / "c.toml", "--quiet")[0] == 0
    model = tmp_path / "run" / "model.h5"
    before = model.read_bytes()
    assert "holds a trained model; choose another output.folder, --resume or --overwrite" in fails(
        "train", tmp_path / "c.toml"
    )
    assert model.read_bytes() == before
    model.unlink()
    assert "holds an interrupted run; go on with --resume" in fails("train", tmp_path / "c.toml")
    assert run("train", tmp_path / "c.toml", "--quiet", "--overwrite")[0] == 0
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 2


def test_overwriting_leaves_nothing_of_the_old_run_to_go_on_with(trained, run, tmp_path, monkeypatch):
    """The new run ends before it wrote a checkpoint: there is none, not that of the run that was overwritten."""
    from fastdesc.cli import experiment

    (tmp_path / "c.toml").write_text(CONFIG.replace('"t', f'"{trained}/t'))
    (tmp_path / "run").mkdir()
    for name in ("checkpoint.h5", "config.toml"):
        (tmp_path / "run" / name).write_bytes((trained / "run" / name).read_bytes())

    def ended(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "run_trainer", ended)
    code, out, _ = run("train", tmp_path / "c.toml", "--quiet", "--overwrite")
    assert code == 130 and "--resume" not in out
    assert names(tmp_path / "run") == ["config.toml"]


@pytest.mark.parametrize("test", [True, False])
def test_errors_are_those_on_the_test_frames_else_on_given_validation_frames(trained, run, tmp_path, test):
    text = CONFIG.replace('"t', f'"{trained}/t').replace("epochs = 3", "epochs = 1\nvalid_every = 2")
    lines = [line for line in text.splitlines() if test or not line.startswith("test =")]
    text = "\n".join(lines).replace("[data]", f'[data]\nvalid = "{trained}/train.extxyz"')
    (tmp_path / "c.toml").write_text(text)
    assert run("train", tmp_path / "c.toml", "--quiet")[0] == 0
    errors = json.loads((tmp_path / "run" / "errors.json").read_text())
    assert (errors["set"], errors["n_frames"]) == (("test", 4) if test else ("valid", 12))


def test_resume_continues(trained, run, fails, tmp_path):
    text = CONFIG.replace('"t', f'"{trained}/t').replace("[training]", '[training]\nschedule = "constant"\nwarmup = 0')
    whole, parts = tmp_path / "whole.toml", tmp_path / "parts.toml"
    whole.write_text(text.replace('"run"', '"whole"'))
    assert "no checkpoint to resume from" in fails("train", whole, "--resume")
    assert run("train", whole, "--quiet")[0] == 0
    parts.write_text(text.replace("epochs = 3", "epochs = 1"))
    assert run("train", parts, "--quiet")[0] == 0
    parts.write_text(text)
    assert run("train", parts, "--quiet", "--resume")[0] == 0
    a, b = (fd.load(tmp_path / f / "model.h5").parameters for f in ("whole", "run"))
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=0, atol=1e-12)
    parts.write_text(text.replace("batch_size = 4", "batch_size = 5"))
    assert "batch_size" in fails("train", parts, "--resume")


def test_train_on_a_training_file_alone(trained, run, tmp_path):
    """The frames decide the cutoff, which is told and written."""
    config = f'[data]\ntrain = "{trained}/train.extxyz"\n[training]\nepochs = 1\n[descriptor]\nn_radial = 2\n'
    (tmp_path / "c.toml").write_text(config)
    code, out, _ = run("train", tmp_path / "c.toml", "--quiet")
    assert code == 0 and "MAE on valid" in out
    want = ["checkpoint.h5", "config.toml", "history.csv", "learning.png", "model.h5"]
    assert names(tmp_path / "fastdesc-run") == want
    cutoff = choose_cutoff(read(trained / "train.extxyz", ":"))
    assert 4.0 < cutoff < 6.0 and fd.load(tmp_path / "fastdesc-run" / "model.h5").descriptor.cutoff == cutoff
    assert f"chosen: cutoff {cutoff:g} Å" in out
    assert f"cutoff = {cutoff}\n" in (tmp_path / "fastdesc-run" / "config.toml").read_text()


def test_print_default(run):
    code, out, _ = run("train", "--print-default")
    assert code == 0 and "[training]" in out and "batch_atoms" in out
    assert run("train", "--print-default", "--family", "gaussian_moments")[1] == out


def test_train_errors(trained, fails, tmp_path):
    config = tmp_path / "c.toml"
    assert "train needs a configuration" in fails("train")
    assert "nowhere.toml is not a file" in fails("train", tmp_path / "nowhere.toml")
    assert "family 'spline' is not known" in fails("train", "--print-default", "--family", "spline")
    config.write_text(CONFIG)
    assert "train.extxyz does not exist" in fails("train", config)
    absolute = CONFIG.replace('"t', f'"{trained}/t')
    config.write_text(absolute.replace("cutoff", 'species = ["Cu"]\ncutoff', 1))
    assert "the frames hold Au, which species ['Cu'] lacks" in fails("train", config)
    config.write_text(absolute.replace("[training]", '[training]\ndevice = "gpu"'))
    assert "device" in fails("train", config)
    write(tmp_path / "bare.extxyz", [bulk("Cu", cubic=True)] * 3)
    config.write_text(f'[data]\ntrain = "{tmp_path}/bare.extxyz"')
    assert "bare.extxyz: none of the 3 frames carries an energy, forces or a stress" in fails("train", config)
    for line, message in (
        ("seed = -1", "seed came as -1"),
        ('dtype = "float16"', "'float16' is not supported"),
        ("clip = 0", "clip came as 0"),
    ):
        config.write_text(absolute.replace("[training]", f"[training]\n{line}"))
        assert f"c.toml: [training] {message}" in fails("train", config).replace("[training] dtype ", "[training] ")
    config.write_text(absolute.replace("[descriptor]", "[descriptor]\nfamily = []"))
    assert "family [] is not known" in fails("train", config)
    config.write_text(absolute.replace("[data]", "[data]\nvalid_fraction = 0.99"))
    assert "12 frames cannot be split for validation with valid_fraction 0.99" in fails("train", config)
    two = bulk("Cu", cubic=True)
    two.positions[1] = two.positions[0]
    two.calc = SinglePointCalculator(two, energy=1.0)
    write(tmp_path / "two.extxyz", two)
    config.write_text(f'[data]\nvalid_fraction = 0\ntrain = "{tmp_path}/two.extxyz"')
    assert "frame 0, atom 0 and atom 1 are 0.0e+00 Å apart" in fails("train", config)
    assert names(tmp_path) == ["bare.extxyz", "c.toml", "two.extxyz"], "what is wrong is told before a folder is made"
    (tmp_path / "file").touch()
    config.write_text(absolute.replace('"run"', '"file"'))
    assert "file is a file; give output.folder another name" in fails("train", config)
    config.write_text(absolute.replace('"run"', '"file/run"'))
    assert "file/run cannot be made (Not a directory); choose another output.folder" in fails("train", config)


def test_test_frames_are_judged_before_training(trained, fails, tmp_path):
    """Not after hours of it."""
    config, text = tmp_path / "c.toml", CONFIG.replace('"train.', f'"{trained}/train.')
    xenon = Atoms("Xe")
    xenon.calc = SinglePointCalculator(xenon, energy=0.0)
    write(tmp_path / "test.extxyz", xenon)
    config.write_text(text)
    assert "test.extxyz: frame 0, atom 0 is Xe, which the model does not know" in fails("train", config)
    write(tmp_path / "test.extxyz", Atoms("Cu"))
    assert "test.extxyz: none of the 1 frames carries an energy, forces or a stress" in fails("train", config)
    assert names(tmp_path) == ["c.toml", "test.extxyz"]


def test_a_configuration_of_the_user_is_not_overwritten(trained, run, fails, tmp_path):
    """`output.folder = "."` beside a config.toml; what fastdesc itself wrote there may go."""
    text = CONFIG.replace('"t', f'"{trained}/t').replace('"run"', '"."').replace("epochs = 3", "epochs = 1")
    config = tmp_path / "config.toml"
    config.write_text(text)
    assert "config.toml was not written by fastdesc; choose another output.folder" in fails("train", config)
    assert config.read_text() == text
    config.rename(tmp_path / "own.toml")
    assert run("train", tmp_path / "own.toml", "--quiet")[0] == 0
    assert run("train", tmp_path / "own.toml", "--quiet", "--overwrite")[0] == 0


def test_a_byte_order_mark_is_no_error(trained, run, tmp_path):
    text = CONFIG.replace('"t', f'"{trained}/t').replace("epochs = 3", "epochs = 1")
    (tmp_path / "c.toml").write_text(text, encoding="utf-8-sig")
    assert run("train", tmp_path / "c.toml", "--quiet")[0] == 0


def test_interrupted_training_says_how_to_go_on(trained, run, tmp_path, monkeypatch):
    from fastdesc.training.trainer import Trainer

    epoch = Trainer._epoch

    def interrupted(self, *given):
        if self.epoch == 2:
            raise KeyboardInterrupt
        return epoch(self, *given)

    (tmp_path / "c.toml").write_text(CONFIG.replace('"t', f'"{trained}/t'))
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_epoch", interrupted)
        code, out, err = run("train", tmp_path / "c.toml", "--quiet")
    assert code == 130 and err == "fastdesc: interrupted\n" and "--resume goes on from" in out
    assert names(tmp_path / "run") == ["checkpoint.h5", "config.toml", "history.csv", "model.h5"]
    assert run("train", tmp_path / "c.toml", "--quiet", "--resume")[0] == 0
    model = fd.load(tmp_path / "run" / "model.h5").parameters
    for name, array in fd.load(trained / "run" / "model.h5").parameters.items():
        np.testing.assert_allclose(model[name], array, rtol=0, atol=1e-12)


def test_train_further_from_a_model(trained, run, fails, tmp_path):
    """Weights that are worse do not replace those of the model; elements that it does not know are added."""
    model = trained / "run" / "model.h5"
    text = f'[data]\ntrain = "{trained}/train.extxyz"\nvalid = "{trained}/test.extxyz"\ninit = "{model}"\n[training]\n'
    text += "epochs = 1\nlearning_rate = 1e-9\n"
    (tmp_path / "c.toml").write_text(text)
    code, out, _ = run("train", tmp_path / "c.toml", "--quiet")
    assert code == 0 and f"going on from {model}" in out
    further, before = fd.load(tmp_path / "fastdesc-run" / "model.h5"), fd.load(model)
    scale = before.parameters["scale"]
    np.testing.assert_allclose(further.parameters["scale"], scale, rtol=0, atol=1e-8)    # a step is 1e-9
    np.testing.assert_array_equal(further.reference, before.reference)
    silver = read(trained / "train.extxyz", ":")
    for atoms in silver:
        calculator = atoms.calc
        atoms.numbers[0], atoms.calc = 47, calculator
        calculator.atoms.numbers[0] = 47
    write(tmp_path / "silver.extxyz", silver)
    (tmp_path / "s.toml").write_text(text.replace(f"{trained}/train.extxyz", f"{tmp_path}/silver.extxyz"))
    code, out, _ = run("train", tmp_path / "s.toml", "--quiet", "--overwrite")
    assert code == 0 and "with Ag added" in out
    assert list(fd.load(tmp_path / "fastdesc-run" / "model.h5").descriptor.species_numbers) == [29, 47, 79]
    (tmp_path / "d.toml").write_text(text + "[potential]\nhidden = [4]\n")
    assert "leave them out" in fails("train", tmp_path / "d.toml", "--overwrite")
