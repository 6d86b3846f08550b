"""The command line: each command on small files, and one sentence and exit code 2 for everything that can be wrong."""

import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

import fastdesc as fd
from fastdesc.cli import main
from fastdesc.demo import crystals
from fastdesc.features_file import read_features

CONFIG = """
[data]
train = "train.extxyz"
test = "test.extxyz"
[descriptor]
cutoff = 4.0
n_radial = 2
n_basis = 4
[potential]
hidden = [8]
[training]
epochs = 3
batch_size = 4
[output]
folder = "run"
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with frames, a configuration and the run it describes."""
    folder = tmp_path_factory.mktemp("cli")
    write(folder / "train.extxyz", crystals(12, 0))
    write(folder / "test.extxyz", crystals(4, 1))
    (folder / "run.toml").write_text(CONFIG)
    assert main(["train", str(folder / "run.toml"), "--quiet"]) == 0
    return folder


@pytest.fixture
def run(capsys):
    """Run a command line; return exit code, standard output, standard error."""

    def run(*words):
        code = main([str(w) for w in words])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


@pytest.fixture
def fails(run):
    """Run a command line that must fail; return its one sentence."""

    def fails(*words):
        code, _, err = run(*words)
        assert code == 2, (code, err)
        assert err.startswith("fastdesc: ") and err.count("\n") == 1 and "Traceback" not in err, err
        return err

    return fails


def names(folder):
    return sorted(p.name for p in folder.iterdir())


# --- help


def test_help_teaches_by_example(capsys):
    for words in ([], ["demo"], ["featurize"], ["train"], ["evaluate"], ["info"], ["plot"]):
        with pytest.raises(SystemExit) as stop:
            main([*words, "--help"])
        out = capsys.readouterr().out
        assert stop.value.code == 0 and "example" in out and f"fastdesc {' '.join(words)}".strip() in out
        assert max(map(len, out.splitlines())) < 121
    assert main([]) == 0 and "COMMAND" in capsys.readouterr().out


def test_help_loads_nothing_heavy():
    code = "import sys; from fastdesc.cli_options import parser; parser().format_help(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"numpy", "numba", "ase", "h5py", "matplotlib", "cupy", "sklearn"}


def test_version_and_module():
    for word in (["--version"], ["info", "--help"]):
        done = subprocess.run([sys.executable, "-m", "fastdesc", *word], capture_output=True, text=True, check=True)
        assert fd.__version__ in done.stdout or "features.h5" in done.stdout


def test_any_terminal_and_none():
    """Å is a question mark where there is none; a closed output is no error, and a full one is told in a sentence."""
    fastdesc = [sys.executable, "-m", "fastdesc"]
    done = subprocess.run(
        [*fastdesc, "--help"], capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=True
    )
    assert b"Units are eV and ?;" in done.stdout
    closed = "import sys; from fastdesc.cli import main; sys.stdout = None; sys.exit(main([]))"
    assert not subprocess.run([sys.executable, "-c", closed], capture_output=True, check=True).stderr
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            words = [*fastdesc, "train", "--print-default"]
            done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 2 and done.stderr == "fastdesc: No space left on device\n"


def test_wrong_words(capsys):
    for words in (["trian"], ["plot", "filters2", "x"], ["featurize", "x"], ["evaluate", "m", "f", "--device", "gpu"]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2 and "usage:" in capsys.readouterr().err


# --- train


def test_train_writes_a_folder(trained):
    files = names(trained / "run")
    want = ["checkpoint.h5", "config.toml", "errors.json", "history.csv", "learning.png", "model.h5", "parity.png"]
    assert files == sorted([*want, "predictions.h5"])
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
    assert f"model           {tmp_path / 'run' / 'model.h5'}" in out
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
    config = f'[data]\ntrain = "{trained}/train.extxyz"\n[training]\nepochs = 1\n[descriptor]\nn_radial = 2\n'
    (tmp_path / "c.toml").write_text(config)
    code, out, _ = run("train", tmp_path / "c.toml", "--quiet")
    assert code == 0 and "MAE on valid" in out
    want = ["checkpoint.h5", "config.toml", "history.csv", "learning.png", "model.h5"]
    assert names(tmp_path / "fastdesc-run") == want


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


# --- featurize


def test_featurize(trained, run, tmp_path):
    out = tmp_path / "f.h5"
    settings = ("--cutoff", 4, "--set", "n_radial=2", "--set", "basis=gaussian")
    code, text, _ = run("featurize", trained / "train.extxyz", out, *settings)
    assert code == 0
    have = "12 frames (12 with energy, 12 with forces, 12 with stress)"
    assert text == f"{out}: {have}, 288 atoms of Cu, Au, 35 features per atom\n"
    got = read_features(out)
    d = fd.GaussianMoments(species=["Cu", "Au"], cutoff=4, n_radial=2, basis="gaussian")
    np.testing.assert_array_equal(got.features, d.compute(read(trained / "train.extxyz", ":")))
    assert got.parameters["species"] == ["Cu", "Au"] and got.features.dtype == np.float64


def test_featurize_with_a_file_that_says_how(trained, run, fails, tmp_path):
    frames, out, model = trained / "test.extxyz", tmp_path / "f.h5", trained / "run" / "model.h5"
    options = ("--descriptor", trained / "run.toml", "--dtype", "float32", "--workers", 1)
    assert run("featurize", frames, out, *options)[0] == 0
    got = read_features(out)
    assert got.parameters["n_basis"] == 4 and got.features.dtype == np.float32
    assert run("featurize", frames, out, "--descriptor", trained / "run.toml", "--set", "n_basis=5")[0] == 0
    assert read_features(out).parameters["n_basis"] == 5
    assert run("featurize", frames, out, "--descriptor", model)[0] == 0
    want = fd.load(model).descriptor.compute(read(frames, ":"))
    np.testing.assert_array_equal(read_features(out).features, want)
    assert "leave out family" in fails("featurize", frames, out, "--descriptor", model, "--cutoff", 5)


def test_featurize_resumes(trained, run, fails, tmp_path):
    frames, out, grown = read(trained / "train.extxyz", ":"), tmp_path / "f.h5", tmp_path / "grown.extxyz"
    write(grown, frames[:5])
    options = ("--cutoff", 4, "--species", "Cu,79", "--resume")
    assert run("featurize", grown, out, *options)[0] == 0
    write(grown, frames)
    assert run("featurize", grown, out, *options)[0] == 0
    assert len(read_features(out).energies) == 12
    assert "cutoff 4.0, now 5.0" in fails("featurize", grown, out, "--cutoff", 5, *options[2:])


def test_featurize_errors(trained, fails, tmp_path, monkeypatch):
    frames, out = trained / "train.extxyz", tmp_path / "f.h5"
    assert "nowhere.xyz does not exist" in fails("featurize", tmp_path / "nowhere.xyz", out)
    (tmp_path / "empty.xyz").touch()
    assert "empty.xyz is empty" in fails("featurize", tmp_path / "empty.xyz", out)
    assert "frame 1, atom 1 is Au, which the model does not know" in fails("featurize", frames, out, "--species", "Cu")
    assert "there is no folder" in fails("featurize", frames, tmp_path / "no" / "f.h5")
    assert "cutoff came as -1.0" in fails("featurize", frames, out, "--cutoff", -1)
    assert "did you mean 'n_radial'" in fails("featurize", frames, out, "--set", "n_radal=3")
    assert "is not of the form NAME=VALUE" in fails("featurize", frames, out, "--set", "n_radial")
    assert "n_radial" in fails("featurize", frames, out, "--set", "n_radial=many")
    assert "did you mean 'gaussian_moments'" in fails("featurize", frames, out, "--family", "gausian_moments")
    assert "workers" in fails("featurize", frames, out, "--workers", 0)
    assert "is not an HDF5 file" in fails("featurize", frames, out, "--descriptor", frames, "--cutoff", 4)
    (tmp_path / "empty.xyz").write_text("0\n\n")
    assert "the frames hold no atoms" in fails("featurize", tmp_path / "empty.xyz", out)
    atoms = bulk("Cu", cubic=True)
    atoms.positions[2, 1] = np.nan
    write(tmp_path / "nan.extxyz", [bulk("Cu"), atoms])
    assert "frame 1, atom 2 is at" in fails("featurize", tmp_path / "nan.extxyz", out)
    from fastdesc import cuda

    monkeypatch.setattr(cuda, "gpu_status", lambda: (False, "no NVIDIA driver was found"))
    assert "'cuda' was asked for but no NVIDIA driver was found" in fails("featurize", frames, out, "--device", "cuda")
    assert names(tmp_path) == ["empty.xyz", "nan.extxyz"], "nothing half-written is left"


# --- evaluate, info, plot


def test_evaluate(trained, run, tmp_path):
    model, frames = trained / "run" / "model.h5", trained / "test.extxyz"
    code, table, _ = run("evaluate", model, frames)
    assert code == 0 and table.startswith("4 frames, 96 atoms") and "meV/Å^3" in table
    out = tmp_path / "p.h5", tmp_path / "p.png"
    code, text, _ = run("evaluate", model, frames, "--json", "--predictions", out[0], "--plot", out[1])
    errors = json.loads(text)
    assert errors["energy"]["unit"] == "eV/atom" and errors["stress"]["n"] == 24
    images = read(frames, ":")
    forces = np.concatenate([a.get_forces() for a in images]) - fd.load(model).predict(images).forces
    assert abs(errors["forces"]["mae"] - np.abs(forces).mean()) < 1e-12
    assert f"{1000 * errors['energy']['mae']:.3g}"[:3] in table
    assert names(tmp_path) == ["p.h5", "p.png"]


def test_evaluate_other_label_names(trained, run, fails, tmp_path):
    model = trained / "run" / "model.h5"
    atoms = bulk("Cu", cubic=True)
    atoms.info["dft"] = fd.load(model).predict(atoms).energy[0] + 0.4
    write(tmp_path / "f.extxyz", atoms)
    code, text, _ = run("evaluate", model, tmp_path / "f.extxyz", "--energy-key", "dft", "--json")
    assert code == 0 and abs(json.loads(text)["energy"]["mae"] - 0.1) < 1e-6
    assert "none of the 1 frames carries an energy" in fails("evaluate", model, tmp_path / "f.extxyz")


def test_evaluate_errors(trained, fails, tmp_path):
    model, frames = trained / "run" / "model.h5", trained / "test.extxyz"
    assert "nowhere.h5 does not exist" in fails("evaluate", tmp_path / "nowhere.h5", frames)
    cut, newer = tmp_path / "cut.h5", tmp_path / "newer.h5"
    cut.write_bytes(model.read_bytes()[:5000])
    assert "cut.h5" in fails("evaluate", cut, frames)
    newer.write_bytes(model.read_bytes())
    with h5py.File(newer, "r+") as f:
        f.attrs["format_version"] = 99
    assert "version 99" in fails("evaluate", newer, frames)
    assert "expected is 'fastdesc-model'" in fails("evaluate", trained / "run" / "predictions.h5", frames)
    xenon = Atoms("Xe")
    xenon.calc = SinglePointCalculator(xenon, energy=0.0)
    write(tmp_path / "xe.extxyz", xenon)
    assert "Xe, which the model does not know; it knows Cu, Au" in fails("evaluate", model, tmp_path / "xe.extxyz")
    # Before the work, so before the model is looked for.
    assert ".png" in fails("evaluate", "no.h5", frames, "--plot", tmp_path / "p.gif")
    assert "there is no folder" in fails("evaluate", "no.h5", frames, "--predictions", tmp_path / "no" / "p.h5")
    assert "is not a file of the kind 'fastdesc-predictions'" in fails("evaluate", model, frames, "--predictions", cut)


def test_info(trained, run, tmp_path):
    run("featurize", trained / "test.extxyz", tmp_path / "f.h5", "--cutoff", 4)
    versions = {tmp_path / "f.h5": 1, trained / "run" / "model.h5": 2, trained / "run" / "predictions.h5": 1}
    for path, version in versions.items():
        code, text, _ = run("info", path)
        assert code == 0 and f"format version {version}," in text and fd.__version__ in text
        recipe = text.split("read it without fastdesc:")[1]
        lines = [line[4:] for line in recipe.splitlines() if line.strip()]
        assert len(lines) <= 5
        subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, cwd=path.parent)
    code, text, _ = run("info", tmp_path / "f.h5")
    assert "4 frames (4 with energy, 4 with forces, 4 with stress), 96 atoms of Cu, Au, 360 features per atom" in text
    assert "cutoff = 4" in text and "eV/Å^3" in text
    energies = [a.get_potential_energy() for a in read(trained / "test.extxyz", ":")]
    assert f"{min(energies):.5g} .. {max(energies):.5g}" in text
    code, text, _ = run("info", trained / "run" / "checkpoint.h5")
    assert code == 0 and "checkpoint file" in text


def test_info_errors(trained, fails, tmp_path):
    assert "does not exist" in fails("info", tmp_path / "x.h5")
    (tmp_path / "x.h5").write_text("words")
    assert "is not an HDF5 file" in fails("info", tmp_path / "x.h5")
    with h5py.File(tmp_path / "y.h5", "w") as f:
        f["a"] = 1
    assert "none that fastdesc wrote" in fails("info", tmp_path / "y.h5")


def test_plot(trained, run, fails, tmp_path):
    for what, file in (("learning", "history.csv"), ("parity", "predictions.h5")):
        out = tmp_path / f"{what}.pdf"
        code, text, _ = run("plot", what, trained / "run" / file, "--out", out)
        assert code == 0 and text == f"{out}\n" and out.read_bytes().startswith(b"%PDF")
    copy = tmp_path / "h.csv"
    copy.write_bytes((trained / "run" / "history.csv").read_bytes())
    assert run("plot", "learning", copy)[0] == 0 and (tmp_path / "h.png").exists()
    assert "is not a history" in fails("plot", "learning", trained / "run" / "predictions.h5")
    assert "not an HDF5 file" in fails("plot", "parity", copy)
    assert "is a folder" in fails("plot", "learning", tmp_path)
    assert "is a folder" in fails("info", tmp_path)


# --- how a command ends


def test_debug_shows_the_traceback(tmp_path):
    for words in (["--debug", "info"], ["info", "--debug"]):
        with pytest.raises(fd.FastdescError):
            main([*words, str(tmp_path / "x.h5")])


def test_os_errors_are_one_sentence(fails, tmp_path, monkeypatch):
    from fastdesc import info

    def refused(path):
        os.stat(os.path.join(tmp_path, "no", "file"))

    monkeypatch.setattr(info, "describe", refused)
    assert fails("info", "x") == f"fastdesc: {tmp_path}/no/file: No such file or directory\n"


def test_too_little_memory_is_one_sentence(fails, monkeypatch):
    from fastdesc import info

    def too_much(path):
        return np.empty(1 << 50)

    monkeypatch.setattr(info, "describe", too_much)
    assert "there is not enough memory; use fewer structures at a time" in fails("info", "x")


def test_a_closed_pipe_is_no_error(trained):
    command = f"{sys.executable} -m fastdesc train --print-default | head -n 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""


def test_interrupted_training_says_how_to_go_on(trained, run, tmp_path, monkeypatch):
    from fastdesc.trainer import Trainer

    epoch = Trainer._epoch

    def interrupted(self):
        if self.epoch == 2:
            raise KeyboardInterrupt
        return epoch(self)

    (tmp_path / "c.toml").write_text(CONFIG.replace('"t', f'"{trained}/t'))
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_epoch", interrupted)
        code, out, err = run("train", tmp_path / "c.toml", "--quiet")
    assert code == 130 and err == "fastdesc: interrupted\n" and "--resume goes on from" in out
    assert names(tmp_path / "run") == ["checkpoint.h5", "config.toml"]
    assert run("train", tmp_path / "c.toml", "--quiet", "--resume")[0] == 0
    model = fd.load(tmp_path / "run" / "model.h5").parameters
    for name, array in fd.load(trained / "run" / "model.h5").parameters.items():
        np.testing.assert_allclose(model[name], array, rtol=0, atol=1e-12)
